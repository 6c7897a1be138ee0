"""The fold of one partition's log: order, time, closing, parking, the chain to the stage before. Pure.

Rules. They hold whatever the borders of batches are, whoever folds, and however often it starts anew: the outputs, the
facts and the states are functions of the log.

1. A record at or below the fold's offset is skipped. A session whose state lies at or beyond the record's offset is
   ahead (`facts`): the record, or the tick, leaves it alone, because all that they gave was sent before that fact.
2. A record with a source counts if it is the next one: at or below the highest seen it came before, beyond the next
   its sender lost something and will send again in order; then the source stays where it is. The first record of a
   chain counts whatever its source is, since the upstream log may have lost its beginning to retention.
   What a sender lost in a flight it sends again, since it goes on from what was acknowledged. What a broker lost after
   it had acknowledged it, nobody sends again. So senders say now and then up to which source they know all to have been
   acknowledged (`chain`), or that the upstream log begins only after it. A gap below such a source never closes:
   the sources in it are parked as lost, and the chain goes on behind. A statement about another upstream log, one that
   was made anew, begins a new chain.
3. A tick moves the clock forward or not at all. When it does, sessions are settled in order of what is due: woken,
   closed after their gap, forgotten after their residue but not by the tick that closed them. After each tick, whether
   it moved the clock or not, the sessions of the records since the last tick are reported; one that was closed just now
   is not, because closing emits the final snapshot, nor one that was only woken, because waking says what it has found
   and changes nothing else. What the tick itself gives comes last.
4. Late data reopens a closed session: the same life goes on. Its last activity never moves back.
5. What a record cannot give is parked, and its effect on the state is none: for a reason that the logic names, or as
   `engine_error` with the traceback. A session whose settling raises is closed without outputs, and the tick is parked
   in its name. Nothing that a logic raises blocks a partition, except a state of a newer format and a state that
   cannot be encoded: then the process ends.
6. A redriven record is a parked one that was put back, under a number. Its sender begins with the next number when the
   last one has landed, however often it is killed and sends again; so a number at or below the highest seen came
   before, and its record has no effect but what a refused one has. One that counts is folded as if it came now, and
   stands for no source: its chain has passed it.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Generic, TypeVar

from schemas.messages import Kind
from schemas.reasons import Reason
from stream_processors.fold.agenda import Agenda
from stream_processors.fold.batch import Batch, Collected
from stream_processors.fold.chain import read_statement
from stream_processors.fold.facts import NOTHING, PartitionRecord, Recovered, SessionHead, is_session_key
from stream_processors.fold.facts import partition_record_key as record_key
from stream_processors.fold.logic import Emitted, LogRecord, NewerStateFormat, RecordRefused, SessionLogic
from stream_processors.fold.redriven import unwrap
from stream_processors.fold.sessions import Sessions, UnencodableState

S = TypeVar("S")

UNBOUNDED = 1 << 62
"""A cache weight that evicts nothing."""

_FATAL = (NewerStateFormat, UnencodableState, MemoryError)


class PartitionFold(Generic[S]):
    """The fold of one partition, from where its facts end."""

    def __init__(
        self, logic: SessionLogic[S], recovered: Recovered = NOTHING, *, cache_weight: int = UNBOUNDED
    ) -> None:
        self._logic = logic
        self._position = recovered.record
        self._sessions = Sessions(logic, recovered.sessions, cache_weight=cache_weight)
        self._collected = Collected()
        self._obsolete = recovered.leftovers
        self._record_key = record_key(self._position.offset) if self._position.offset >= 0 else None
        heads = list(self._sessions.heads())
        self._agenda = Agenda(heads)
        self._changed = {key for key, head in heads if head.offset > self._position.last_tick}
        self._ahead: dict[int, set[bytes]] = {}
        for key, head in heads:
            if head.offset > self._position.offset:
                self._ahead.setdefault(head.offset, set()).add(key)
        self._open = sum(not head.is_closed for _, head in heads)

    @property
    def position(self) -> PartitionRecord:
        """How far the fold has come."""
        return self._position

    @property
    def facts(self) -> Mapping[bytes, bytes]:
        """By session: the latest fact, as of the last cut."""
        return self._sessions.facts

    @property
    def obsolete(self) -> tuple[bytes, ...]:
        """Changelog keys that the next batch deletes."""
        return self._obsolete

    @property
    def pending(self) -> int:
        """How many records have been folded since the last cut."""
        return self._collected.records

    @property
    def open_sessions(self) -> int:
        """How many sessions are not closed."""
        return self._open

    def apply(self, records: Iterable[LogRecord]) -> Batch:
        """Fold records and cut."""
        self.feed(records)
        return self.cut()

    def feed(self, records: Iterable[LogRecord]) -> None:
        """Fold records, in order of their offsets.

        Raises:
            NewerStateFormat: a state was written by a newer version.
            UnencodableState: the logic made a state that it cannot encode.
        """
        for record in records:
            if record.offset > self._position.offset:
                self._position = self._position._replace(offset=record.offset, logged_at=record.timestamp)
                self._collected.records += 1
                if record.kind == Kind.REDRIVEN:
                    self._fold_redriven(record)
                elif record.kind == Kind.CHAIN:
                    self._fold_chain(record)
                else:
                    self._fold(record)

    def cut(self) -> Batch:
        """Return what the records since the last cut give; each batch is written before the next one is.

        Raises:
            UnencodableState: the logic made a state that it cannot encode.
        """
        collected, self._collected = self._collected, Collected()
        cut = self._sessions.cut()
        deletions, self._obsolete = self._obsolete, cut.obsolete
        key = record_key(self._position.offset)
        if self._record_key is not None and self._record_key != key:
            self._obsolete += (self._record_key,)
        self._record_key = key
        return Batch(
            outputs=tuple(collected.outputs),
            parked=tuple(collected.parked),
            facts=cut.facts,
            deletions=deletions,
            record=(key, self._position.pack()),
            offset=self._position.offset,
            records=collected.records,
            ignored_sources=collected.ignored_sources,
            lost_sources=collected.lost_sources,
        )

    def _fold_redriven(self, record: LogRecord) -> None:
        try:
            number, original = unwrap(record)
            if original.kind not in self._logic.session_kinds:
                raise RecordRefused(Reason.RECORD_MALFORMED, f"kind {original.kind[:80]!r} is not redriven")
        except RecordRefused as error:
            self._refuse(record, error)
            return
        if number <= self._position.redriven:
            # in nobody's name: the session has had its effect already
            self._answer_refused(b"", original)
            return
        self._position = self._position._replace(redriven=number)
        self._fold(original, is_chained=False)

    def _fold_chain(self, record: LogRecord) -> None:
        try:
            said = read_statement(record)
        except RecordRefused as error:
            self._collected.park(record, error)
            return
        position = self._position
        if said.log and position.source_id not in ("", said.log):
            anew = f"the upstream log was made anew: its id was {position.source_id} and is {said.log}"
            self._collected.park(record, RecordRefused(Reason.SOURCES_LOST, anew))
            self._position = position._replace(source=said.source, source_id=said.log)
            return
        if said.source > position.source >= 0:
            self._collected.lost_sources += said.source - position.source
            lost = f"nothing stands for offsets {position.source + 1} to {said.source} of the upstream log"
            self._collected.park(record, RecordRefused(Reason.SOURCES_LOST, lost))
        self._position = position._replace(
            source=max(said.source, position.source), source_id=said.log or position.source_id
        )

    def _fold(self, record: LogRecord, *, is_chained: bool = True) -> None:
        out = Emitted()
        moment = None
        try:
            if is_chained and not self._is_next_in_chain(record):
                return
            if record.kind in self._logic.session_kinds:
                self._fold_session(record, out)
            elif record.kind in self._logic.tick_kinds:
                moment = self._logic.clock(record)
            else:
                raise RecordRefused(Reason.RECORD_MALFORMED, f"unknown kind {record.kind[:80]!r}")
        except _FATAL:
            raise
        except Exception as error:
            self._refuse(record, error)
            return
        self._collected.emit(out)
        if moment is not None:
            self._tick(record, moment)

    def _is_next_in_chain(self, record: LogRecord) -> bool:
        source, highest = self._logic.source(record), self._position.source
        if source is None:
            return True
        if source <= highest:
            return False
        if highest >= 0 and source > highest + 1:
            self._collected.ignored_sources += 1
            return False
        self._position = self._position._replace(source=source)
        return True

    def _refuse(self, record: LogRecord, error: Exception) -> None:
        self._collected.park(record, error)
        self._answer_refused(record.key, record)

    def _answer_refused(self, key: bytes, record: LogRecord) -> None:
        out = Emitted()
        try:
            self._logic.on_refused(key, record, out)
        except _FATAL:
            raise
        except Exception as second:
            self._collected.park(record, second)
            return
        self._collected.emit(out)

    # --- a session's record

    def _fold_session(self, record: LogRecord, out: Emitted) -> None:
        key = record.key
        if not is_session_key(key):
            raise RecordRefused(Reason.RECORD_MALFORMED, "the key names no session")
        before = self._sessions.head(key)
        if before is not None and before.offset >= record.offset:
            return
        step = self._step(record, reopens=before is not None and before.is_closed)
        try:
            state = step(None if before is None else self._sessions.state(key), out)
            head = self._head(state, record, before)
            self._sessions.change(key, state, head=head, step=lambda state: step(state, Emitted()))
        except Exception:
            self._sessions.forget(key)
            raise
        self._open += before is None or before.is_closed
        self._changed.add(key)
        self._agenda.note(key, head, before=before)

    def _step(self, record: LogRecord, *, reopens: bool) -> Callable[[S | None, Emitted], S]:
        logic, key = self._logic, record.key

        def step(state: S | None, out: Emitted) -> S:
            if state is None:
                state = logic.open(key, record)
            elif reopens:
                logic.reopen(state, key, record)
            logic.apply(state, key, record, out)
            return state

        return step

    def _head(self, state: S, record: LogRecord, before: SessionHead | None) -> SessionHead:
        last_activity = record.timestamp if before is None else max(before.last_activity, record.timestamp)
        lifetime = self._logic.lifetime(state)
        closes = last_activity + lifetime.gap_ms
        return SessionHead(
            is_closed=False,
            last_activity=last_activity,
            offset=record.offset,
            closes=closes,
            expires=closes + lifetime.residue_ms,
            wake=self._logic.wake_at(state),
        )

    # --- a tick

    def _tick(self, record: LogRecord, moment: int) -> None:
        # what this tick gave for these was sent before their facts
        self._changed -= self._ahead.pop(record.offset, set())
        if moment > self._position.watermark:
            self._position = self._position._replace(watermark=moment, clock_tick=record.offset)
            for key, head in self._collect_due(record, moment):
                self._settle(key, head, record)
        self._report_changes(record)
        self._position = self._position._replace(last_tick=record.offset)
        out = Emitted()
        try:
            self._logic.on_tick(record, out)
        except _FATAL:
            raise
        except Exception as error:
            self._refuse(record, error)
            return
        self._collected.emit(out)

    def _collect_due(self, record: LogRecord, moment: int) -> list[tuple[bytes, SessionHead]]:
        """Return what is due, in an order that no stale entry decides; what is not goes back onto the agenda."""
        due = []
        for key in self._agenda.pop_until(moment):
            head = self._sessions.head(key)
            if head is None:
                continue
            if head.due < moment and head.offset < record.offset:
                due.append((key, head))
            else:
                self._agenda.note(key, head)
        return sorted(due, key=lambda item: (item[1].due, item[0]))

    def _settle(self, key: bytes, head: SessionHead, record: LogRecord) -> None:
        """Wake, close or forget a session that is due."""
        if head.is_closed:
            self._sessions.remove(key)
            return
        moment = self._position.watermark
        try:
            if 0 < head.wake < moment:
                head = self._wake(key, head, record)
            if head.closes < moment:
                head = self._close(key, head, record)
        except _FATAL:
            raise
        except Exception as error:
            self._sessions.forget(key)
            self._collected.park(record, error, session=key)
            head = _closed(head, record)
            self._sessions.change_head(key, head)
        self._open -= head.is_closed
        self._agenda.note(key, head)

    def _wake(self, key: bytes, head: SessionHead, record: LogRecord) -> SessionHead:
        logic, moment, offset = self._logic, self._position.watermark, record.offset

        def step(state: S, out: Emitted) -> S:
            logic.on_time(state, key, moment=moment, offset=offset, out=out)
            return state

        out = Emitted()
        state = step(self._sessions.state(key), out)
        head = head._replace(offset=offset, wake=logic.wake_at(state))
        self._sessions.change(key, state, head=head, step=lambda state: step(state, Emitted()))
        self._collected.emit(out)
        return head

    def _close(self, key: bytes, head: SessionHead, record: LogRecord) -> SessionHead:
        logic, moment, offset = self._logic, self._position.watermark, record.offset

        def step(state: S, out: Emitted) -> S:
            logic.on_close(state, key, moment=moment, offset=offset, out=out)
            return state

        out = Emitted()
        state = step(self._sessions.state(key), out)
        head = _closed(head, record)
        self._sessions.change(key, state, head=head, step=lambda state: step(state, Emitted()))
        self._collected.emit(out)
        return head

    def _report_changes(self, record: LogRecord) -> None:
        """Report the sessions of the records since the last tick, in order of the log."""
        found = []
        for key in self._changed:
            head = self._sessions.head(key)
            if head is not None:
                found.append((head.offset, key, head))
        # what is ahead of this tick waits for the next one
        self._changed = {key for offset, key, _ in found if offset > record.offset}
        for offset, key, head in sorted(found):
            if offset <= record.offset and not head.is_closed:
                self._report(key, offset, record)

    def _report(self, key: bytes, offset: int, record: LogRecord) -> None:
        out = Emitted()
        try:
            self._logic.on_report(self._sessions.state(key), key, offset=offset, out=out)
        except _FATAL:
            raise
        except Exception as error:
            self._sessions.forget(key)
            self._collected.park(record, error, session=key)
            return
        self._collected.emit(out)


def _closed(head: SessionHead, record: LogRecord) -> SessionHead:
    return head._replace(is_closed=True, offset=record.offset, wake=0)
