"""A plan that is used up, from the session that uses it up to the client that is told, and back again."""

import io
import itertools
import json
import time
from collections.abc import Iterator
from contextlib import ExitStack, redirect_stdout
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from adapters import logs
from adapters.projects import create_project, set_owner
from adapters.subscriptions import Terms, set_subscription
from adapters.users import add_user
from deploy.command.application import run
from tests.integration.gateway_process import Answer, Gateway, administer, gateway, wait_until
from tests.integration.sink_bench import execute, query
from tests.integration.sink_system import environment, running

NUMBERS = itertools.count()
"""What tells one event, or one chunk, from another."""
CHUNK = b'[{"type":4,"timestamp":1764057600000,"data":{"href":"https://a.example/","width":1,"height":1}}]'

LIMITED = {"accepted": 0, "rejected": [], "quota_limited": True}
POLL_S = 2
HEARD_S = 15.0
"""A second or so; a machine that is busy with other tests takes longer."""


class System(NamedTuple):
    """Two gateways: one hears only notifications, the other polls as well."""

    hearing: Gateway
    polling: Gateway
    key: str
    project: str
    owner: str
    database: str

    def events(self, session: str, *, polling: bool = False) -> Answer:
        click = {"event_type": "click", "event_name": f"{next(NUMBERS)}"}
        return (self.polling if polling else self.hearing).events(self.key, {"session_id": session, "events": [click]})

    def chunk(self, session: str) -> Answer:
        path = f"/v1/recordings?session_id={session}&window_id=w&seq={next(NUMBERS)}"
        return self.hearing.request("POST", path, CHUNK, {"X-TraceFlow-Key": self.key})


@pytest.fixture
def system(kafka: str, topics: str, database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[System]:
    with administer(database) as connection:
        owner = add_user(connection, "ann@shop.example")
        set_subscription(connection, owner, Terms(limits={"sessions_limit": 3, "recordings_limit": 2}))
        project = create_project(connection, name="shop")
        set_owner(connection, project.id, owner)
    settings = environment(kafka=kafka, prefix=topics, database=database)
    logs.configure("sink", log_format=settings.log.log_format)
    for name, value in (("KAFKA_BOOTSTRAP", kafka), ("DATABASE_URL", database), ("TOPIC_PREFIX", topics)):
        monkeypatch.setenv(f"TRACEFLOW_{name}", value)
    with ExitStack() as stack:
        hearing, polling = (
            stack.enter_context(
                gateway(kafka=kafka, database=database, prefix=topics, directory=tmp_path, projects_poll_s=poll_s)
            )
            for poll_s in ("3600", str(POLL_S))
        )
        for name in ("events", "recordings"):
            stack.enter_context(running(name, settings))
        yield System(hearing, polling, project.key, project.id, owner, database)


def command(*arguments: str) -> Any:
    out = io.StringIO()
    with redirect_stdout(out):
        run([*arguments, "--json"])
    return json.loads(out.getvalue())


def stored(system: System) -> tuple[int, int]:
    """Count the rows of events and of chunks."""
    counts = "SELECT (SELECT count(*) FROM traceflow_events), (SELECT count(*) FROM session_recording_chunks)"
    ((events, chunks),) = query(system.database, counts)
    return events, chunks


def projects_limited(of: Gateway) -> list[float]:
    return [of.metric(f'traceflow_gateway_projects_limited{{route="{route}"}}') for route in ("events", "recordings")]


def test_a_plan_that_is_used_up_is_told_at_once_and_what_was_accepted_is_stored(system: System) -> None:
    accepted = [0, 0]

    def sent(answer: Answer, kind: int) -> bool:
        assert answer.status == 202
        accepted[kind] += answer.body["accepted"]
        assert answer.body["accepted"] or answer.body == LIMITED
        return bool(answer.body == LIMITED)

    def heard(kind: int) -> float:
        """Send to a session that is running until it is told to stop; return how long that took."""
        wait_until(lambda: min(stored(system)[kind], accepted[kind]) == accepted[kind], deadline_s=30)
        began = time.monotonic()
        wait_until(lambda: sent((system.events, system.chunk)[kind]("s1"), kind), deadline_s=HEARD_S)
        return time.monotonic() - began

    # recordings are used up by the second: events go on
    for session in ("s1", "s2"):
        assert not sent(system.chunk(session), 1)
    print(f"recordings: limited {heard(1):.2f} s after the row was there")
    assert not sent(system.events("s1"), 0)
    # sessions are used up by the third: nothing goes on, of running sessions neither
    assert not sent(system.events("s3"), 0)
    print(f"events: limited {heard(0):.2f} s after the row was there")
    assert sent(system.chunk("s4"), 1)

    wait_until(lambda: projects_limited(system.hearing) == [1, 1], deadline_s=10)
    assert system.hearing.metric('traceflow_gateway_dropped_requests_total{cause="quota_limited"}') >= 3
    (listed,) = command("projects", "list")
    assert (listed["owner"], listed["limited"]) == ("ann@shop.example", ["events", "recordings"])
    (limited,) = command("status", "--interval", "0.1")["limited_projects"]
    assert (limited["name"], limited["limited"]) == ("shop", ["events", "recordings"])
    usage = command("subscriptions", "usage", "ann@shop.example")
    assert (usage["sessions_used"], usage["recordings_used"]) == (3, 2)

    # a higher limit lets it in again at once
    command("subscriptions", "set", "ann@shop.example", "--sessions", "4")
    wait_until(lambda: not sent(system.events("s1"), 0), deadline_s=HEARD_S)
    assert sent(system.chunk("s1"), 1)
    assert not sent(system.events("s4"), 0)
    print(f"events: limited again {heard(0):.2f} s after the row was there")

    # the next period lets it in without anybody writing anything
    end = datetime.now(UTC) + timedelta(seconds=3)
    execute(system.database, "UPDATE traceflow_subscriptions SET current_period_end = %s", end)
    wait_until(lambda: sent(system.events("s1", polling=True), 0), deadline_s=2)
    updated = query(system.database, "SELECT updated_at FROM traceflow_subscriptions")
    wait_until(lambda: not sent(system.events("s1", polling=True), 0), deadline_s=HEARD_S)
    late = datetime.now(UTC) - end
    print(f"the next period: let in after {late.total_seconds():.2f} s, polling each {POLL_S} s")
    assert late > timedelta(0)
    assert query(system.database, "SELECT updated_at FROM traceflow_subscriptions") == updated
    assert not sent(system.events("s5", polling=True), 0)
    wait_until(
        lambda: query(system.database, "SELECT sessions_used, usage_since FROM traceflow_subscriptions") == [(1, end)],
        deadline_s=30,
    )
    wait_until(lambda: stored(system) == tuple(accepted), deadline_s=30)
    assert command("status", "--interval", "0.1")["limited_projects"] == []
    wait_until(lambda: projects_limited(system.polling) == [0, 0], deadline_s=10)
