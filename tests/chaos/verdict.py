"""Hold everything against everything after a run: the ledger, the log, the offline fold, Postgres, the dead letters."""

import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field

from adapters.dead_letter_reader import LetterFilter, StoredLetter, read_dead_letters
from adapters.postgres import Connection, connect, read_queries
from deploy.accounts.count import CHUNKS, EVENTS, Accounts, count_accounts
from deploy.accounts.count import Account as Counted
from deploy.load.verification import verify
from deploy.replay.caught_up import NotCaughtUp
from deploy.replay.check import Check
from deploy.replay.log import Log
from deploy.replay.tables import Difference, Tables
from schemas.connections import DatabaseSettings, KafkaSettings
from stream_processors.kinds import ANALYZE, DIGEST
from stream_processors.worker import build_logic
from tests.chaos.audit import Received, audit_gateway, audit_stage, chunk_place, read_received
from tests.chaos.load import ChaosLedger, LogPoison, marker_in

PREFIX = "traceflow."
ROWS_DEADLINE_S = 150.0
CLOSED_DEADLINE_S = 120.0
"""What it takes is 10 s; a worker that was started again may have to wait for those that left without a word."""

_SHOWN = 6
_SINK_OF = {
    "traceflow_events": "sink-events or sink-signals",
    "traceflow_sessions": "sink-sessions",
    "traceflow_ux_issue_findings": "sink-signals",
    "traceflow_ai_queue": "sink-ai_jobs",
    "session_recording_chunks": "sink-recordings",
}


@dataclass(frozen=True, slots=True)
class Account:
    """What became of the events of a project, counted without the product's own command."""

    project_id: str
    accepted: int
    """As the clients were told."""
    rejected: int
    in_log: int
    """What the gateway wrote, with what was sent again because its answer was lost."""
    stored: int
    duplicates: int
    parked: int
    unreadable: int
    """Records of the log that hold no events that anybody could read."""
    chunks: int
    """Acknowledged, to be rows or parked; what was sent again counts once."""

    def lines(self) -> list[str]:
        """Say what does not add up."""
        found = []
        if self.in_log != self.stored + self.duplicates + self.parked:
            found.append(
                f"{self.in_log} events in the log, {self.stored + self.duplicates + self.parked} accounted for"
            )
        if self.accepted > self.in_log:
            found.append(f"{self.accepted} events acknowledged, {self.in_log} in the log")
        return [f"account of project {self.project_id}: {line}" for line in found]

    def differs(self, counted: Accounts) -> list[str]:
        """Say what `traceflow accounts` counts otherwise, or cannot explain."""
        events, chunks = (counted.get((self.project_id, kind), Counted()) for kind in (EVENTS, CHUNKS))
        # a record that nobody can read is one accepted and one parked
        expected = (self.in_log + self.unreadable, self.stored, self.duplicates, self.parked + self.unreadable)
        found = []
        if (said := (events.accepted, events.stored, events.duplicates, events.parked)) != expected:
            found.append(f"events accepted, stored, duplicate, parked are {said}, and not {expected}")
        # a request whose answer was lost may have left a rejection, too
        if events.rejected < self.rejected:
            found.append(f"{events.rejected} events rejected, clients were told of {self.rejected}")
        if chunks.stored + chunks.parked < self.chunks:
            found.append(f"{chunks.stored + chunks.parked} chunks stored or parked, {self.chunks} acknowledged")
        for what, each in ((EVENTS, events), (CHUNKS, chunks)):
            if each.unexplained:
                found.append(f"{each.unexplained} {what} are unexplained")
        return [f"traceflow accounts, project {self.project_id}: {line}" for line in found]


@dataclass(slots=True)
class Verdict:
    """What was compared, and each thing that is not as promised."""

    lines: list[str] = field(default_factory=list)
    accounts: list[Account] = field(default_factory=list)
    compared: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True, slots=True)
class Judge:
    """Compares, once nothing is broken any more and all that was sent has its outcome."""

    kafka: KafkaSettings
    database_url: str
    ledgers: Sequence[ChaosLedger]
    poison: LogPoison
    environ: Mapping[str, str]
    """Of the workers: what they find depends on it."""

    def judge(self) -> Verdict:
        """Wait until everything has settled, and compare."""
        verdict, log = Verdict(), Log(self.kafka, PREFIX)
        database = DatabaseSettings.model_validate({"url": self.database_url})
        with closing(connect(database, application_name="chaos", session={"timezone": "UTC"})) as connection:
            queries = read_queries("tests.chaos", "compare.sql")
            self._hold_ledgers(verdict)
            _wait_until_closed(connection, queries, verdict)
            letters = list(read_dead_letters(self.kafka, prefix=PREFIX, wanted=LetterFilter()))
            self._hold_log(verdict, log, connection, queries, letters)
            self._hold_replay(verdict, log, connection, queries)
            _hold_accounts(verdict, log, connection)
            verdict.lines += [str(row[0]) for row in connection.execute(queries["wrong_issues"])][:_SHOWN]
            verdict.lines += [str(row[0]) for row in connection.execute(queries["regressions"])]
        verdict.lines += self._wrong_letters(letters)
        return verdict

    def _hold_ledgers(self, verdict: Verdict) -> None:
        # one deadline for all: where rows are missing for good, each project would wait for it
        ends_at = time.monotonic() + ROWS_DEADLINE_S
        for ledger in self.ledgers:
            wrong = verify(self.database_url, ledger, deadline_s=max(1.0, ends_at - time.monotonic()))
            verdict.lines += [f"ledger: {line}" for line in wrong.lines()[:_SHOWN]]
            verdict.compared["acknowledged requests"] += len(ledger.acknowledged)
            if ledger.refused:
                refused = Counter((each.status, each.reason) for each in ledger.refused)
                verdict.lines.append(f"gateway: refused for good {dict(refused)}")
            if count := ledger.misjudged():
                verdict.lines.append(f"gateway: rejected other events than the sick ones in {count} requests")

    def _hold_log(
        self,
        verdict: Verdict,
        log: Log,
        connection: Connection,
        queries: Mapping[str, bytes],
        letters: Sequence[StoredLetter],
    ) -> None:
        received = read_received(log)
        stored = {str(project): int(count) for project, count in connection.execute(queries["stored"])}
        for ledger in self.ledgers:
            verdict.lines += audit_gateway(received, ledger)
            account = _account(ledger, received, stored.get(ledger.project_id, 0), letters)
            verdict.accounts.append(account)
            verdict.lines += account.lines()
        for kind in (DIGEST, ANALYZE):
            verdict.lines += audit_stage(log, kind, build_logic(kind.name, self.environ))[: _SHOWN * 2]

    def _hold_replay(self, verdict: Verdict, log: Log, connection: Connection, queries: Mapping[str, bytes]) -> None:
        check = Check(log, Tables(connection), build_logic(ANALYZE.name, self.environ))
        try:
            report = check.run(patience_s=ROWS_DEADLINE_S)
        except NotCaughtUp as error:
            verdict.lines.append(f"replay: {error}")
            return
        verdict.lines += _differences(report.differences)
        verdict.compared += report.compared
        for table, rows in connection.execute(queries["totals"]):
            if report.compared[table] != rows:
                verdict.lines.append(
                    f"{_SINK_OF[table]}: {table} has {rows} rows, the log gives {report.compared[table]}"
                )

    def _wrong_letters(self, letters: Sequence[StoredLetter]) -> list[str]:
        found: set[tuple[str, str]] = set()
        strange: Counter[tuple[str, str]] = Counter()
        for stored in letters:
            if marker := marker_in(stored.value or b""):
                found.add((stored.letter.stage, marker))
            else:
                strange[stored.letter.stage, stored.letter.reason] += 1
        lines = [f"{stage}: parked {count} good records as {reason}" for (stage, reason), count in strange.items()]
        due, possible = self._letters()
        lines += [f"{stage}: did not park {marker}" for stage, marker in sorted(due - found)][:_SHOWN]
        lines += [f"{stage}: parked {marker}, which it had not to" for stage, marker in sorted(found - possible)][
            :_SHOWN
        ]
        return lines

    def _letters(self) -> tuple[set[tuple[str, str]], set[tuple[str, str]]]:
        """Return the letters, as stage and marker, that have to be there, and those that may."""
        due = _by_stages(self.poison.landed, "analyze", "sink-events")
        possible = due | _by_stages(self.poison.sent, "analyze", "sink-events")
        for ledger in self.ledgers:
            due |= _by_stages(ledger.sick_chunks(), "digest", "sink-recordings")
            due |= _by_stages(ledger.sick_events(), "gateway")
            possible |= _by_stages(ledger.maybe(), "gateway", "digest", "sink-recordings")
        return due, possible | due


def _by_stages(markers: Iterable[str], *stages: str) -> set[tuple[str, str]]:
    return {(stage, marker) for marker in markers for stage in stages}


def _account(ledger: ChaosLedger, received: Received, stored: int, letters: Sequence[StoredLetter]) -> Account:
    there = received.events.get(ledger.project_id, Counter())
    events = [entry for entry in ledger.acknowledged if entry.request.chunk is None]
    rejected = sum(len(entry.rejected) for entry in events)
    # of an event parked twice, as of one stored twice, the second letter says nothing new
    parked = {each.place.id for each in letters if _is_of_event(each, ledger)}
    return Account(
        project_id=ledger.project_id,
        accepted=sum(entry.request.event_count for entry in events) - rejected,
        rejected=rejected,
        in_log=there.total(),
        stored=stored,
        duplicates=there.total() - len(there),
        parked=len(parked),
        unreadable=received.unreadable[ledger.project_id],
        chunks=len({chunk_place(request) for request in (*ledger.acknowledged_chunks(), *ledger.sick)}),
    )


def _hold_accounts(verdict: Verdict, log: Log, connection: Connection) -> None:
    """Hold what `traceflow accounts` prints against what was counted here."""
    try:
        counted = count_accounts(log, connection, patience_s=ROWS_DEADLINE_S)
    except NotCaughtUp as error:
        verdict.lines.append(f"traceflow accounts: {error}")
        return
    for account in verdict.accounts:
        verdict.lines += account.differs(counted)
    strange = {project_id for project_id, _ in counted} - {account.project_id for account in verdict.accounts}
    verdict.lines += [f"traceflow accounts counts a project {name!r} that sent nothing" for name in sorted(strange)]
    verdict.compared["accounts"] += len(counted)


def _is_of_event(stored: StoredLetter, ledger: ChaosLedger) -> bool:
    """Tell whether a letter is about a client's event that the gateway had accepted."""
    return (stored.letter.stage, stored.project_id) == ("sink-events", ledger.project_id) and stored.letter.index >= 0


def _wait_until_closed(connection: Connection, queries: Mapping[str, bytes], verdict: Verdict) -> None:
    ends_at = time.monotonic() + CLOSED_DEADLINE_S
    while True:
        row = connection.execute(queries["open_sessions"]).fetchone()
        total, closed = row or (0, 0)
        if total and total == closed:
            return
        if time.monotonic() > ends_at:
            verdict.lines.append(f"analyze: {closed} of {total} sessions are closed {CLOSED_DEADLINE_S:.0f} s later")
            return
        time.sleep(0.5)


def _differences(found: Sequence[Difference]) -> list[str]:
    by_kind: defaultdict[tuple[str, str], list[Difference]] = defaultdict(list)
    for each in found:
        by_kind[each.table, each.found].append(each)
    return [
        f"{_SINK_OF[table]}: {len(those)} rows of {table} are {said}, one of session {those[0].session_id}"
        for (table, said), those in sorted(by_kind.items())
    ]
