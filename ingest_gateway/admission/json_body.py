r"""Decode a request's JSON, and repair what browsers really send.

Theory. orjson is the gate, because it is the parser that every later stage uses: what it refuses must never reach the
log. Three things that it refuses, or that Postgres refuses later, come from honest clients, and one of them would cost
a whole batch of good events:

- `\u0000` (Postgres has no NUL in text or jsonb) and lone surrogates (a string cut in the middle of an emoji) become
  U+FFFD, in keys as in values, before anything is parsed. A raw NUL in a JSON string is no JSON.
- bytes that are not UTF-8 become U+FFFD.
- NaN, Infinity and numbers beyond a double are decoded by the standard library instead, and the caller is told that the
  value may hold some (`finite` is False): the events that do are refused, and their neighbours are not.

The repair runs only when the fast path has failed or the body holds `\u0000`, and only up to `REPAIR_MAX_BYTES`,
because the standard library needs 15 ms a megabyte.
"""

import json
import math
import re
from typing import Any, NamedTuple

import orjson

from schemas.json_values import holds_more_values

REPAIR_MAX_BYTES = 1_000_000

MAX_VALUES = 300_000
"""JSON values in a body, about: 300 for each of 1,000 events, 0.2 s of the loop. 20 kB of gzip hold 12 million empty
arrays, which took 4 s: size alone bounds neither time nor memory."""

_COUNTED_FROM_BYTES = 1_000_000
"""Smaller bodies are parsed in some milliseconds, whatever they hold."""

MAX_DEPTH = 1_024
"""As orjson has it, which every later stage reads with."""

_NUL = b"\\u0000"
_ESCAPE_SIGN = b"\\"
# Each escape from left to right, so that `\\ud800` (an escaped backslash, then text) is not taken for a surrogate.
_ESCAPE = re.compile(
    r"\\(?:(u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2})|(u[dD][89a-fA-F][0-9a-fA-F]{2}|u0000)|.)",
    re.DOTALL,
)


class TooManyValues(ValueError):
    """The body holds more JSON values than a request may: reason `body_inflated_too_large`."""


class NotJson(ValueError):
    """The body is not JSON: reason `json_malformed`; the message says where."""


class Decoded(NamedTuple):
    """A decoded body."""

    value: Any
    finite: bool
    """False if numbers that are no JSON (NaN, Infinity) may be in it."""
    size: int
    """Bytes that it was decoded from."""


def bound_values(body: bytes) -> None:
    """Look for signs of too many values, before anything is parsed; commas within strings count as well.

    Raises:
        TooManyValues: there are more than `MAX_VALUES`.
    """
    if holds_more_values(body, MAX_VALUES, counted_from=_COUNTED_FROM_BYTES):
        raise TooManyValues(f"more than {MAX_VALUES} JSON values")


def decode(body: bytes) -> Decoded:
    """Decode a body, repairing it if that helps.

    Raises:
        NotJson: if it is not JSON even so.
    """
    # most bodies hold no escape at all, and one byte is found at 40 GB/s, six at 1.5
    if _ESCAPE_SIGN in body and _NUL in body:
        return _repair(body)
    try:
        return Decoded(orjson.loads(body), True, len(body))
    except orjson.JSONDecodeError as error:
        return _repair(body, error)


def holds_non_finite(value: Any) -> bool:
    """Tell whether a decoded value holds NaN or Infinity anywhere."""
    waiting = [value]
    while waiting:
        item = waiting.pop()
        if isinstance(item, float):
            if not math.isfinite(item):
                return True
        elif isinstance(item, dict):
            waiting.extend(item.values())
        elif isinstance(item, list):
            waiting.extend(item)
    return False


def _repair(body: bytes, cause: orjson.JSONDecodeError | None = None) -> Decoded:
    if len(body) > REPAIR_MAX_BYTES:
        raise NotJson(str(cause or "\\u0000 in a large body")) from cause
    text = _ESCAPE.sub(_escape, body.decode("utf-8-sig", "replace"))
    try:
        return Decoded(orjson.loads(text), True, len(body))
    except orjson.JSONDecodeError as error:
        first = error
    try:
        value = json.loads(text, parse_constant=float, parse_int=_integer)
    except (ValueError, RecursionError):
        # not the cause: it may name the bytes that were mended
        raise NotJson(str(first)) from first
    if _is_deeper_than(MAX_DEPTH, value):
        raise NotJson(f"nested deeper than {MAX_DEPTH} levels") from first
    return Decoded(value, False, len(body))


def _is_deeper_than(levels: int, value: Any) -> bool:
    """Tell whether arrays and objects are nested deeper, level by level: how deep Python recurses varies by version."""
    level = [value]
    for _ in range(levels + 1):
        level = [
            child
            for item in level
            if isinstance(item, dict | list)
            for child in (item.values() if isinstance(item, dict) else item)
        ]
        if not level:
            return False
    return True


def _escape(match: re.Match[str]) -> str:
    return "\\ufffd" if match[2] else match[0]


def _integer(digits: str) -> int | float:
    """Read an integer as orjson does: beyond 64 bits it is a double."""
    value = int(digits) if len(digits) <= 20 else float(digits)
    return value if -(1 << 63) <= value < 1 << 64 else float(digits)
