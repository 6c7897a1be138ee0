"""Apply a project's privacy settings: what becomes of an address, and what a browser's privacy signal does.

Theory. `Sec-GPC: 1` (Global Privacy Control) and the older `DNT: 1` are the user's word. What they mean is the
project's decision, because it depends on law and on consent that the page may have asked for.
"""

from collections.abc import Mapping
from dataclasses import replace
from ipaddress import IPv6Address, ip_address, ip_network
from typing import Any, Literal

from ingest_gateway.admission.events import Admission

IpPolicy = Literal["keep", "truncate", "drop"]

_PREFIX_V4, _PREFIX_V6 = 24, 48


def asks_for_privacy(headers: Mapping[bytes, bytes]) -> bool:
    """Tell whether the browser sends a privacy signal."""
    return headers.get(b"sec-gpc") == b"1" or headers.get(b"dnt") == b"1"


def apply_ip_policy(address: str | None, policy: IpPolicy) -> str | None:
    """Return what may be kept of a client's address: all of it, its network (/24, /48), or nothing."""
    if address is None or policy == "drop":
        return None
    if policy == "keep":
        return address
    whole = ip_address(address)
    prefix = _PREFIX_V6 if isinstance(whole, IPv6Address) else _PREFIX_V4
    return str(ip_network((whole.packed, prefix), strict=False).network_address)


def anonymised(admission: Admission) -> Admission:
    """Return a request's events without what tells visitors apart."""
    context = admission.context
    if context is not None:
        context = {**context}
        context.pop("device_fingerprint", None)
    sessions = [replace(session, visitor_id=None) for session in admission.sessions]
    rejected = [replace(refused, event=_without_visitor(refused.event)) for refused in admission.rejected]
    return replace(admission, sessions=sessions, rejected=rejected, context=context or None)


def _without_visitor(event: Any) -> Any:
    """Return an event as it was sent, but for whose it is: dead letters are kept for a month."""
    return {name: value for name, value in event.items() if name != "visitor_id"} if isinstance(event, dict) else event
