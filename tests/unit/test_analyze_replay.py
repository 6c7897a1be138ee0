"""The findings are a function of the set of signals, and every byte is a function of the log."""

import random
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from schemas.signals import (
    Change,
    ChangeKind,
    Click,
    FormSubmit,
    FormTouch,
    Leave,
    NotJudged,
    PageView,
    PointerDown,
    ScriptError,
    Signal,
)
from tests.analyze_log import GAP_MS, T0, Log, Told, fold

PACE = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])

TIMES = st.integers(0, 200).map(lambda n: 90 * n)
"""Within 18 s, on a grid on which gaps, deadlines and twins are met exactly now and then."""

PLACES = st.sampled_from([(10, 20, 7), (20, 20, 7), (35, 20, 8), (300, 400, 9), (0, 0, 7)])
MESSAGES = st.sampled_from(["boom", "bang"])


def page_at(t: int) -> str:
    """Return where the user is: he goes to a page, back again soon, and on; two pages at one moment have no order."""
    return f"https://a/{1 if t < 6_000 else 2 if t < 7_500 else 1 if t < 12_000 else 3}"


@st.composite
def events(draw: st.DrawFn) -> dict[str, Any]:
    x, y, node = draw(PLACES)
    kind = draw(st.sampled_from(["click"] * 5 + ["pageview", "error", "network", "scroll", "input", "form_submit"]))
    t = draw(TIMES)
    event: dict[str, Any] = {"t": t, "event_type": kind, "page_url": page_at(t)}
    match kind:
        case "click":
            event |= {"x_position": x, "y_position": y, "element_tag": "div", "element_selector": f"#n{node}"}
        case "error":
            event |= {"error_message": draw(MESSAGES)}
        case "input":
            event |= {"metadata": {"form": "#f", "field": draw(st.sampled_from("ab"))}}
        case "form_submit":
            event |= {"metadata": {"form": "#f"}}
    return event


@st.composite
def recorded(draw: st.DrawFn) -> Signal:
    after, (x, y, node) = draw(TIMES), draw(PLACES)
    t = T0 + after
    kind = draw(st.sampled_from(["click"] * 5 + ["change"] * 4 + ["down", "page", "leave", "error", "touch", "submit"]))
    match kind:
        case "click":
            reason = (None, None, NotJudged.LINK, NotJudged.TEXT_ENTRY)[after // 1000 % 4]
            return Click(t=t, x=x, y=y, node=node, not_judged=reason)
        case "change":
            undoes = draw(st.sampled_from([0, 0, t - 90]))
            return Change(t=t, what=draw(st.sampled_from(ChangeKind)), node=node, undoes=undoes)
        case "down":
            return PointerDown(t=t, node=node)
        case "page":
            return PageView(t=t, url=page_at(after))
        case "leave":
            return Leave(t=t, hidden=draw(st.booleans()))
        case "error":
            return ScriptError(t=t, message=draw(MESSAGES))
        case "touch":
            return FormTouch(t=t, form="#f", field=draw(st.sampled_from("ab")), page_url=page_at(after))
        case _:
            return FormSubmit(t=t, form="#f")


def place(event: dict[str, Any]) -> tuple[Any, ...]:
    return tuple(
        event.get(name) for name in ("event_type", "t", "page_url", "x_position", "y_position", "error_message")
    )


EVENTS = st.lists(events(), max_size=30, unique_by=place)
SIGNALS = st.lists(recorded(), max_size=40)


def arriving(order: random.Random, told: list[dict[str, Any]], seen: list[Signal], *, twice: bool = False) -> Log:
    """Return a log in which everything comes in some order, in some batches, and some of it twice; then the end."""
    named = [event | {"id": f"id-{n}"} for n, event in enumerate(told)]
    everything: list[Any] = [*named, *seen]
    if twice:
        everything += order.choices(everything, k=len(everything) // 2) if everything else []
    order.shuffle(everything)
    log, at = Log(), 20_000
    while everything:
        size = order.randint(1, 6)
        some, everything = everything[:size], everything[size:]
        log.events(*(item for item in some if isinstance(item, dict)), at=at)
        log.digest(*(item for item in some if not isinstance(item, dict)), at=at, first=T0, last=T0 + 18_000)
        at += 50
    log.events(at=at)
    for after in (1_000, 12_000, 13_000, 14_000, 45_000, 80_000):
        log.digest_tick(at=at + after)
    log.digest_tick(at=at + 80_000 + GAP_MS)
    return log


def known(told: Told) -> tuple[Any, ...]:
    """Return what must not depend on the order of arrival."""
    snapshot = {name: value for name, value in told.snapshots[-1].items() if name not in ("version", "recording")}
    findings = sorted(told.findings, key=lambda finding: (finding["timestamp"], finding["id"]))
    jobs = sorted((job["task_type"], job["priority"]) for job in told.jobs)
    return findings, snapshot, jobs


@PACE
@given(EVENTS, SIGNALS, st.randoms(use_true_random=False))
def test_the_findings_do_not_depend_on_the_order_of_arrival(
    told: list[dict[str, Any]], seen: list[Signal], order: random.Random
) -> None:
    straight = fold(arriving(random.Random(0), told, seen).records)
    assert known(fold(arriving(order, told, seen).records)) == known(straight)


@PACE
@given(EVENTS, SIGNALS, st.randoms(use_true_random=False))
def test_what_comes_twice_counts_once(told: list[dict[str, Any]], seen: list[Signal], order: random.Random) -> None:
    once = fold(arriving(random.Random(0), told, seen).records)
    assert known(fold(arriving(order, told, seen, twice=True).records)) == known(once)


@PACE
@given(EVENTS, SIGNALS, st.randoms(use_true_random=False))
def test_every_byte_is_the_same_wherever_the_log_is_cut(
    told: list[dict[str, Any]], seen: list[Signal], order: random.Random
) -> None:
    records = arriving(order, told, seen).records
    whole = fold(records)
    cuts = order.sample(range(len(records)), k=min(5, len(records)))
    for other in (fold(records, cuts=cuts), fold(records, cache_weight=0), fold(records, cuts=range(len(records)))):
        assert other.outputs == whole.outputs
        assert other.facts == whole.facts
