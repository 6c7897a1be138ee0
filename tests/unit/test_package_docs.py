"""A package's docstring says what lives there: it names each of its modules, and none that is gone."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TOPS = ("schemas", "adapters", "ingest_gateway", "stream_processors", "sinks")
PACKAGES = sorted(
    str(path.parent.relative_to(ROOT))
    for top in TOPS
    for path in (ROOT / top).rglob("__init__.py")
    if len(list(path.parent.glob("*.py"))) > 1
)


def named(docstring: str) -> set[str]:
    """Return what stands in backticks and may be the name of a module."""
    return set(re.findall(r"`([a-z_]+)`", docstring))


@pytest.mark.parametrize("package", PACKAGES)
def test_a_packages_docstring_names_exactly_its_modules(package: str) -> None:
    folder = ROOT / package
    modules = {path.stem for path in folder.glob("*.py")} - {"__init__"}
    packages = {path.parent.name for path in folder.glob("*/__init__.py")}
    docstring = ast.get_docstring(ast.parse((folder / "__init__.py").read_text())) or ""
    # other packages of the repository are named for what may import them
    assert named(docstring) - set(TOPS) == modules | packages


def test_packages_within_packages_are_held_too() -> None:
    assert {"sinks", "ingest_gateway", "stream_processors/analyze/detectors"} <= set(PACKAGES)
