"""The gateway while Kafka or Postgres is away, and when it is told to stop."""

import http.client
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from confluent_kafka.admin import AdminClient

from adapters.kafka_admin import Layout, create_topics
from adapters.projects import create_project
from deploy.runtime import jars, java
from deploy.runtime import kafka as broker
from deploy.runtime.ports import free_port
from schemas import topics as declared
from tests.integration.gateway_process import (
    ROOT,
    Answer,
    Gateway,
    administer,
    gateway,
    read_answer,
    stored_events,
    wait_until,
)

PREFIX = "outage."
BODY: dict[str, Any] = {"session_id": "s", "events": [{"event_type": "click"}]}


class Broker:
    """A broker of the test's own, which it may stop, freeze and start."""

    def __init__(self, directory: Path) -> None:
        port = free_port()
        self._server = broker.KafkaServer(
            directory=directory / "kafka",
            port=port,
            controller_port=free_port(taken=frozenset({port})),
            java=java.find_java(os.environ),
            jars=tuple(jars.classpath(os.environ, report=print)),
        )
        self._server.prepare()
        self._program = self._server.program(os.environ)
        self._output = directory / "kafka.out"
        self.bootstrap = self._server.bootstrap

    def start(self) -> None:
        """Start and wait until it answers."""
        with self._output.open("ab") as stream:
            self._process = self._program.start(stream)
        broker.wait_until_ready(self.bootstrap, deadline_s=90, alive=lambda: self._process.poll() is None)

    def signal(self, number: int) -> None:
        """Send the broker's process a signal."""
        os.kill(self._process.pid, number)

    def stop(self) -> None:
        """Stop it in order."""
        self._program.stop(self._process)


@pytest.fixture
def own_broker(tmp_path: Path) -> Iterator[Broker]:
    """Give a running broker with the topics made."""
    own = Broker(tmp_path)
    own.start()
    create_topics(AdminClient({"bootstrap.servers": own.bootstrap}), declared.ALL, Layout(prefix=PREFIX, partitions=2))
    yield own
    own.signal(signal.SIGCONT)
    own.stop()


def key_of_a_project(database: str) -> str:
    with administer(database) as connection:
        return create_project(connection, name="p").key


def timed(call: Callable[[], Answer]) -> tuple[Answer, float]:
    began_s = time.monotonic()
    answer = call()
    return answer, time.monotonic() - began_s


def refused_at_once(running: Gateway, key: str) -> bool:
    answer, took_s = timed(lambda: running.events(key, BODY))
    return answer.status == 503 and took_s < 0.5


@pytest.mark.timeout(300)
def test_while_the_broker_is_away_requests_are_refused_at_once_and_after_it_is_back_accepted(
    own_broker: Broker, database: str, tmp_path: Path
) -> None:
    key = key_of_a_project(database)
    where = {"kafka": own_broker.bootstrap, "database": database, "prefix": PREFIX, "directory": tmp_path}
    with gateway(**where) as running:  # type: ignore[arg-type]
        assert running.events(key, BODY).status == 202
        own_broker.stop()
        wait_until(lambda: refused_at_once(running, key), deadline_s=30)
        answer = running.events(key, BODY)
        if answer.status == 202:
            raise AssertionError("acknowledged without a broker")
        assert (answer.body["error"], 5 <= int(answer.headers["retry-after"]) <= 10) == ("kafka_unavailable", True)
        assert running.request("GET", "/readyz").status == 503
        assert running.request("GET", "/healthz").status == 200
        assert running.metric('traceflow_gateway_kafka_queue_bytes{lane="events"}') < 10_000_000

        own_broker.start()
        wait_until(lambda: running.events(key, BODY).status == 202, deadline_s=60)
        assert running.events(key, BODY).status == 202
        wait_until(lambda: running.request("GET", "/readyz").status == 200, deadline_s=10)
        assert running.stop() == 0


@pytest.mark.timeout(300)
def test_a_broker_that_hangs_is_noticed_and_one_that_wakes_up_is_used(
    own_broker: Broker, database: str, tmp_path: Path
) -> None:
    key = key_of_a_project(database)
    limits = {"max_unacked_s": "1", "kafka_timeout_s": "3"}
    with gateway(kafka=own_broker.bootstrap, database=database, prefix=PREFIX, directory=tmp_path, **limits) as running:
        assert running.events(key, BODY).status == 202
        own_broker.signal(signal.SIGSTOP)
        answers: list[tuple[Answer, float]] = []
        waiting = threading.Thread(target=lambda: answers.append(timed(lambda: running.events(key, BODY))))
        waiting.start()
        wait_until(lambda: refused_at_once(running, key), deadline_s=30)
        waiting.join()
        (answer, took_s) = answers[0]
        assert (answer.status, answer.body["error"]) == (503, "kafka_unavailable")
        assert took_s < 6
        closed = 'traceflow_gateway_kafka_gate_closed{lane="events"}'
        wait_until(lambda: running.metric(closed) == 1, deadline_s=10)

        own_broker.signal(signal.SIGCONT)
        wait_until(lambda: running.events(key, BODY).status == 202, deadline_s=60)


@pytest.mark.timeout(300)
def test_recovery_needs_no_request_to_be_noticed_by_load_balancers(
    own_broker: Broker, database: str, tmp_path: Path
) -> None:
    key = key_of_a_project(database)
    with gateway(
        kafka=own_broker.bootstrap, database=database, prefix=PREFIX, directory=tmp_path, kafka_timeout_s="1"
    ) as running:
        own_broker.stop()
        wait_until(lambda: running.events(key, BODY).status == 503, deadline_s=30)
        wait_until(lambda: running.request("GET", "/readyz").status == 503, deadline_s=10)
        own_broker.start()
        wait_until(lambda: running.request("GET", "/readyz").status == 200, deadline_s=60)
        wait_until(lambda: running.events(key, BODY).status == 202, deadline_s=10)


def test_known_keys_work_on_while_postgres_is_away_and_unknown_ones_are_not_called_wrong(
    kafka: str, topics: str, database: str, tmp_path: Path
) -> None:
    key = key_of_a_project(database)
    with gateway(kafka=kafka, database=database, prefix=topics, directory=tmp_path) as running:
        assert running.events("tfk_never_made", BODY).body["error"] == "key_unknown"
        _let_in(database, False)
        # a connection that was being made while the others were ended answers once more
        wait_until(lambda: _is_refused(running, database), deadline_s=20)
        assert running.events("tfk_another", BODY).body["error"] == "projects_unavailable"
        assert running.events(key, BODY).status == 202
        assert running.request("GET", "/readyz").status == 200

        _let_in(database, True)
        later = key_of_a_project(database)
        wait_until(lambda: running.events(later, BODY).status == 202, deadline_s=20)
        # the connection for single keys comes back by itself, maybe after the one that loads all of them
        wait_until(lambda: running.events("tfk_another", BODY).body["error"] == "key_unknown", deadline_s=20)


def _is_refused(running: Gateway, database: str) -> bool:
    """Tell whether no connection is left, and the gateway knows."""
    _let_in(database, False)
    return running.events("tfk_other", BODY).status == 503


def _let_in(database: str, allowed: bool) -> None:
    """Let connections into a database, or end them and refuse more."""
    name = psycopg.conninfo.conninfo_to_dict(database)["dbname"]
    with psycopg.connect(database, dbname="postgres", autocommit=True) as connection:
        connection.execute(
            "UPDATE pg_database SET datallowconn = %s, datconnlimit = %s WHERE datname = %s",
            (allowed, -1 if allowed else 0, name),
        )
        if not allowed:
            connection.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", (name,))


def test_a_stopping_gateway_answers_what_it_has_begun_and_ends_with_0(
    kafka: str, topics: str, database: str, tmp_path: Path
) -> None:
    key = key_of_a_project(database)
    body = json.dumps(BODY).encode()
    head = f"POST /v1/events?key={key} HTTP/1.1\r\nHost: a\r\nContent-Length: {len(body)}\r\n\r\n".encode()
    with gateway(kafka=kafka, database=database, prefix=topics, directory=tmp_path, drain_s="1") as running:
        kept = http.client.HTTPConnection("127.0.0.1", running.port, timeout=10)
        kept.request("POST", f"/v1/events?key={key}", body)
        assert read_answer(kept.getresponse()).status == 202
        with running.socket() as half_body, running.socket() as half_head:
            half_body.sendall(head + body[:10])
            half_head.sendall(head[:30])
            wait_until(lambda: running.metric("traceflow_gateway_connections") == 3, deadline_s=10)
            running.process.send_signal(signal.SIGTERM)
            wait_until(lambda: running.request("GET", "/readyz").status == 503, deadline_s=1)
            kept.request("POST", f"/v1/events?key={key}", body)
            last = read_answer(kept.getresponse())
            assert (last.status, last.headers["connection"]) == (202, "close")
            wait_until(lambda: _refuses_connections(running), deadline_s=10)

            half_body.sendall(body[10:])
            half_head.sendall(head[30:] + body)
            for client in (half_body, half_head):
                response = http.client.HTTPResponse(client)
                response.begin()
                assert read_answer(response).status == 202
        assert running.process.wait(timeout=20) == 0
        assert "event=stopped" in running.output.read_text()
    assert len(stored_events(kafka, topics)) == 4


def _refuses_connections(running: Gateway) -> bool:
    try:
        running.socket().close()
    except OSError:
        return True
    return False


def test_a_request_that_the_deadline_of_stopping_cuts_off_is_told_so(
    kafka: str, topics: str, database: str, tmp_path: Path
) -> None:
    key = key_of_a_project(database)
    head = f"POST /v1/events?key={key} HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\n{{".encode()
    times = {"drain_s": "0", "stop_timeout_s": "1"}
    with (
        gateway(kafka=kafka, database=database, prefix=topics, directory=tmp_path, **times) as running,
        running.socket() as stalled,
    ):
        stalled.sendall(head)
        wait_until(lambda: running.metric("traceflow_gateway_in_flight_requests") == 1, deadline_s=10)
        running.process.send_signal(signal.SIGTERM)
        response = http.client.HTTPResponse(stalled)
        response.begin()
        answer = read_answer(response)
        assert (answer.status, answer.body["error"]) == (503, "shutting_down")
        assert running.process.wait(timeout=10) == 0


@pytest.mark.parametrize(
    ("change", "code", "line"),
    [
        ({"TRACEFLOW_TOPIC_PREFIX": "nothing."}, 78, "run `traceflow topics`"),
        ({"TRACEFLOW_DATABASE_URL": "/nothing"}, 78, "does not exist"),
        (
            {"TRACEFLOW_KAFKA_BOOTSTRAP": "127.0.0.1:9", "TRACEFLOW_GATEWAY_START_TIMEOUT_S": "1"},
            75,
            "kafka does not answer",
        ),
    ],
)
def test_a_gateway_that_cannot_start_says_why_in_one_line(
    kafka: str, topics: str, database: str, change: dict[str, str], code: int, line: str
) -> None:
    environ = {
        "TRACEFLOW_KAFKA_BOOTSTRAP": kafka,
        "TRACEFLOW_TOPIC_PREFIX": topics,
        "TRACEFLOW_DATABASE_URL": database,
        "TRACEFLOW_GATEWAY_PORT": "0",
        **change,
    }
    if environ["TRACEFLOW_DATABASE_URL"].startswith("/"):
        environ["TRACEFLOW_DATABASE_URL"] = database.rpartition("/")[0] + environ["TRACEFLOW_DATABASE_URL"]
    command = [sys.executable, "-m", "ingest_gateway"]
    ended = subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == code, ended.stderr
    (said,) = [text for text in ended.stderr.splitlines() if "event=cannot_start" in text]
    assert line in said
