"""Decode what all records have in common, and refuse what cannot be stored under any key."""

import uuid
from functools import lru_cache
from typing import Any

from adapters.kafka_consumer import ConsumedRecord
from schemas.ids import parse_session_key, session_key
from schemas.messages import MalformedRecord, Message, NewerFormat, decode_message, decode_object
from schemas.reasons import Reason
from sinks.contract.verdicts import RecordRefused


def object_of(record: ConsumedRecord) -> dict[str, Any]:
    """Decode a record's value as a JSON object of a known format.

    Raises:
        RecordRefused: it is malformed or of a newer format.
    """
    try:
        return decode_object(record.value)
    except MalformedRecord as error:
        raise RecordRefused(Reason.RECORD_MALFORMED, str(error)) from error
    except NewerFormat as error:
        raise RecordRefused(Reason.SCHEMA_NEWER, str(error)) from error


def message_of(kind: type[Message], record: ConsumedRecord) -> Message:
    """Decode a record's value as a message.

    Raises:
        RecordRefused: it is malformed or of a newer format.
    """
    try:
        return decode_message(kind, record.value)
    except MalformedRecord as error:
        raise RecordRefused(Reason.RECORD_MALFORMED, str(error)) from error
    except NewerFormat as error:
        raise RecordRefused(Reason.SCHEMA_NEWER, str(error)) from error


def owner_of(record: ConsumedRecord, *, project_id: Any, session_id: Any) -> tuple[str, str]:
    """Return project and session of a record, which its key and its content have to agree on.

    Raises:
        RecordRefused: they do not, or cannot be stored as such.
    """
    if not (isinstance(project_id, str) and isinstance(session_id, str) and session_id and "\0" not in session_id):
        raise RecordRefused(Reason.RECORD_MALFORMED, "project_id or session_id is no text that can be stored")
    if record.key != session_key(project_id, session_id):
        raise RecordRefused(Reason.RECORD_MALFORMED, "the key is not that of project_id and session_id")
    return uuid_of(project_id, name="project_id"), session_id


def owner_of_key(key: bytes | None) -> tuple[str, str] | None:
    """Return project and session of a record's key, None if it names none that can be stored."""
    try:
        project_id, session_id = parse_session_key(key or b"")
        return None if "\0" in session_id else (_canonical(project_id), session_id)
    except ValueError:
        return None


def uuid_of(value: Any, *, name: str) -> str:
    """Return a UUID in its canonical form.

    Raises:
        RecordRefused: it is none.
    """
    try:
        return _canonical(value)
    except (AttributeError, TypeError, ValueError) as error:
        raise RecordRefused(Reason.RECORD_MALFORMED, f"{name} is no UUID") from error


# The project comes with every record.
@lru_cache(maxsize=4_096)
def _canonical(value: str) -> str:
    return str(uuid.UUID(value))


def time_or_none(value: Any) -> int | None:
    """Return an integer, None for anything else."""
    return value if isinstance(value, int) else None


def text_or_none(value: Any) -> str | None:
    """Return a text that can be stored, None for anything else."""
    return value if isinstance(value, str) and "\0" not in value else None
