"""Wait until everything has come through, and read it back from Postgres by SQL."""

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import psycopg
from confluent_kafka import Consumer
from psycopg.rows import dict_row

from adapters.dead_letter_reader import LetterFilter, read_dead_letters
from adapters.kafka_consumer import watermarks
from adapters.postgres import read_queries
from deploy.load import Target
from deploy.load.ledger import Ledger
from deploy.load.verification import Verifier, open_verifier
from schemas import topics
from schemas.connections import KafkaSettings, LogSettings

DEADLINE_S = 90.0
_POLL_S = 0.25
_TOLD_AFTER_CLOSING = (topics.SESSIONS, topics.SIGNALS, topics.AI_JOBS)

Json = dict[str, Any]
Report = Callable[[str], None]
"""Takes a line that tells how it proceeds."""


@dataclass(frozen=True, slots=True)
class Result:
    """What the demo shows, and what does not add up."""

    sent: Mapping[str, int]
    stored: Mapping[str, int]
    sessions: Sequence[Json]
    findings: Sequence[Json]
    ux_issues: Sequence[Json]
    ai_jobs: Sequence[Json]
    dead_letters: Mapping[str, int]
    """By reason."""
    differences: Sequence[str]
    """One sentence each; empty if everything adds up."""


class Reader:
    """Asks Postgres and the broker about the replayed sessions."""

    def __init__(self, target: Target, ledger: Ledger) -> None:
        self._target = target
        self._ledger = ledger
        self._kafka = KafkaSettings(bootstrap=target.kafka_bootstrap)
        self._prefix = LogSettings().topic_prefix
        self._queries = read_queries("deploy.demo", "report.sql")
        self._sessions = sorted({entry.request.session_id for entry in ledger.acknowledged})

    def read(self, *, report: Report) -> Result:
        """Wait until everything is through, read it back, and compare it with what was acknowledged."""
        with open_verifier(self._target.database_url, self._ledger) as verifier, self._connect() as connection:
            late = self._settle(verifier, connection, report)
            differences = [*late, *self._unacknowledged(), *verifier.differences().lines()]
            asked = {name: self._ask(connection, name) for name in ("sessions", "findings", "ux_issues", "ai_jobs")}
            stored = {name: int(count) for name, count in self._ask(connection, "stored")[0].items()}
        letters = Counter(
            found.letter.reason for found in read_dead_letters(self._kafka, prefix=self._prefix, wanted=LetterFilter())
        )
        sent = self._sent()
        differences += [
            f"{sent[name]} {name} were acknowledged, {stored[name]} are stored"
            for name in ("events", "chunks", "rrweb_events")
            if sent[name] != stored[name]
        ]
        differences += [f"{count} dead letters say {reason}" for reason, count in letters.items()]
        return Result(sent=sent, stored=stored, **asked, dead_letters=letters, differences=differences)

    def _settle(self, verifier: Verifier, connection: "psycopg.Connection[Json]", report: Report) -> list[str]:
        """Wait for rows, closed sessions and what closing brings; return what is missing at the deadline."""
        ends_at = time.monotonic() + DEADLINE_S
        for what, count in (
            ("acknowledged events and chunks are not in Postgres", verifier.missing),
            ("sessions are not closed", lambda: int(self._ask(connection, "open_sessions")[0]["count"])),
            ("results are not in Postgres", lambda: self._behind(connection)),
        ):
            while left := count():
                report(f"waiting: {left} {what}")
                if time.monotonic() > ends_at:
                    return [f"{left} {what} after {DEADLINE_S:.0f} s"]
                time.sleep(_POLL_S)
        return []

    def _unacknowledged(self) -> list[str]:
        said = [f"a request was refused: {refused.status} {refused.reason}" for refused in self._ledger.refused[:5]]
        if self._ledger.unknown:
            said.append(f"{len(self._ledger.unknown)} requests were not acknowledged in time")
        rejected = sum(len(entry.rejected) for entry in self._ledger.acknowledged)
        return [*said, f"{rejected} events were rejected"] if rejected else said

    def _sent(self) -> dict[str, int]:
        chunks = list(self._ledger.acknowledged_chunks())
        return {
            "sessions": len(self._sessions),
            "requests": len(self._ledger.acknowledged),
            "events": sum(1 for _ in self._ledger.acknowledged_events()),
            "chunks": len(chunks),
            "rrweb_events": sum(request.event_count for request in chunks),
        }

    def _connect(self) -> "psycopg.Connection[Json]":
        return psycopg.connect(self._target.database_url, autocommit=True, row_factory=dict_row)

    def _ask(self, connection: "psycopg.Connection[Json]", name: str) -> list[Json]:
        asked = {"sessions": self._sessions, "project": self._target.project_id}
        return connection.execute(self._queries[name], asked).fetchall()

    def _behind(self, connection: "psycopg.Connection[Json]") -> int:
        """Count the records that the sinks have not stored, of the topics that a closing session writes to."""
        quiet = {"enable.auto.commit": False, "log_level": 0}
        consumer = Consumer(self._kafka.librdkafka() | {"group.id": "traceflow-demo"} | quiet)
        try:
            return sum(self._lag(connection, consumer, topic.full_name(self._prefix)) for topic in _TOLD_AFTER_CLOSING)
        finally:
            consumer.close()

    def _lag(self, connection: "psycopg.Connection[Json]", consumer: Consumer, topic: str) -> int:
        rows = connection.execute(self._queries["sink_positions"], {"topic": topic}).fetchall()
        positions = {row["part"]: row["min"] for row in rows}
        marks = [watermarks(consumer, topic, part) for part in consumer.list_topics(topic).topics[topic].partitions]
        return sum(max(0, high - positions.get(part, low)) for part, (low, high) in enumerate(marks))
