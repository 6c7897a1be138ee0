"""Decide about a recording chunk: who it belongs to, and whether it can be a JSON array at all.

Theory. A chunk passes uninflated: inflating to look at it costs 3.75 times the CPU of passing it on. Its first bytes
are cheap, though, and tell an SDK's bug (`{"events": […]}` instead of `[…]`) while its author still reads the answer.
What is wrong further in is found by the stage that interprets the chunk and goes to the dead letters.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import orjson

from ingest_gateway.admission.events import id_fault
from ingest_gateway.admission.inflation import encoding_of, peek
from ingest_gateway.admission.records import Headers, Origin, Outgoing
from ingest_gateway.admission.refusal import Refusal
from schemas.ids import session_key
from schemas.messages import FORMAT, KIND_HEADER, META_HEADER, ChunkMeta, Kind
from schemas.reasons import Reason
from schemas.topics import RECORDINGS

EVENTS_PER_CHUNK = 10
"""What a chunk counts against the rate limit: it costs about as much as ten events."""

_JSON_SPACE = b" \t\r\n"
_BOM = b"\xef\xbb\xbf"
_MAX_SEQ = (1 << 31) - 1


@dataclass(frozen=True, slots=True)
class Place:
    """Where a chunk belongs."""

    session_id: str
    window_id: str
    seq: int
    visitor_id: str | None


def place(query: Mapping[str, str]) -> Place:
    """Read a chunk's query parameters.

    Raises:
        Refusal: `session_id_invalid` or `parameter_invalid`, naming the parameter.
    """
    if fault := _fault(query, "session_id"):
        raise Refusal(Reason.SESSION_ID_INVALID, fault)
    if fault := _fault(query, "window_id"):
        raise Refusal(Reason.PARAMETER_INVALID, fault)
    visitor_id = query.get("visitor_id") or None
    if visitor_id is not None and (fault := id_fault("visitor_id", visitor_id)):
        raise Refusal(Reason.PARAMETER_INVALID, fault)
    seq = query.get("seq", "")
    if not (seq.isascii() and seq.isdigit() and len(seq) <= 10 and int(seq) <= _MAX_SEQ):
        raise Refusal(Reason.PARAMETER_INVALID, "seq must count the chunks of a window: 0, 1, 2 …")
    return Place(query["session_id"], query["window_id"], int(seq), visitor_id)


def checked_encoding(body: bytes, declared: str) -> str:
    """Return the chunk's encoding after a look at its first bytes.

    Raises:
        Refusal: `encoding_unsupported`, `encoding_broken`, or `shape_wrong` if it is plainly no JSON array.
    """
    if not body:
        raise Refusal(Reason.SHAPE_WRONG, "the body is empty: a chunk is a JSON array of rrweb events")
    encoding = encoding_of(body, declared)
    start = peek(body, encoding).removeprefix(_BOM).lstrip(_JSON_SPACE)
    if start and not start.startswith(b"["):
        raise Refusal(Reason.SHAPE_WRONG, "the body does not start with [: a chunk is a JSON array of rrweb events")
    return encoding


def chunk_record(body: bytes, *, encoding: str, codec: str, at: Place, origin: Origin) -> Outgoing:
    """Lay out a chunk as a record: the bytes as they came, everything else in one header."""
    meta: ChunkMeta = {
        "v": FORMAT,
        "project_id": origin.project_id,
        "session_id": at.session_id,
        "window_id": at.window_id,
        "seq": at.seq,
        "received_at": origin.received_at,
        "encoding": encoding,
        "codec": codec,
        "settings": origin.settings,
    }
    if at.visitor_id is not None:
        meta["visitor_id"] = at.visitor_id
    if origin.ip is not None:
        meta["ip"] = origin.ip
    if origin.user_agent is not None:
        meta["user_agent"] = origin.user_agent
    headers: Headers = [(KIND_HEADER, Kind.CHUNK.value), (META_HEADER, orjson.dumps(meta))]
    return Outgoing(RECORDINGS.name, session_key(origin.project_id, at.session_id), body, headers)


def _fault(query: Mapping[str, str], name: str) -> str | None:
    value = query.get(name)
    return f"{name} is missing" if value is None else id_fault(name, value)
