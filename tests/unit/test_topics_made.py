"""Topics are made once each of their partitions is led, also in the eyes of the broker that leads it."""

from types import SimpleNamespace
from typing import Any, cast

import pytest
from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient

from adapters.kafka_admin import Layout, create_topics
from schemas import topics

LAYOUT = Layout(prefix="t.", partitions=2)


class Answer:
    """What a broker says of one partition."""

    def __init__(self, error: int | None = None) -> None:
        self._error = error

    def result(self) -> None:
        if self._error is not None:
            raise KafkaException(KafkaError(self._error))


class Cluster:
    """A cluster whose metadata name the leaders before they know it."""

    def __init__(self, *errors: int) -> None:
        self.asked = 0
        self._errors = [*errors]
        self._there: dict[str, Any] = {}

    def list_topics(self, **_: Any) -> Any:
        return SimpleNamespace(topics=self._there)

    def create_topics(self, requests: Any, **_: Any) -> dict[str, Answer]:
        for request in requests:
            led = {number: SimpleNamespace(leader=1) for number in range(request.num_partitions)}
            self._there[request.topic] = SimpleNamespace(partitions=led)
        return {request.topic: Answer() for request in requests}

    def list_offsets(self, places: Any, **_: Any) -> dict[Any, Answer]:
        self.asked += 1
        error = self._errors.pop(0) if self._errors else None
        return {place: Answer(error) for place in places}


def test_topics_are_made_once_their_leaders_know_that_they_lead() -> None:
    cluster = Cluster(
        KafkaError.NOT_LEADER_FOR_PARTITION, KafkaError.LEADER_NOT_AVAILABLE, KafkaError.UNKNOWN_LEADER_EPOCH
    )
    assert create_topics(cast(AdminClient, cluster), [topics.EVENTS], LAYOUT) == ["t.events"]
    assert cluster.asked == 4


def test_a_cluster_that_refuses_is_not_asked_again() -> None:
    cluster = Cluster(KafkaError.TOPIC_AUTHORIZATION_FAILED)
    with pytest.raises(KafkaException):
        create_topics(cast(AdminClient, cluster), [topics.EVENTS], LAYOUT)
    assert cluster.asked == 1
