"""Gather findings into UX issues: one issue per project, type, page and element, and per message for errors.

A finding is linked to its issue once, by its id. Everything an issue counts (occurrences, affected sessions and users)
grows by the links that this transaction really made, so a finding that comes again changes nothing.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from adapters.postgres import Cursor, read_queries
from schemas.ids import issue_id
from schemas.messages import Finding
from sinks.page_names import page_name

ISSUE_TYPES: Mapping[str, str] = {
    "error": "error",
    "error_click": "error",
    "rage_click": "rage_click",
    "dead_click": "dead_click",
    "slow_load": "slow_load",
    "form_abandonment": "form_abandonment",
}
"""The issue type of a finding's kind; a kind that is missing here is a habit of the user, not a fault of the page."""

SEVERITIES = ("low", "medium", "high", "critical")

MAX_FINGERPRINT = 200
"""Characters: part of an index entry."""


@dataclass(frozen=True, slots=True)
class IssueKey:
    """What makes two findings one issue."""

    project_id: str
    issue_type: str
    page_url: str | None
    element_selector: str | None
    fingerprint: str | None
    """Of an error's message: two errors of one page are two issues."""

    @property
    def id(self) -> str:
        """Return the issue's id."""
        element = "\x1e".join(part for part in (self.element_selector, self.fingerprint) if part)
        return issue_id(
            project_id=self.project_id, issue_type=self.issue_type, page=self.page_url or "", element=element
        )


@dataclass(slots=True)
class IssueGrowth:
    """What new findings add to an issue."""

    first_at: int
    last_at: int
    severity: str
    component: str | None
    findings: int = 0
    sessions: int = 0
    visitors: int = 0

    def add(self, finding: Finding) -> None:
        """Add a finding."""
        self.findings += 1
        self.first_at = min(self.first_at, finding.timestamp)
        self.last_at = max(self.last_at, finding.timestamp)
        self.severity = max(self.severity, finding.severity, key=SEVERITIES.index)
        self.component = self.component or finding.component


def issue_key(finding: Finding) -> IssueKey | None:
    """Return the issue that a finding belongs to; None if it makes none."""
    issue_type = ISSUE_TYPES.get(finding.kind)
    if issue_type is None:
        return None
    fingerprint = str(finding.evidence.get("fingerprint") or "")[:MAX_FINGERPRINT] if issue_type == "error" else ""
    return IssueKey(
        project_id=finding.project_id,
        issue_type=issue_type,
        page_url=page_name(finding.page_url) or None,
        element_selector=finding.element_selector or None,
        fingerprint=fingerprint or None,
    )


def growths(findings: Iterable[tuple[str, Finding]]) -> dict[str, IssueGrowth]:
    """Sum new findings up by the id of their issue."""
    grown: dict[str, IssueGrowth] = {}
    for issue, finding in findings:
        growth = grown.get(issue)
        if growth is None:
            growth = grown[issue] = IssueGrowth(
                finding.timestamp, finding.timestamp, finding.severity, finding.component
            )
        growth.add(finding)
    return grown


@dataclass(slots=True)
class IssueTables:
    """The tables of UX issues as the findings sink writes them."""

    _queries: dict[str, bytes] = field(default_factory=lambda: read_queries("sinks", "issues.sql"))

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
