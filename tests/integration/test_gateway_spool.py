"""The gateway's spool on a real broker: an outage costs no event and no order, wherever the gateway dies meanwhile."""

import gzip
import http.client
import json
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from ingest_gateway.spool.files import SpoolStep
from tests.integration.gateway_process import Gateway, gateway, read_topic, wait_until
from tests.integration.test_gateway_outage import PREFIX, Broker, key_of_a_project, own_broker

__all__ = ["own_broker"]

SESSIONS = 4
SWIFT = {"max_unacked_s": "0.5", "stop_timeout_s": "5", "drain_s": "0"}


class Clients:
    """One client a session, each of which sends the next event once the last one is acknowledged."""

    def __init__(self, key: str, name: str) -> None:
        self.gateway: Gateway | None = None
        """Whom they speak to; None is nobody now."""
        self.acknowledged: dict[str, int] = {f"{name}-{number}": 0 for number in range(SESSIONS)}
        self.statuses: list[int] = []
        self.patience_s = 0.0
        """The longest wait for an answer."""
        self._key = key
        self._is_over = threading.Event()
        self._is_given_up = threading.Event()
        self._threads = [threading.Thread(target=self._send, args=(session,)) for session in self.acknowledged]

    @contextmanager
    def sending(self) -> Iterator[None]:
        """Send for the time of a block, which `finish` ends in good order."""
        for thread in self._threads:
            thread.start()
        try:
            yield
        finally:
            self._is_given_up.set()

    def finish(self) -> None:
        """Begin nothing more, and send until what was begun is acknowledged."""
        self._is_over.set()
        for thread in self._threads:
            thread.join(timeout=20)
            assert not thread.is_alive()

    def each_got(self, more: int) -> Callable[[], bool]:
        """Return the question whether each has had so many more acknowledged."""
        goals = {session: number + more for session, number in self.acknowledged.items()}
        return lambda: all(self.acknowledged[session] >= goal for session, goal in goals.items())

    def _send(self, session: str) -> None:
        number = 0
        is_acknowledged = True
        while not (self._is_over.is_set() and is_acknowledged) and not self._is_given_up.is_set():
            is_acknowledged = self._try(session, number)
            if is_acknowledged:
                number += 1
                self.acknowledged[session] = number

    def _try(self, session: str, number: int) -> bool:
        running, began_s = self.gateway, time.monotonic()
        if running is None:
            time.sleep(0.01)
            return False
        event = {"event_type": "custom", "timestamp": 1, "id": event_id(number), "metadata": {"session": session}}
        try:
            answer = running.events(self._key, {"session_id": session, "events": [event]})
        except (OSError, http.client.HTTPException):
            return False
        self.statuses.append(answer.status)
        self.patience_s = max(self.patience_s, time.monotonic() - began_s)
        return answer.status == 202


def event_id(number: int) -> str:
    return f"00000000-0000-4000-8000-{number:012x}"


def first_times(kafka: str, topic: str = "events") -> dict[str, list[str]]:
    """Return each session's events in the order in which the log had them first, as later stages count them."""
    seen: dict[str, dict[str, None]] = {}
    for record in read_topic(kafka, f"{PREFIX}{topic}"):
        batch = json.loads(record.value)
        for event in batch["events"]:
            seen.setdefault(batch["session_id"], {})[event["id"]] = None
    return {session: list(ids) for session, ids in seen.items()}


def is_drained(running: Gateway) -> bool:
    """Tell whether the spool was empty at the last sample of its gauges, which may be a second old.

    That nothing is left is asked of the disk.
    """
    lanes = [f'{{lane="{lane}"}}' for lane in ("events", "recordings")]
    names = ("traceflow_gateway_spooling", "traceflow_gateway_spool_requests", "traceflow_gateway_spool_bytes")
    return sum(running.metric(name + lane) for name in names for lane in lanes) == 0


def assert_all_is_there_in_order(kafka: str, clients: Clients) -> None:
    stored = first_times(kafka)
    for session, count in clients.acknowledged.items():
        assert stored[session][:count] == [event_id(number) for number in range(count)]


def segments(spool: Path) -> list[Path]:
    return sorted(spool.rglob("*.spool"))


@pytest.mark.timeout(300)
def test_an_outage_in_which_the_gateway_dies_too_refuses_nothing_and_loses_nothing(
    own_broker: Broker, database: str, tmp_path: Path
) -> None:
    key, spool = key_of_a_project(database), tmp_path / "spool"
    clients = Clients(key, "outage")
    where: dict[str, Any] = {
        "kafka": own_broker.bootstrap,
        "database": database,
        "prefix": PREFIX,
        "directory": tmp_path,
        "spool": str(spool),
        **SWIFT,
    }
    chunk = gzip.compress(b'[{"type":4}]')
    with clients.sending():
        with gateway(**where) as running:
            clients.gateway = running
            wait_until(clients.each_got(5), deadline_s=20)
            wait_until(lambda: is_drained(running) and not segments(spool), deadline_s=20)
            own_broker.stop()
            wait_until(clients.each_got(20), deadline_s=60)
            sent = running.request("POST", f"/v1/recordings?key={key}&session_id=r&window_id=w&seq=0", chunk)
            assert (sent.status, sent.body["accepted"]) == (202, 1)
            assert running.request("GET", "/readyz").status == 200
            wait_until(lambda: running.metric('traceflow_gateway_spool_requests{lane="events"}') > 0, deadline_s=10)
            assert running.metric('traceflow_gateway_spool_oldest_seconds{lane="events"}') > 0
            clients.gateway = None
            running.process.send_signal(signal.SIGKILL)
        with gateway(**where) as running:
            with pytest.raises(AssertionError, match="in use by another gateway"), gateway(**where):
                pass
            clients.gateway = running
            wait_until(clients.each_got(20), deadline_s=60)
            own_broker.start()
            wait_until(lambda: is_drained(running), deadline_s=60)
            wait_until(clients.each_got(20), deadline_s=60)
            clients.gateway = None
            assert running.stop() == 0
        with gateway(**where) as running:
            clients.gateway = running
            wait_until(clients.each_got(1), deadline_s=20)
            clients.finish()
            wait_until(lambda: not segments(spool), deadline_s=20)
    assert set(clients.statuses) == {202}
    assert_all_is_there_in_order(own_broker.bootstrap, clients)
    assert {record.value for record in read_topic(own_broker.bootstrap, f"{PREFIX}recordings")} == {chunk}


@pytest.mark.timeout(300)
def test_a_gateway_that_dies_at_each_step_of_its_spool_loses_nothing_and_keeps_the_order(
    own_broker: Broker, database: str, tmp_path: Path
) -> None:
    key = key_of_a_project(database)
    for step in SpoolStep:
        where: dict[str, Any] = {
            "kafka": own_broker.bootstrap,
            "database": database,
            "prefix": PREFIX,
            "directory": tmp_path,
            "spool": str(tmp_path / step.name),
            **SWIFT,
        }
        clients = Clients(key, step.name)
        with clients.sending():
            with gateway(**where, program=("tests.integration.spool_process", step.name)) as running:
                clients.gateway = running
                own_broker.signal(signal.SIGSTOP)
                have_some = clients.each_got(5)
                wait_until(lambda: have_some() or running.process.poll() is not None, deadline_s=30)  # noqa: B023
                own_broker.signal(signal.SIGCONT)
                assert running.process.wait(timeout=30) == -signal.SIGKILL
            with gateway(**where) as running:
                clients.gateway = running
                wait_until(lambda: is_drained(running), deadline_s=30)
                own_broker.signal(signal.SIGSTOP)
                clients.finish()
                own_broker.signal(signal.SIGCONT)
                wait_until(lambda: not segments(tmp_path / step.name), deadline_s=30)  # noqa: B023
        assert_all_is_there_in_order(own_broker.bootstrap, clients)
