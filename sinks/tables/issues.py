"""Gather findings into UX issues: one issue per project, type, page and element, and per message for errors."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from schemas.ids import issue_id
from schemas.messages import Finding
from sinks.tables.page_names import page_name

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
