"""The logic of the analyze stage: what a session's state means, given to the generic fold.

Records of kind `events` and `digest` belong to sessions; both are turned into signals for the detectors. `digest_tick`
moves the clock, so that deadlines and closing wait for the recordings that were sent before; `tick` only lets changed
sessions be reported.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from schemas import messages, topics
from schemas.ids import ai_job_id, parse_session_key
from schemas.messages import AiJob, Kind
from schemas.reasons import Reason
from schemas.signals import PageView, ScriptError, WebVital
from stream_processors.analyze import state as states
from stream_processors.analyze.detectors.panel import panel_for
from stream_processors.analyze.detectors.verdict import Verdict
from stream_processors.analyze.findings import to_finding
from stream_processors.analyze.intake import Observation, observe
from stream_processors.analyze.jobs import deserved_jobs
from stream_processors.analyze.place import Locate, nowhere
from stream_processors.analyze.records import Digest, read_batch, read_digest, read_moment, read_source
from stream_processors.analyze.session import snapshot
from stream_processors.analyze.state import SessionState
from stream_processors.fold.logic import Emitted, Lifetime, LogRecord, Output, RecordRefused

DAY_MS = 86_400_000

_TIMELESS = frozenset((ScriptError, WebVital))
"""Signals that say something without their time."""


@dataclass(frozen=True, slots=True)
class AnalyzeLogic:
    """The logic with its settings; it keeps nothing but what the states hold."""

    gap_ms: int = 1_800_000
    """Inactivity that closes a session, where its project says nothing."""
    residue_ms: int = DAY_MS
    grace_ms: int = 10_000
    """How long an SDK may hold back what it has seen before it sends it."""
    locate: Locate = nowhere

    session_kinds = frozenset((Kind.EVENTS.value, Kind.DIGEST.value))
    tick_kinds = frozenset((Kind.TICK.value, Kind.DIGEST_TICK.value))

    def clock(self, record: LogRecord) -> int:
        """Return the moment up to which the recordings have been digested."""
        return read_moment(record) if record.kind == Kind.DIGEST_TICK else 0

    def source(self, record: LogRecord) -> int | None:
        """Return the offset in the recordings topic."""
        return read_source(record) if record.kind in (Kind.DIGEST, Kind.DIGEST_TICK) else None

    def open(self, _key: bytes, record: LogRecord) -> SessionState:
        """Make the state of a new life; its first record gives the settings."""
        return SessionState(life=record.offset, panel=panel_for(None))

    def apply(self, state: SessionState, key: bytes, record: LogRecord, out: Emitted) -> None:
        """Fold a batch of events or a digest."""
        try:
            parse_session_key(key)
        except ValueError as error:
            raise RecordRefused(Reason.RECORD_MALFORMED, str(error)) from error
        recorded = record.kind == Kind.DIGEST
        told = read_digest(record) if recorded else read_batch(record)
        observed = observe(told)
        # nothing is refused from here on
        self._take_settings(state, told.settings)
        state.facts.take(told)
        arrived = told.at if isinstance(told, Digest) else record.timestamp
        due = arrived + state.panel.settle_ms + self.grace_ms
        self._fold(state, key, observed, recorded=recorded, due=due, out=out)

    def _take_settings(self, state: SessionState, settings: Mapping[str, Any]) -> None:
        """Keep the settings of a life's first record."""
        if state.gap_ms:
            return
        state.gap_ms = settings.get("session_gap_ms") or self.gap_ms
        state.residue_ms = self.residue_ms
        state.overrides = settings.get("detectors") or None
        state.panel = panel_for(state.overrides)

    def _fold(
        self, state: SessionState, key: bytes, seen: Iterable[Observation], *, recorded: bool, due: int, out: Emitted
    ) -> None:
        """Give the signals of what was observed to the detectors, unless it comes too late, or again."""
        by_signal, memories = state.panel.by_signal, state.memories
        for one in seen:
            t, timed = one.t, one.timed
            late = timed and not state.is_timely(t, recorded=recorded)
            if one.names and not late and state.seen.add(t, one.names):
                continue
            for signal in one.signals:
                kind = type(signal)
                if isinstance(signal, PageView):
                    state.facts.take_view(signal, recorded=recorded, counts=not late)
                if late or not (timed or kind in _TIMELESS):
                    continue
                for name, memory, handler in by_signal.get(kind, ()):
                    if name not in memories:
                        memories[name] = memory()
                    if verdicts := handler(memories[name], signal, due):
                        self._report(state, key, verdicts, out)

    def _report(self, state: SessionState, key: bytes, verdicts: Iterable[Verdict], out: Emitted) -> None:
        project_id, session_id = parse_session_key(key)
        visitor_id = state.facts.visitor_id or None
        for verdict in verdicts:
            finding = to_finding(verdict, project_id=project_id, session_id=session_id, visitor_id=visitor_id)
            out.outputs.append(Output(topics.SIGNALS.name, key, messages.encode(finding)))
            state.note(verdict)

    def reopen(self, state: SessionState, _key: bytes, _record: LogRecord) -> None:
        """Continue a closed session."""
        state.closed = False

    def wake_at(self, state: SessionState) -> int:
        """Return when the first detector has something to judge."""
        wake = 0
        detectors = state.panel.detectors
        for name, memory in state.memories.items():
            at = detectors[name].wake_at(memory)
            if at and (not wake or at < wake):
                wake = at
        return wake

    def on_time(self, state: SessionState, key: bytes, *, moment: int, offset: int, out: Emitted) -> None:  # noqa: ARG002 (the contract's)
        """Judge what is due."""
        for name, detector in state.panel.detectors.items():
            memory = state.memories.get(name)
            if memory is not None and 0 < detector.wake_at(memory) <= moment:
                self._report(state, key, detector.on_time(memory, moment), out)

    def on_close(self, state: SessionState, key: bytes, *, moment: int, offset: int, out: Emitted) -> None:  # noqa: ARG002 (the contract's)
        """Judge everything, send the final snapshot, and ask for the AI jobs that the session deserves."""
        for name, detector in state.panel.detectors.items():
            memory = state.memories.pop(name, None)
            if memory is not None:
                self._report(state, key, detector.on_end(memory), out)
        state.close()
        self.on_report(state, key, offset=offset, out=out)
        self._ask_for_jobs(state, key, out)

    def _ask_for_jobs(self, state: SessionState, key: bytes, out: Emitted) -> None:
        found = sum(state.counts.values())
        if found <= state.asked_for:
            return
        state.asked_for = found
        project_id, session_id = parse_session_key(key)
        for job in deserved_jobs(state.as_closed(), state.panel.config.ai_jobs):
            message = AiJob(
                id=ai_job_id(
                    project_id=project_id,
                    session_id=session_id,
                    task_type=job.task_type,
                    life=state.life,
                    close=state.closes,
                ),
                project_id=project_id,
                session_id=session_id,
                task_type=job.task_type,
                priority=job.priority,
                input_data=job.input_data,
            )
            out.outputs.append(Output(topics.AI_JOBS.name, key, messages.encode(message)))

    def on_report(self, state: SessionState, key: bytes, *, offset: int, out: Emitted) -> None:
        """Send the snapshot."""
        project_id, session_id = parse_session_key(key)
        message = snapshot(
            state.facts,
            project_id=project_id,
            session_id=session_id,
            version=offset,
            life=state.life,
            closed=state.closed,
            locate=self.locate,
        )
        out.outputs.append(Output(topics.SESSIONS.name, key, messages.encode(message)))

    def on_tick(self, record: LogRecord, out: Emitted) -> None:
        """Emit nothing: a tick only lets changed sessions be reported."""

    def on_refused(self, key: bytes, record: LogRecord, out: Emitted) -> None:
        """Emit nothing: nobody waits for a record's answer."""

    def lifetime(self, state: SessionState) -> Lifetime:
        """Return the lifetime that the life's first record gave."""
        return Lifetime(gap_ms=state.gap_ms or self.gap_ms, residue_ms=state.residue_ms or self.residue_ms)

    def weight(self, state: SessionState) -> int:
        """Return about how many bytes the decoded state takes."""
        return state.weight()

    def encode(self, state: SessionState) -> bytes:
        """Encode the state."""
        return states.encode(state)

    def decode(self, data: bytes) -> SessionState:
        """Decode a state."""
        return states.decode(data)
