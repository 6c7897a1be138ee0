"""How the Faust app of a worker ends, and why a member that subscribes to the log alone must never join."""

import asyncio
from collections.abc import Callable, Iterable
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka.coordinator.protocol import ConsumerProtocolMemberMetadata
from faust.assignor.client_assignment import ClientAssignment, ClientMetadata
from faust.assignor.partition_assignor import PartitionAssignor
from faust.types import TP

from schemas.connections import KafkaSettings, LogSettings
from stream_processors.kinds import ANALYZE
from stream_processors.runner import faust_app
from stream_processors.runner.faust_app import StageApp, build_app
from stream_processors.settings import StageSettings

LOG, CHANGELOG = "traceflow.events", "traceflow.analyze_changelog"


class Consumer:
    """Has joined nothing, and notes to what it is told to subscribe."""

    beacon = None

    def __init__(self) -> None:
        self.subscribed: list[set[str]] = []

    def assignment(self) -> set[TP]:
        return set()

    async def subscribe(self, topics: Iterable[str]) -> None:
        self.subscribed.append(set(topics))


async def start_and_stop(end: Callable[[StageApp], Any]) -> list[set[str]]:
    app, _, source = build_app(
        ANALYZE, kafka=KafkaSettings(bootstrap="127.0.0.1:1"), log=LogSettings(), settings=StageSettings()
    )
    app.topics.add(source)
    consumer: Any = Consumer()
    app.consumer = consumer
    await app.agents.start()
    await app.topics.start()
    # registers its tables a second later, and the subscription waits for that
    tables = asyncio.ensure_future(app.tables.start())
    await asyncio.sleep(0.05)
    await end(app)
    await app.tables.stop()
    await asyncio.sleep(0.05)
    tables.cancel()
    await app.topics.stop()
    found: list[set[str]] = consumer.subscribed
    return found


def test_an_app_that_is_stopped_while_it_starts_subscribes_to_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(faust_app, "fail_stop", lambda *_: None)
    assert asyncio.run(start_and_stop(StageApp.on_stop)) == []


def test_without_that_it_would_subscribe_to_the_log_alone() -> None:
    async def nothing(_app: StageApp) -> None:
        pass

    assert asyncio.run(start_and_stop(nothing)) == [{LOG}]


def test_a_member_that_subscribes_to_the_log_alone_spreads_log_and_changelog_apart() -> None:
    class Cluster:
        def partitions_for_topic(self, _topic: str) -> set[int]:
            return set(range(12))

    app: Any = SimpleNamespace(tables=SimpleNamespace(data={}, changelog_topics={CHANGELOG}))
    assignor = PartitionAssignor(app)
    user_data = ClientMetadata(ClientAssignment({}, {}), "http://worker", {}).dumps()
    both, alone = [LOG, CHANGELOG], [LOG]
    members = {
        name: ConsumerProtocolMemberMetadata(1, topics, user_data)
        for name, topics in {"a": both, "b": both, "c": both, "d": alone}.items()
    }
    given = assignor._perform_assignment(Cluster(), members)
    assert {topic: set(partitions) for topic, partitions in given["a"].assignment} == {
        LOG: {0, 4, 8},
        CHANGELOG: {0, 3, 6, 9},
    }
