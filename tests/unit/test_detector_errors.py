from dataclasses import replace
from typing import Any

import pytest

from schemas.signals import Click, Element, ScriptError, Signal
from stream_processors.analyze.detectors.clicks import ClickDetectors
from stream_processors.analyze.detectors.detector import FOREVER
from stream_processors.analyze.detectors.error import ErrorConfig, ErrorDetector
from stream_processors.analyze.detectors.error_click import ErrorClickConfig
from stream_processors.analyze.detectors.fingerprint import fingerprint, normalise
from stream_processors.analyze.detectors.verdict import FindingKind, Severity, Verdict

PAY = Element(tag="button", text="Pay")
T, DUE = 10_000, 30_000


def click(t: int = T, *, x: int = 100, node: int = 7, **more: Any) -> Click:
    return replace(Click(t=t, x=x, y=200, window="w", node=node, element=PAY, page_url="https://a/"), **more)


def logged(t: int, message: str = "boom", **more: Any) -> ScriptError:
    return replace(ScriptError(t=t, message=message, stack="at f", page_url="https://a/"), **more)


def error_clicks(*signals: Signal, config: ErrorClickConfig | None = None) -> list[Verdict]:
    detectors = ClickDetectors(error=config or ErrorClickConfig())
    memory, handlers = detectors.memory(), detectors.handlers()
    for signal in signals:
        handlers[type(signal)](memory, signal, DUE)
    return [found for found in detectors.on_time(memory, FOREVER) if found.kind is FindingKind.ERROR_CLICK]


def test_an_error_after_a_click_is_an_error_click() -> None:
    assert error_clicks(click(), logged(T + 120)) == [
        Verdict(
            kind=FindingKind.ERROR_CLICK,
            t=T,
            trigger="10000/100/200",
            severity=Severity.HIGH,
            page_url="https://a/",
            element=PAY,
            position=(100, 200),
            error_message="boom",
            evidence={"error_after_ms": 120, "errors": 1, "fingerprint": fingerprint("boom")},
        )
    ]


@pytest.mark.parametrize(("at", "found"), [(-101, 0), (-100, 1), (0, 1), (2000, 1), (2001, 0)])
def test_how_far_an_error_may_lie_from_its_click(at: int, found: int) -> None:
    assert len(error_clicks(click(), logged(T + at))) == found


def test_an_error_belongs_to_the_last_click_before_it() -> None:
    assert [v.t for v in error_clicks(click(), click(T + 1200, x=500, node=8), logged(T + 1300))] == [T + 1200]


def test_several_errors_of_one_click_are_one_finding() -> None:
    (found,) = error_clicks(click(), logged(T + 10), logged(T + 20, "other"))
    assert (found.error_message, found.evidence["errors"]) == ("boom", 2)


def test_an_error_that_sdk_and_console_tell_is_one() -> None:
    for console in (logged(T + 19, "Uncaught boom"), logged(T + 14, "Uncaught boom")):
        for told in ([logged(T + 17), console], [console, logged(T + 17)]):
            (found,) = error_clicks(click(), *told)
            assert found.evidence["errors"] == 1
            assert found.evidence["error_after_ms"] == min(17, console.t - T)


@pytest.mark.parametrize("order", [1, -1])
def test_a_flood_of_errors_belongs_to_the_click_that_set_it_off(order: int) -> None:
    flood = [logged(T + 5 * n) for n in range(5000)]
    found = error_clicks(click(), click(T + 20_000), *flood[::order])
    assert [(v.t, v.evidence["error_after_ms"]) for v in found] == [(T, 0)]


def test_clicks_on_one_place_within_a_second_are_one_finding() -> None:
    signals = [s for n in range(4) for s in (click(T + 900 * n), logged(T + 900 * n + 50))]
    assert [v.t for v in error_clicks(*signals)] == [T]


def test_an_error_that_also_comes_by_itself_twice_is_no_clicks() -> None:
    poll = [logged(T - 60_000 + 15_000 * n, "poll failed") for n in range(4)]
    assert error_clicks(*poll, click(), logged(T + 500, "poll failed")) == []
    assert len(error_clicks(poll[0], click(), logged(T + 500, "poll failed"))) == 1


def test_what_comes_by_itself_only_afterwards_may_go_on_because_of_the_click() -> None:
    loop = [logged(T + 500 + 5_000 * n, "loop failed") for n in range(9)]
    assert [v.t for v in error_clicks(click(), *loop)] == [T]
    assert [v.t for v in error_clicks(*loop, click())] == [T]


def test_a_key_that_sets_off_an_error_is_an_error_click_without_a_place() -> None:
    (found,) = error_clicks(click(x=0, y=0), logged(T + 1))
    assert found.position is None


def test_a_project_can_silence_error_clicks() -> None:
    assert error_clicks(click(), logged(T + 1), config=ErrorClickConfig(enabled=False)) == []


# --- errors


def errors(*signals: ScriptError, config: ErrorConfig | None = None) -> list[Verdict]:
    detector = ErrorDetector(config or ErrorConfig())
    memory, handlers = detector.memory(), detector.handlers()
    found = [v for signal in signals if ScriptError in handlers for v in handlers[ScriptError](memory, signal, DUE)]
    return [*found, *detector.on_time(memory, FOREVER)]


def test_a_structured_error_feeds_the_issues_at_once_and_adds_no_row() -> None:
    assert errors(logged(T, event_id="e1")) == [
        Verdict(
            kind=FindingKind.ERROR,
            t=T,
            trigger="e1",
            severity=Severity.MEDIUM,
            page_url="https://a/",
            error_message="boom",
            error_stack="at f",
            evidence={"fingerprint": fingerprint("boom"), "source": "event"},
            event_row=False,
        )
    ]


def test_an_error_of_a_recording_adds_a_row_once_it_is_due() -> None:
    detector = ErrorDetector()
    memory = detector.memory()
    assert detector.handlers()[ScriptError](memory, logged(T), DUE) == ()
    assert detector.wake_at(memory) == DUE
    assert detector.on_time(memory, DUE - 1) == []
    assert detector.on_time(memory, DUE) == [
        Verdict(
            kind=FindingKind.ERROR,
            t=T,
            trigger=f"{T}/{fingerprint('boom')}",
            severity=Severity.MEDIUM,
            page_url="https://a/",
            error_message="boom",
            error_stack="at f",
            evidence={"fingerprint": fingerprint("boom"), "source": "recording"},
        )
    ]
    assert detector.wake_at(memory) == 0


@pytest.mark.parametrize("apart", [-2000, 0, 2000])
def test_the_same_error_from_both_counts_once(apart: int) -> None:
    told, recorded = logged(T, event_id="e1"), logged(T + apart, "Uncaught boom")
    assert [v.event_row for v in errors(told, recorded)] == [False]
    assert [v.event_row for v in errors(recorded, told)] == [False]


def test_errors_further_apart_or_of_other_messages_are_two() -> None:
    assert len(errors(logged(T, event_id="e1"), logged(T + 2001))) == 2
    assert len(errors(logged(T, event_id="e1"), logged(T, "bang"))) == 2


def test_a_loop_that_fills_the_console_is_one_finding() -> None:
    loop = [logged(T + 900 * n) for n in range(20)]
    for order in (loop, loop[::-1], loop[::2] + loop[1::2]):
        assert [v.t for v in errors(*order)] == [T]


@pytest.mark.parametrize("judged_at", [T + 900, T + 15_300, T + 18_000])
def test_a_loop_is_its_first_error_however_much_of_it_is_known_by_then(judged_at: int) -> None:
    detector = ErrorDetector()
    memory, handle = detector.memory(), detector.handlers()[ScriptError]
    found: list[Verdict] = []
    for t in range(T, T + 18_000, 900):
        if t == judged_at:
            found += detector.on_time(memory, DUE)
        found += handle(memory, logged(t), DUE)
        found += handle(memory, logged(t + 5, event_id="e"), DUE) if t == T + 9_000 else ()
    found += detector.on_time(memory, DUE)
    assert sorted((v.t, v.event_row) for v in found) == [(T, True), (T + 9_005, False)]


def test_a_loop_that_goes_on_after_it_was_told_is_not_told_again() -> None:
    detector = ErrorDetector()
    memory, handle = detector.memory(), detector.handlers()[ScriptError]
    found = 0
    for n in range(100):
        handle(memory, logged(T + 900 * n), DUE + 900 * n)
        found += len(detector.on_time(memory, DUE + 900 * (n - 5)))
    assert found == 1


def test_a_structured_twin_that_comes_after_the_row_was_made_is_not_told_again() -> None:
    detector = ErrorDetector()
    memory, handle = detector.memory(), detector.handlers()[ScriptError]
    handle(memory, logged(T), DUE)
    assert len(detector.on_time(memory, DUE)) == 1
    assert handle(memory, logged(T + 5, event_id="e1"), 2 * DUE) == ()


def test_a_project_can_silence_errors() -> None:
    assert errors(logged(T), logged(T, event_id="e"), config=ErrorConfig(enabled=False)) == []


def test_many_recorded_errors_are_bounded() -> None:
    assert len(errors(*(logged(T + 2000 * n, f"error {chr(97 + n % 26)}") for n in range(100)))) == 16


@pytest.mark.parametrize(
    ("message", "normal"),
    [
        ("Uncaught TypeError: x is undefined", "TypeError: x is undefined"),
        ("Uncaught (in promise) TypeError: x is undefined", "TypeError: x is undefined"),
        ("Unhandled promise rejection: offline", "offline"),
        ("GET https://api.example/v1/users/42?x=1 failed with 503", "GET <url> failed with <number>"),
        ("no user 8f14e45f-ceea-467f-a0e6-1c1a1f2b3c4d", "no user <number>"),
        ("at address 0x7ffe01 in 12.5 ms", "at address <number> in <number> ms"),
        ("cannot read 'total' of  undefined\n", "cannot read 'total' of undefined"),
        ("facade effaced", "facade effaced"),
        ("", ""),
    ],
)
def test_what_varies_is_taken_out_of_a_message(message: str, normal: str) -> None:
    assert normalise(message) == normal


def test_a_message_of_megabytes_is_cut_before_it_is_looked_at() -> None:
    assert normalise("x" * 5_000_000) == "x" * 500
    assert fingerprint("a1-" * 1_000_000) == fingerprint("b2-" * 1_000_000)
