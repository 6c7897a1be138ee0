"""Write UX issues and the findings that show them.

A finding is linked to its issue once, by its id. Everything an issue counts (occurrences, affected sessions and users)
grows by the links that this transaction really made, so a finding that comes again changes nothing.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from adapters.postgres import Cursor, read_queries
from schemas.messages import Finding
from sinks.tables.issues import IssueGrowth, IssueKey, growths


@dataclass(slots=True)
class IssueTables:
    """The tables of UX issues as the findings sink writes them."""

    _queries: dict[str, bytes] = field(default_factory=lambda: read_queries("sinks.tables", "issue_tables.sql"))

    def store(self, cursor: Cursor, findings: Sequence[tuple[IssueKey, Finding]]) -> None:
        """Link the findings to their issues and let these grow by those that are new."""
        if not findings:
            return
        ids = self._issue_ids(cursor, findings)
        found = [(ids[key], finding) for key, finding in findings]
        new_ids = self._link(cursor, found)
        # a finding that comes twice in the batch is new once
        new = {finding.id: (issue, finding) for issue, finding in found if finding.id in new_ids}
        grown = growths(new.values())
        links = _links(list(new.values()))
        for query, counter in (("link_sessions", "sessions"), ("link_visitors", "visitors")):
            cursor.execute(self._queries[query], links)
            for issue, count in cursor:
                setattr(grown[issue], counter, count)
        self._grow(cursor, grown)

    def _issue_ids(self, cursor: Cursor, findings: Sequence[tuple[IssueKey, Finding]]) -> dict[IssueKey, str]:
        first: dict[IssueKey, Finding] = {}
        for key, finding in findings:
            first.setdefault(key, finding)
        cursor.execute(
            self._queries["issues"],
            {
                "ids": [key.id for key in first],
                "project_ids": [key.project_id for key in first],
                "issue_types": [key.issue_type for key in first],
                "page_urls": [key.page_url for key in first],
                "selectors": [key.element_selector for key in first],
                "fingerprints": [key.fingerprint for key in first],
                "session_ids": [finding.session_id for finding in first.values()],
                "severities": [finding.severity for finding in first.values()],
                "components": [finding.component for finding in first.values()],
                "detected_at": [finding.timestamp for finding in first.values()],
            },
        )
        return {IssueKey(*key): issue for issue, *key in cursor}

    def _link(self, cursor: Cursor, found: Sequence[tuple[str, Finding]]) -> set[str]:
        cursor.execute(self._queries["link_findings"], _links(found))
        return {row[0] for row in cursor}

    def _grow(self, cursor: Cursor, grown: Mapping[str, IssueGrowth]) -> None:
        if not grown:
            return
        cursor.execute(
            self._queries["grow"],
            {
                "ids": list(grown),
                "findings": [growth.findings for growth in grown.values()],
                "sessions": [growth.sessions for growth in grown.values()],
                "visitors": [growth.visitors for growth in grown.values()],
                "first_at": [growth.first_at for growth in grown.values()],
                "last_at": [growth.last_at for growth in grown.values()],
                "severities": [growth.severity for growth in grown.values()],
                "components": [growth.component for growth in grown.values()],
            },
        )


def _links(found: Sequence[tuple[str, Finding]]) -> dict[str, object]:
    return {
        "finding_ids": [finding.id for _, finding in found],
        "issue_ids": [issue for issue, _ in found],
        "project_ids": [finding.project_id for _, finding in found],
        "session_ids": [finding.session_id for _, finding in found],
        "visitor_ids": [finding.visitor_id for _, finding in found],
        "detected_at": [finding.timestamp for _, finding in found],
    }
