"""Let a stage begin anew, for `traceflow forget`: empty its changelog while none of its workers runs."""

from confluent_kafka.admin import AdminClient

from adapters.kafka_admin import Layout, recreate_topics
from deploy.command.failure import CommandFailure
from schemas.connections import KafkaSettings, LogSettings
from stream_processors.kinds import KINDS

_TIMEOUT_S = 15.0


def forget_stage(name: str, kafka: KafkaSettings, log: LogSettings) -> str:
    """Delete a stage's changelog and create it again, empty; return its full name.

    Raises:
        CommandFailure: there is no such stage, its changelog is missing, or workers of it run.
        KafkaException: the cluster refuses or cannot be reached.
    """
    kind = KINDS.get(name)
    if kind is None:
        raise CommandFailure(f"{name} is no stage: say {' or '.join(KINDS)}")
    admin = AdminClient({**kafka.librdkafka()})
    group = log.topic_prefix + name
    members = admin.describe_consumer_groups([group])[group].result(_TIMEOUT_S).members
    if members:
        raise CommandFailure(f"{len(members)} workers of {name} run: stop them first")
    changelog = kind.changelog.full_name(log.topic_prefix)
    found = admin.list_topics(timeout=_TIMEOUT_S).topics.get(changelog)
    if found is None:
        raise CommandFailure(f"{changelog} is missing: run `traceflow topics`")
    partitions = list(found.partitions.values())
    layout = Layout(log.topic_prefix, len(partitions), replication=len(partitions[0].replicas))
    recreate_topics(admin, [kind.changelog], layout)
    return changelog
