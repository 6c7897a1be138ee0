"""Records as sinks and stages read them."""

from collections.abc import Sequence

from adapters.kafka_consumer import ConsumedRecord
from deploy.replay.tables import Difference, ExpectedEvent
from schemas.ids import session_key
from schemas.messages import AiJob, SessionSnapshot, encode
from sinks.repair.by_hand import only_events
from stream_processors.fold.logic import LogRecord


def records_of(rows: Sequence[ExpectedEvent], lost: Sequence[Difference]) -> list[ConsumedRecord]:
    """Return the records of lost rows, with those rows alone: of a record their neighbours may have been parked."""
    names = {(each.session_id, each.name) for each in lost}
    indexes: dict[tuple[int, int], list[int]] = {}
    records: dict[tuple[int, int], ConsumedRecord] = {}
    whole = []
    for row in rows:
        if (row.session_id, row.id) not in names:
            continue
        if row.index < 0:
            whole.append(row.record)
            continue
        place = row.record.partition, row.record.offset
        records[place] = row.record
        indexes.setdefault(place, []).append(row.index)
    return [*whole, *(only_events(record, indexes[place]) for place, record in records.items())]


def record_of(message: SessionSnapshot | AiJob) -> ConsumedRecord:
    """Return a message as its sink reads it; offset and time, which no row keeps, are not known."""
    return ConsumedRecord(0, 0, 0, "", session_key(message.project_id, message.session_id), encode(message))


def as_log_record(record: ConsumedRecord) -> LogRecord:
    """Return a record as the fold takes it."""
    return LogRecord(
        offset=record.offset,
        timestamp=record.timestamp,
        kind=record.kind,
        key=record.key or b"",
        value=record.value or b"",
        headers=record.headers,
    )
