"""Whether a log is still the one that a state was made from. Pure.

Theory. An offset says where a state stands only in the log that it was taken from. A broker that lost its disk's last
seconds ends before it and gives the same offsets again to other records; a topic that was deleted and made anew begins
at 0. A stage that went on by its offset alone would pass over new records without a word, until the log has come as far
again. So the partition record names its topic by id, and the last record by offset and broker time. Two logs in which
the same offset has the same millisecond are not told apart.
"""

from typing import NamedTuple

from stream_processors.facts import PartitionRecord


class LogSight(NamedTuple):
    """What the broker says of a partition's log at a moment."""

    topic_id: str
    low: int
    """The first offset that it still has."""
    end: int
    """The offset that it will give next."""
    logged_at: int = 0
    """Broker time of the record at the offset that was asked for, epoch ms; 0 if the log has none there."""


def broken_by(record: PartitionRecord, log: LogSight) -> str | None:
    """Return why a log does not continue a state; None if it does, or if the state has begun with nothing yet.

    The log has to be looked at after the record was read, or it may just not have come so far.
    """
    if record.offset < 0:
        return None
    if record.topic_id and record.topic_id != log.topic_id:
        return f"the topic was deleted and made anew: its id was {record.topic_id} and is {log.topic_id}"
    if log.end <= record.offset:
        return f"the log ends at {log.end}, before record {record.offset}, which the state includes"
    if record.logged_at and log.logged_at and record.logged_at != log.logged_at:
        return (
            f"record {record.offset} is not the one that the state includes: the log lost its end, and has grown since"
        )
    return None
