"""The records of the stage: a chunk's header in, digests and forwarded ticks out."""

from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from schemas.ids import parse_session_key
from schemas.messages import (
    FORMAT,
    KIND_HEADER,
    META_HEADER,
    Digest,
    DigestTick,
    Kind,
    MalformedRecord,
    NewerFormat,
    decode_object,
)
from schemas.reasons import Reason
from schemas.signals import Signal, encode
from schemas.topics import EVENTS
from stream_processors.fold.logic import LogRecord, Output, RecordRefused

MAX_DIGEST_BYTES = 1_000_000
"""A digest must fit into a record of the events topic; a real one takes some kB."""

_CHUNK_FIELDS = ("project_id", "session_id", "window_id", "encoding")
_OPTIONAL_FIELDS = ("visitor_id", "ip", "user_agent")


def read_meta(record: LogRecord) -> dict[str, Any]:
    """Read the chunk's header.

    Raises:
        RecordRefused: it is missing or not as declared.
    """
    header = next((value for name, value in record.headers if name == META_HEADER), None)
    try:
        meta = decode_object(header)
    except MalformedRecord as error:
        raise RecordRefused(Reason.RECORD_MALFORMED, f"header {META_HEADER}: {error}") from error
    except NewerFormat as error:
        raise RecordRefused(Reason.SCHEMA_NEWER, f"header {META_HEADER}: {error}") from error
    is_declared = (
        all(isinstance(meta.get(name), str) for name in _CHUNK_FIELDS)
        and isinstance(meta.get("received_at"), int)
        and isinstance(meta.get("seq"), int)
        and meta["seq"] >= 0
        and isinstance(meta.get("settings"), dict)
    )
    if not is_declared:
        raise RecordRefused(Reason.RECORD_MALFORMED, f"header {META_HEADER} lacks a field or has a wrong type")
    return meta


def digest_of(meta: Mapping[str, Any], record: LogRecord) -> Digest:
    """Return the digest of a chunk that says nothing yet."""
    digest = Digest(
        v=FORMAT,
        src=record.offset,
        project_id=meta["project_id"],
        session_id=meta["session_id"],
        window_id=meta["window_id"],
        received_at=meta["received_at"],
        settings=meta["settings"],
        at=record.timestamp,
        event_count=0,
        signals=[],
        size=len(record.value),
    )
    for name in _OPTIONAL_FIELDS:
        if isinstance(meta.get(name), str):
            digest[name] = meta[name]  # type: ignore[literal-required] # one of three optional fields
    return digest


def blank_record(key: bytes, record: LogRecord) -> Output:
    """Return a record that says nothing but which one it stands for: a digest of the session, or a tick without one."""
    try:
        project_id, session_id = parse_session_key(key)
    except ValueError:
        return tick_record(record)
    try:
        return digest_record(key, digest_of(read_meta(record), record), [])
    except RecordRefused:
        pass
    blank = Digest(
        v=FORMAT,
        src=record.offset,
        project_id=project_id,
        session_id=session_id,
        window_id="",
        received_at=record.timestamp,
        settings={"version": 0},
        at=record.timestamp,
        event_count=0,
        signals=[],
        size=len(record.value),
    )
    return digest_record(key, blank, [])


def digest_record(key: bytes, digest: Digest, signals: Sequence[Signal]) -> Output:
    """Return the digest with its signals as a record; the last signals are left out if they are too many for one."""
    encoded = [encode(signal) for signal in signals]
    while True:
        digest["signals"] = encoded
        value = orjson.dumps(digest)
        if len(value) <= MAX_DIGEST_BYTES or not encoded:
            break
        encoded = encoded[: len(encoded) // 2]
    return Output(topic=EVENTS.name, key=key, value=value, headers=[(KIND_HEADER, Kind.DIGEST.value.encode())])


def tick_record(record: LogRecord) -> Output:
    """Return a tick as it is forwarded."""
    tick = DigestTick(v=FORMAT, src=record.offset, at=record.timestamp)
    headers = [(KIND_HEADER, Kind.DIGEST_TICK.value.encode())]
    return Output(topic=EVENTS.name, key=None, value=orjson.dumps(tick), headers=headers)
