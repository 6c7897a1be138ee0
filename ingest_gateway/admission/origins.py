"""Match a page's origin against a project's list.

Theory. A project key is public: everyone who opens the page has it. The list of origins is what keeps other sites from
using it. A request without an Origin header comes from a server or a tool, which could send any header, so the list
says nothing about it. An entry is an origin (`https://shop.example`, with its port if that is not the scheme's own), or
has `*.` before the host for all hosts below it, not the host itself.
"""

import re
from collections.abc import Sequence

_ORIGIN = re.compile(r"null|[a-z][a-z0-9+.-]*://(\*\.)?[^/\s*?#@]+/?", re.IGNORECASE)
"""`null` is what pages without an origin of their own send: those of files, and sandboxed frames."""
_DEFAULT_PORTS = {"https": ":443", "http": ":80"}


def origin_allowed(origin: str, allowed: Sequence[str]) -> bool:
    """Tell whether a page of this origin may send; an empty list allows every one, a request without origin passes."""
    if not allowed or not origin:
        return True
    scheme, host = _parts(origin)
    return any(_matches(scheme, host, entry) for entry in allowed)


def can_match(entry: str) -> bool:
    """Tell whether an entry is of a form that some page's origin has: `shop.example`, or a path, would refuse all."""
    return _ORIGIN.fullmatch(entry.strip()) is not None


def _matches(scheme: str, host: str, entry: str) -> bool:
    entry_scheme, entry_host = _parts(entry)
    if scheme != entry_scheme:
        return False
    if entry_host.startswith("*."):
        return host.endswith(entry_host[1:]) and len(host) > len(entry_host) - 1
    return host == entry_host


def _parts(origin: str) -> tuple[str, str]:
    scheme, _, host = origin.strip().lower().rstrip("/").partition("://")
    return scheme, host.removesuffix(_DEFAULT_PORTS.get(scheme, " "))
