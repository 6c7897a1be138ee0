"""Compare expected rows with the tables; see the package."""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import orjson

from adapters.kafka_consumer import ConsumedRecord
from adapters.postgres import Connection, Cursor, read_queries
from schemas.messages import AiJob, SessionSnapshot
from sinks.tables.copy_rows import copy_pieces
from sinks.tables.event_rows import stage_line
from sinks.topics.recordings import Chunk
from sinks.topics.sessions import snapshot_line

MISSING, BEHIND, CHANGED = "missing", "behind", "changed"


@dataclass(frozen=True, slots=True)
class Difference:
    """A row that is not as the log says."""

    table: str
    found: str
    """missing | behind (a session's row, older than its snapshot) | changed"""
    project_id: str
    session_id: str
    name: str
    """What names the row within its session: an id; empty for the session's own row."""

    @property
    def is_lost(self) -> bool:
        """Tell whether something is not there; else it is there and otherwise, and nobody knows which is right."""
        return self.found in (MISSING, BEHIND)


@dataclass(frozen=True, slots=True)
class ExpectedEvent:
    """A row of `traceflow_events` as a COPY line."""

    id: str
    project_id: str
    session_id: str
    line: bytes
    restamped: bool
    record: ConsumedRecord
    """The record that makes the row."""
    index: int = -1
    """The event's place within it; -1 for a record of one row."""


@dataclass(frozen=True, slots=True)
class Tables:
    """The tables of a database, compared on a connection of its own; nothing is changed."""

    connection: Connection
    _queries: dict[str, bytes] = field(default_factory=lambda: read_queries("deploy.replay", "compare.sql"))
    _event_queries: dict[str, bytes] = field(default_factory=lambda: read_queries("sinks.tables", "event_rows.sql"))
    _session_queries: dict[str, bytes] = field(default_factory=lambda: read_queries("sinks.topics", "sessions.sql"))

    def open(self) -> None:
        """Make the staging tables, which go with the connection."""
        self.connection.execute(self._event_queries["create_stage"])
        self.connection.execute(self._session_queries["create_stage"])

    def lives(self, session_ids: Sequence[str]) -> dict[str, tuple[int, str]]:
        """Return the life and the project of each session that has a row."""
        rows = self.connection.execute(self._queries["lives"], {"session_ids": session_ids})
        return {session_id: (life, project_id) for session_id, life, project_id in rows}

    def events(self, expected: Sequence[ExpectedEvent]) -> list[Difference]:
        """Compare events and findings."""
        if not expected:
            return []
        lines = (
            stage_line(place, each.line, near=True, restamped=each.restamped) for place, each in enumerate(expected)
        )
        with self.connection.transaction(force_rollback=True), self.connection.cursor() as cursor:
            copy_pieces(cursor, self._event_queries["copy_staged"], lines, rows=len(expected))
            found = cursor.execute(self._queries["events"]).fetchall()
        return [
            Difference("traceflow_events", _said(missing), each.project_id, each.session_id, each.id)
            for each, missing in ((expected[place], missing) for place, missing in found)
        ]

    def sessions(self, expected: Sequence[SessionSnapshot]) -> list[Difference]:
        """Compare the rows of sessions with their latest snapshots."""
        lines = [snapshot_line(each, each.project_id).encode() for each in expected]
        with self.connection.transaction(force_rollback=True), self.connection.cursor() as cursor:
            copy_pieces(cursor, self._session_queries["copy_staged"], lines, rows=len(lines))
            found = cursor.execute(self._queries["sessions"]).fetchall()
        return [
            Difference("traceflow_sessions", state, project_id, session_id, "")
            for session_id, project_id, state in found
        ]

    def counters(self, session_ids: Sequence[str]) -> list[Difference]:
        """Compare the counters of sessions with their rows."""
        rows = self._ask("counters", {"session_ids": session_ids})
        return [
            Difference("traceflow_sessions", CHANGED, str(project_id), str(session_id), "counters")
            for session_id, project_id in rows
        ]

    def issue_links(self, owners: Mapping[str, tuple[str, str]]) -> list[Difference]:
        """Look for findings, given with project and session, that count for no issue."""
        rows = self._ask("issue_links", {"finding_ids": list(owners)})
        return [Difference("traceflow_ux_issue_findings", MISSING, *owners[str(row[0])], str(row[0])) for row in rows]

    def issue_counters(self, finding_ids: Sequence[str]) -> list[Difference]:
        """Compare the counters of these findings' issues with their links."""
        rows = self._ask("issue_counters", {"finding_ids": finding_ids})
        return [
            Difference("traceflow_ux_issues", CHANGED, str(project_id), str(session_id), f"{issue} counters")
            for issue, project_id, session_id in rows
        ]

    def jobs(self, expected: Sequence[AiJob]) -> list[Difference]:
        """Compare AI jobs."""
        by_id = {job.id: job for job in expected}
        rows = self._ask(
            "jobs",
            {
                "ids": [job.id for job in expected],
                "session_ids": [job.session_id for job in expected],
                "project_ids": [job.project_id for job in expected],
                "task_types": [job.task_type for job in expected],
                "priorities": [job.priority for job in expected],
                "inputs": [orjson.dumps(job.input_data).decode() for job in expected],
            },
        )
        return [
            Difference("traceflow_ai_queue", _said(missing), job.project_id, job.session_id, job.id)
            for job, missing in ((by_id[str(name)], missing) for name, missing in rows)
        ]

    def chunks(self, expected: Sequence[Chunk]) -> list[Difference]:
        """Compare recording chunks."""
        projects = {chunk.session_id: chunk.project_id for chunk in expected}
        rows = self._ask(
            "chunks",
            {
                "session_ids": [chunk.session_id for chunk in expected],
                "window_ids": [chunk.window_id for chunk in expected],
                "seqs": [chunk.seq for chunk in expected],
                "project_ids": [chunk.project_id for chunk in expected],
                "codecs": [chunk.body.codec for chunk in expected],
                "event_counts": [chunk.body.event_count for chunk in expected],
                "sizes": [chunk.body.plain_bytes for chunk in expected],
                "hashes": [_hash(chunk) for chunk in expected],
            },
        )
        return [
            Difference(
                "session_recording_chunks",
                _said(missing),
                projects[str(session_id)],
                str(session_id),
                f"{window}/{seq}",
            )
            for session_id, window, seq, missing in rows
        ]

    def recordings(self, owners: Sequence[tuple[str, str]]) -> list[Difference]:
        """Compare the rows of recordings, given with project and session, with their chunks."""
        rows = self._ask(
            "recordings",
            {
                "project_ids": [project_id for project_id, _ in owners],
                "session_ids": [session_id for _, session_id in owners],
            },
        )
        return [
            Difference(
                "session_recordings", _said(missing), str(project_id), str(session_id), "" if missing else "counters"
            )
            for session_id, project_id, missing in rows
        ]

    def hours(self, project_id: str | None) -> list[Difference]:
        """Compare the events of each hour, of one project or all, with the rows; only days that are kept can tell."""
        return [
            Difference("traceflow_event_hours", CHANGED, str(project or ""), "", str(name))
            for project, name in self._ask("hours", {"project_id": project_id})
        ]

    def _ask(self, query: str, parameters: Mapping[str, object]) -> Iterable[tuple[object, ...]]:
        cursor: Cursor = self.connection.execute(self._queries[query], parameters)
        return cursor.fetchall()


def _said(missing: object) -> str:
    return MISSING if missing else CHANGED


def _hash(chunk: Chunk) -> str:
    stored = chunk.body.payload if chunk.body.payload is not None else (chunk.body.events or "").encode()
    return hashlib.md5(stored, usedforsecurity=False).hexdigest()
