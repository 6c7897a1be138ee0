"""The floors of the code, read from its imports: a module imports only from floors below its own.

    0  schemas             standard library, pydantic, orjson, decoders
    1  pure logic          floor 0, and libraries that only compute; no clock, no thread, no socket, no driver
    2  adapters, drivers   floors 0 and 1, one driver a module
    3  wiring              everything of its own package; `deploy` everything

A module of a service is pure logic unless it is listed here. Services never import each other.
"""

import ast
import sys
from pathlib import Path

import pytest
from _pytest.mark import ParameterSet

ROOT = Path(__file__).parents[2]
SERVICES = ("ingest_gateway", "stream_processors", "sinks")

ADAPTERS = {
    "ingest_gateway": {
        "api.answers",
        "api.deadline_protocol",
        "api.events",
        "api.middleware",
        "api.recordings",
        "api.request",
        "api.request_flow",
        "api.service",
        "metrics",
        "spool.files",
        "spool.queue",
        "spool.window",
    },
    "stream_processors": {
        "metrics",
        "runner.changelog_store",
        "runner.dispatch",
        "runner.failstop",
        "runner.faust_app",
        "runner.flights",
        "runner.pulse",
        "runner.runs",
        "runner.source_log",
        "runner.stage",
        "runner.watchdog",
    },
    "sinks": {
        "commit.loop",
        "commit.offsets",
        "commit.watchdog",
        "commit.writer",
        "contract.failures",
        "contract.sink",
        "export",
        "lifecycle.housekeeping",
        "lifecycle.partitions",
        "lifecycle.retention",
        "metrics",
        "repair.accept_loss",
        "repair.recount",
        "tables.copy_rows",
        "tables.erased",
        "tables.event_hours",
        "tables.event_rows",
        "tables.issue_tables",
        "tables.record_owner",
        "tables.recording_rows",
        "tables.session_rows",
        "tables.usage",
        "topics.ai_jobs",
        "topics.events",
        "topics.recordings",
        "topics.sessions",
        "topics.signals",
    },
}
WIRING = {
    "ingest_gateway": {"__main__", "app", "lanes", "server"},
    "stream_processors": {"__main__", "analyze.__init__", "analyze.wiring", "worker"},
    "sinks": {"__main__", "app", "repair.by_hand", "repair.redrive", "repair.restore"},
}

DRIVERS = {"aiokafka", "confluent_kafka", "falcon", "faust", "mode", "psycopg", "uvicorn"}
COMPUTING = {"isal", "maxminddb", "msgspec", "orjson", "pydantic", "ua_parser", "zstandard"}
"""Libraries that pure logic may use: they turn values into values."""
SIDE_EFFECTS = {
    *("asyncio", "concurrent", "http", "logging", "multiprocessing", "os", "random", "secrets", "selectors", "signal"),
    *("socket", "subprocess", "tempfile", "threading", "time", "urllib.request"),
}


def modules(package: str) -> dict[str, Path]:
    """Return the modules of a package by their dotted name within it; a package itself is named `__init__`."""
    found = {}
    for path in sorted((ROOT / package).rglob("*.py")):
        parts = path.relative_to(ROOT / package).with_suffix("").parts
        found[".".join(parts)] = path
    return found


def imports(path: Path) -> set[str]:
    """Return every module that a file imports, wherever in it, except those that only the type checker sees."""
    tree = ast.parse(path.read_text())
    unseen = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        for inner in ast.walk(node)
    }
    found = set()
    for node in ast.walk(tree):
        if id(node) in unseen:
            continue
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            module = node.module or ""
            found.add(module)
            # `from sinks import writer` names a module too
            found |= {f"{module}.{alias.name}" for alias in node.names if (ROOT / module.replace(".", "/")).is_dir()}
    return found


def top(names: set[str]) -> set[str]:
    return {name.split(".")[0] for name in names}


def within(package: str, names: set[str]) -> set[str]:
    """Return the modules of a package among imported names, by their dotted name within it."""
    known = modules(package)
    inner = {name.removeprefix(f"{package}.") for name in names if name.startswith(f"{package}.")}
    return {name for name in inner if name in known}


def floor(package: str, name: str) -> int:
    if name in WIRING[package]:
        return 3
    return 2 if name in ADAPTERS[package] else 1


IN_SERVICES = [(package, name) for package in SERVICES for name in modules(package)]
IN_ADAPTERS = [("adapters", name) for name in modules("adapters")]


def cases(chosen: list[tuple[str, str]]) -> list[ParameterSet]:
    return [pytest.param(package, name, id=f"{package}.{name}") for package, name in chosen]


@pytest.mark.parametrize("name", modules("schemas"))
def test_the_contracts_import_what_reads_their_formats_and_nothing_else(name: str) -> None:
    foreign = top(imports(modules("schemas")[name])) - sys.stdlib_module_names
    assert foreign <= {"schemas", "pydantic", "orjson", "isal", "zstandard"}


@pytest.mark.parametrize("name", modules("adapters"))
def test_shared_drivers_know_no_service(name: str) -> None:
    assert not top(imports(modules("adapters")[name])) & {*SERVICES, "deploy"}


@pytest.mark.parametrize(("package", "name"), cases(IN_SERVICES))
def test_services_meet_in_contracts_only(package: str, name: str) -> None:
    assert not top(imports(modules(package)[name])) & {*SERVICES, "deploy"} - {package}


@pytest.mark.parametrize(("package", "name"), cases([case for case in IN_SERVICES if floor(*case) == 1]))
def test_pure_logic_only_computes(package: str, name: str) -> None:
    names = imports(modules(package)[name])
    foreign = top(names) - sys.stdlib_module_names - {package}
    assert foreign <= {"schemas"} | COMPUTING
    assert not (names | top(names)) & SIDE_EFFECTS


@pytest.mark.parametrize(("package", "name"), cases(IN_SERVICES))
def test_a_module_imports_no_floor_above_its_own(package: str, name: str) -> None:
    own = floor(package, name)
    above = {other for other in within(package, imports(modules(package)[name])) if floor(package, other) > own}
    assert not above


@pytest.mark.parametrize(("package", "name"), cases(IN_ADAPTERS + [case for case in IN_SERVICES if floor(*case) == 2]))
def test_an_adapter_has_one_driver(package: str, name: str) -> None:
    assert len(top(imports(modules(package)[name])) & DRIVERS) <= 1


def test_the_lists_above_name_modules_that_exist() -> None:
    for package in SERVICES:
        assert ADAPTERS[package] | WIRING[package] <= set(modules(package))
