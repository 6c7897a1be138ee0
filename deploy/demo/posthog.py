"""Turn what posthog-js sent during one session into what an SDK of TraceFlow sends.

posthog-js was the recorder of real browser sessions; its requests were kept as they came. Each becomes at most one
request per window and kind: `$snapshot` a recording chunk with the rrweb events untouched (their fields compressed as
`cv: 2024-10` too), everything else a batch of events with the names of TraceFlow's columns. Times become milliseconds
since the session began.

posthog-js's own verdicts (`$rageclick`, `$dead_click`) are left out, because TraceFlow judges for itself; so is what
has no counterpart (`$$heatmap`). A click event has no coordinates there; the recording's Click of the same moment has
them. The user agent is the one that the page saw: the driver of the browser shows through in sendBeacon's header.
"""

import base64
import gzip
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from typing import Any, NamedTuple

import orjson

from deploy.demo.elements_chain import parse_chain, selector_of

CLICK_TWIN_MS = 100
"""A click event and its twin in the recording are at most this far apart: two listeners in a busy browser."""

_INCREMENTAL, _MOUSE_INTERACTION, _CLICK = 3, 2, 2
_CUSTOM = 5
_VITALS = ("LCP", "FCP", "INP", "CLS")
_SPOKEN_VALUES = frozenset(("button", "submit", "reset", "checkbox", "radio", "image", "color", "range", "file"))

Json = dict[str, Any]


class _Place(NamedTuple):
    t: int
    x: int
    y: int


def convert_session(name: str, requests: Iterable[Mapping[str, Any]]) -> Json:
    """Return the session: who, on what, how long, and its requests in the order in which they came."""
    batches = [_events_of(request) for request in requests if request["method"] == "POST"]
    every = [event for batch in batches for event in batch]
    first = next(event["properties"] for event in every if event["event"] == "$pageview")
    converter = _Converter(every)
    converted = [request for batch in batches for request in converter.convert(batch)]
    times = [event["timestamp"] for request in converted for event in request["events"]]
    for request in converted:
        request["events"] = [_since(min(times), event) for event in request["events"]]
    return {
        "name": name,
        "visitor_id": first["distinct_id"],
        "user_agent": first["$raw_user_agent"],
        "context": {
            "screen_resolution": f"{first['$screen_width']}x{first['$screen_height']}",
            "custom_properties": {"timezone": first["$timezone"], "language": first["$browser_language"]},
        },
        "duration_ms": max(times) - min(times),
        "requests": converted,
    }


def _events_of(request: Mapping[str, Any]) -> list[Json]:
    body = base64.b64decode(request["body_b64"])
    decoded = orjson.loads(gzip.decompress(body) if body[:2] == b"\x1f\x8b" else body)
    if isinstance(decoded, dict):
        decoded = decoded.get("batch", [decoded])
    events: list[Json] = decoded
    return events


def _since(start: int, event: Json) -> Json:
    """Count the event's time from the session's start, and the one time inside that posthog-js's events have."""
    moved = {**event, "timestamp": event["timestamp"] - start}
    payload = event["data"].get("payload") if event.get("type") == _CUSTOM else None
    if payload and "cache_timestamp" in payload:
        payload = {**payload, "cache_timestamp": payload["cache_timestamp"] - start}
        moved["data"] = {**event["data"], "payload": payload}
    return moved


class _Converter:
    """Converts the requests of one session; remembers the chunks' numbers and the clicks whose twins are taken."""

    def __init__(self, every: list[Json]) -> None:
        recorded = [item for event in every for item in event["properties"].get("$snapshot_data", ())]
        self._places = [
            _Place(item["timestamp"], item["data"]["x"], item["data"]["y"]) for item in recorded if _is_click(item)
        ]
        self._next_seq: dict[str, int] = {}

    def convert(self, batch: list[Json]) -> Iterator[Json]:
        """Yield a request's counterparts: one chunk per window, then its other events."""
        windows: dict[str, list[Json]] = {}
        events: list[Json] = []
        for event in batch:
            properties = event["properties"]
            if event["event"] == "$snapshot":
                windows.setdefault(properties["$window_id"], []).extend(properties["$snapshot_data"])
            elif rule := _RULES.get(event["event"]):
                events += rule(self, event, properties)
        for window_id, items in windows.items():
            seq = self._next_seq.get(window_id, 0)
            self._next_seq[window_id] = seq + 1
            yield {"window_id": window_id, "seq": seq, "events": items}
        if events:
            yield {"events": events}

    def _base(self, event: Json, kind: str) -> Json:
        return {
            "event_type": kind,
            "timestamp": _epoch_ms(event["timestamp"]),
            "page_url": event["properties"]["$current_url"],
        }

    def click(self, event: Json, properties: Json) -> list[Json]:
        """Convert an `$autocapture` of a click."""
        if properties["$event_type"] != "click":
            return []
        elements = parse_chain(properties["$elements_chain"])
        hit = elements[0]
        out = self._base(event, "click") | {
            "element_tag": hit.tag,
            "element_id": hit.named("id"),
            "element_class": hit.named("class"),
            "element_text": properties.get("$el_text", ""),
            "element_selector": selector_of(elements),
            "viewport_width": properties["$viewport_width"],
            "viewport_height": properties["$viewport_height"],
        }
        if (place := self._take_twin(_epoch_ms(event["timestamp"]))) is not None:
            out |= {"x_position": place.x, "y_position": place.y}
        if hit.tag == "input" and hit.named("type") in _SPOKEN_VALUES:
            out["metadata"] = {"type": hit.named("type")}
        return [{name: value for name, value in out.items() if value != ""}]

    def _take_twin(self, t: int) -> _Place | None:
        nearest = min(self._places, key=lambda place: abs(place.t - t), default=None)
        if nearest is None or abs(nearest.t - t) > CLICK_TWIN_MS:
            return None
        self._places.remove(nearest)
        return nearest

    def pageview(self, event: Json, properties: Json) -> list[Json]:
        """Convert a `$pageview`."""
        referrer = "" if properties["$referrer"] == "$direct" else properties["$referrer"]
        return [self._base(event, "pageview") | {"page_title": properties["title"], "metadata": {"referrer": referrer}}]

    def page_leave(self, event: Json, properties: Json) -> list[Json]:
        """Convert a `$pageleave`."""
        return [
            self._base(event, "page_leave")
            | {
                "time_on_page_ms": round(properties["$prev_pageview_duration"] * 1000),
                "scroll_depth": round(properties["$prev_pageview_max_scroll_percentage"] * 100),
            }
        ]

    def error(self, event: Json, properties: Json) -> list[Json]:
        """Convert an `$exception` with its stack as browsers print it."""
        cause = properties["$exception_list"][0]
        message = f"{cause['type']}: {cause['value']}"
        frames = cause.get("stacktrace", {}).get("frames", ())
        lines = [f"    at {f['function']} ({f['filename']}:{f['lineno']}:{f['colno']})" for f in frames]
        return [self._base(event, "error") | {"error_message": message, "error_stack": "\n".join((message, *lines))}]

    def web_vitals(self, event: Json, properties: Json) -> list[Json]:
        """Convert a `$web_vitals`, which holds up to four of them."""
        found = []
        for name in _VITALS:
            if (vital := properties.get(f"$web_vitals_{name}_event")) is not None:
                metadata = {"value": vital["value"], "rating": vital["rating"]}
                out = self._base(event, "web_vital") | {"event_name": name, "metadata": metadata}
                out["page_url"], out["timestamp"] = vital["$current_url"], vital["timestamp"]
                found.append(out)
        return found


_RULES = {
    "$autocapture": _Converter.click,
    "$pageview": _Converter.pageview,
    "$pageleave": _Converter.page_leave,
    "$exception": _Converter.error,
    "$web_vitals": _Converter.web_vitals,
}


def _is_click(item: Mapping[str, Any]) -> bool:
    data = item["data"]
    return (
        item["type"] == _INCREMENTAL
        and isinstance(data, dict)
        and data.get("source") == _MOUSE_INTERACTION
        and data["type"] == _CLICK
    )


def _epoch_ms(iso: str) -> int:
    return round(datetime.fromisoformat(iso).timestamp() * 1000)
