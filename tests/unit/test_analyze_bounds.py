"""Hostile sessions: nothing raises, and neither the state nor what is sent grows with what they send."""

import random
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from schemas.signals import Change, ChangeKind, Click, Element, FormTouch, PageView, ScriptError, Signal
from stream_processors.analyze import state as states
from stream_processors.analyze.logic import AnalyzeLogic
from stream_processors.fold.logic import Emitted, NewerStateFormat
from tests.analyze_log import GAP_MS, KEY, T0, Log, fold

MAX_STATE_BYTES = 600_000
URL = "https://a/" + "p" * 2_000


STATE_OF_FORMAT_2 = (
    b'[2,0,1800000,86400000,null,false,0,0,1765000001500,0,0,0,[1765000002000,1765000000000,1765000001500,"v",'
    b'"UA","","1x2","",null,[1765000000000,"https://a/"],[1765000000000,"https://g/"],{"https://a/":[176500000'
    b'0000,1]},1,0,[],{"plan":"pro"}],[1765000000000,"BfsgDUnARK6Tyyd6IkTr4imaLuNUDXFa",""],{"clicks":[1765000'
    b'017000,false,0,[""],["","https://a/"],[[1765000000900,5,6,0,-605603923,1,-1,1765000017000,["button","","'
    b'","","#buy","",1]]],[[1765000000000,5,0,0],[1765000001500,0,0,894310741]],[[1765000000950,"ebee36c0b57a"'
    b',"boom",0]],{}],"error":[[[1765000000950,"ebee36c0b57a"]],[],[]],"form_abandonment":[[["","f","https://a'
    b'/",2532209984,1765000001500,1765000001500,["mail"]]],[],[[1765000000000,"",1765000017000,2532209984]],{}'
    b',0],"quick_back":[[[1765000000000,"","https://a/",1765000017000]],[],0],"slow_load":[[1765000000000],[],'
    b'[]]},{"error":1},[[1765000000950,"error","https://a/","boom"]]]'
)


def folded(log: Log) -> states.SessionState:
    logic = AnalyzeLogic()
    state = logic.open(KEY, log.records[0])
    for record in log.records:
        logic.apply(state, KEY, record, Emitted())
    return state


def hostile_events(rnd: random.Random) -> list[dict[str, Any]]:
    kinds = ["click", "error", "pageview", "input", "form_submit", "web_vital", "page_leave", "network", "scroll"]
    return [
        {
            "t": rnd.randrange(600_000),
            "event_type": kind,
            "page_url": f"{URL}{rnd.random()}",
            "x_position": rnd.randrange(1, 2**31),
            "y_position": rnd.randrange(1, 2**31),
            "element_selector": f"{'s' * 2_000}{rnd.random()}",
            "element_text": "x" * 1_000,
            "element_class": "c" * 1_000,
            "error_message": f"{rnd.choice('abcdefgh') * rnd.randrange(4_000)}",
            "error_stack": "f" * 16_000,
            "event_name": "LCP",
            "metadata": {"value": 1e9, "form": f"f{rnd.random()}" * 10, "field": f"{rnd.random()}"},
        }
        for kind in kinds * 10
    ]


def hostile_signals(rnd: random.Random) -> list[Signal]:
    element = Element(selector="s" * 5_000, text="t" * 5_000, classes="c" * 5_000)
    made: list[Signal] = []
    for _ in range(100):
        t, node = T0 + rnd.randrange(600_000), rnd.randrange(10**9)
        made += [
            Click(t=t, x=node, y=5, node=node, element=element, page_url=f"{URL}{node}"),
            Change(t=t, what=rnd.choice(list(ChangeKind)), node=node, place="p" * 100, undoes=rnd.choice([0, t - 9])),
            ScriptError(t=t, message="m" * 10_000 + chr(97 + node % 26) * 9, stack="s" * 10_000, page_url=URL),
            FormTouch(t=t, form=f"f{node}", field="g" * 100, page_url=f"{URL}{node}"),
            PageView(t=t, url=f"{URL}{node}", window=f"w{node}"),
        ]
    return made


def test_the_state_stays_bounded_whatever_a_session_sends() -> None:
    rnd, log = random.Random(7), Log()
    sizes = []
    for n in range(12):
        log.events(*hostile_events(rnd), at=600_000 + n, context={"custom_properties": {f"k{n}": "v" * 1_000}})
        log.digest(*hostile_signals(rnd), at=600_000 + n, window_id=f"w{n}")
        sizes.append(len(states.encode(folded(log))))
    assert max(sizes) < MAX_STATE_BYTES
    assert sizes[-1] < 1.2 * sizes[5]


def test_an_ordinary_session_takes_less_than_four_kilobytes() -> None:
    rnd, log, sizes = random.Random(7), Log(), []
    element = {"element_tag": "button", "element_text": "Add to cart", "element_selector": "main > div.buy > button"}
    for n in range(15):
        t = 8_000 * n
        log.events(
            {"t": t, "event_type": "pageview", "page_url": f"https://shop.example/products/{n % 4}"},
            *({"t": t + 900 * k, "event_type": "scroll"} for k in range(4)),
            *(
                {"t": t + 2_000 * k, "event_type": "click", "x_position": rnd.randrange(900), "y_position": 9} | element
                for k in range(3)
            ),
            at=t + 8_000,
            user_agent="Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 Chrome/126.0.0.0 Safari/537.36",
        )
        log.digest_tick(at=t + 8_500)
        (fact,) = fold(log.records).facts.values()
        sizes.append(len(fact))
    assert sorted(sizes)[7] < 4_000
    assert max(sizes) < 5_000
    log.digest_tick(at=GAP_MS + 200_000)
    (residue,) = fold(log.records).facts.values()
    assert len(residue) < 700


def test_a_state_comes_back_as_it_was() -> None:
    rnd, log = random.Random(3), Log()
    log.events(*hostile_events(rnd), at=600_000)
    log.digest(*hostile_signals(rnd), at=600_000)
    state = folded(log)
    data = states.encode(state)
    assert states.decode(data) == state
    assert states.encode(states.decode(data)) == data


def test_a_state_of_a_newer_version_ends_the_process() -> None:
    log = Log()
    log.events(at=0)
    form, *rest = msgspec.msgpack.decode(states.encode(folded(log)))
    with pytest.raises(NewerStateFormat, match="format 5, this version reads up to 4"):
        states.decode(msgspec.msgpack.encode([form + 1, *rest]))


def test_a_state_of_an_older_version_is_read_as_what_it_was() -> None:
    log = Log()
    page = {"page_url": "https://a/"}
    log.events(
        {"t": 0, "event_type": "pageview", **page, "metadata": {"referrer": "https://g/"}},
        {"t": 900, "event_type": "click", **page, "x_position": 5, "y_position": 6, "element_selector": "#buy"}
        | {"element_tag": "button"},
        {"t": 950, "event_type": "error", **page, "error_message": "boom"},
        {"t": 1_500, "event_type": "input", **page, "metadata": {"form": "f", "field": "mail"}},
        at=2_000,
        visitor_id="v",
        user_agent="UA",
        context={"screen_resolution": "1x2", "custom_properties": {"plan": "pro"}},
    )
    old, new = states.decode(STATE_OF_FORMAT_2), folded(log)
    assert (old.facts, old.seen, old.counts, old.moments) == (new.facts, new.seen, new.counts, new.moments)
    assert old.memories["clicks"] == new.memories["clicks"]


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.integers(0, 10**9))
def test_nothing_that_a_session_can_send_raises(seed: int) -> None:
    rnd, log = random.Random(seed), Log()
    events, signals = hostile_events(rnd), hostile_signals(rnd)
    log.events(*rnd.sample(events, 20), at=600_000)
    log.digest(*rnd.sample(signals, 30), at=600_000)
    logic, state, out = AnalyzeLogic(), folded(log), Emitted()
    for moment in range(T0 + 600_000, T0 + 700_000, 9_000):
        logic.on_time(state, KEY, moment=moment, offset=5, out=out)
    logic.on_close(state, KEY, moment=T0, offset=6, out=out)
    assert all(len(output.value) < 100_000 for output in out.outputs)
