"""Whose the partitions are, as the broker's consumer groups know: whether others own what a frozen process had."""

from confluent_kafka import KafkaException

from adapters.kafka_admin import admin_client, list_group
from schemas.connections import KafkaSettings
from sinks.app import SINKS
from tests.chaos.orders import is_of
from tests.chaos.verdict import PREFIX

_TIMEOUT_S = 2.0
"""A question holds every other fault up: the answer takes some milliseconds, or the broker is away."""
_AT_REST = "Stable"


class Groups:
    """The groups of the stages and sinks."""

    def __init__(self, kafka: KafkaSettings) -> None:
        self._admin = admin_client(kafka)

    def are_without(self, role: str, pid: int) -> bool:
        """Tell whether each group of a service has given its partitions to other processes than this one."""
        names = [f"{PREFIX}sink-{name}" for name in SINKS] if role == "sink" else [f"{PREFIX}{role}"]
        return all(self._is_without(name, pid) for name in names)

    def _is_without(self, name: str, pid: int) -> bool:
        try:
            group = list_group(self._admin, name, timeout_s=_TIMEOUT_S)
        except KafkaException:
            return False
        if group is None or group.state != _AT_REST or not group.members:
            return False
        return not any(is_of(member.client_id, pid) for member in group.members)
