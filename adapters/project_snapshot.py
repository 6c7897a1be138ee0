"""The projects by key, held in memory: what the gateway answers from.

All usable keys are held by the SHA-256 of the key, so a request costs one hash and one look-up, and its duration says
nothing about other keys. `NOTIFY traceflow_projects` makes the snapshot current at once, a poll finds what a lost
notification would have told. While Postgres is away the last snapshot goes on serving.

A key that is not in it is asked for once: by its own query, one at a time, at most `LOOKUPS_PER_S`, with the answers
"no" kept for a while. So a project works the moment it is made, and a flood of random keys costs neither Postgres nor
memory. If Postgres cannot be asked, an unknown key is "not known now", never "wrong".
"""

import asyncio
import logging
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import get_args

import psycopg
from psycopg import sql
from psycopg.rows import TupleRow
from pydantic import ValidationError

from adapters.postgres import DatabaseRefused, connect, read_queries
from adapters.projects import hash_key, read_stored_settings
from schemas.connections import DatabaseSettings
from schemas.projects import NOTIFY_CHANNEL, IngestRoute, Project

logger = logging.getLogger(__name__)

LOOKUPS_PER_S = 20
"""Queries for unknown keys; a flood of random ones is answered from the snapshot."""

MAX_UNKNOWN = 10_000
"""Keys remembered as unknown."""

UNKNOWN_TTL_S = 10.0
QUERY_TIMEOUT_S = 5.0
LOOKUP_TIMEOUT_S = 2.0
_RECONNECT_S = (0.2, 5.0)
# rows converted before the loop gets its turn: about 3 ms
_SLICE = 500

AsyncConnection = psycopg.AsyncConnection[TupleRow]


class UnknownKey(LookupError):
    """No usable key is like this."""


class ProjectsUnavailable(Exception):
    """The key is not in the snapshot, and Postgres cannot be asked."""


class ProjectSnapshot:
    """The projects by key, kept current by a task on the running loop."""

    def __init__(
        self, database: DatabaseSettings, *, poll_s: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._database = database
        self._poll_s = poll_s
        self._clock = clock
        self._queries = read_queries("adapters", "projects.sql")
        self._by_key: dict[bytes, Project] = {}
        self._found: dict[bytes, Project] = {}
        self._limited: Mapping[IngestRoute, int] = {}
        self._unknown: OrderedDict[bytes, float] = OrderedDict()
        self._confirmed_s = clock()
        self._connected = False
        self._lookup_lock = asyncio.Lock()
        self._connection: AsyncConnection | None = None
        self._lookup_connection: AsyncConnection | None = None
        self._next_lookup_s = 0.0
        self._task: asyncio.Task[None] | None = None

    @property
    def following(self) -> "asyncio.Task[None]":
        """The task that keeps the snapshot current; it ends by a bug alone."""
        if self._task is None:
            raise RuntimeError("not started")
        return self._task

    @property
    def keys(self) -> int:
        """Count the keys in the snapshot."""
        return len(self._by_key)

    @property
    def limited(self) -> Mapping[IngestRoute, int]:
        """Count the projects whose plan is used up, by the route that it closes, as of the last load."""
        return self._limited

    @property
    def remembered_unknown(self) -> int:
        """Count the keys that are remembered as unknown; bounded by MAX_UNKNOWN."""
        return len(self._unknown)

    @property
    def age_s(self) -> float:
        """Return the seconds since the snapshot was last known to be current."""
        return self._clock() - self._confirmed_s

    async def start(self, *, timeout_s: float) -> None:
        """Load the snapshot and keep it current from then on.

        Raises:
            DatabaseRefused: password, role or database are wrong, or the tables are not there.
            TimeoutError: Postgres could not be reached in time; the cause says why.
        """
        deadline = self._clock() + timeout_s
        while True:
            try:
                # tells a server that is away from one that will never let us in
                (await asyncio.to_thread(connect, self._database, application_name="traceflow-gateway-check")).close()
                connection = self._connection = await self._listen()
                break
            except (psycopg.errors.UndefinedTable, psycopg.errors.UndefinedFunction) as error:
                raise DatabaseRefused("tables or functions are missing: run `traceflow migrate`") from error
            except (psycopg.Error, OSError, TimeoutError) as error:
                if self._clock() >= deadline:
                    raise TimeoutError(f"postgres cannot be reached: {_one_line(error)}") from error
                await asyncio.sleep(_RECONNECT_S[0])
        self._task = asyncio.create_task(self._follow(connection), name="projects")

    async def find(self, key: str) -> Project:
        """Return the key's project.

        Raises:
            UnknownKey: there is no such key.
            ProjectsUnavailable: there is none in the snapshot, and Postgres cannot be asked.
        """
        key_hash = hash_key(key)
        project = self._by_key.get(key_hash)
        return project if project is not None else await self._look_up(key_hash)

    async def close(self) -> None:
        """Stop following and close the connections."""
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task
        for connection in (self._connection, self._lookup_connection):
            if connection is not None:
                await connection.close()

    async def _follow(self, connection: AsyncConnection) -> None:
        """Reload at each notification and each poll; reconnect with backoff."""
        pause_s = _RECONNECT_S[0]
        while True:
            try:
                while True:
                    await self._notified(connection)
                    await self._load(connection)
                    pause_s = _RECONNECT_S[0]
            except (psycopg.Error, OSError, TimeoutError) as error:
                self._connected = False
                logger.warning("projects_snapshot_stale: %s", _one_line(error))
                await connection.close()
            while not self._connected:
                await asyncio.sleep(pause_s)
                pause_s = min(pause_s * 2, _RECONNECT_S[1])
                with suppress(psycopg.Error, OSError, TimeoutError):
                    connection = self._connection = await self._listen()

    async def _listen(self) -> AsyncConnection:
        """Connect, listen, and load: in this order nothing that changes in between is missed."""
        async with asyncio.timeout(QUERY_TIMEOUT_S):
            connection = await _open(self._database, "traceflow-gateway-projects")
        try:
            async with asyncio.timeout(QUERY_TIMEOUT_S):
                await connection.execute(sql.SQL("LISTEN {}").format(sql.Identifier(NOTIFY_CHANNEL)))
            await self._load(connection)
        except BaseException:
            await connection.close()
            raise
        return connection

    async def _notified(self, connection: AsyncConnection) -> None:
        """Wait for a notification or the time of the next poll."""
        async for _ in connection.notifies(timeout=self._poll_s, stop_after=1):
            pass

    async def _load(self, connection: AsyncConnection) -> None:
        """Replace the snapshot; it is swapped whole, so that a revoked key ends with it."""
        known = {(p.id, p.settings_version, p.quota_limited): p for p in self._by_key.values()}
        by_key: dict[bytes, Project] = {}
        limited: dict[IngestRoute, set[str]] = {route: set() for route in get_args(IngestRoute)}
        self._found.clear()
        async with asyncio.timeout(QUERY_TIMEOUT_S):
            cursor = await connection.execute(self._queries["by_key"], {"key_hash": None})
        while rows := await cursor.fetchmany(_SLICE):
            for row in rows:
                project = known.get((row[1], row[2], frozenset(row[4]))) or _project(row)
                if project is not None:
                    by_key[bytes(row[0])] = project
                    for route in project.quota_limited:
                        limited[route].add(project.id)
            await asyncio.sleep(0)
        # a key found by its own query meanwhile may be younger than what was loaded
        self._by_key = {**self._found, **by_key}
        self._limited = {route: len(projects) for route, projects in limited.items()}
        self._connected = True
        self._confirmed_s = self._clock()

    async def _look_up(self, key_hash: bytes) -> Project:
        """Ask for one key: one question at a time, so that ten requests with the same new key ask once."""
        if self._is_unknown(key_hash):
            raise UnknownKey
        async with self._lookup_lock:
            if (project := self._by_key.get(key_hash)) is not None:
                return project
            if self._is_unknown(key_hash):
                raise UnknownKey
            if not self._connected:
                raise ProjectsUnavailable
            if self._clock() < self._next_lookup_s:
                # connected and listening: what the snapshot does not hold does not exist
                raise UnknownKey
            self._next_lookup_s = self._clock() + 1 / LOOKUPS_PER_S
            row = await self._ask(key_hash)
        if row is None:
            self._remember_unknown(key_hash)
            raise UnknownKey
        project = _project(row)
        if project is None:
            raise ProjectsUnavailable
        self._by_key[key_hash] = self._found[key_hash] = project
        return project

    async def _ask(self, key_hash: bytes) -> TupleRow | None:
        try:
            async with asyncio.timeout(LOOKUP_TIMEOUT_S):
                if self._lookup_connection is None or self._lookup_connection.closed:
                    self._lookup_connection = await _open(self._database, "traceflow-gateway-lookup")
                cursor = await self._lookup_connection.execute(self._queries["by_key"], {"key_hash": key_hash})
                return await cursor.fetchone()
        except (psycopg.Error, OSError, TimeoutError) as error:
            if self._lookup_connection is not None:
                await self._lookup_connection.close()
            raise ProjectsUnavailable from error

    def _is_unknown(self, key_hash: bytes) -> bool:
        return self._unknown.get(key_hash, -UNKNOWN_TTL_S) + UNKNOWN_TTL_S > self._clock()

    def _remember_unknown(self, key_hash: bytes) -> None:
        self._unknown[key_hash] = self._clock()
        self._unknown.move_to_end(key_hash)
        while len(self._unknown) > MAX_UNKNOWN:
            self._unknown.popitem(last=False)


async def _open(database: DatabaseSettings, application_name: str) -> AsyncConnection:
    """Connect in autocommit mode, noticing within 10 s that the other side is gone."""
    return await psycopg.AsyncConnection.connect(
        database.url.get_secret_value(),
        autocommit=True,
        application_name=application_name,
        connect_timeout=5,
        keepalives=1,
        keepalives_idle=5,
        keepalives_interval=2,
        keepalives_count=3,
        tcp_user_timeout=10_000,
        client_encoding="UTF8",
    )


def _project(row: TupleRow) -> Project | None:
    """Build a project from a row of `by_key`; one whose settings this version cannot read is left out."""
    try:
        return Project(id=row[1], settings_version=row[2], settings=read_stored_settings(row[3]), quota_limited=row[4])
    except ValidationError as error:
        logger.error("project_settings_invalid: project %s, version %s: %s", row[1], row[2], _one_line(error))
        return None


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__
