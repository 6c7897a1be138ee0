"""Where `make servers` gets a version of PostgreSQL from."""

import io
import platform
import tarfile
import zipfile
from collections.abc import Mapping
from pathlib import Path

import pytest

from deploy.runtime import jars
from deploy.runtime.postgres import OLDEST, Binaries
from deploy.runtime.program import RuntimeFailure
from tests import servers

MAJOR = 17


@pytest.fixture
def jar(tmp_path: Path) -> Path:
    """Give a jar as Maven Central has it: one archive of an installation."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:xz") as files:
        entry = tarfile.TarInfo("bin/postgres")
        entry.size = 3
        files.addfile(entry, io.BytesIO(b"elf"))
    path = tmp_path / "binaries.jar"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("META-INF/MANIFEST.MF", "")
        archive.writestr("postgres-linux-x86_64.txz", packed.getvalue())
    return path


def test_what_the_machine_has_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    installed = [Binaries(Path("/usr/bin/16"), 16), Binaries(Path("/usr/bin/17"), MAJOR)]
    monkeypatch.setattr(servers, "installations", lambda _environ: installed)
    assert servers.binaries_of(MAJOR, {}) == installed[1]


def test_what_it_has_not_is_got_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, jar: Path) -> None:
    asked: list[str] = []

    def resolve(endpoint: str, _environ: Mapping[str, str]) -> list[Path]:
        asked.append(endpoint)
        return [jar]

    monkeypatch.setattr(servers, "installations", lambda _environ: [])
    monkeypatch.setattr(jars, "resolve", resolve)
    monkeypatch.setattr(servers, "PLATFORMS", {(platform.system(), platform.machine()): "x"})
    for _ in range(2):
        got = servers.binaries_of(MAJOR, {"TRACEFLOW_CACHE_DIR": str(tmp_path)})
        assert (got.version, (got.directory / "postgres").read_bytes()) == (MAJOR, b"elf")
    assert asked == [f"io.zonky.test.postgres:embedded-postgres-binaries-x:{servers.SUPPORTED[MAJOR]}"]


def test_a_version_that_cannot_be_had_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(servers, "installations", lambda _environ: [])
    monkeypatch.setattr(servers, "PLATFORMS", {})
    with pytest.raises(RuntimeFailure, match="no PostgreSQL 17 on this machine"):
        servers.binaries_of(MAJOR, {"TRACEFLOW_CACHE_DIR": str(tmp_path)})


def test_the_oldest_that_is_supported_is_the_oldest_that_is_tried() -> None:
    assert min(servers.SUPPORTED) == OLDEST
