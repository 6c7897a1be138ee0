"""`traceflow dead-letters`: look at what was parked, without keys of projects and without joining a group."""

import heapq
from datetime import UTC, datetime, timedelta
from typing import Any

from adapters.dead_letter_reader import LetterFilter, StoredLetter, read_dead_letters, show_dead_letter
from deploy.command.failure import CommandFailure, Exit
from schemas.connections import KafkaSettings
from schemas.messages import META_HEADER
from schemas.reasons import Reason

_SHOWN_BYTES = 4_000
_UNITS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}


def latest(kafka: KafkaSettings, *, prefix: str, wanted: LetterFilter, limit: int) -> list[StoredLetter]:
    """Return the latest matching letters, oldest first.

    Raises:
        TimeoutError, KafkaException: the broker does not answer.
    """
    letters = read_dead_letters(kafka, prefix=prefix, wanted=wanted)
    # never more than `limit` in memory: a letter can hold a whole recording chunk
    return heapq.nlargest(limit, letters, key=lambda stored: (stored.letter.at, stored.partition, stored.offset))[::-1]


def show(kafka: KafkaSettings, *, prefix: str, place: str) -> StoredLetter:
    """Return the letter at `PARTITION:OFFSET`.

    Raises:
        CommandFailure: the place cannot be read, or there is none.
    """
    partition, colon, offset = place.partition(":")
    if not (colon and partition.isdecimal() and offset.isdecimal()):
        raise CommandFailure(f"{place!r} is no PARTITION:OFFSET (example: 3:120, as `list` shows it)", Exit.USAGE)
    found = show_dead_letter(kafka, prefix=prefix, partition=int(partition), offset=int(offset))
    if found is None:
        raise CommandFailure(f"no dead letter at {place}: `traceflow dead-letters list` shows the places")
    return found


def summary(stored: StoredLetter) -> dict[str, Any]:
    """Return what a list shows of a letter."""
    letter = stored.letter
    return {
        "place": f"{stored.partition}:{stored.offset}",
        "at": datetime.fromtimestamp(letter.at / 1000, UTC) if letter.at else None,
        "stage": letter.stage,
        "reason": letter.reason,
        "from": f"{letter.topic}/{letter.partition}/{letter.offset}" if letter.topic else "request",
        "index": letter.index if letter.index >= 0 else None,
        "project_id": stored.project_id or None,
        "session_id": stored.session_id or None,
        "detail": letter.detail,
    }


def whole(stored: StoredLetter) -> dict[str, Any]:
    """Return all of a letter; its value as text where it is text, cut at 4,000 bytes."""
    value = stored.value or b""
    known = {reason.value for reason in Reason}
    headers = {name: content.decode(errors="replace") for name, content in stored.headers if name != META_HEADER}
    meta = next((content for name, content in stored.headers if name == META_HEADER), None)
    return summary(stored) | {
        "meaning": Reason(stored.letter.reason).describe if stored.letter.reason in known else None,
        "version": stored.letter.version,
        "headers": headers | ({META_HEADER: meta.decode(errors="replace")} if meta is not None else {}),
        "bytes": len(value),
        "value": _text(value),
    }


def _text(value: bytes) -> str:
    shown = value[:_SHOWN_BYTES]
    try:
        return shown.decode()
    except UnicodeDecodeError as error:
        # the cut may lie within a character
        if len(value) > _SHOWN_BYTES and error.start > _SHOWN_BYTES - 4:
            return shown[: error.start].decode()
        return "\\x" + shown.hex()


def parse_since(text: str, *, now: datetime) -> int:
    """Read `90s`, `15m`, `2h`, `7d` ago, or an ISO 8601 time, as epoch milliseconds.

    Raises:
        CommandFailure: it is neither.
    """
    number, unit = text[:-1], text[-1:]
    if number.isdecimal() and unit in _UNITS:
        return int((now - timedelta(seconds=int(number) * _UNITS[unit])).timestamp() * 1000)
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise CommandFailure(f"--since {text!r} is neither like 2h nor an ISO 8601 time", Exit.USAGE) from None
    return int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * 1000)
