"""Deterministic ids: the same input gives the same id in every process, so that every effect is idempotent."""

import uuid
from hashlib import blake2b

_SESSION = uuid.UUID("6f0d3c0e-6a4c-5b8e-9d53-7d3c5f7a1b01")
_FINDING = uuid.UUID("6f0d3c0e-6a4c-5b8e-9d53-7d3c5f7a1b02")
_AI_JOB = uuid.UUID("6f0d3c0e-6a4c-5b8e-9d53-7d3c5f7a1b03")
_ISSUE = uuid.UUID("6f0d3c0e-6a4c-5b8e-9d53-7d3c5f7a1b04")

_TIME_MASK = (1 << 48) - 1
_HASH_MASK = (1 << 74) - 1


def event_id(*, seed: bytes, index: int, timestamp_ms: int) -> str:
    """Return a UUIDv8: 48 bits of event time (ms), then 74 bits of a hash; sorts by time, so its index stays local.

    `seed` is `event_seed()` of the request, `index` the event's place in it. A restamped event passes 0 as its time,
    because its time differs from retry to retry.
    """
    digest = blake2b(index.to_bytes(4, "big"), digest_size=16, key=seed).digest()
    bits = int.from_bytes(digest, "big") & _HASH_MASK
    value = (timestamp_ms & _TIME_MASK) << 80 | 8 << 76 | (bits >> 62) << 64 | 2 << 62 | bits & ((1 << 62) - 1)
    text = f"{value:032x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def event_seed(*, project_id: str, session_id: str, events: bytes) -> bytes:
    """Hash what makes a request the same request: project, session and the bytes of its `events` array."""
    state = blake2b(digest_size=32)
    for part in (project_id.encode(), session_id.encode("utf-8", "surrogatepass"), events):
        state.update(len(part).to_bytes(8, "big"))
        state.update(part)
    return state.digest()


def session_row_id(project_id: str, session_id: str) -> str:
    """Return the id of the session's row."""
    return str(uuid.uuid5(_SESSION, f"{project_id}/{session_id}"))


def finding_id(*, project_id: str, session_id: str, kind: str, trigger: str) -> str:
    """Return the id of a finding; `trigger` names what set it off within the session, the same on every replay."""
    return str(uuid.uuid5(_FINDING, f"{project_id}/{session_id}|{kind}|{trigger}"))


def ai_job_id(*, project_id: str, session_id: str, task_type: str, life: int, close: int) -> str:
    """Return the id of an AI job: one per session, task and close; `life` tells lives of a returning session apart."""
    return str(uuid.uuid5(_AI_JOB, f"{project_id}/{session_id}|{task_type}|{life}|{close}"))


def issue_id(*, project_id: str, issue_type: str, page: str, element: str) -> str:
    """Return the id of a UX issue: one per project, type, page and element."""
    return str(uuid.uuid5(_ISSUE, "\x1f".join((project_id, issue_type, page, element))))


def session_key(project_id: str, session_id: str) -> bytes:
    """Return the record key; the project comes first, so that no project can write into another's session."""
    return f"{project_id}/{session_id}".encode()


def parse_session_key(key: bytes) -> tuple[str, str]:
    """Split a record key into project and session.

    Raises:
        ValueError: if it is none.
    """
    project_id, slash, session_id = key.decode().partition("/")
    if not (slash and project_id and session_id):
        raise ValueError(f"not a session key: {key[:80]!r}")
    return project_id, session_id
