"""Let a stage begin anew, for `traceflow forget`: empty its changelog while none of its workers runs."""

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient

from adapters.kafka_admin import Layout, admin_client, recreate_topics
from deploy.command.failure import CommandFailure
from schemas.connections import KafkaSettings, LogSettings
from stream_processors.kinds import KINDS

_TIMEOUT_S = 15.0


def forget_stage(name: str, kafka: KafkaSettings, log: LogSettings) -> str:
    """Delete what a stage's group committed, and its changelog; create that again, empty, and return its full name.

    In this order: a changelog that ends before what is committed is one that lost something.

    Raises:
        CommandFailure: there is no such stage, its changelog is missing, or workers of it run.
        KafkaException: the cluster refuses or cannot be reached.
    """
    kind = KINDS.get(name)
    if kind is None:
        raise CommandFailure(f"{name} is no stage: say {' or '.join(KINDS)}")
    admin = admin_client(kafka)
    group = kind.group(log.topic_prefix)
    members = admin.describe_consumer_groups([group])[group].result(_TIMEOUT_S).members
    if members:
        raise CommandFailure(f"{len(members)} workers of {name} run: stop them first")
    changelog = kind.changelog.full_name(log.topic_prefix)
    found = admin.list_topics(timeout=_TIMEOUT_S).topics.get(changelog)
    if found is None:
        raise CommandFailure(f"{changelog} is missing: run `traceflow topics`")
    partitions = list(found.partitions.values())
    layout = Layout(log.topic_prefix, len(partitions), replication=len(partitions[0].replicas))
    _delete_group(admin, group)
    recreate_topics(admin, [kind.changelog], layout)
    return changelog


def _delete_group(admin: AdminClient, group: str) -> None:
    try:
        admin.delete_consumer_groups([group])[group].result(_TIMEOUT_S)
    except KafkaException as error:
        if error.args[0].code() != KafkaError.GROUP_ID_NOT_FOUND:
            raise
