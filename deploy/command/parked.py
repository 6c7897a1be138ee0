"""Look at what was parked, and count it, for `traceflow dead-letters`: no keys of projects, no group joined."""

import heapq
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from difflib import get_close_matches
from typing import Any
from uuid import UUID

from adapters.dead_letter_marks import LetterId, Mark, MarkState
from adapters.dead_letter_reader import LetterFilter, StoredLetter, read_dead_letters, show_dead_letter
from deploy.command.failure import CommandFailure, Exit
from deploy.redrive.plan import Letter
from schemas.connections import KafkaSettings
from schemas.messages import KIND_HEADER, META_HEADER
from schemas.reasons import Reason
from sinks.app import SINKS

_SHOWN_BYTES = 4_000
WAITING = "waiting"
"""The state of a letter that nothing was done about; the others are those of marks."""

STATES = (WAITING, *(state.value for state in MarkState))
STAGES = ("gateway", "digest", "analyze", *(f"sink-{name}" for name in SINKS))
REASONS = tuple(reason.value for reason in Reason)

_UNITS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}


Known = Mapping[LetterId, Mark] | None
"""The marks; None if Postgres cannot tell."""


def state_of(letter: LetterId, marks: Known) -> str | None:
    """Return what was done about a letter; None if it is not known."""
    if marks is None:
        return None
    mark = marks.get(letter)
    return WAITING if mark is None else mark.state.value


@dataclass(frozen=True, slots=True)
class Found:
    """Letters without their records, each once, at the place of its latest copy."""

    letters: dict[LetterId, Letter] = field(default_factory=dict)
    copies: dict[tuple[int, int], LetterId] = field(default_factory=dict)
    """By partition and offset of each copy."""

    def named(self, places: Iterable[str]) -> list[Letter]:
        """Return the letters at places as a list shows them.

        Raises:
            CommandFailure: one cannot be read, or there is none.
        """
        ids = {}
        for place in places:
            letter = self.copies.get(parse_place(place))
            if letter is None:
                raise CommandFailure(f"no dead letter at {place} among those asked for")
            ids[letter] = self.letters[letter]
        return list(ids.values())


def scan(kafka: KafkaSettings, *, prefix: str, wanted: LetterFilter) -> Found:
    """Return the matching letters.

    Raises:
        TimeoutError, KafkaException: the broker does not answer.
    """
    found = Found()
    for stored in read_dead_letters(kafka, prefix=prefix, wanted=wanted):
        kind = next((content for name, content in stored.headers if name == KIND_HEADER), b"")
        place, reason = stored.place, stored.letter.reason
        found.letters[place.id] = Letter(place, reason, kind.decode("utf-8", "replace"), stored.project_id)
        found.copies[place.partition, place.offset] = place.id
    return found


def statistics(letters: Iterable[Letter], marks: Known) -> list[dict[str, Any]]:
    """Count letters by stage, reason, project and what was done about them; the largest heap first."""
    counts: dict[tuple[str, str, str], dict[str, int]] = {}
    for letter in letters:
        row = counts.setdefault((letter.place.id.stage, letter.reason, letter.project_id), {})
        state = state_of(letter.place.id, marks) or "unknown"
        row[state] = row.get(state, 0) + 1
    ordered = sorted(counts.items(), key=lambda item: (-sum(item[1].values()), item[0]))
    return [
        {
            "stage": stage,
            "reason": reason,
            "project_id": project_id or None,
            "letters": sum(states.values()),
            **{
                state: None if marks is None else states.get(state, 0)
                for state in (WAITING, "sending", "redriven", "dropped")
            },
        }
        for (stage, reason, project_id), states in ordered
    ]


def latest(
    kafka: KafkaSettings,
    *,
    prefix: str,
    wanted: LetterFilter,
    limit: int,
    state: str | None = None,
    marks: Known = None,
) -> list[StoredLetter]:
    """Return the latest matching letters, in this state if one is named, oldest first.

    Raises:
        TimeoutError, KafkaException: the broker does not answer.
    """
    letters = (
        stored
        for stored in read_dead_letters(kafka, prefix=prefix, wanted=wanted)
        if state in (None, state_of(stored.place.id, marks))
    )
    # never more than `limit` in memory: a letter can hold a whole recording chunk
    return heapq.nlargest(limit, letters, key=lambda stored: (stored.letter.at, stored.partition, stored.offset))[::-1]


def show(kafka: KafkaSettings, *, prefix: str, place: str) -> StoredLetter:
    """Return the letter at `PARTITION:OFFSET`.

    Raises:
        CommandFailure: the place cannot be read, or there is none.
    """
    partition, offset = parse_place(place)
    found = show_dead_letter(kafka, prefix=prefix, partition=partition, offset=offset)
    if found is None:
        raise CommandFailure(f"no dead letter at {place}: `traceflow dead-letters list` shows the places")
    return found


def one_of(text: str | None, known: Collection[str], *, option: str) -> str | None:
    """Return what was asked for, if it is one of those that there can be: nothing found must not be a slip of the pen.

    Raises:
        CommandFailure: it is none of them.
    """
    if text is not None and text not in known:
        near = get_close_matches(text, known, n=1)
        told = f"did you mean {near[0]}?" if near else f"known are {', '.join(known)}"
        raise CommandFailure(f"{option} {text!r} is unknown: {told}", Exit.USAGE)
    return text


def parse_project(text: str | None) -> str | None:
    """Return a project's id as records have it.

    Raises:
        CommandFailure: it is none, a name for example.
    """
    try:
        return None if text is None else str(UUID(text))
    except ValueError as error:
        raise CommandFailure(f"{text} is no project's id: `traceflow projects list` shows them", Exit.USAGE) from error


def parse_place(text: str) -> tuple[int, int]:
    """Read `PARTITION:OFFSET`.

    Raises:
        CommandFailure: it is none.
    """
    partition, colon, offset = text.partition(":")
    if not (colon and partition.isdecimal() and offset.isdecimal()):
        raise CommandFailure(f"{text!r} is no PARTITION:OFFSET (example: 3:120, as `list` shows it)", Exit.USAGE)
    return int(partition), int(offset)


def summary(stored: StoredLetter, marks: Known) -> dict[str, Any]:
    """Return what a list shows of a letter."""
    letter = stored.letter
    return {
        "place": f"{stored.partition}:{stored.offset}",
        "at": datetime.fromtimestamp(letter.at / 1000, UTC) if letter.at else None,
        "stage": letter.stage,
        "reason": letter.reason,
        "state": state_of(stored.place.id, marks),
        "from": f"{letter.topic}/{letter.partition}/{letter.offset}" if letter.topic else "request",
        "index": letter.index if letter.index >= 0 else None,
        "project_id": stored.project_id or None,
        "session_id": stored.session_id or None,
        "detail": letter.detail,
    }


def whole(stored: StoredLetter, marks: Known) -> dict[str, Any]:
    """Return all of a letter; its value as text where it is text, cut at 4,000 bytes."""
    value = stored.value or b""
    headers = {name: content.decode(errors="replace") for name, content in stored.headers if name != META_HEADER}
    meta = next((content for name, content in stored.headers if name == META_HEADER), None)
    return summary(stored, marks) | {
        "meaning": Reason(stored.letter.reason).describe if stored.letter.reason in REASONS else None,
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


def parse_begin(text: str, *, option: str, now: datetime) -> int:
    """Read where to begin, as `parse_time` reads it.

    Raises:
        CommandFailure: it is no time, or one that is still to come: nothing would be found, as if all were well.
    """
    begin_ms = parse_time(text, option=option, now=now)
    if begin_ms > now.timestamp() * 1000:
        raise CommandFailure(f"{option} {text} is still to come (it is {now:%Y-%m-%dT%H:%M:%S} UTC)", Exit.USAGE)
    return begin_ms


def parse_time(text: str, *, option: str, now: datetime) -> int:
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
        raise CommandFailure(f"{option} {text!r} is neither like 2h nor an ISO 8601 time", Exit.USAGE) from None
    return int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * 1000)
