"""Whether a log is still the one that a state was made from, and whether the state is all that there was. Pure.

Theory. An offset says where a state stands only in the log that it was taken from. A broker that lost its disk's last
seconds ends before it and gives the same offsets again to other records; a topic that was deleted and made anew begins
at 0. A stage that went on by its offset alone would pass over new records without a word, until the log has come as far
again. So the partition record names its topic by id, and the last record by offset and broker time. Two logs in which
the same offset has the same millisecond are not told apart.

A state that was read in part looks like an older one, or like none. A worker commits to its group how far the state is
durably in the changelog, and only after it was acknowledged there. So a state that ends before what was committed was
not read to its end, or the changelog has lost its end; its own end tells which. The former is never gone on from. The
latter is, where the log still has every record that the state lacks: folding them again gives the same facts.
"""

from typing import NamedTuple

from stream_processors.fold.facts import PartitionRecord


class LogSight(NamedTuple):
    """What the broker says of a partition's log at a moment."""

    topic_id: str
    low: int
    """The first offset that it still has."""
    end: int
    """The offset that it will give next."""
    logged_at: int = 0
    """Broker time of the record at the offset that was asked for, epoch ms; 0 if the log has none there."""
    committed: int = 0
    """The offset behind the last one that the group says is in the changelog; 0 if it says nothing."""
    changelog_low: int = 0
    """The first offset that the changelog still has."""
    changelog_end: int = 0
    """The offset that the changelog will give next."""


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


def left_unread(record: PartitionRecord, log: LogSight, *, read: int) -> str | None:
    """Return what shows that a changelog was not read to its end; None if nothing does.

    `read` is the last offset of the changelog that was read, -1 for none.
    """
    if _ends_before_committed(record, log) and _is_unread(log, read):
        return f"{_difference(record, log)}; the changelog was read up to {read}, and ends at {log.changelog_end}"
    return None


def lost_by_changelog(record: PartitionRecord, log: LogSight, *, read: int) -> str | None:
    """Return what a changelog that was read to its end has lost and the log cannot give again; None if nothing."""
    if _ends_before_committed(record, log) and not _is_unread(log, read) and log.low > record.offset + 1:
        return f"{_difference(record, log)}; the changelog has no more, and the log begins at {log.low}"
    return None


def _ends_before_committed(record: PartitionRecord, log: LogSight) -> bool:
    return log.committed > record.offset + 1


def _is_unread(log: LogSight, read: int) -> bool:
    return log.changelog_end > max(read + 1, log.changelog_low)


def _difference(record: PartitionRecord, log: LogSight) -> str:
    return f"the group has committed {log.committed}, and the state ends at {record.offset}"
