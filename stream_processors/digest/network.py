"""Requests that a recording knows: what rrweb's network plugin (posthog-js records with it) saw the page ask for."""

from typing import Any

from stream_processors.digest.texts import clean

PLUGIN_NAME = "rrweb/network@1"
MAX_NAME_CHARS = 200
_SCRIPTED = frozenset({"fetch", "xmlhttprequest", "beacon"})


def read_requests(t: int, data: dict[str, Any]) -> list[tuple[int, str]]:
    """Return when each request of a script began (`t` if unknown), and its place: `@` and its address.

    The address comes without its query, so that what is polled again and again is one place.
    Requests that the browser makes for the page's own parts, and those from before the recording, answer no click.
    """
    payload = data.get("payload")
    if data.get("plugin") != PLUGIN_NAME or not isinstance(payload, dict) or payload.get("isInitial") is True:
        return []
    requests = payload.get("requests")
    found = []
    for request in requests if isinstance(requests, list) else []:
        if isinstance(request, dict) and str(request.get("initiatorType")) in _SCRIPTED:
            at, name = request.get("timestamp"), request.get("name")
            began = int(at) if isinstance(at, int | float) and 0 < at <= t else t
            found.append((began, "@" + (_without_query(name) if isinstance(name, str) else "")))
    return found


def _without_query(address: str) -> str:
    return clean(address.partition("?")[0].partition("#")[0], limit=MAX_NAME_CHARS)
