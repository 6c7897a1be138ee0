"""What is known of a session apart from its findings: who, where, when, which pages, and what was recorded.

Everything here is a minimum, a maximum, a set, or the first that was said in the order of the log, so that events may
come in any order. An event's time counts wherever it lies; pages are in order of their first visit.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson

from schemas.ids import session_row_id
from schemas.messages import RecordingSummary, SessionSnapshot
from schemas.signals import PageView
from stream_processors.analyze.place import Locate
from stream_processors.analyze.records import Context, Digest, Event, EventBatch
from stream_processors.analyze.user_agent import parse_user_agent

MAX_PAGES = 200
MAX_PAGE_CHARS = 32_000
"""URLs of a session together: 200 of 80 characters take 16 kB."""

MAX_PROPERTIES_BYTES = 8_000
"""custom_properties as JSON; what would exceed it is left out."""

MAX_DURATION_MS = 2_147_483_647
"""The column's maximum, 24.8 days."""

EVENT, RECORDING = 1, 2
"""Bits of a page: where it is known from."""


@dataclass(slots=True)
class SessionFacts:
    """The facts; fields are plain JSON values, in the order in which they are packed."""

    received_at: int = 0
    """When the first record was received: the session's time if no event tells another."""
    started_at: int = 0
    ended_at: int = 0
    visitor_id: str = ""
    user_agent: str = ""
    ip: str = ""
    screen: str = ""
    fingerprint: str = ""
    skew_ms: int | None = None
    """The least received_at - sent_at: delays only add to the clock's skew."""
    landing: list[Any] = field(default_factory=list)
    """Time and URL of the earliest event that names its page."""
    referrer: list[Any] = field(default_factory=list)
    """Time and text of the earliest page that says where it came from; an empty text is an answer too."""
    pages: dict[str, list[int]] = field(default_factory=dict)
    """URL to time of the first visit, and bits."""
    event_views: int = 0
    recorded_views: int = 0
    recording: list[int] = field(default_factory=list)
    """First and last event time, number of rrweb events."""
    properties: dict[str, Any] = field(default_factory=dict)

    def take(self, told: EventBatch | Digest) -> None:
        """Take in what a record says about the session: all but its page views, which may be repetitions."""
        self.received_at = self.received_at or told.received_at
        self.visitor_id = self.visitor_id or told.visitor_id
        self.user_agent = self.user_agent or told.user_agent
        self.ip = self.ip or told.ip
        if isinstance(told, Digest):
            self._take_recording(told)
        else:
            self._take_batch(told)

    def _take_batch(self, batch: EventBatch) -> None:
        for event in batch.events:
            t = event.timestamp
            if not self.started_at <= t <= self.ended_at:
                self.take_time(t)
            if event.page_url and (not self.landing or t < self.landing[0]):
                self.landing = [t, event.page_url]
            if event.event_type == "pageview" and isinstance(event.metadata.referrer, str):
                self._refer(t, event.metadata.referrer)
        if batch.sent_at is not None:
            skew = batch.received_at - batch.sent_at
            self.skew_ms = skew if self.skew_ms is None else min(self.skew_ms, skew)
        if batch.context is not None:
            self._take_context(batch.context, batch.events)

    def _take_context(self, context: Context, events: Sequence[Event]) -> None:
        self.screen = self.screen or context.screen_resolution
        self.fingerprint = self.fingerprint or context.device_fingerprint
        if context.referrer is not None and events:
            self._refer(min(event.timestamp for event in events), context.referrer)
        if context.custom_properties:
            self._describe(context.custom_properties)

    def _take_recording(self, digest: Digest) -> None:
        if not digest.event_count:
            return
        first = digest.received_at if digest.first is None else digest.first
        last = digest.received_at if digest.last is None else digest.last
        self.take_time(first)
        self.take_time(last)
        if self.recording:
            start, end, count = self.recording
            self.recording = [min(start, first), max(end, last), count + digest.event_count]
        else:
            self.recording = [first, last, digest.event_count]

    def take_time(self, t: int) -> None:
        """Take in that something happened at `t`."""
        if not self.started_at or t < self.started_at:
            self.started_at = t
        if t > self.ended_at:
            self.ended_at = t

    def take_view(self, view: PageView, *, recorded: bool, counts: bool) -> None:
        """Take in a page view; one that does not count, because it may be known already, still names its page."""
        if recorded:
            self.recorded_views += counts
            if view.referrer:
                self._refer(view.t, view.referrer)
            if view.url and (not self.landing or view.t < self.landing[0]):
                self.landing = [view.t, view.url]
        else:
            self.event_views += counts
        source = RECORDING if recorded else EVENT
        page = self.pages.get(view.url)
        if page is not None:
            page[0] = min(page[0], view.t)
            page[1] |= source
        elif view.url and len(self.pages) < MAX_PAGES and sum(map(len, self.pages)) + len(view.url) <= MAX_PAGE_CHARS:
            self.pages[view.url] = [view.t, source]

    def _refer(self, t: int, referrer: str) -> None:
        if not self.referrer or t < self.referrer[0]:
            self.referrer = [t, referrer]

    def _describe(self, properties: Mapping[str, Any]) -> None:
        merged = {**self.properties, **properties}
        if merged != self.properties and len(orjson.dumps(merged)) <= MAX_PROPERTIES_BYTES:
            self.properties = merged

    def visits(self, sources: int = EVENT | RECORDING) -> list[tuple[str, int]]:
        """Return the pages known from any of the sources, with the time of their first visit, in order."""
        found = [(url, page[0]) for url, page in self.pages.items() if page[1] & sources]
        found.sort(key=lambda visit: visit[1])
        return found


def snapshot(
    facts: SessionFacts, *, project_id: str, session_id: str, version: int, life: int, closed: bool, locate: Locate
) -> SessionSnapshot:
    """Return the session as it is known after the log offset `version`."""
    agent = parse_user_agent(facts.user_agent) if facts.user_agent else None
    place = locate(facts.ip) if facts.ip else None
    pages = [url for url, _ in facts.visits()]
    started_at, ended_at = facts.started_at or facts.received_at, facts.ended_at or facts.received_at
    coordinates = place.coordinates if place else None
    return SessionSnapshot(
        id=session_row_id(project_id, session_id),
        project_id=project_id,
        session_id=session_id,
        version=version,
        life=life,
        started_at=started_at,
        ended_at=ended_at,
        duration_ms=min(ended_at - started_at, MAX_DURATION_MS),
        closed=closed,
        visitor_id=facts.visitor_id or None,
        user_agent=facts.user_agent or None,
        device_type=agent.device_type if agent else None,
        browser=agent.browser if agent else None,
        os=agent.os if agent else None,
        is_bot=agent.is_bot if agent else False,
        screen_resolution=facts.screen or None,
        ip_address=facts.ip or None,
        country_code=place.country_code if place else None,
        city=place.city if place else None,
        geolocation={"lat": coordinates[0], "lng": coordinates[1]} if coordinates else None,
        referrer=(facts.referrer[1] or None) if facts.referrer else None,
        landing_page=facts.landing[1] if facts.landing else None,
        page_count=max(facts.event_views, facts.recorded_views, len(pages)),
        pages_visited=pages,
        custom_properties=facts.properties,
        clock_skew_ms=facts.skew_ms,
        recording=_recording(facts),
    )


def _recording(facts: SessionFacts) -> RecordingSummary | None:
    if not facts.recording:
        return None
    start, end, count = facts.recording
    pages: Sequence[str] = [url for url, _ in facts.visits(RECORDING)]
    return RecordingSummary(
        start_time=start,
        end_time=end,
        duration_ms=min(end - start, MAX_DURATION_MS),
        event_count=count,
        page_count=max(facts.recorded_views, len(pages)),
        pages_visited=pages,
        device_fingerprint=facts.fingerprint or None,
    )
