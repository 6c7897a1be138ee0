import orjson
import pytest

from schemas import signals
from schemas.signals import (
    Change,
    ChangeKind,
    Click,
    Element,
    Leave,
    NotJudged,
    PageView,
    ScriptError,
    Signal,
    WebVital,
)

CASES: list[Signal] = [
    Click(t=1),
    Click(
        t=1_765_361_000_000,
        x=0,
        y=7,
        window="w",
        node=4,
        element=Element(tag="button", selector="#buy"),
        not_judged=NotJudged.LINK,
        press=True,
    ),
    signals.PointerDown(t=1, node=2),
    Change(t=2, what=ChangeKind.FOCUS, node=3, background=True),
    PageView(t=3, url="https://a/", title="A"),
    Leave(t=4, hidden=True),
    ScriptError(t=5, message="x", event_id="e"),
    signals.FormTouch(t=6, form="f", field="email"),
    signals.FormSubmit(t=7, form="f"),
    WebVital(t=8, name="LCP", value=4200.5),
]


@pytest.mark.parametrize("signal", CASES, ids=lambda s: s.tag)
def test_a_signal_comes_back_from_json_as_it_was(signal: Signal) -> None:
    assert signals.decode(orjson.loads(orjson.dumps(signals.encode(signal)))) == signal


def test_defaults_are_left_out_on_the_wire() -> None:
    assert signals.encode(Click(t=0)) == {"k": "click", "t": 0}


def test_every_signal_has_its_own_tag() -> None:
    assert len({s.tag for s in CASES}) == 9
