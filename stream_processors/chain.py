"""What a sender of sourced records says of its chain: up to which source all was acknowledged. Pure.

Theory. A digest worker sends one record for each offset of its log, in order, and moves its partition record only over
what was acknowledged. So once a partition record says `n`, a log that keeps what it acknowledges holds something for
every source up to `n`, in an order in which each one counts, whichever of two owners says so, and however late. If the
reader still misses one when it meets the statement, the log has lost it, and no sender will send it again.
"""

import orjson

from schemas.messages import FORMAT, KIND_HEADER, Chain, Kind, MalformedRecord, NewerFormat, decode_object
from schemas.reasons import Reason
from stream_processors.logic import LogRecord, RecordRefused

CHAIN_HEADERS = ((KIND_HEADER, Kind.CHAIN.value.encode()),)


def chain_value(source: int) -> bytes:
    """Return the value of a record that says that all up to a source was acknowledged."""
    return orjson.dumps(Chain(v=FORMAT, src=source))


def read_chain(record: LogRecord) -> int:
    """Return up to which source the sender knows all to have been acknowledged.

    Raises:
        RecordRefused: the record cannot be read.
    """
    try:
        source = decode_object(record.value).get("src")
    except MalformedRecord as error:
        raise RecordRefused(Reason.RECORD_MALFORMED, str(error)) from error
    except NewerFormat as error:
        raise RecordRefused(Reason.SCHEMA_NEWER, str(error)) from error
    if not isinstance(source, int):
        raise RecordRefused(Reason.RECORD_MALFORMED, "src is no integer")
    return source
