"""Projects in a real database, and the snapshot that the gateway answers from."""

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager
from typing import Any

import psycopg
import pytest
from pydantic import SecretStr, ValidationError

from adapters.postgres import Connection, DatabaseRefused, connect
from adapters.project_snapshot import LOOKUPS_PER_S, ProjectSnapshot, ProjectsUnavailable, UnknownKey
from adapters.projects import (
    NewProject,
    UnknownProject,
    create_project,
    hash_key,
    list_projects,
    rotate_key,
    set_settings,
)
from schemas.connections import DatabaseSettings
from schemas.projects import NOTIFY_CHANNEL, Project, ProjectSettings


@pytest.fixture
def connection(database: str) -> Iterator[Connection]:
    """Give a connection of the owner of the tables."""
    with connect(DatabaseSettings(url=SecretStr(database)), application_name="test") as opened:
        yield opened


@asynccontextmanager
async def following(database: str, *, poll_s: float = 60.0) -> AsyncIterator[ProjectSnapshot]:
    snapshot = ProjectSnapshot(DatabaseSettings(url=SecretStr(database)), poll_s=poll_s)
    await snapshot.start(timeout_s=20)
    try:
        yield snapshot
    finally:
        await snapshot.close()


def run(main: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(main())


async def until(true: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(20):
        while not await true():  # noqa: ASYNC110 - the database has no event to wait for
            await asyncio.sleep(0.02)


async def answer(snapshot: ProjectSnapshot, key: str) -> str:
    """Return the settings version that a key finds, or why it finds none."""
    try:
        return str((await snapshot.find(key)).settings_version)
    except (UnknownKey, ProjectsUnavailable) as error:
        return type(error).__name__


# Projects


def test_a_key_is_shown_once_and_stored_as_its_hash(connection: Connection) -> None:
    made = create_project(connection, name="Shop")
    assert re.fullmatch(r"tfk_[A-Za-z0-9_-]{32}", made.key)
    assert made.key not in repr(made)
    stored = connection.execute("SELECT key_hash, key_prefix FROM traceflow_project_keys").fetchall()
    assert stored == [(hash_key(made.key), made.key[:8])]


def test_projects_are_listed_with_the_settings_in_force(connection: Connection) -> None:
    first = create_project(connection, name="A", project_id="0190163d-8694-739b-aea5-966c26f8ad91")
    second = create_project(connection, name="B", settings=ProjectSettings(ip_policy="drop"))
    assert set_settings(connection, first.id, {"events_per_second": 5}) == 2
    assert [(p.id, p.name, p.settings_version, p.settings, p.key_prefixes) for p in list_projects(connection)] == [
        ("0190163d-8694-739b-aea5-966c26f8ad91", "A", 2, ProjectSettings(events_per_second=5), (first.key[:8],)),
        (second.id, "B", 1, ProjectSettings(ip_policy="drop"), (second.key[:8],)),
    ]


def test_settings_are_versions_that_never_change(connection: Connection) -> None:
    made = create_project(connection, name="p")
    assert set_settings(connection, made.id, {"ip_policy": "drop", "session_gap_ms": 60_000}) == 2
    assert set_settings(connection, made.id, {"ip_policy": None, "origins": ["https://a.example"]}) == 3
    stored = connection.execute("SELECT version, settings FROM traceflow_project_settings ORDER BY version").fetchall()
    assert stored == [
        (1, {}),
        (2, {"ip_policy": "drop", "session_gap_ms": 60_000}),
        (3, {"session_gap_ms": 60_000, "origins": ["https://a.example"]}),
    ]


@pytest.mark.parametrize("changes", [{"ip_policy": "shout"}, {"colour": "red"}, {"events_per_second": -1}])
def test_settings_that_are_not_allowed_change_nothing(connection: Connection, changes: dict[str, Any]) -> None:
    made = create_project(connection, name="p")
    with pytest.raises(ValidationError):
        set_settings(connection, made.id, changes)
    assert list_projects(connection)[0].settings_version == 1


@pytest.mark.parametrize("project_id", ["0190163d-8694-739b-aea5-966c26f8ad91", "not-a-uuid"])
def test_a_project_that_is_not_there_is_named(connection: Connection, project_id: str) -> None:
    for change in (
        lambda: set_settings(connection, project_id, {}),
        lambda: rotate_key(connection, project_id, revoke_others=True),
    ):
        with pytest.raises(UnknownProject, match=project_id):
            change()


# The snapshot


def test_a_key_finds_its_project_as_it_is_now(database: str, connection: Connection) -> None:
    made = create_project(connection, name="p", settings=ProjectSettings(ip_policy="truncate"))

    async def main() -> None:
        async with following(database) as snapshot:
            assert await snapshot.find(made.key) == Project(
                id=made.id, settings_version=1, settings=ProjectSettings(ip_policy="truncate")
            )
            assert (snapshot.keys, snapshot.age_s < 20) == (1, True)
            with pytest.raises(UnknownKey):
                await snapshot.find(made.key + "x")

    run(main)


def test_changes_arrive_by_notification(database: str, connection: Connection) -> None:
    made = create_project(connection, name="p")

    async def main() -> None:
        async with following(database) as snapshot:
            set_settings(connection, made.id, {"events_per_second": 7})
            await until(lambda: _is(snapshot, made.key, "2"))
            other = rotate_key(connection, made.id, revoke_others=False)
            await until(lambda: _counts(snapshot, 2))
            last = rotate_key(connection, made.id, revoke_others=True)
            await until(lambda: _is(snapshot, made.key, "UnknownKey"))
            assert [await answer(snapshot, key) for key in (other, last)] == ["UnknownKey", "2"]

    run(main)


async def _is(snapshot: ProjectSnapshot, key: str, expected: str) -> bool:
    return await answer(snapshot, key) == expected


async def _counts(snapshot: ProjectSnapshot, keys: int) -> bool:
    return snapshot.keys == keys


def test_a_lost_notification_is_made_up_for_by_the_poll(database: str, connection: Connection) -> None:
    made = create_project(connection, name="p")

    async def main() -> None:
        async with following(database, poll_s=0.1) as snapshot:
            connection.execute("SET session_replication_role = replica")  # without the triggers that notify
            connection.execute(
                "INSERT INTO traceflow_project_settings (project_id, version) VALUES (%s, 2)", (made.id,)
            )
            await until(lambda: _is(snapshot, made.key, "2"))

    run(main)


def test_a_project_works_the_moment_it_is_made(database: str, connection: Connection) -> None:
    async def main() -> None:
        async with following(database) as snapshot:
            # the loop has had no time to hear of it
            made = create_project(connection, name="p")
            assert await answer(snapshot, made.key) == "1"

    run(main)


def test_many_requests_with_one_unknown_key_ask_once(
    database: str, connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = _count_questions(monkeypatch)

    async def main() -> None:
        async with following(database) as snapshot:
            made = create_project(connection, name="p")
            assert await asyncio.gather(*(answer(snapshot, made.key) for _ in range(50))) == ["1"] * 50
            wrong = await asyncio.gather(*(answer(snapshot, "tfk_wrong") for _ in range(50)))
            assert wrong == ["UnknownKey"] * 50
            assert len(asked) <= 2

    run(main)


def test_a_flood_of_random_keys_asks_little_and_keeps_little(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = _count_questions(monkeypatch)
    monkeypatch.setattr("adapters.project_snapshot.MAX_UNKNOWN", 3)

    async def main() -> None:
        loop = asyncio.get_running_loop()
        async with following(database) as snapshot:
            began_s = loop.time()
            answers = [await answer(snapshot, f"tfk_{n}") for n in range(20_000)]
            assert set(answers) == {"UnknownKey"}
            assert 1 <= len(asked) <= LOOKUPS_PER_S * (loop.time() - began_s) + 1
            assert snapshot.remembered_unknown <= 3

    run(main)


def _count_questions(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    asked: list[bytes] = []
    ask = ProjectSnapshot._ask

    async def counted(self: ProjectSnapshot, key_hash: bytes) -> Any:
        asked.append(key_hash)
        return await ask(self, key_hash)

    monkeypatch.setattr(ProjectSnapshot, "_ask", counted)
    return asked


def test_while_postgres_is_away_known_keys_work_and_unknown_ones_are_not_called_wrong(
    database: str, connection: Connection
) -> None:
    made = create_project(connection, name="p")
    name = psycopg.conninfo.conninfo_to_dict(database)["dbname"]

    async def main() -> None:
        async with following(database) as snapshot:
            with psycopg.connect(database, dbname="postgres", autocommit=True) as server:
                _let_in(server, name, allowed=False)
                await until(lambda: _is(snapshot, "tfk_other", "ProjectsUnavailable"))
                assert await answer(snapshot, made.key) == "1"
                _let_in(server, name, allowed=True)
            await until(lambda: _is(snapshot, "tfk_yet_another", "UnknownKey"))
            with connect(DatabaseSettings(url=SecretStr(database)), application_name="test") as again:
                set_settings(again, made.id, {"events_per_second": 3})
            await until(lambda: _is(snapshot, made.key, "2"))

    run(main)


def _let_in(server: "psycopg.Connection[Any]", name: object, *, allowed: bool) -> None:
    server.execute("UPDATE pg_database SET datallowconn = %s WHERE datname = %s", (allowed, name))
    if not allowed:
        server.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", (name,))


def test_settings_of_a_newer_version_are_read_as_far_as_they_are_known(database: str, connection: Connection) -> None:
    made = create_project(connection, name="p")
    _store_settings(connection, made, '{"ip_policy": "drop", "hologram": true}')

    async def main() -> None:
        async with following(database) as snapshot:
            assert (await snapshot.find(made.key)).settings == ProjectSettings(ip_policy="drop")

    run(main)


def test_a_project_whose_settings_cannot_be_read_is_unavailable_and_hides_no_other(
    database: str, connection: Connection
) -> None:
    broken, sound = create_project(connection, name="b"), create_project(connection, name="s")
    _store_settings(connection, broken, '{"ip_policy": "shout"}')

    async def main() -> None:
        async with following(database) as snapshot:
            assert [await answer(snapshot, p.key) for p in (broken, sound)] == ["ProjectsUnavailable", "1"]

    run(main)


def _store_settings(connection: Connection, project: NewProject, settings: str) -> None:
    connection.execute(
        "INSERT INTO traceflow_project_settings (project_id, version, settings) VALUES (%s, 2, %s)",
        (project.id, settings),
    )


def test_a_database_without_tables_or_with_a_wrong_name_is_refused_at_once(database: str) -> None:
    async def main(url: str) -> None:
        snapshot = ProjectSnapshot(DatabaseSettings(url=SecretStr(url)), poll_s=60)
        with pytest.raises(DatabaseRefused):
            await snapshot.start(timeout_s=20)
        await snapshot.close()

    head = database.rpartition("/")[0]
    run(lambda: main(f"{head}/postgres"))
    run(lambda: main(f"{head}/there_is_none"))


def test_the_channel_is_the_one_that_the_database_notifies(connection: Connection) -> None:
    connection.execute(f"LISTEN {NOTIFY_CHANNEL}".encode())
    made = create_project(connection, name="p")
    heard = [notify.payload for notify in connection.notifies(timeout=10, stop_after=1)]
    assert heard == [made.id]
