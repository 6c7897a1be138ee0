from itertools import permutations

import pytest

from schemas.signals import Element, FormSubmit, FormTouch, Leave, PageView, Signal
from stream_processors.analyze.detectors.detector import FOREVER
from stream_processors.analyze.detectors.form_abandonment import (
    FormAbandonmentConfig,
    FormAbandonmentDetector,
    FormMemory,
)
from stream_processors.analyze.detectors.verdict import FindingKind, Severity, Verdict

PAGE = "https://a/join?step=1"
DUE = 30_000


def touch(t: int, field: str = "email", form: str = "#join", window: str = "w") -> FormTouch:
    return FormTouch(t=t, form=form, field=field, page_url=PAGE, window=window)


def submit(t: int, form: str = "#join", window: str = "w") -> FormSubmit:
    return FormSubmit(t=t, form=form, page_url=PAGE, window=window)


def view(t: int, url: str = "https://a/home", window: str = "w") -> PageView:
    return PageView(t=t, url=url, window=window)


def leave(t: int, window: str = "w", *, hidden: bool = False) -> Leave:
    return Leave(t=t, url=PAGE, window=window, hidden=hidden)


def abandoned(
    *signals: Signal, config: FormAbandonmentConfig | None = None, ends: bool = False, moment: int = DUE
) -> list[Verdict]:
    detector = FormAbandonmentDetector(config or FormAbandonmentConfig())
    memory, handlers = detector.memory(), detector.handlers()
    for signal in signals:
        if type(signal) in handlers:
            handlers[type(signal)](memory, signal, DUE)
    return list(detector.on_end(memory) if ends else detector.on_time(memory, moment))


def test_a_form_that_was_touched_and_left_is_abandoned_at_its_last_touch() -> None:
    assert abandoned(view(500, PAGE), touch(1000), touch(3000, "name"), leave(5000)) == [
        Verdict(
            kind=FindingKind.FORM_ABANDONMENT,
            t=3000,
            trigger=f"join/{PAGE}/1000",
            severity=Severity.MEDIUM,
            page_url=PAGE,
            element=Element(tag="form", selector="#join"),
            evidence={"fields": 2, "field_names": ["email", "name"], "spent_ms": 2000},
        )
    ]


def test_a_view_of_another_page_leaves_the_form() -> None:
    assert len(abandoned(touch(1000), view(5000))) == 1


def test_another_step_of_the_same_page_does_not_leave_it() -> None:
    assert abandoned(touch(1000), view(5000, "https://a/join?step=2#top")) == []


def test_hiding_the_page_does_not_leave_it() -> None:
    assert abandoned(touch(1000), leave(5000, hidden=True)) == []


def test_the_end_of_the_session_leaves_it() -> None:
    assert abandoned(touch(1000)) == []
    assert len(abandoned(touch(1000), ends=True)) == 1


def test_a_form_that_was_submitted_is_not_abandoned() -> None:
    assert abandoned(touch(1000), submit(2000), view(2100), ends=True) == []


def test_a_submit_before_the_first_touch_was_of_an_earlier_view() -> None:
    assert len(abandoned(submit(999), touch(1000), leave(5000))) == 1


def test_a_submit_may_be_told_shortly_after_the_leave_that_it_causes() -> None:
    assert abandoned(touch(1000), leave(5000), submit(6000)) == []
    assert len(abandoned(touch(1000), leave(5000), submit(6001))) == 1


def test_a_submit_of_another_form_does_not_count() -> None:
    assert len(abandoned(touch(1000), submit(2000, "#search"), leave(5000))) == 1


def test_a_submit_that_names_no_form_counts_for_all_of_its_page() -> None:
    assert abandoned(touch(1000), submit(2000, ""), leave(5000)) == []


def test_two_forms_of_a_page_are_judged_apart() -> None:
    found = abandoned(touch(1000), touch(1500, "q", "#ask"), submit(2000, "#ask"), leave(5000))
    assert [v.trigger for v in found] == [f"join/{PAGE}/1000"]


def test_a_leave_in_another_window_leaves_nothing_here() -> None:
    assert abandoned(touch(1000), leave(5000, "other")) == []


def test_a_leave_of_an_unknown_window_may_be_of_this_one() -> None:
    assert len(abandoned(touch(1000), leave(5000, ""))) == 1


def test_a_form_told_by_sdk_and_recording_is_one() -> None:
    told, recorded = touch(900, "mail", form="join", window=""), touch(1000)
    orders: list[list[Signal]] = [[told, recorded, leave(5000)], [recorded, told, leave(5000)]]
    for signals in orders:
        (found,) = abandoned(*signals)
        assert (found.trigger, found.element) == (f"join/{PAGE}/900", Element(tag="form", selector="#join"))
        assert found.evidence["field_names"] == ["email", "mail"]
    assert len(abandoned(told, recorded, ends=True)) == 1
    assert abandoned(told, recorded, submit(2000, "join", window=""), ends=True) == []


def test_one_form_in_two_windows_is_two() -> None:
    assert len(abandoned(touch(1000, window="v"), touch(1000, window="w"), ends=True)) == 2


def test_each_view_of_a_page_counts_once() -> None:
    signals: list[Signal] = [touch(1000), leave(2000), touch(3000), leave(4000)]
    assert [v.t for v in abandoned(*signals, ends=True)] == [1000, 3000]


def test_the_order_of_arrival_does_not_matter() -> None:
    signals: list[Signal] = [
        touch(1000),
        touch(2000, "name"),
        leave(3000),
        touch(4000),
        touch(5000, "name"),
        leave(6000),
        touch(7000),
    ]
    for order in permutations(signals):
        found = abandoned(*order, ends=True)
        assert [(v.t, v.evidence["spent_ms"]) for v in found] == [(2000, 1000), (5000, 1000), (7000, 0)]


def test_keys_that_are_typed_within_a_second_are_one_touch() -> None:
    detector = FormAbandonmentDetector()
    memory, handle = detector.memory(), detector.handlers()[FormTouch]
    for t in range(1000, 100_000, 50):
        for field in ("email", "name"):
            handle(memory, touch(t, field), DUE)
    ((*_, touches),) = memory.forms
    assert len(touches) <= 2 * 31 + 3
    assert touches[:2] == [[1000, "email"], [1000, "name"]]
    (found,) = detector.on_end(memory)
    assert (found.t, found.evidence["spent_ms"]) == (99_000, 98_000)


def test_pages_that_follow_each_other_soon_all_leave_their_forms() -> None:
    signals = [s for n in range(6) for s in (touch(1000 + 1500 * n), leave(1800 + 1500 * n), view(1900 + 1500 * n))]
    assert len(abandoned(*signals)) == 6
    assert len(abandoned(*reversed(signals))) == 6


def test_a_state_that_kept_the_first_and_the_last_touch_is_read() -> None:
    detector = FormAbandonmentDetector()
    memory = FormMemory(forms=[["w", "#join", PAGE, 7, 1000, 3000, ["email", "name"]]])
    (found,) = detector.on_end(memory)
    assert (found.t, found.evidence) == (3000, {"fields": 2, "field_names": ["email", "name"], "spent_ms": 2000})


def test_a_touch_that_comes_after_its_form_was_judged_is_too_late() -> None:
    detector = FormAbandonmentDetector()
    memory, handlers = detector.memory(), detector.handlers()
    handlers[FormTouch](memory, touch(1000), DUE)
    handlers[Leave](memory, leave(5000), DUE)
    assert len(detector.on_time(memory, DUE)) == 1
    handlers[FormTouch](memory, touch(4000, "name"), 2 * DUE)
    handlers[Leave](memory, leave(9000), 2 * DUE)
    assert detector.on_end(memory) == []


def test_it_wakes_only_for_a_leave_that_leaves_a_touched_form() -> None:
    detector = FormAbandonmentDetector()
    memory, handlers = detector.memory(), detector.handlers()
    handlers[Leave](memory, leave(5000), DUE)
    assert detector.wake_at(memory) == 0
    handlers[FormTouch](memory, touch(1000), DUE)
    assert detector.wake_at(memory) == DUE
    detector.on_time(memory, DUE)
    assert detector.wake_at(memory) == 0


@pytest.mark.parametrize("config", [FormAbandonmentConfig(enabled=False), FormAbandonmentConfig(min_fields=2)])
def test_a_project_can_silence_it(config: FormAbandonmentConfig) -> None:
    assert abandoned(touch(1000), leave(5000), config=config) == []


def test_forms_are_bounded() -> None:
    assert len(abandoned(*(touch(1000 + n, form=f"#f{n}") for n in range(100)), ends=True)) == 16


def test_fields_are_bounded() -> None:
    (found,) = abandoned(*(touch(1000 + n, f"f{n}") for n in range(100)), ends=True)
    assert found.evidence["fields"] == 30


def test_an_address_that_is_none_is_its_own_page() -> None:
    assert len(abandoned(touch(1000), view(5000, "http://[broken"), moment=FOREVER)) == 1
