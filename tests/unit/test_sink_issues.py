from typing import Any

from schemas.messages import Finding
from sinks.tables.issues import IssueGrowth, IssueKey, growths, issue_key


def finding(**fields: Any) -> Finding:
    values: dict[str, Any] = {"id": "f", "project_id": "p", "session_id": "s", "kind": "rage_click", "timestamp": 100}
    return Finding(**(values | fields))


def test_the_page_is_named_without_its_ids_and_the_element_by_its_selector() -> None:
    found = finding(page_url="https://shop.example/o/17?x=1", element_selector="#pay", evidence={"fingerprint": "f"})
    assert issue_key(found) == IssueKey("p", "rage_click", "https://shop.example/o/:id", "#pay", None)


def test_a_page_or_element_that_is_unknown_is_none() -> None:
    assert issue_key(finding(page_url="", element_selector="")) == IssueKey("p", "rage_click", None, None, None)


def test_errors_are_told_apart_by_their_message_and_error_clicks_are_errors() -> None:
    for kind in ("error", "error_click"):
        assert issue_key(finding(kind=kind, evidence={"fingerprint": "f" * 999})) == IssueKey(
            "p", "error", None, None, "f" * 200
        )


def test_habits_make_no_issue() -> None:
    assert issue_key(finding(kind="quick_back")) is None
    assert issue_key(finding(kind="thrashed_cursor")) is None


def test_what_makes_an_issue_makes_its_id() -> None:
    keys = [
        IssueKey("p", "error", "/a", "#x", "f"),
        IssueKey("q", "error", "/a", "#x", "f"),
        IssueKey("p", "dead_click", "/a", "#x", "f"),
        IssueKey("p", "error", "/b", "#x", "f"),
        IssueKey("p", "error", "/a", "#y", "f"),
        IssueKey("p", "error", "/a", "#x", "g"),
        IssueKey("p", "error", "/a", "#x", None),
    ]
    assert len({key.id for key in keys}) == len(keys)
    assert keys[0].id == IssueKey("p", "error", "/a", "#x", "f").id


def test_findings_of_an_issue_add_up() -> None:
    found = [
        ("i", finding(timestamp=50, severity="low")),
        ("j", finding(timestamp=60)),
        ("i", finding(timestamp=20, severity="critical", component="#cart")),
        ("i", finding(timestamp=70, severity="high", component="#late")),
    ]
    assert growths(found) == {
        "i": IssueGrowth(first_at=20, last_at=70, severity="critical", component="#cart", findings=3),
        "j": IssueGrowth(first_at=60, last_at=60, severity="medium", component=None, findings=1),
    }
