"""Sink `ai_jobs`: a job goes into `traceflow_ai_queue` once, by its deterministic id.

The session is claimed as by every sink: a job would show the AI worker, and so its project, another project's session.
"""

from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field, replace

import orjson

from adapters.kafka_consumer import ConsumedRecord
from adapters.postgres import Connection, Cursor, read_queries
from schemas import topics
from schemas.messages import AiJob
from schemas.reasons import Reason
from sinks.contract.days import ClosedDays
from sinks.contract.sink import Parking, Prepared, Stored
from sinks.contract.verdicts import RecordRefused
from sinks.tables.record_owner import message_of, owner_of, uuid_of
from sinks.tables.session_rows import SessionDelta, SessionRows


@dataclass(slots=True)
class AiJobsSink:
    """See `sinks.contract.sink.Sink`."""

    name: str = "ai_jobs"
    topic: topics.Topic = topics.AI_JOBS
    partitioned_table: str | None = None
    _sessions: SessionRows = field(default_factory=SessionRows)
    _queries: dict[str, bytes] = field(default_factory=lambda: read_queries("sinks.topics", "ai_jobs.sql"))

    def prepare(self, record: ConsumedRecord) -> Prepared[AiJob] | None:
        """Decode a job."""
        job = message_of(AiJob, record)
        project_id, session_id = owner_of(record, project_id=job.project_id, session_id=job.session_id)
        if not (isinstance(job.task_type, str) and job.task_type and job.priority in range(1, 11)):
            raise RecordRefused(Reason.RECORD_MALFORMED, "task_type or priority is not as declared")
        job = replace(job, id=uuid_of(job.id, name="id"), project_id=project_id, session_id=session_id)
        return Prepared(record, job, rows=1, size_bytes=len(record.value or b""))

    def days(self, content: AiJob) -> AbstractSet[int]:  # noqa: ARG002 — the queue has no days
        """Return nothing: the queue is not partitioned by day."""
        return frozenset()

    def open(self, connection: Connection) -> None:
        """Need nothing."""

    def store(
        self,
        cursor: Cursor,
        items: Sequence[Prepared[AiJob]],
        *,
        careful: bool,  # noqa: ARG002 — both ways are the same
        closed_days: ClosedDays,  # noqa: ARG002
    ) -> Stored:
        """Enqueue the jobs that are new."""
        wanted = [(item, item.content) for item in items if item.content is not None]
        deltas = {
            (job.project_id, job.session_id): SessionDelta(
                job.session_id, job.project_id, None, started_at=item.record.timestamp
            )
            for item, job in wanted
        }
        stored = Stored()
        lost = deltas.keys() - self._sessions.claim(cursor, deltas.values(), stored.new)
        refusals = self._sessions.refusals(cursor, lost) if lost else {}
        stored.parkings += [
            Parking(item, refusals[owner]) for item, job in wanted if (owner := _owner(job)) in refusals
        ]
        jobs = [job for _, job in wanted if _owner(job) not in refusals]
        stored.inserted = self._enqueue(cursor, jobs)
        stored.duplicates = len(jobs) - stored.inserted
        return stored

    def _enqueue(self, cursor: Cursor, jobs: Sequence[AiJob]) -> int:
        cursor.execute(
            self._queries["enqueue"],
            {
                "ids": [job.id for job in jobs],
                "session_ids": [job.session_id for job in jobs],
                "project_ids": [job.project_id for job in jobs],
                "task_types": [job.task_type for job in jobs],
                "priorities": [job.priority for job in jobs],
                "inputs": [orjson.dumps(job.input_data).decode() for job in jobs],
            },
        )
        row = cursor.fetchone()
        return int(row[0]) if row else 0


def _owner(job: AiJob) -> tuple[str, str]:
    return job.project_id, job.session_id
