"""Read what was captured of a session: rrweb events, events as SDKs send them, requests of posthog-js. Pure.

A file is a JSON array or JSON lines, gzipped or not, of any of these:

- an rrweb event, as `record()` emits it, or packed by `packFn` (a string); a line may also hold an array of them, the
  body of `POST /v1/recordings`;
- a body of `POST /v1/events`, an object with `events`; or one such event by itself, an object with `event_type`;
- an event of posthog-js, an object with `event` and `properties`: of these the `$snapshot`s count, whose
  `$snapshot_data` are rrweb events; or a whole request as a proxy keeps it, an object with `body_b64`.
"""

import base64
import gzip
import json
import zlib
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple
from urllib.parse import parse_qs

import orjson


class CaptureError(ValueError):
    """The file holds something else; the message says where."""


class Recorded(NamedTuple):
    """An rrweb event, packed or not, of the recording of one window."""

    where: str
    window: str
    t: int | None
    event: Any


class Told(NamedTuple):
    """An event as it stands in a body of `POST /v1/events`."""

    where: str
    event: dict[str, Any]


class Request(NamedTuple):
    """A body of `POST /v1/events`."""

    where: str
    body: dict[str, Any]


Captured = Recorded | Told | Request


def read_capture(data: bytes, *, name: str, window: str) -> list[Captured]:
    """Return what a file holds, in its order; `window` names the window that its rrweb events were recorded in.

    Raises:
        CaptureError: naming the file and the place in it.
    """
    values = _values(_inflated(data, name), name)
    found = [item for where, value in values for item in _items(value, where, window)]
    if not found:
        raise CaptureError(f"{name} holds no event")
    return found


def _inflated(data: bytes, where: str) -> bytes:
    if not data.startswith(b"\x1f\x8b"):
        return data
    try:
        return gzip.decompress(data)
    except (OSError, EOFError, zlib.error) as error:
        raise CaptureError(f"{where}: damaged gzip: {error}") from error


def _values(data: bytes, name: str) -> Iterator[tuple[str, Any]]:
    """Yield the values of a JSON array or of JSON lines, each with its place."""
    lines = [(number, line) for number, line in enumerate(data.splitlines(), 1) if line.strip()]
    if len(lines) > 1 and lines[0][1].strip() != b"[":
        try:
            yield from [(f"{name}, line {number}", _parsed(line)) for number, line in lines]
            return
        except ValueError:
            # an array that is laid out over lines; else the first bad line is to blame
            whole = _parsed_or_none(data)
            if whole is None:
                raise _blame(lines, name) from None
    else:
        try:
            whole = _parsed(data) if lines else []
        except ValueError as error:
            raise CaptureError(f"{name}: not JSON: {error}") from error
    if isinstance(whole, list):
        yield from ((f"{name}, item {number}", item) for number, item in enumerate(whole, 1))
    else:
        yield name, whole


def _parsed(data: bytes) -> Any:
    """Parse JSON; what browsers write beyond it, lone surrogates above all, the standard library takes."""
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError as error:
        try:
            return json.loads(data.decode("utf-8-sig", "replace"))
        except RecursionError:
            raise error from None


def _parsed_or_none(data: bytes) -> Any:
    try:
        return _parsed(data)
    except ValueError:
        return None


def _blame(lines: Sequence[tuple[int, bytes]], name: str) -> CaptureError:
    for number, line in lines:
        try:
            _parsed(line)
        except ValueError as error:
            return CaptureError(f"{name}, line {number}: not JSON: {error}")
    return CaptureError(f"{name}: not JSON")


def _items(value: Any, where: str, window: str) -> Iterator[Captured]:
    if isinstance(value, list):
        for item in value:
            yield from _item(item, where, window)
    else:
        yield from _item(value, where, window)


def _item(value: Any, where: str, window: str) -> Iterator[Captured]:
    match value:
        case str():
            yield Recorded(where, window, _packed_time(value, where), value)
        case {"events": list()}:
            yield Request(where, value)
        case {"event_type": _}:
            yield Told(where, value)
        case {"event": str(kind), "properties": dict(properties)}:
            if kind == "$snapshot":
                inner = properties.get("$snapshot_data")
                yield from _items(inner, where, f"{window}/{properties.get('$window_id', '')}")
        case {"batch": list(events)}:
            for event in events:
                yield from _item(event, where, window)
        case {"body_b64": str(body)}:
            yield from _request(body, where, window)
        case {"type": int(), "timestamp": int() | float() as t}:
            yield Recorded(where, window, int(t), value)
        case {"type": int(), "data": _}:
            yield Recorded(where, window, None, value)
        case _:
            raise CaptureError(f"{where}: neither an rrweb event, nor an event of /v1/events, nor one of posthog-js")


def _packed_time(packed: str, where: str) -> int | None:
    try:
        event = orjson.loads(zlib.decompress(packed.encode("latin-1")))
        t = event["timestamp"]
    except (UnicodeEncodeError, zlib.error, orjson.JSONDecodeError, KeyError, TypeError) as error:
        raise CaptureError(f"{where}: a text that is no rrweb event packed by packFn") from error
    return int(t) if isinstance(t, int | float) else None


def _request(body_b64: str, where: str, window: str) -> Iterator[Captured]:
    """Yield what a request of posthog-js holds; one without a body, such as a GET, holds nothing."""
    try:
        body = _inflated(base64.b64decode(body_b64, validate=True), where)
        if body.startswith(b"data="):
            body = base64.b64decode(parse_qs(body.decode())["data"][0])
        sent = _parsed(body) if body else []
    except (ValueError, KeyError) as error:
        raise CaptureError(f"{where}: a body that is no JSON: {error}") from error
    yield from _items(sent, where, window)
