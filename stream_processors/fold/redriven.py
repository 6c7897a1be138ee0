"""What a redriven record was before it was parked. Pure."""

from dataclasses import replace

from schemas.messages import KIND_HEADER, MalformedRecord, parse_redriven_headers
from schemas.reasons import Reason
from stream_processors.fold.logic import LogRecord, RecordRefused


def unwrap(record: LogRecord) -> tuple[int, LogRecord]:
    """Return the number of a redriven record, and the record as it was parked, at its new place in the log.

    Raises:
        RecordRefused: nobody redrove it.
    """
    try:
        number, headers = parse_redriven_headers(record.headers)
    except MalformedRecord as error:
        raise RecordRefused(Reason.RECORD_MALFORMED, str(error)) from error
    kind = next((value for name, value in headers if name == KIND_HEADER), b"")
    return number, replace(record, kind=kind.decode("utf-8", "replace"), headers=headers)
