import pytest

from schemas.signals import PageView
from stream_processors.analyze.detectors.detector import FOREVER
from stream_processors.analyze.detectors.quick_back import QuickBackConfig, QuickBackDetector
from stream_processors.analyze.detectors.verdict import FindingKind, Severity, Verdict

DUE = 30_000


def backs(*views: tuple[int, str] | tuple[int, str, str], config: QuickBackConfig | None = None) -> list[Verdict]:
    detector = QuickBackDetector(config or QuickBackConfig())
    memory, handlers = detector.memory(), detector.handlers()
    for t, url, *window in views:
        if PageView in handlers:
            handlers[PageView](memory, PageView(t=t, url=url, window="".join(window)), DUE)
    return list(detector.on_time(memory, FOREVER))


def test_going_back_at_once_is_a_finding_on_the_page_that_was_left() -> None:
    assert backs((1000, "/a"), (9000, "/b"), (10_500, "/a")) == [
        Verdict(
            kind=FindingKind.QUICK_BACK,
            t=10_500,
            trigger="10500",
            severity=Severity.LOW,
            page_url="/b",
            evidence={"stay_ms": 1500, "back_to": "/a"},
        )
    ]


@pytest.mark.parametrize(("stay", "found"), [(2000, 1), (2001, 0)])
def test_how_long_a_stay_may_be(stay: int, found: int) -> None:
    assert len(backs((1000, "/a"), (9000, "/b"), (9000 + stay, "/a"))) == found


def test_going_on_is_not_going_back() -> None:
    assert backs((1000, "/a"), (9000, "/b"), (9500, "/c")) == []


def test_a_reload_is_one_view() -> None:
    assert len(backs((1000, "/a"), (8000, "/b"), (8500, "/b"), (9500, "/a"))) == 1


def test_views_of_two_windows_are_no_way_back() -> None:
    assert backs((1000, "/a", "w"), (9000, "/b", "v"), (9500, "/a", "w")) == []


def test_a_return_told_by_sdk_and_recording_is_one() -> None:
    told = [(1010, "/a"), (9010, "/b"), (10_040, "/a")]
    recorded = [(1000, "/a", "w"), (9000, "/b", "w"), (10_000, "/a", "w")]
    assert [v.t for v in backs(*told, *recorded)] == [10_000]


def test_the_order_of_arrival_does_not_matter() -> None:
    assert len(backs((10_500, "/a"), (1000, "/a"), (9000, "/b"))) == 1


def test_a_page_entered_long_before_is_not_forgotten_while_its_return_waits() -> None:
    assert [v.t for v in backs((1000, "/a"), (41_000, "/b"), (42_000, "/a"), (43_000, "/c"))] == [42_000]
    assert [v.t for v in backs((1000, "/a"), (2000, "/b"), (3000, "/a"), *((40_000 * n, "/c") for n in (1, 2)))] == [
        3000
    ]


def test_of_a_long_visit_two_pages_of_each_window_are_kept_beside_the_recent_ones() -> None:
    detector = QuickBackDetector()
    memory, handle = detector.memory(), detector.handlers()[PageView]
    for n in range(9):
        for window in ("v", "w"):
            handle(memory, PageView(t=40_000 * n, url=f"/{n - n % 2}", window=window), DUE)
    assert [view[:3] for view in memory.views] == [
        [40_000 * n, window, f"/{n}"] for n in (4, 6, 8) for window in ("v", "w")
    ]


def test_it_wakes_only_for_a_return() -> None:
    detector = QuickBackDetector()
    memory, handle = detector.memory(), detector.handlers()[PageView]
    for t, url in ((1000, "/a"), (9000, "/b")):
        handle(memory, PageView(t=t, url=url), DUE)
    assert detector.wake_at(memory) == 0
    handle(memory, PageView(t=9500, url="/a"), DUE)
    assert detector.wake_at(memory) == DUE
    assert detector.on_time(memory, DUE - 1) == []
    assert len(detector.on_time(memory, DUE)) == 1
    assert detector.wake_at(memory) == 0
    assert detector.on_time(memory, FOREVER) == []


def test_a_project_can_set_its_own_stay_or_silence_it() -> None:
    views = ((1000, "/a"), (9000, "/b"), (10_500, "/a"))
    assert backs(*views, config=QuickBackConfig(max_stay_ms=1000)) == []
    assert backs(*views, config=QuickBackConfig(enabled=False)) == []
