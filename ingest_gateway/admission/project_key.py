"""Find a project's key in a request.

Order: `Authorization: Bearer`, `X-TraceFlow-Key`, the query parameter `key` (sendBeacon cannot set headers), the body's
field `key`. The first place that holds one counts, so that authentication need not wait for a body.
"""

from collections.abc import Mapping
from typing import Any

_BEARER = b"bearer "
MAX_KEY_LENGTH = 200
"""A key has 36 characters; what is longer is none and is not worth hashing."""


def key_outside_body(headers: Mapping[bytes, bytes], query: Mapping[str, str]) -> str | None:
    """Return the key from headers or query, or None."""
    authorization = headers.get(b"authorization", b"")
    if authorization[:7].lower() == _BEARER:
        return authorization[7:].strip().decode("latin-1")
    key = headers.get(b"x-traceflow-key")
    return key.strip().decode("latin-1") if key else query.get("key")


def key_in_body(value: Any) -> str | None:
    """Return the key from a decoded body, or None."""
    key = value.get("key") if type(value) is dict else None
    return key if type(key) is str else None


def parameters(query: Mapping[str, str | list[str]]) -> dict[str, str]:
    """Return one value per query parameter: the last of several."""
    return {name: value if isinstance(value, str) else value[-1] for name, value in query.items()}
