"""What became of each request: the client's side of the promise that an acknowledged event is never lost."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import orjson

from deploy.load.connection import Answer
from deploy.load.request import ExpectedEvent, SessionRequest


class Acknowledged(NamedTuple):
    """A request that was answered 202, and which of its events were not accepted."""

    request: SessionRequest
    rejected: frozenset[int]
    quota_limited: bool


class Refused(NamedTuple):
    """A request that was answered with a status which forbids to send it again."""

    request: SessionRequest
    status: int
    reason: str


@dataclass(slots=True)
class Ledger:
    """The outcome of every request that was sent for one project."""

    project_id: str
    acknowledged: list[Acknowledged] = field(default_factory=list)
    refused: list[Refused] = field(default_factory=list)
    unknown: list[SessionRequest] = field(default_factory=list)
    """Given up without an answer, or after 503s: each may have been stored or not."""

    def settle(self, request: SessionRequest, answer: Answer) -> None:
        """Write down a final answer."""
        body = _decode(answer.body)
        if answer.status != 202:
            self.refused.append(Refused(request, answer.status, str(body.get("reason", ""))))
            return
        rejected = frozenset(entry["index"] for entry in body.get("rejected", ()))
        self.acknowledged.append(Acknowledged(request, rejected, bool(body.get("quota_limited"))))

    def give_up(self, request: SessionRequest) -> None:
        """Write down that nobody knows."""
        self.unknown.append(request)

    def acknowledged_events(self) -> Iterator[ExpectedEvent]:
        """Yield the rows that must exist, once each."""
        for request, rejected, quota_limited in self.acknowledged:
            if not quota_limited:
                for index, event in enumerate(request.expected_events(self.project_id)):
                    if index not in rejected:
                        yield event

    def unknown_events(self) -> Iterator[ExpectedEvent]:
        """Yield the rows that may exist, at most once each."""
        for request in self.unknown:
            yield from request.expected_events(self.project_id)

    def acknowledged_chunks(self) -> Iterator[SessionRequest]:
        """Yield the recording chunks that must exist, once each."""
        return (entry.request for entry in self.acknowledged if entry.request.chunk and not entry.quota_limited)

    def unknown_chunks(self) -> Iterator[SessionRequest]:
        """Yield the recording chunks that may exist, at most once each."""
        return (request for request in self.unknown if request.chunk)


def _decode(body: bytes) -> dict[str, Any]:
    try:
        decoded = orjson.loads(body)
    except orjson.JSONDecodeError:
        return {}
    return decoded if isinstance(decoded, dict) else {}
