"""A request as an SDK sends it: rendered for the wire, and once more later to know which rows it has to become."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple
from urllib.parse import urlencode, urlsplit

import orjson
from isal import isal_zlib

from ingest_gateway.admission.events import canonical
from schemas.ids import EventIds, event_seed

EVENTS_PATH = "/v1/events"
RECORDINGS_PATH = "/v1/recordings"

# isal's fastest: the load shares its cores with what it loads
_GZIP_LEVEL = 0
_GZIP_WINDOW_BITS = 31


class ChunkPlace(NamedTuple):
    """Which chunk of which window a recording request carries."""

    window_id: str
    seq: int
    visitor_id: str


class ExpectedEvent(NamedTuple):
    """A row that an accepted event becomes."""

    session_id: str
    id: str
    timestamp_ms: int


@dataclass(frozen=True, slots=True)
class SessionRequest:
    """One request of one session."""

    session_id: str
    user_agent: str
    render: Callable[[], bytes]
    """Gives the body before compression, the same bytes at every call."""
    event_count: int
    """Events in the batch, or rrweb events in the chunk."""
    chunk: ChunkPlace | None = None
    """None for a batch of events."""
    compressed: bool = False

    @property
    def target(self) -> str:
        """Return path and query."""
        if self.chunk is None:
            return EVENTS_PATH
        query = {
            "session_id": self.session_id,
            "window_id": self.chunk.window_id,
            "seq": self.chunk.seq,
            "visitor_id": self.chunk.visitor_id,
        }
        return f"{RECORDINGS_PATH}?{urlencode(query)}"

    def wire(self, head: "RequestHead") -> bytes:
        """Return the whole HTTP request."""
        body = self.render()
        encoding = ""
        if self.compressed:
            body, encoding = isal_zlib.compress(body, _GZIP_LEVEL, _GZIP_WINDOW_BITS), "Content-Encoding: gzip\r\n"
        lines = (
            f"POST {self.target} HTTP/1.1\r\nHost: {head.host}\r\nAuthorization: Bearer {head.key}\r\n"
            f"User-Agent: {self.user_agent}\r\nContent-Type: application/json\r\n{encoding}"
            f"Content-Length: {len(body)}\r\n\r\n"
        )
        return lines.encode() + body

    def expected_events(self, project_id: str) -> list[ExpectedEvent]:
        """Return the rows that its events become if they are accepted, with the ids that the gateway gives them.

        The times have to be epoch milliseconds near the present: others would be restamped on receipt.
        """
        if self.chunk is not None:
            return []
        events = orjson.loads(self.render())["events"]
        seed = event_seed(project_id=project_id, session_id=self.session_id, events=canonical(events))
        ids = EventIds(seed=seed, count=len(events))
        return [
            ExpectedEvent(
                self.session_id,
                event.get("id") or ids.make(index, event["timestamp"]),
                event["timestamp"],
            )
            for index, event in enumerate(events)
        ]


@dataclass(frozen=True, slots=True, repr=False)
class RequestHead:
    """What all requests to one gateway have in common."""

    host: str
    key: str


class GatewayAddress(NamedTuple):
    """Where a gateway listens."""

    host: str
    port: int

    @classmethod
    def parse(cls, url: str) -> "GatewayAddress":
        """Read `http://host:port`.

        Raises:
            ValueError: it is no such URL.
        """
        parts = urlsplit(url)
        if parts.scheme != "http" or not parts.hostname:
            raise ValueError(f"{url} is no gateway's address: expected http://host:port")
        return cls(parts.hostname, parts.port or 80)
