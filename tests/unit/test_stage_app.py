"""How the Faust app of a worker ends, why a member that subscribes to the log alone must never join, and that nothing
is handed out of a partition before its recovery."""

import asyncio
from collections.abc import Callable, Iterable
from types import SimpleNamespace
from typing import Any

import faust
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


class Assigned(BaseException):
    """Ends an assignment once Faust has paused what it assigns."""


async def handed_out_before_its_recovery(on_assigned: Callable[[StageApp], Callable[..., Any]]) -> list[TP]:
    """Return what a fetch that ends while a changelog is assigned hands out, where the flow was never suspended."""
    app, _, _ = build_app(
        ANALYZE, kafka=KafkaSettings(bootstrap="127.0.0.1:1"), log=LogSettings(), settings=StageSettings()
    )
    changelog = TP(CHANGELOG, 0)
    fetched = asyncio.get_running_loop().create_future()
    consumer: Any = app._new_consumer()
    consumer._on_partitions_assigned = on_assigned(app)
    consumer.assignment = set
    consumer.highwater = lambda _tp: 1
    consumer._getmany = lambda **_: fetched
    app.consumer = consumer

    async def paused(*_: Any) -> None:
        await asyncio.sleep(0)
        raise Assigned

    topics: Any = app.topics
    topics.on_partitions_assigned = paused
    # as a recovery of the generation before leaves it
    consumer.resume_partitions({changelog})
    consumer.resume_flow()

    async def fetch() -> list[TP]:
        return [tp async for tp, _ in consumer.getmany(timeout=1.0)]

    fetching = asyncio.ensure_future(fetch())
    await asyncio.sleep(0.01)
    record = SimpleNamespace(offset=0, timestamp=5, serialized_value_size=1)
    fetched.set_result({changelog: [record]})
    with pytest.raises(Assigned):
        await consumer.on_partitions_assigned({changelog}, 0)
    consumer._thread.thread_loop.close()
    return await asyncio.wait_for(fetching, 5)


def test_nothing_is_handed_out_of_a_changelog_before_its_recovery() -> None:
    assert asyncio.run(handed_out_before_its_recovery(lambda app: app._on_partitions_assigned)) == []


def test_without_that_faust_would_hand_out_what_is_fetched_while_it_assigns() -> None:
    def stock(app: StageApp) -> Callable[..., Any]:
        return lambda *args: faust.App._on_partitions_assigned(app, *args)

    assert asyncio.run(handed_out_before_its_recovery(stock)) == [TP(CHANGELOG, 0)]
