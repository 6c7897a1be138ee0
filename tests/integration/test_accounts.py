"""Whatever clients send, each event and chunk is somewhere once, and the numbers say where."""

import json
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing
from pathlib import Path
from typing import NamedTuple

import pytest

from adapters import logs
from adapters.postgres import connect
from adapters.projects import create_project
from deploy.accounts.count import Account, Accounts, count_accounts
from deploy.command.application import run
from deploy.replay.log import Log
from schemas.projects import ProjectSettings
from sinks.app import Environment
from tests.integration.gateway_process import Gateway, administer, gateway
from tests.integration.sink_bench import execute
from tests.integration.sink_system import RunningSink, environment, running

ID = "0190163d-8694-739b-aea5-966c26f8ad9"
RRWEB = b'[{"type":4,"timestamp":1764057600000,"data":{"href":"https://a.example/","width":1,"height":1}}]'


class System(NamedTuple):
    """A gateway and the sinks of what clients send, with two projects."""

    gateway: Gateway
    sinks: dict[str, RunningSink]
    settings: Environment
    projects: dict[str, str]
    """Key by id; `a` and `b` in this order."""

    def accounts(self) -> Accounts:
        with (
            closing(Log(self.settings.kafka, self.settings.log.topic_prefix)) as log,
            closing(connect(self.settings.database, application_name="test")) as connection,
        ):
            return count_accounts(log, connection)

    def sample(self, sink: str, name: str) -> float:
        """Add a metric of a sink up over its other labels."""
        family = next(f for f in self.sinks[sink].registry.collect() if f.name == f"traceflow_sink_{name}")
        return sum(sample.value for sample in family.samples if sample.name.endswith("_total"))


@pytest.fixture
def system(kafka: str, topics: str, database: str, tmp_path: Path) -> Iterator[System]:
    with administer(database) as connection:
        made = [create_project(connection, name=name, settings=ProjectSettings()) for name in "ab"]
    settings = environment(kafka=kafka, prefix=topics, database=database)
    # the sinks run in this process: without it they would write between the lines of the command
    logs.configure("sink", log_format=settings.log.log_format)
    with ExitStack() as stack:
        sinks = {name: stack.enter_context(running(name, settings)) for name in ("events", "recordings")}
        served = stack.enter_context(gateway(kafka=kafka, database=database, prefix=topics, directory=tmp_path))
        yield System(served, sinks, settings, {project.id: project.key for project in made})


def send(system: System, key: str, session: str, *events: Mapping[str, str]) -> tuple[int, int]:
    """Send a request; return how many of its events were accepted and rejected."""
    answer = system.gateway.events(key, {"session_id": session, "events": events})
    assert answer.status == 202
    return answer.body["accepted"], len(answer.body["rejected"])


def test_every_event_that_was_received_is_accounted_for(
    system: System, database: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (a, key_a), (b, key_b) = system.projects.items()
    click = {"event_type": "click"}
    answers = []
    for _ in range(2):  # a client that repeats itself
        answers.append(send(system, key_a, "s", *(click | {"id": f"{ID}{n}"} for n in range(3)), {"event_name": "bad"}))
        answers.append(send(system, key_a, "s", click | {"id": f"{ID}9", "timestamp": "9999-01-01"}))
    for body in (RRWEB, RRWEB, b"[1,2"):
        seq = int(body is not RRWEB)
        path = f"/v1/recordings?session_id=s&window_id=w&seq={seq}"
        assert system.gateway.request("POST", path, body, {"X-TraceFlow-Key": key_a}).status == 202
    system.accounts()  # waits until these are stored: the session is a's
    answers_b = [send(system, key_b, "s", click, click), send(system, key_b, "own", click)]

    found = system.accounts()
    assert found == {
        (a, "events"): Account(accepted=8, rejected=2, stored=4, duplicates=4),
        (a, "chunks"): Account(accepted=3, stored=1, parked=1, duplicates=1),
        (b, "events"): Account(accepted=3, stored=1, parked=2),
    }
    assert {account.unexplained for account in found.values()} == {0}
    # as their clients counted
    assert found[a, "events"].received == sum(map(sum, answers))
    assert found[b, "events"].received == sum(map(sum, answers_b))

    def of_gateway(name: str) -> float:
        return system.gateway.metric(f"traceflow_gateway_{name}_total")

    rejected = system.gateway.metric('traceflow_gateway_rejected_events_total{reason="event_type_missing"}')
    assert of_gateway("received_events") == of_gateway("accepted_events") + rejected == 13
    for sink, accepted in (("events", 11), ("recordings", 3)):
        names = ("rows", "duplicates", "parked")
        assert sum(system.sample(sink, name) for name in names) == accepted

    execute(database, "DELETE FROM traceflow_events WHERE session_id = 'own'")
    for name, value in (("KAFKA_BOOTSTRAP", system.settings.kafka.bootstrap), ("DATABASE_URL", database)):
        monkeypatch.setenv(f"TRACEFLOW_{name}", value)
    monkeypatch.setenv("TRACEFLOW_TOPIC_PREFIX", system.settings.log.topic_prefix)
    assert run(["accounts", "--json", "--project", b]) == 1
    (row,) = json.loads(capsys.readouterr().out)
    assert (row["stored"], row["unexplained"]) == (0, 1)
