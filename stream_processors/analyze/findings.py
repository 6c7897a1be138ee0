"""From a verdict to a finding: its id, its owner, and where a developer should look."""

from schemas.ids import finding_id
from schemas.messages import Finding
from schemas.signals import Element
from stream_processors.analyze.detectors.verdict import Verdict

_NO_ELEMENT = Element()
_LANDMARKS = frozenset(("main", "nav", "header", "footer", "aside", "form", "section", "article", "dialog"))


def to_finding(verdict: Verdict, *, project_id: str, session_id: str, visitor_id: str | None) -> Finding:
    """Return the finding of a verdict; empty texts become None, as the columns have it."""
    element = verdict.element or _NO_ELEMENT
    x, y = verdict.position or (None, None)
    return Finding(
        id=finding_id(project_id=project_id, session_id=session_id, kind=verdict.kind.value, trigger=verdict.trigger),
        project_id=project_id,
        session_id=session_id,
        kind=verdict.kind.value,
        timestamp=verdict.t,
        event_row=verdict.event_row,
        severity=verdict.severity.value,
        visitor_id=visitor_id,
        page_url=verdict.page_url or None,
        element_tag=element.tag or None,
        element_id=element.id or None,
        element_class=element.classes or None,
        element_text=element.text or None,
        element_selector=element.selector or None,
        component=element.component or component_of(element.selector) or None,
        x_position=x,
        y_position=y,
        error_message=verdict.error_message or None,
        error_stack=verdict.error_stack or None,
        evidence=verdict.evidence,
    )


def label_of(verdict: Verdict, limit: int) -> str:
    """Return a short text that says what a finding is about."""
    element = verdict.element or _NO_ELEMENT
    text = verdict.error_message or element.text.strip() or element.selector or element.tag
    return str(text or verdict.evidence.get("vital", ""))[:limit]


def component_of(selector: str) -> str:
    """Return the nearest named ancestor in a selector: an id, a data-component, or a landmark; empty if none.

    It stands in for the component that a digest reads from the DOM.
    """
    for part in reversed(selector.replace(">", " ").split()[:-1]):
        tag = part.split("#")[0].split(".")[0].split("[")[0].split(":")[0]
        if "#" in part or "[data-component" in part or tag in _LANDMARKS:
            return part
    return ""
