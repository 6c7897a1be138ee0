"""Scores findings against what people saw in the labelled browser sessions (tests/data/browser).

Within 250 ms, a finding belongs to:
- dead_click: a click labelled dead; a unit is one such click or one burst of them (same `group`), found once is enough.
  On a click labelled `slow` or `not_judged` it is counted apart, neither right nor wrong. On anything else it is wrong;
- rage_click: a burst with frustration, from its first click to its last. On a burst that is not judged: counted apart;
- error_click: a click that set off an error, or one of its burst;
- form_abandonment: by number within the session, not by time;
- quick_back: a step back, within 3 s.
A second finding in a unit is a duplicate, neither right nor wrong.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

TOLERANCE_MS = 250
QUICK_BACK_TOLERANCE_MS = 3_000
NEAR_PX = 12
CLICKS = frozenset({"click", "tap", "dblclick", "contextmenu"})

Truth = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Found:
    """A finding as far as scoring needs it."""

    session: str
    kind: str
    t: int
    x: int | None = None
    y: int | None = None


@dataclass(slots=True)
class Score:
    """How the findings of one kind fared; `missed` and `wrong` say where, for people."""

    right: int = 0
    duplicate: int = 0
    on_slow: int = 0
    on_ambiguous: int = 0
    missed: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)

    @property
    def precision(self) -> float:
        return self.right / (self.right + len(self.wrong)) if self.right else 0.0

    @property
    def recall(self) -> float:
        return self.right / (self.right + len(self.missed)) if self.right else 0.0

    def settle(self, session: str, *, units: Mapping[Any, str], hits: Iterable[Any]) -> None:
        """Count the units of a session: those hit once or more are right, the others missed."""
        hits = list(hits)
        self.right += len(set(hits))
        self.duplicate += len(hits) - len(set(hits))
        self.missed += [f"{session}: {why}" for unit, why in units.items() if unit not in hits]


def score(findings: Sequence[Found], truths: Iterable[Truth]) -> dict[str, Score]:
    """Score all findings by kind."""
    truths = list(truths)
    scores: dict[str, Score] = {}
    for kind, judge in _JUDGES.items():
        scores[kind] = Score()
        for truth in truths:
            own = [f for f in findings if f.kind == kind and f.session == truth["session"]]
            judge(scores[kind], truth, sorted(own, key=lambda f: f.t))
    return scores


def _dead_clicks(result: Score, truth: Truth, found: Sequence[Found]) -> None:
    session, clicks = truth["session"], [a for a in truth["actions"] if a["kind"] in CLICKS]
    units: dict[Any, str] = {}
    for click in clicks:
        if click["label"] == "dead":
            units.setdefault(click.get("group") or click["i"], f"{click['i']} {click['why']}")
    hits = []
    for finding in found:
        click = _nearest(clicks, finding)
        label = click["label"] if click else None
        if click and label == "dead":
            hits.append(click.get("group") or click["i"])
        elif label == "slow":
            result.on_slow += 1
        elif label == "not_judged":
            result.on_ambiguous += 1
        else:
            result.wrong.append(f"{session}: {click['i']} {click['why']}" if click else f"{session}: at {finding.t}")
    result.settle(session, units=units, hits=hits)


def _nearest(clicks: Sequence[Any], finding: Found) -> Any:
    """Return the click that a finding means, by place before time."""

    def distance(click: Any) -> tuple[bool, int]:
        is_far = (
            finding.x is not None
            and finding.y is not None
            and abs(click["x"] - finding.x) + abs(click["y"] - finding.y) > NEAR_PX
        )
        return is_far, abs(click["t"] - finding.t)

    near = [click for click in clicks if abs(click["t"] - finding.t) <= TOLERANCE_MS]
    return min(near, key=distance, default=None)


def _rage_clicks(result: Score, truth: Truth, found: Sequence[Found]) -> None:
    session, at = truth["session"], {a["i"]: a["t"] for a in truth["actions"]}
    bursts = [burst for burst in truth["rage"] if burst["clicks"]]
    hits, wrong = [], set()
    for finding in found:
        place = next((n for n, burst in enumerate(bursts) if _covers(burst, at, finding.t)), None)
        burst = bursts[place] if place is not None else None
        if burst and not burst.get("judged", True):
            result.on_ambiguous += 1
        elif burst and burst["frustration"]:
            hits.append(place)
        elif place in wrong:
            result.duplicate += 1
        else:
            result.wrong.append(f"{session}: {burst['clicks'][0]} {burst['why']}" if burst else f"{session}: stray")
            wrong.add(place)
    units = {
        n: f"{burst['clicks'][0]} {burst['why']}"
        for n, burst in enumerate(bursts)
        if burst["frustration"] and burst.get("judged", True)
    }
    result.settle(session, units=units, hits=hits)


def _covers(burst: Any, at: Mapping[int, int], t: int) -> bool:
    clicks = burst["clicks"]
    return bool(at[clicks[0]] - TOLERANCE_MS <= t <= at[clicks[-1]] + TOLERANCE_MS)


def _error_clicks(result: Score, truth: Truth, found: Sequence[Found]) -> None:
    session, actions = truth["session"], {a["i"]: a for a in truth["actions"]}
    units: dict[Any, list[Any]] = {}
    for error in truth["error_clicks"]:
        click = actions[error["click"]]
        units.setdefault(click.get("group") or click["i"], []).append(click)
    hits = []
    for finding in found:
        unit = next((u for u, its in units.items() if any(abs(c["t"] - finding.t) <= TOLERANCE_MS for c in its)), None)
        if unit is None:
            result.wrong.append(f"{session}: at {finding.t}")
        else:
            hits.append(unit)
    result.settle(session, units={u: f"{its[0]['i']} {its[0]['why']}" for u, its in units.items()}, hits=hits)


def _form_abandonments(result: Score, truth: Truth, found: Sequence[Found]) -> None:
    session, forms = truth["session"], [form["form"] for form in truth["forms"] if form["abandoned"]]
    right = min(len(forms), len(found))
    result.right += right
    result.missed += [f"{session}: {form}" for form in forms[right:]]
    result.wrong += [f"{session}: at {finding.t}" for finding in found[right:]]


def _quick_backs(result: Score, truth: Truth, found: Sequence[Found]) -> None:
    session, backs = truth["session"], truth["quick_back"]
    hits = []
    for finding in found:
        back = next((n for n, b in enumerate(backs) if abs(b["t"] - finding.t) <= QUICK_BACK_TOLERANCE_MS), None)
        if back is None:
            result.wrong.append(f"{session}: at {finding.t}")
        else:
            hits.append(back)
    result.settle(session, units={n: b["from"] for n, b in enumerate(backs)}, hits=hits)


_JUDGES: Mapping[str, Callable[[Score, Truth, Sequence[Found]], None]] = {
    "dead_click": _dead_clicks,
    "rage_click": _rage_clicks,
    "error_click": _error_clicks,
    "form_abandonment": _form_abandonments,
    "quick_back": _quick_backs,
}
