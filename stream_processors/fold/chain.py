"""What a sender of sourced records says of its chain: up to which source all was acknowledged. Pure.

Theory. A digest worker sends one record for each offset of its log, in order, and moves its partition record only over
what was acknowledged. So once a partition record says `n`, a log that keeps what it acknowledges holds something for
every source up to `n`, in an order in which each one counts, whichever of two owners says so, and however late. If the
reader still misses one when it meets the statement, the log has lost it, and no sender will send it again.
"""

from typing import NamedTuple

import orjson

from schemas.messages import FORMAT, KIND_HEADER, Chain, Kind, MalformedRecord, NewerFormat, decode_object
from schemas.reasons import Reason
from stream_processors.fold.facts import LOG_ID_BYTES
from stream_processors.fold.logic import LogRecord, RecordRefused

CHAIN_HEADERS = ((KIND_HEADER, Kind.CHAIN.value.encode()),)


class Statement(NamedTuple):
    """What a sender knows."""

    source: int
    """Up to this one, all was acknowledged; -1 for nothing."""
    log: str = ""
    """Id of the topic whose offsets the sources are; empty if it is not said."""


def write_statement(said: Statement) -> bytes:
    """Return the value of a record of kind `chain`."""
    return orjson.dumps(Chain(v=FORMAT, src=said.source, log=said.log))


def read_statement(record: LogRecord) -> Statement:
    """Read a record of kind `chain`.

    Raises:
        RecordRefused: it cannot be read.
    """
    try:
        data = decode_object(record.value)
    except MalformedRecord as error:
        raise RecordRefused(Reason.RECORD_MALFORMED, str(error)) from error
    except NewerFormat as error:
        raise RecordRefused(Reason.SCHEMA_NEWER, str(error)) from error
    said = Statement(data.get("src", ""), data.get("log", ""))
    if not (isinstance(said.source, int) and isinstance(said.log, str) and len(said.log) <= LOG_ID_BYTES):
        raise RecordRefused(Reason.RECORD_MALFORMED, "src is no integer, or log is no id of a topic")
    return said
