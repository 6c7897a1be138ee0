import pytest

from schemas.signals import PageView, Signal, WebVital
from stream_processors.analyze.detectors.detector import FOREVER
from stream_processors.analyze.detectors.slow_load import SlowLoadConfig, SlowLoadDetector
from stream_processors.analyze.detectors.verdict import FindingKind, Severity, Verdict

DUE = 30_000


def slow(*signals: Signal, config: SlowLoadConfig | None = None) -> list[Verdict]:
    detector = SlowLoadDetector(config or SlowLoadConfig())
    memory, handlers = detector.memory(), detector.handlers()
    for signal in signals:
        if type(signal) in handlers:
            handlers[type(signal)](memory, signal, DUE)
    return list(detector.on_time(memory, FOREVER))


def vital(t: int, name: str = "LCP", value: float = 5000.0) -> WebVital:
    return WebVital(t=t, name=name, value=value, page_url="https://a/", event_id=f"e{t}")


def test_a_slow_vital_is_one_finding_of_its_page_view() -> None:
    assert slow(PageView(t=1000, url="https://a/"), vital(6000)) == [
        Verdict(
            kind=FindingKind.SLOW_LOAD,
            t=6000,
            trigger="LCP/1000",
            severity=Severity.MEDIUM,
            page_url="https://a/",
            evidence={"vital": "LCP", "value": 5000.0, "poor_above": 4000},
        )
    ]


@pytest.mark.parametrize(("name", "poor"), [("LCP", 4000), ("FCP", 3000), ("TTFB", 1800), ("INP", 500), ("CLS", 0.25)])
def test_a_vital_is_slow_only_beyond_poor(name: str, poor: float) -> None:
    assert slow(vital(1000, name, poor)) == []
    assert len(slow(vital(1000, name, poor * 1.001))) == 1


def test_from_twice_the_threshold_on_it_is_severe() -> None:
    assert [v.severity for v in slow(vital(1000, value=8000.0))] == [Severity.HIGH]


def test_a_vital_that_is_reported_again_counts_once_a_view() -> None:
    view = PageView(t=1000, url="https://a/")
    assert [v.t for v in slow(view, vital(9000, value=9000.0), vital(6000))] == [6000]


def test_the_next_view_of_the_same_page_counts_anew() -> None:
    views = [PageView(t=t, url="https://a/") for t in (1000, 20_000)]
    assert [v.trigger for v in slow(*views, vital(6000), vital(26_000))] == ["LCP/1000", "LCP/20000"]


def test_a_vital_finds_its_view_whichever_comes_first() -> None:
    assert [v.trigger for v in slow(vital(6000), PageView(t=1000, url="https://a/"))] == ["LCP/1000"]


def test_a_vital_that_waits_keeps_its_view_however_many_pages_follow() -> None:
    views = [PageView(t=1000 + 900 * n, url="https://a/") for n in range(40)]
    assert [v.trigger for v in slow(*views[:4], vital(1100), vital(3200), *views[4:])] == ["LCP/1000", "LCP/3700"]


def test_of_old_views_only_the_last_is_kept() -> None:
    detector = SlowLoadDetector()
    memory, handle = detector.memory(), detector.handlers()[PageView]
    for n in range(100):
        handle(memory, PageView(t=1000 + 20_000 * n, url="https://a/"), DUE)
    assert memory.views == [1_941_000, 1_961_000, 1_981_000]


def test_without_a_view_the_page_stands_for_it() -> None:
    assert [v.trigger for v in slow(vital(6000), vital(7000))] == ["LCP/page 32d7f728"]


def test_a_name_that_is_no_vital_says_nothing() -> None:
    assert slow(vital(1000, "FID", 99_999.0)) == []


def test_a_project_can_set_its_own_threshold_or_silence_it() -> None:
    assert slow(vital(1000), config=SlowLoadConfig(lcp_ms=6000.0)) == []
    assert slow(vital(1000), config=SlowLoadConfig(enabled=False)) == []


def test_it_wakes_when_the_first_slow_vital_is_due() -> None:
    detector = SlowLoadDetector()
    memory, handlers = detector.memory(), detector.handlers()
    handlers[WebVital](memory, vital(1000, value=10.0), DUE)
    assert detector.wake_at(memory) == 0
    handlers[WebVital](memory, vital(1000), DUE)
    assert detector.wake_at(memory) == DUE
    assert detector.on_time(memory, DUE - 1) == []
