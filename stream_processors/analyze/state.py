"""The state of one session: everything that `analyze` remembers of it, as one array in MessagePack.

The same state gives the same bytes in every process. Memories and facts are dataclasses of plain values and are packed
as the list of their fields, so a field that is added at the end is missing in older states and takes its default.
`FORMAT` is raised with every field, because an older worker that dropped it would write another fact for the same
offset: a worker that meets a newer state has to end itself. Up to format 3 the array was JSON, which took 1.4 times the
bytes and 1.7 times as long to write.

Typical sizes: 1.1 kB for an open session with structured events, 0.4 kB for the residue of a closed one.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from operator import attrgetter
from typing import Any

import msgspec
import orjson

from stream_processors.analyze.dedupe import LATENESS_MS, Seen
from stream_processors.analyze.detectors.panel import Panel, panel_for
from stream_processors.analyze.detectors.verdict import Verdict
from stream_processors.analyze.findings import label_of
from stream_processors.analyze.jobs import MAX_FINDINGS, MAX_LABEL, MAX_URL, ClosedSession, Moment
from stream_processors.analyze.session import SessionFacts
from stream_processors.analyze.user_agent import parse_user_agent
from stream_processors.fold.logic import NewerStateFormat

FORMAT = 4

_JSON_ARRAY = b"["
_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder().decode


@dataclass(slots=True)
class SessionState:
    """What is remembered of a session."""

    life: int
    """Offset of the first record of this life."""
    panel: Panel
    """The detectors of the session's settings; rebuilt from `overrides`."""
    gap_ms: int = 0
    """0 until the first record has given the settings."""
    residue_ms: int = 0
    overrides: Mapping[str, Any] | None = None
    """The project's detector settings at the first record."""
    closed: bool = False
    closes: int = 0
    """How often it was closed in this life."""
    asked_for: int = 0
    """How many findings there were when AI jobs were last asked for."""
    newest_event: int = 0
    newest_recorded: int = 0
    """Latest event time by source, because a server's clock and a browser's need not agree."""
    judged_event: int = 0
    judged_recorded: int = 0
    """Latest event time at the last close, by source: what was before has been judged."""
    facts: SessionFacts = field(default_factory=SessionFacts)
    seen: Seen = field(default_factory=Seen)
    memories: dict[str, Any] = field(default_factory=dict)
    """By detector; absent until it has something to remember."""
    counts: dict[str, int] = field(default_factory=dict)
    """Findings by kind, for the AI jobs: the rows' counters are the sinks'."""
    moments: list[list[Any]] = field(default_factory=list)
    """t, kind, page_url and label of the latest findings, in order of time."""

    def is_timely(self, t: int, *, recorded: bool) -> bool:
        """Return whether an event at `t` can still be judged; what is later is stored only."""
        if recorded:
            if t > self.newest_recorded:
                self.newest_recorded = t
            return t > self.judged_recorded and t > self.newest_recorded - LATENESS_MS
        if t > self.newest_event:
            self.newest_event = t
        return t > self.judged_event and t > self.newest_event - LATENESS_MS

    def note(self, verdict: Verdict) -> None:
        """Remember a finding for the AI jobs."""
        kind = verdict.kind.value
        self.counts[kind] = self.counts.get(kind, 0) + 1
        self.moments.append([verdict.t, kind, verdict.page_url[:MAX_URL], label_of(verdict, limit=MAX_LABEL)])
        self.moments.sort()
        del self.moments[:-MAX_FINDINGS]

    def close(self) -> None:
        """Drop what only an open session needs."""
        self.closed = True
        self.closes += 1
        self.judged_event, self.judged_recorded = self.newest_event, self.newest_recorded
        self.memories.clear()
        self.seen = Seen()

    def as_closed(self) -> ClosedSession:
        """Return what the job policy looks at."""
        agent = parse_user_agent(self.facts.user_agent) if self.facts.user_agent else None
        return ClosedSession(
            counts=self.counts,
            is_bot=agent.is_bot if agent else False,
            started_at=self.facts.started_at,
            ended_at=self.facts.ended_at,
            device_type=agent.device_type if agent else None,
            browser=agent.browser if agent else None,
            pages=self.facts.visits(),
            findings=[Moment(*moment) for moment in self.moments],
        )

    def weight(self) -> int:
        """Return about how many bytes the decoded state takes."""
        clicks = self.memories.get("clicks")
        entries = len(self.facts.pages) + len(self.seen)
        return 8_000 + 100 * entries + (clicks.weight() if clicks is not None else 0)


def encode(state: SessionState) -> bytes:
    """Encode a state."""
    return _encode(
        [
            FORMAT,
            state.life,
            state.gap_ms,
            state.residue_ms,
            state.overrides,
            state.closed,
            state.closes,
            state.asked_for,
            state.newest_event,
            state.newest_recorded,
            state.judged_event,
            state.judged_recorded,
            _pack(state.facts),
            state.seen.pack(),
            {name: _pack(state.memories[name]) for name in sorted(state.memories)},
            state.counts,
            state.moments,
        ]
    )


def decode(data: bytes) -> SessionState:
    """Decode a state.

    Raises:
        NewerStateFormat: it was written by a newer version.
    """
    plain = orjson.loads(data) if data.startswith(_JSON_ARRAY) else _decode(data)
    form, life, gap_ms, residue_ms, overrides, *rest = plain
    if form > FORMAT:
        raise NewerStateFormat(f"session state of format {form}, this version reads up to {FORMAT}")
    closed, closes, asked_for, newest_event, newest_recorded, judged_event, judged_recorded, *rest = rest
    facts, seen, memories, counts, moments = rest
    panel = panel_for(overrides)
    return SessionState(
        life=life,
        panel=panel,
        gap_ms=gap_ms,
        residue_ms=residue_ms,
        overrides=overrides,
        closed=closed,
        closes=closes,
        asked_for=asked_for,
        newest_event=newest_event,
        newest_recorded=newest_recorded,
        judged_event=judged_event,
        judged_recorded=judged_recorded,
        facts=SessionFacts(*facts),
        seen=Seen.unpack(*seen),
        memories={name: panel.detectors[name].memory(*plain) for name, plain in memories.items()},
        counts=counts,
        moments=moments,
    )


def _pack(record: Any) -> Sequence[Any]:
    return _values_of(record.__slots__)(record)


@cache
def _values_of(names: tuple[str, ...]) -> Callable[[Any], Sequence[Any]]:
    return attrgetter(*names)
