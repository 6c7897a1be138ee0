"""Create topics as declared, and tell how the topics of a cluster differ from their declarations.

An existing topic is never altered silently: a difference is reported, and people decide.
"""

import time
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from confluent_kafka import KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import (  # type: ignore[attr-defined] # re-exported without saying so
    AdminClient,
    ConfigResource,
    GroupMetadata,
    NewTopic,
    OffsetSpec,
    ResourceType,
)

from schemas.connections import KafkaSettings
from schemas.topics import Topic

TOPICS_APPEAR_S = 5.0
"""A broker that has just come back may answer for a moment as if it had no topics: one is missing only after this."""

_REQUEST_TIMEOUT_S = 30.0
_VISIBLE_DEADLINE_S = 30.0
_NOT_LED = (
    KafkaError.NOT_LEADER_FOR_PARTITION,
    KafkaError.LEADER_NOT_AVAILABLE,
    KafkaError.UNKNOWN_TOPIC_OR_PART,
    KafkaError.UNKNOWN_LEADER_EPOCH,
)


@dataclass(frozen=True, slots=True)
class Layout:
    """What a deployment chooses about its topics; everything else is in their declarations."""

    prefix: str
    partitions: int
    replication: int = 1

    def configs(self, topic: Topic) -> dict[str, str]:
        """Return the topic's configuration; of three replicas one may be away, and two must have a record."""
        configs = topic.configs()
        if self.replication >= 3:
            configs["min.insync.replicas"] = "2"
        return configs


@dataclass(frozen=True, slots=True)
class Difference:
    """One way in which a topic of the cluster is not as declared."""

    topic: str
    """Full name."""
    what: str
    """`missing`, `partitions`, `replication`, or the name of a configuration."""
    declared: str
    actual: str

    def __str__(self) -> str:
        """Say it in one line."""
        return f"{self.topic}: {self.what} is {self.actual}, declared {self.declared}"


def admin_client(kafka: KafkaSettings) -> AdminClient:
    """Make a client for what administers a cluster.

    What it cannot do it raises. librdkafka's own lines of it would go past every log to stderr, also those of a broker
    that ends before the client does.
    """
    return AdminClient({**kafka.librdkafka(), "log_level": 0})


def create_topics(admin: AdminClient, topics: Sequence[Topic], layout: Layout) -> list[str]:
    """Create what is missing, wait until each broker-side leader is known, and return the names created.

    Raises:
        KafkaException: the cluster refuses or cannot be reached.
    """
    existing = admin.list_topics(timeout=_REQUEST_TIMEOUT_S).topics
    missing = [topic for topic in topics if topic.full_name(layout.prefix) not in existing]
    if not missing:
        return []
    requests = [
        NewTopic(
            topic.full_name(layout.prefix),
            num_partitions=layout.partitions,
            replication_factor=layout.replication,
            config=layout.configs(topic),
        )
        for topic in missing
    ]
    created = []
    for name, future in admin.create_topics(requests, operation_timeout=_REQUEST_TIMEOUT_S).items():
        try:
            future.result()
            created.append(name)
        except KafkaException as error:
            # another process was faster: what it made is compared by check_topics like any other
            if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
                raise
    _wait_until_led(admin, created, layout.partitions)
    return created


def recreate_topics(admin: AdminClient, topics: Sequence[Topic], layout: Layout) -> None:
    """Delete topics with all that they hold, and create them as declared.

    Raises:
        KafkaException: the cluster refuses or cannot be reached.
    """
    names = [topic.full_name(layout.prefix) for topic in topics]
    delete_topics(admin, [name for name in names if partitions_of(admin, name) is not None])
    deadline = time.monotonic() + _VISIBLE_DEADLINE_S
    # a topic that is being deleted still exists for a moment
    while len(create_topics(admin, topics, layout)) < len(topics):
        if time.monotonic() > deadline:
            raise KafkaException(KafkaError(KafkaError.REQUEST_TIMED_OUT, f"still there: {', '.join(names)}"))
        time.sleep(0.1)


def _wait_until_led(admin: AdminClient, names: Sequence[str], partitions: int) -> None:
    deadline = time.monotonic() + _VISIBLE_DEADLINE_S
    while True:
        seen = admin.list_topics(timeout=_REQUEST_TIMEOUT_S).topics
        leaders = [p.leader for name in names if name in seen for p in seen[name].partitions.values()]
        is_told = len(leaders) == len(names) * partitions and all(leader >= 0 for leader in leaders)
        if is_told and _do_lead(admin, names, partitions):
            return
        if time.monotonic() > deadline:
            raise KafkaException(KafkaError(KafkaError.LEADER_NOT_AVAILABLE, "the new topics have no leaders yet"))
        time.sleep(0.05)


def _do_lead(admin: AdminClient, names: Sequence[str], partitions: int) -> bool:
    """Tell whether the leaders know that they are: on a busy machine metadata names them up to a second before."""
    places = [TopicPartition(name, partition) for name in names for partition in range(partitions)]
    latest = OffsetSpec.latest()  # type: ignore[no-untyped-call]
    answers = admin.list_offsets(dict.fromkeys(places, latest), request_timeout=_REQUEST_TIMEOUT_S)
    try:
        for answer in answers.values():
            answer.result()
    except KafkaException as error:
        if error.args[0].code() in _NOT_LED:
            return False
        raise
    return True


def check_topics(admin: AdminClient, topics: Sequence[Topic], layout: Layout) -> list[Difference]:
    """Compare the cluster's topics with their declarations; an empty list says that all is as declared.

    Raises:
        KafkaException: the cluster cannot be reached.
    """
    seen = admin.list_topics(timeout=_REQUEST_TIMEOUT_S).topics
    present = [topic for topic in topics if topic.full_name(layout.prefix) in seen]
    actual_configs = _configs(admin, [topic.full_name(layout.prefix) for topic in present])
    differences = []
    for topic in topics:
        name = topic.full_name(layout.prefix)
        if name not in seen:
            differences.append(Difference(name, "missing", "present", "absent"))
            continue
        partitions = seen[name].partitions.values()
        replication = min((len(partition.replicas) for partition in partitions), default=0)
        declared = {"partitions": str(layout.partitions), "replication": str(layout.replication)}
        actual = {"partitions": str(len(partitions)), "replication": str(replication)}
        differences += _compare(name, declared | layout.configs(topic), actual | dict(actual_configs[name]))
    return differences


def _compare(name: str, declared: Mapping[str, str], actual: Mapping[str, str]) -> list[Difference]:
    return [
        Difference(name, what, value, actual.get(what, "unknown"))
        for what, value in declared.items()
        if _normal(actual.get(what)) != _normal(value)
    ]


def _normal(value: str | None) -> list[str]:
    # brokers give a list ("compact,delete") back in their own order
    return sorted((value or "").split(","))


def _configs(admin: AdminClient, names: Sequence[str]) -> dict[str, dict[str, str]]:
    if not names:
        return {}
    futures = admin.describe_configs([ConfigResource(ResourceType.TOPIC, name) for name in names])
    return {
        resource.name: {name: entry.value for name, entry in future.result(_REQUEST_TIMEOUT_S).items()}
        for resource, future in futures.items()
    }


def partitions_of(admin: AdminClient, name: str) -> int | None:
    """Return the number of partitions of a topic; None if it does not exist.

    Raises:
        KafkaException: the cluster cannot be reached.
    """
    seen = admin.list_topics(timeout=_REQUEST_TIMEOUT_S).topics
    return len(seen[name].partitions) if name in seen else None


def log_ends(admin: AdminClient, name: str, partitions: Iterable[int]) -> dict[int, tuple[int, int]]:
    """Return of each partition the first offset that the broker still has and the one that it will give next.

    Raises:
        KafkaException: the cluster cannot be reached, or has no such partition.
    """
    places = [TopicPartition(name, partition) for partition in partitions]
    if not places:
        return {}
    lows, highs = (
        admin.list_offsets(dict.fromkeys(places, spec), request_timeout=_REQUEST_TIMEOUT_S)
        for spec in (OffsetSpec.earliest(), OffsetSpec.latest())  # type: ignore[no-untyped-call]
    )
    return {place.partition: (lows[place].result().offset, highs[place].result().offset) for place in places}


def first_offset_since(admin: AdminClient, name: str, partition: int, *, timestamp_ms: int) -> int | None:
    """Return the offset of the first record that came into the log at this broker time or later; None without one.

    Raises:
        KafkaException: the cluster cannot be reached, or has no such partition.
    """
    place = TopicPartition(name, partition)
    asked = admin.list_offsets({place: OffsetSpec.for_timestamp(timestamp_ms)}, request_timeout=_REQUEST_TIMEOUT_S)
    offset: int = asked[place].result().offset
    return offset if offset >= 0 else None


def list_group(admin: AdminClient, name: str, *, timeout_s: float) -> GroupMetadata | None:
    """Return a consumer group with its members, and None if the cluster knows none of this name.

    By a call that librdkafka has deprecated: the newer one, `describe_consumer_groups`, aborts the process where a
    broker leaves meanwhile (librdkafka 2.16, its issue 4605).

    Raises:
        KafkaException: the cluster cannot be asked.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return next(iter(admin.list_groups(name, timeout=timeout_s)), None)


def delete_topics(admin: AdminClient, names: Sequence[str]) -> None:
    """Delete topics for good.

    Raises:
        KafkaException: the cluster refuses or cannot be reached.
    """
    for future in admin.delete_topics(list(names), operation_timeout=_REQUEST_TIMEOUT_S).values():
        future.result()
