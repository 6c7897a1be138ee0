"""The records in Kafka, one type per topic and header `kind`: frozen, typed, every field explained with its unit.

Values are UTF-8 JSON (orjson) without NUL and lone surrogates. Times are epoch milliseconds.

Evolution. `v` is the format of the record. Within one `v` a writer may add optional fields and a reader passes over the
fields that it does not know, so old and new processes run side by side in any order. A change that an old reader would
misread raises `v`; a reader that meets a higher `v` than it knows parks the record as `schema_newer`.
`tests/unit/test_message_evolution.py` holds both directions with records of every earlier shape.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from enum import StrEnum
from typing import Any, NotRequired, TypedDict, TypeVar

import orjson

FORMAT = 1


class Kind(StrEnum):
    """The header `kind`, which tells the records of one topic apart."""

    EVENTS = "events"
    DIGEST = "digest"
    DIGEST_TICK = "digest_tick"
    TICK = "tick"
    CHUNK = "chunk"
    CHAIN = "chain"
    """What a sender of sourced records knows to be in the log: see `Chain`."""
    REDRIVEN = "redriven"
    """A record that its stage had parked, put back for that stage alone: see `redriven_headers`."""


CLIENT_TIMESTAMP = "client_timestamp"
"""The key of `metadata` under which a restamped event keeps the time that its client sent, if it sent one.

Behind `event.`, as any other field, where the client has put something under that key itself.
"""

KIND_HEADER = "kind"
META_HEADER = "meta"
REDRIVE_HEADER = "redrive"


class MalformedRecord(ValueError):
    """The record does not decode as its topic declares: reason `record_malformed`."""


class NewerFormat(ValueError):
    """The record's `v` is higher than this version reads: reason `schema_newer`."""


class Context(TypedDict, total=False):
    """What a client says about its surroundings, once per request."""

    screen_resolution: str
    referrer: str
    device_fingerprint: str
    custom_properties: dict[str, Any]


class RecordSettings(TypedDict):
    """The project's settings that decide about a session, travelling in the log: what differs from the defaults."""

    version: int
    session_gap_ms: NotRequired[int]
    detectors: NotRequired[dict[str, Any]]


class Event(TypedDict):
    """One event as the gateway normalised it: the columns of `traceflow_events` that the client sent, and no others.

    Texts are at most as long as `ingest_gateway.admission.event_fields` allows; coordinates are int4; `metadata` is an
    object.
    """

    id: str
    timestamp: int
    event_type: str
    restamped: NotRequired[bool]
    """The client's time lay outside the window: `timestamp` is received_at, metadata.client_timestamp the original."""
    event_name: NotRequired[str]
    page_url: NotRequired[str]
    page_title: NotRequired[str]
    element_tag: NotRequired[str]
    element_id: NotRequired[str]
    element_class: NotRequired[str]
    element_text: NotRequired[str]
    element_selector: NotRequired[str]
    x_position: NotRequired[int]
    y_position: NotRequired[int]
    viewport_width: NotRequired[int]
    viewport_height: NotRequired[int]
    scroll_depth: NotRequired[int]
    error_message: NotRequired[str]
    error_stack: NotRequired[str]
    time_on_page_ms: NotRequired[int]
    metadata: NotRequired[dict[str, Any]]


class EventBatch(TypedDict):
    """The value of a record of kind `events`: the events of one request and session, in the client's order."""

    v: int
    project_id: str
    session_id: str
    received_at: int
    """When the gateway had read the request."""
    settings: RecordSettings
    events: list[Event]
    visitor_id: NotRequired[str]
    sent_at: NotRequired[int]
    """The client's clock when it sent; received_at - sent_at is its skew."""
    ip: NotRequired[str]
    """After the project's IP policy: whole, truncated or absent."""
    user_agent: NotRequired[str]
    context: NotRequired[Context]


class ChunkMeta(TypedDict):
    """The header `meta` of a record of kind `chunk`."""

    v: int
    project_id: str
    session_id: str
    window_id: str
    seq: int
    """Counts the chunks of a window from 0."""
    received_at: int
    encoding: str
    """How the value is compressed: identity | gzip | deflate | zstd."""
    codec: str
    """How the project wants it stored: json | gzip | zstd."""
    settings: RecordSettings
    visitor_id: NotRequired[str]
    ip: NotRequired[str]
    user_agent: NotRequired[str]


class Digest(TypedDict):
    """The value of a record of kind `digest`: what matters of one recording chunk, or only that it was read."""

    v: int
    src: int
    """The chunk's offset in the recordings topic, same partition: consecutive, ticks included."""
    project_id: str
    session_id: str
    window_id: str
    received_at: int
    settings: RecordSettings
    at: int
    """The chunk's broker time: deadlines of its clicks count from here."""
    event_count: int
    """rrweb events in the chunk; 0 for a chunk that was parked or seen before."""
    signals: list[dict[str, Any]]
    """Encoded signals (schemas.signals) in order of event time."""
    size: NotRequired[int]
    """The chunk's bytes as sent."""
    first: NotRequired[int]
    last: NotRequired[int]
    """Event time of the chunk's first and last rrweb event."""
    visitor_id: NotRequired[str]
    ip: NotRequired[str]
    user_agent: NotRequired[str]


class DigestTick(TypedDict):
    """The value of a record of kind `digest_tick`: the recordings log has been digested up to this moment."""

    v: int
    src: int
    at: int
    """The tick's broker time in the recordings topic: the digest watermark."""


class Chain(TypedDict):
    """The value of a record of kind `chain`: what stands for every source up to `src` was acknowledged before."""

    v: int
    src: int
    log: NotRequired[str]
    """The broker's id of the topic whose offsets the sources are: one that was made anew begins at 0."""


@dataclass(frozen=True, slots=True)
class Finding:
    """A place where the user got stuck; also a row of `traceflow_events` if `event_row`."""

    id: str
    project_id: str
    session_id: str
    kind: str
    """error | rage_click | error_click | form_abandonment | dead_click | slow_load | quick_back | thrashed_cursor"""
    timestamp: int
    """Event time of the trigger: the click itself, a burst's first click."""
    event_row: bool = True
    """False for an error whose structured event is already a row: it feeds UX issues only."""
    severity: str = "medium"
    """low | medium | high | critical"""
    visitor_id: str | None = None
    page_url: str | None = None
    page_title: str | None = None
    element_tag: str | None = None
    element_id: str | None = None
    element_class: str | None = None
    element_text: str | None = None
    element_selector: str | None = None
    component: str | None = None
    x_position: int | None = None
    y_position: int | None = None
    error_message: str | None = None
    error_stack: str | None = None
    evidence: Mapping[str, Any] = field(default_factory=dict)
    """Goes to `metadata`: the numbers that made the rule say so."""
    v: int = FORMAT


@dataclass(frozen=True, slots=True)
class RecordingSummary:
    """The recording's part of a snapshot: the columns of `session_recordings` that analyze knows."""

    start_time: int
    end_time: int
    duration_ms: int
    event_count: int
    page_count: int
    pages_visited: Sequence[str] = ()
    device_fingerprint: str | None = None


@dataclass(frozen=True, slots=True)
class SessionSnapshot:
    """The whole session as analyze sees it at a log offset: absolute, and the highest version wins.

    Counters and the score are not in it: the sinks that insert the rows keep those.
    """

    id: str
    project_id: str
    session_id: str
    version: int
    """The log offset after which this holds."""
    life: int
    """The offset of the life's first record: a session that returns after its residue is gone starts a new life."""
    started_at: int
    ended_at: int
    duration_ms: int
    """At most 2,147,483,647: the column's maximum."""
    closed: bool = False
    visitor_id: str | None = None
    user_agent: str | None = None
    device_type: str | None = None
    """desktop | mobile | tablet"""
    browser: str | None = None
    os: str | None = None
    is_bot: bool = False
    screen_resolution: str | None = None
    ip_address: str | None = None
    country_code: str | None = None
    city: str | None = None
    geolocation: Mapping[str, float] | None = None
    referrer: str | None = None
    landing_page: str | None = None
    page_count: int = 0
    pages_visited: Sequence[str] = ()
    """Page URLs in order of first visit, at most 200."""
    custom_properties: Mapping[str, Any] = field(default_factory=dict)
    clock_skew_ms: int | None = None
    recording: RecordingSummary | None = None
    v: int = FORMAT


@dataclass(frozen=True, slots=True)
class AiJob:
    """A job for the AI worker: a row of `traceflow_ai_queue`."""

    id: str
    project_id: str
    session_id: str
    task_type: str
    """session_summary | root_cause | code_fix | journey_analysis"""
    priority: int
    """1 (most urgent) to 10."""
    input_data: Mapping[str, Any]
    v: int = FORMAT


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """Why and where a record was parked; travels as headers `dl_*` before the record's own key, value and headers."""

    reason: str
    stage: str
    """gateway | digest | analyze | sink-events | sink-sessions | sink-recordings | sink-signals | sink-ai_jobs"""
    topic: str
    """Without prefix; empty for a request that the gateway refused before it was a record."""
    partition: int
    offset: int
    index: int = -1
    """The event's place within the record; -1 for the whole record."""
    detail: str = ""
    """What exactly, at most 2,000 characters; never a key or an IP address."""
    at: int = 0
    version: str = ""
    """The version of TraceFlow that parked it."""


Message = TypeVar("Message", Finding, SessionSnapshot, AiJob)


def encode(message: Finding | SessionSnapshot | AiJob | Mapping[str, Any]) -> bytes:
    """Encode a message as its record's value."""
    return orjson.dumps(message)


def decode_object(value: bytes | None) -> dict[str, Any]:
    """Decode any JSON record and check its format.

    Raises:
        MalformedRecord: if it is no JSON object with an integer `v`.
        NewerFormat: if `v` is higher than this version reads.
    """
    try:
        data = orjson.loads(value or b"")
    except orjson.JSONDecodeError as error:
        raise MalformedRecord(f"not JSON: {error}") from error
    if not isinstance(data, dict) or not isinstance(data.get("v"), int):
        raise MalformedRecord("not an object with an integer v")
    if data["v"] > FORMAT:
        raise NewerFormat(f"format {data['v']}, this version reads up to {FORMAT}")
    return data


def decode_message(kind: type[Message], value: bytes | None) -> Message:
    """Decode a record of one of the dataclasses: unknown fields are passed over, missing optional ones take defaults.

    Raises:
        MalformedRecord, NewerFormat: as `decode_object`; MalformedRecord also if a required field is missing.
    """
    data = decode_object(value)
    known = {f.name for f in fields(kind)}
    values = {name: item for name, item in data.items() if name in known}
    try:
        if kind is SessionSnapshot and values.get("recording") is not None:
            names = {f.name for f in fields(RecordingSummary)}
            values["recording"] = RecordingSummary(**{n: v for n, v in values["recording"].items() if n in names})
        return kind(**values)
    except TypeError as error:
        raise MalformedRecord(str(error)) from error


def dead_letter_headers(letter: DeadLetter) -> list[tuple[str, bytes]]:
    """Return the headers that describe a dead letter, in a fixed order."""
    return [(f"dl_{f.name}", str(getattr(letter, f.name)).encode("utf-8", "replace")) for f in fields(letter)]


def parse_dead_letter_headers(
    headers: Sequence[tuple[str, bytes]],
) -> tuple[DeadLetter, list[tuple[str, bytes]]]:
    """Split a dead letter's headers into its description and the record's original headers.

    The first header of a name counts, so that the description of a record parked twice is the later one.

    Raises:
        MalformedRecord: if a part of the description is missing or malformed.
    """
    names = {f"dl_{f.name}": f.name for f in fields(DeadLetter)}
    found: dict[str, Any] = {}
    original: list[tuple[str, bytes]] = []
    for name, value in headers:
        key = names.get(name)
        if key is not None and key not in found:
            found[key] = value.decode("utf-8", "replace")
        else:
            original.append((name, value))
    try:
        for number in ("partition", "offset", "index", "at"):
            if number in found:
                found[number] = int(found[number])
        return DeadLetter(**found), original
    except (TypeError, ValueError) as error:
        raise MalformedRecord(f"not a dead letter: {error}") from error


def redriven_headers(number: int, original: Sequence[tuple[str, bytes]]) -> list[tuple[str, bytes]]:
    """Return the headers of a parked record that is put back: a kind that only its stage reads, then its own headers.

    `number` is the redrive's: numbers grow, and a stage passes over one that is not beyond the highest it has seen, so
    a record that is put back twice has one effect.
    """
    return [(KIND_HEADER, Kind.REDRIVEN.value.encode()), (REDRIVE_HEADER, b"%d" % number), *original]


def parse_redriven_headers(headers: Sequence[tuple[str, bytes]]) -> tuple[int, list[tuple[str, bytes]]]:
    """Split the headers of a redriven record into its number and the record's own headers.

    Raises:
        MalformedRecord: they are not what `redriven_headers` makes.
    """
    if [name for name, _ in headers[:2]] != [KIND_HEADER, REDRIVE_HEADER] or not headers[1][1].isdigit():
        raise MalformedRecord(f"a redriven record begins with the headers {KIND_HEADER} and {REDRIVE_HEADER}")
    return int(headers[1][1]), list(headers[2:])
