"""What lies in a data directory, and how other commands find the runtime that uses it.

    lock              held while a runtime uses the directory
    state.json        what runs now: addresses, the local project, processes (mode 0600: it holds the key)
    ports.json        the ports of the last run, taken again if they are free, so that URLs stay valid
    project.id        the local project
    project.key       its key (mode 0600)
    postgres.password the database superuser's password (mode 0600)
    kafka/            the broker's storage
    postgres/         the database files, or a link to them where the server's user may not enter this directory

A runtime also leaves a pointer in the user's cache directory, by which `traceflow sql` finds it from anywhere.
"""

import fcntl
import hashlib
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from deploy.runtime.jars import cache_directory
from deploy.runtime.ports import free_port, is_free
from deploy.runtime.program import RuntimeFailure

DEFAULT = Path(".traceflow")


def data_directory(environ: Mapping[str, str], named: Path | None = None) -> Path:
    """Return the data directory: the named one, TRACEFLOW_DATA_DIR, or .traceflow here."""
    return (named or Path(environ.get("TRACEFLOW_DATA_DIR") or DEFAULT)).absolute()


@dataclass(frozen=True, slots=True)
class Instance:
    """A data directory."""

    path: Path

    def make(self) -> None:
        """Make the directory; as root strangers may pass it, because the database server's user has to.

        Raises:
            RuntimeFailure: it cannot be made or written.
        """
        try:
            if not self.path.exists():
                self.path.mkdir(parents=True)
                self.path.chmod(0o711 if os.geteuid() == 0 else 0o700)
            (self.path / "lock").touch(mode=0o600)
        except OSError as error:
            raise RuntimeFailure(f"cannot use the data directory {self.path}: {error.strerror}") from error

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the directory for this process.

        Raises:
            RuntimeFailure: another process holds it.
        """
        with (self.path / "lock").open("r+") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise RuntimeFailure(
                    f"{self.path} is in use by process {lock.read().strip() or '?'}: "
                    "stop that `traceflow up`, or choose another directory with --data"
                ) from None
            lock.truncate()
            lock.write(f"{os.getpid()}\n")
            lock.flush()
            yield

    def is_running(self) -> bool:
        """Tell whether a runtime holds the directory now."""
        try:
            with (self.path / "lock").open() as lock:
                fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        except OSError:
            return False
        return False

    def ports(self, names: list[str]) -> dict[str, int]:
        """Return a port for each name, those of the last run where they are still free."""
        file = self.path / "ports.json"
        try:
            last: dict[str, int] = orjson.loads(file.read_bytes())
        except (OSError, ValueError):
            last = {}
        ports: dict[str, int] = {}
        for name in names:
            port = last.get(name)
            kept = port is not None and port not in ports.values() and is_free(port)
            ports[name] = port if kept and port else free_port(taken=frozenset(ports.values()))
        write_private(file, orjson.dumps(ports))
        return ports

    def read_state(self) -> dict[str, Any] | None:
        """Return the state of the runtime that runs here and accepts work; None if there is none."""
        if not self.is_running():
            return None
        try:
            state: dict[str, Any] = orjson.loads((self.path / "state.json").read_bytes())
        except (OSError, ValueError):
            return None
        return state

    def write_state(self, state: Mapping[str, Any], *, environ: Mapping[str, str]) -> None:
        """Replace the state, and leave the pointer to it."""
        write_private(self.path / "state.json", orjson.dumps(state, option=orjson.OPT_INDENT_2))
        pointer = self._pointer(environ)
        pointer.parent.mkdir(parents=True, exist_ok=True)
        pointer.write_text(f"{self.path}\n")

    def clear_state(self, *, environ: Mapping[str, str]) -> None:
        """Remove what said that a runtime runs here."""
        for file in (self.path / "state.json", self._pointer(environ)):
            file.unlink(missing_ok=True)

    def _pointer(self, environ: Mapping[str, str]) -> Path:
        return _pointers(environ) / hashlib.sha256(str(self.path).encode()).hexdigest()[:16]


def find_running(environ: Mapping[str, str], named: Path | None = None) -> tuple[Instance, dict[str, Any]]:
    """Return the runtime that runs: in the named directory, else the usual one, else the only one of this user.

    Raises:
        RuntimeFailure: none runs, or several do and none was named.
    """
    usual = Instance(data_directory(environ, named))
    state = usual.read_state()
    if state is not None:
        return usual, state
    if named or environ.get("TRACEFLOW_DATA_DIR"):
        raise RuntimeFailure(f"no `traceflow up` runs on {usual.path}: start it with --data {usual.path}")
    running = [(instance, state) for instance in _pointed_at(environ) if (state := instance.read_state()) is not None]
    if not running:
        raise RuntimeFailure("no `traceflow up` runs: start one, or set TRACEFLOW_DATABASE_URL")
    if len(running) > 1:
        places = ", ".join(str(instance.path) for instance, _ in running)
        raise RuntimeFailure(f"several runtimes run ({places}): say which with --data")
    return running[0]


def _pointers(environ: Mapping[str, str]) -> Path:
    return cache_directory(environ) / "running"


def _pointed_at(environ: Mapping[str, str]) -> list[Instance]:
    folder = _pointers(environ)
    return [Instance(Path(pointer.read_text().strip())) for pointer in folder.iterdir()] if folder.is_dir() else []


def write_private(file: Path, content: bytes) -> None:
    """Replace a file by rename, so that a reader sees the old or the new whole; only its owner may read it.

    Raises:
        OSError: its folder cannot be written.
    """
    draft = file.with_name(f".{file.name}.{os.getpid()}")
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as stream:
        stream.write(content)
    draft.replace(file)
