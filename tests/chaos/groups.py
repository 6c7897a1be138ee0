"""Whose the partitions are, as the broker's consumer groups know: whether others own what a frozen process had."""

import logging
import warnings

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

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
        # the broker goes away on purpose: nobody wants to read of it
        self._admin = AdminClient({**kafka.librdkafka(), "log_level": 0}, logger=logging.getLogger("librdkafka"))

    def are_without(self, role: str, pid: int) -> bool:
        """Tell whether each group of a service has given its partitions to other processes than this one."""
        names = [f"{PREFIX}sink-{name}" for name in SINKS] if role == "sink" else [f"{PREFIX}{role}"]
        return all(self._is_without(name, pid) for name in names)

    def _is_without(self, name: str, pid: int) -> bool:
        try:
            # describe_consumer_groups aborts the process if the broker leaves meanwhile (librdkafka issue 4605)
            with warnings.catch_warnings():
                # deprecated in favour of that one
                warnings.simplefilter("ignore")
                groups = self._admin.list_groups(name, timeout=_TIMEOUT_S)
        except KafkaException:
            return False
        return any(
            group.state == _AT_REST and group.members and not any(is_of(m.client_id, pid) for m in group.members)
            for group in groups
        )
