"""Old and new processes run side by side: what an older one wrote still decodes, what a newer one adds is passed over.

Each case is a record as it was written at some time. Cases are added, never changed.
"""

from schemas import signals
from schemas.messages import AiJob, Finding, SessionSnapshot, decode_message, decode_object

FINDING_2026_11 = (
    b'{"id":"7b0e5a30-5f6c-5d8a-8a56-0d6f2a2f9a10","project_id":"p","session_id":"s","kind":"dead_click",'
    b'"timestamp":1765361000000,"evidence":{"waited_ms":2500},"v":1}'
)
SNAPSHOT_2026_11 = (
    b'{"id":"7b0e5a30-5f6c-5d8a-8a56-0d6f2a2f9a11","project_id":"p","session_id":"s","version":17,"life":3,'
    b'"started_at":1,"ended_at":2,"duration_ms":1,"v":1}'
)
JOB_2026_11 = (
    b'{"id":"i","project_id":"p","session_id":"s","task_type":"root_cause","priority":2,"input_data":{},"v":1}'
)
CLICK_2026_11 = {"k": "click", "t": 5, "x": 1, "y": 2, "node": 9, "element": {"tag": "button"}, "not_judged": "link"}


def test_an_old_finding_decodes() -> None:
    finding = decode_message(Finding, FINDING_2026_11)
    assert (finding.kind, finding.event_row, finding.evidence) == ("dead_click", True, {"waited_ms": 2500})


def test_an_old_snapshot_decodes() -> None:
    assert decode_message(SessionSnapshot, SNAPSHOT_2026_11).recording is None


def test_an_old_job_decodes() -> None:
    assert decode_message(AiJob, JOB_2026_11).priority == 2


def test_an_old_click_decodes() -> None:
    assert signals.decode(CLICK_2026_11) == signals.Click(
        t=5, x=1, y=2, node=9, element=signals.Element(tag="button"), not_judged=signals.NotJudged.LINK
    )


def test_a_field_that_a_newer_writer_adds_is_passed_over() -> None:
    newer = FINDING_2026_11.replace(b'"v":1', b'"confidence":0.9,"v":1')
    assert decode_message(Finding, newer) == decode_message(Finding, FINDING_2026_11)
    assert decode_object(newer)["confidence"] == 0.9


def test_a_signal_field_that_a_newer_writer_adds_is_passed_over() -> None:
    newer = {**CLICK_2026_11, "pressure": 0.5, "element": {"tag": "button", "role": "switch"}}
    assert signals.decode(newer) == signals.decode(CLICK_2026_11)


def test_a_signal_that_this_version_does_not_know_is_none() -> None:
    assert signals.decode({"k": "gaze", "t": 1}) is None


def test_a_kind_of_change_that_this_version_does_not_know_is_none() -> None:
    assert signals.decode({"k": "change", "t": 1, "what": "window", "window": "w"}) is None
