import random
from itertools import permutations
from typing import Any

import msgspec
import pytest

from schemas.environment import SettingsError
from schemas.messages import SessionSnapshot
from schemas.signals import PageView
from stream_processors.analyze import build_logic
from stream_processors.analyze.dedupe import LATENESS_MS, MAX_GENERATION, Seen
from stream_processors.analyze.place import Place
from stream_processors.analyze.records import EventBatch
from stream_processors.analyze.session import MAX_DURATION_MS, MAX_PAGES, SessionFacts, snapshot
from stream_processors.analyze.user_agent import parse_user_agent


def batch(*events: dict[str, Any], **fields: Any) -> EventBatch:
    made = [{"id": str(n), "event_type": "custom", **event} for n, event in enumerate(events)]
    return msgspec.convert({"v": 1, "received_at": 1000, "settings": {}, "events": made, **fields}, EventBatch)


def seen(facts: SessionFacts, **options: Any) -> SessionSnapshot:
    defaults: dict[str, Any] = {"version": 9, "life": 1, "closed": False, "locate": lambda _ip: None}
    return snapshot(facts, project_id="p", session_id="s", **defaults | options)


def test_times_are_the_earliest_and_the_latest_in_any_order() -> None:
    for order in permutations((500, 300, 900)):
        facts = SessionFacts()
        facts.take(batch(*({"timestamp": t} for t in order)))
        assert (facts.started_at, facts.ended_at) == (300, 900)


def test_the_duration_saturates() -> None:
    facts = SessionFacts(started_at=1, ended_at=MAX_DURATION_MS + 100)
    assert seen(facts).duration_ms == MAX_DURATION_MS


def test_the_first_that_is_said_of_a_visitor_stays() -> None:
    facts = SessionFacts()
    facts.take(batch(ip="192.0.2.1"))
    facts.take(batch(visitor_id="v1", ip="192.0.2.2"))
    facts.take(batch(visitor_id="v2"))
    assert (facts.visitor_id, facts.ip) == ("v1", "192.0.2.1")


def test_the_skew_is_the_least_that_was_seen() -> None:
    facts = SessionFacts()
    for sent_at in (700, 990, 400):
        facts.take(batch(sent_at=sent_at))
    assert facts.skew_ms == 10


def test_a_clock_that_is_ahead_has_a_negative_skew() -> None:
    facts = SessionFacts()
    facts.take(batch(sent_at=5000))
    assert facts.skew_ms == -4000


def test_the_landing_page_and_the_referrer_are_those_of_the_earliest_event() -> None:
    events = [
        {"timestamp": 3, "event_type": "pageview", "page_url": "/b", "metadata": {"referrer": "https://site/a"}},
        {"timestamp": 2, "event_type": "click", "page_url": "/a"},
        {"timestamp": 1, "event_type": "pageview", "page_url": "/a", "metadata": {"referrer": "https://g/"}},
        {"timestamp": 0, "event_type": "custom"},
    ]
    for order in permutations(events):
        facts = SessionFacts()
        facts.take(batch(*order))
        assert (facts.landing, facts.referrer) == ([1, "/a"], [1, "https://g/"])


def test_a_first_page_without_a_referrer_was_entered_directly() -> None:
    facts = SessionFacts()
    facts.take(
        batch(
            {"timestamp": 1, "event_type": "pageview", "page_url": "/a", "metadata": {"referrer": ""}},
            {"timestamp": 2, "event_type": "pageview", "page_url": "/b", "metadata": {"referrer": "https://site/a"}},
        )
    )
    assert seen(facts).referrer is None


def test_the_context_tells_the_referrer_and_the_screen() -> None:
    facts = SessionFacts()
    facts.take(batch({"timestamp": 5}, context={"referrer": "https://g/", "screen_resolution": "1x2"}))
    facts.take(batch({"timestamp": 9}, context={"referrer": "https://site/", "screen_resolution": "3x4"}))
    assert (seen(facts).referrer, seen(facts).screen_resolution) == ("https://g/", "1x2")


def test_custom_properties_are_merged_and_bounded() -> None:
    facts = SessionFacts()
    for properties in ({"plan": "free", "n": 1}, {"plan": "pro"}, {"big": "x" * 9_000}):
        facts.take(batch({"timestamp": 5}, context={"custom_properties": properties}))
    assert seen(facts).custom_properties == {"plan": "pro", "n": 1}


def test_pages_are_in_order_of_their_first_visit_in_any_order_of_arrival() -> None:
    views = [PageView(t=t, url=url) for t, url in ((1, "/a"), (2, "/b"), (3, "/a"), (4, "/c"))]
    for order in permutations(views):
        facts = SessionFacts()
        for view in order:
            facts.take_view(view, recorded=False, counts=True)
        assert (seen(facts).pages_visited, seen(facts).page_count) == (["/a", "/b", "/c"], 4)


def test_views_told_by_events_and_recording_are_counted_once() -> None:
    facts = SessionFacts()
    for recorded in (True, False):
        for t, url in ((1, "/a"), (2, "/b")):
            facts.take_view(PageView(t=t, url=url), recorded=recorded, counts=True)
    facts.take_view(PageView(t=3, url="/c"), recorded=True, counts=True)
    assert seen(facts).page_count == 3


def test_a_view_that_may_be_a_repetition_names_its_page_without_counting() -> None:
    facts = SessionFacts()
    facts.take_view(PageView(t=1, url="/a"), recorded=False, counts=True)
    facts.take_view(PageView(t=1, url="/a"), recorded=False, counts=False)
    facts.take_view(PageView(t=2, url="/b"), recorded=False, counts=False)
    assert (seen(facts).page_count, seen(facts).pages_visited) == (2, ["/a", "/b"])


def test_pages_are_bounded_by_number_and_by_length() -> None:
    short, long = SessionFacts(), SessionFacts()
    for n in range(1000):
        short.take_view(PageView(t=n, url=f"/{n}"), recorded=False, counts=True)
        long.take_view(PageView(t=n, url=f"/{n}" + "x" * 2000), recorded=False, counts=True)
    assert (len(seen(short).pages_visited), seen(short).page_count) == (MAX_PAGES, 1000)
    assert sum(map(len, seen(long).pages_visited)) <= 32_000


def test_a_place_is_told_where_one_is_known() -> None:
    facts = SessionFacts(ip="192.0.2.1")
    known = seen(facts, locate=lambda ip: Place("DE", f"at {ip}", (52.5, 13.4)))
    assert (known.country_code, known.city, known.geolocation) == ("DE", "at 192.0.2.1", {"lat": 52.5, "lng": 13.4})
    vague = seen(facts, locate=lambda _ip: Place("DE"))
    assert (vague.country_code, vague.city, vague.geolocation) == ("DE", None, None)


# --- user agents

CHROME = (
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0.0.0 Safari/537.36"
)


@pytest.mark.parametrize(
    ("text", "browser", "system", "device"),
    [
        (CHROME, "Chrome", "Windows", "desktop"),
        (
            "Mozilla/5.0 (Macintosh; Intel Mac OS X 14.5; rv:127.0) Gecko/20100101 Firefox/127.0",
            "Firefox",
            "Mac OS X",
            "desktop",
        ),
        (
            "Mozilla/5.0 (iPhone; CPU iPhone OS 17_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) "
            "Version/17.5 Mobile/15E148 Safari/604.1",
            "Mobile Safari",
            "iOS",
            "mobile",
        ),
        (
            "Mozilla/5.0 (iPad; CPU OS 16_6 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) "
            "Version/16.6 Mobile/15E148 Safari/604.1",
            "Mobile Safari",
            "iOS",
            "tablet",
        ),
        (
            "Mozilla/5.0 (Linux; Android 14; Pixel 8) AppleWebKit/537.36 (KHTML, like Gecko) "
            "Chrome/126.0.0.0 Mobile Safari/537.36",
            "Chrome Mobile",
            "Android",
            "mobile",
        ),
        (
            "Mozilla/5.0 (Linux; Android 13; SM-X700) AppleWebKit/537.36 (KHTML, like Gecko) "
            "Chrome/126.0.0.0 Safari/537.36",
            "Chrome",
            "Android",
            "tablet",
        ),
        ("something else", None, None, "desktop"),
        ("", None, None, "desktop"),
    ],
)
def test_what_a_user_agent_says(text: str, browser: str | None, system: str | None, device: str) -> None:
    agent = parse_user_agent(text)
    assert (agent.browser, agent.os, agent.device_type, agent.is_bot) == (browser, system, device, False)


@pytest.mark.parametrize(
    "text",
    [
        "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)",
        "Mozilla/5.0 (compatible; bingbot/2.0; +http://www.bing.com/bingbot.htm)",
        "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) HeadlessChrome/126.0.0.0 Safari/537.36",
        "Mozilla/5.0 (compatible; Baiduspider/2.0; +http://www.baidu.com/search/spider.html)",
        "facebookexternalhit/1.1 (+http://www.facebook.com/externalhit_uatext.php)",
        f"{CHROME} Chrome-Lighthouse",
        "Mozilla/5.0 (compatible; UptimeRobot/2.0; http://www.uptimerobot.com/)",
    ],
)
def test_bots_are_known(text: str) -> None:
    assert parse_user_agent(text).is_bot


@pytest.mark.parametrize(
    "text",
    [
        "Mozilla/5.0 (Linux; Android 9; CUBOT_X19) AppleWebKit/537.36 (KHTML, like Gecko) "
        "Chrome/74.0.3729.136 Mobile Safari/537.36",
        "python-requests/2.32",
        "okhttp/4.12",
    ],
)
def test_phones_and_servers_are_no_bots(text: str) -> None:
    assert not parse_user_agent(text).is_bot


# --- what was seen


def test_an_event_is_known_by_any_of_its_names() -> None:
    memory = Seen()
    assert not memory.add(1, ("id-1", "click|1"))
    assert memory.add(1, ("id-1", "click|2"))
    assert memory.add(1, ("id-2", "click|1"))
    assert not memory.add(1, ("id-3", "click|3"))


def test_an_event_is_known_for_at_least_the_lateness() -> None:
    memory = Seen()
    memory.add(1_000, ("a",))
    memory.add(1_000 + LATENESS_MS, ("b",))
    assert memory.add(1_000, ("a",))
    memory.add(1_001 + LATENESS_MS, ("c",))
    assert memory.add(1_000, ("a",))


def test_the_memory_is_bounded_and_what_is_packed_is_all_of_it() -> None:
    memory, rnd = Seen(), random.Random(1)
    for n in range(10_000):
        memory.add(n, (f"{rnd.random()}",))
    assert len(memory) <= 2 * MAX_GENERATION
    again = Seen.unpack(*memory.pack())
    for name in ("new", "0.1"):
        assert again.add(5, (name,)) == memory.add(5, (name,))
    assert again == memory


# --- settings


def test_the_logic_is_built_from_the_environment() -> None:
    logic = build_logic(
        {
            "TRACEFLOW_STAGE_SESSION_GAP_MS": "60000",
            "TRACEFLOW_STAGE_RESIDUE_MS": "5000",
            "TRACEFLOW_STAGE_FLUSH_GRACE_MS": "2000",
            "TRACEFLOW_STAGE_TICK_MS": "1000",
        }
    )
    assert (logic.gap_ms, logic.residue_ms, logic.grace_ms) == (60_000, 5_000, 2_000)
    assert (build_logic({}).gap_ms, build_logic({}).residue_ms, build_logic({}).grace_ms) == (
        1_800_000,
        86_400_000,
        10_000,
    )


@pytest.mark.parametrize(
    ("name", "value"),
    [("TRACEFLOW_STAGE_SESSION_GAP_MS", "soon"), ("TRACEFLOW_STAGE_GEO_DATABASE", "/nowhere/city.mmdb")],
)
def test_a_setting_that_cannot_be_used_is_named(name: str, value: str) -> None:
    with pytest.raises(SettingsError, match=name):
        build_logic({name: value})


class FakeReader:
    """Stands in for a MaxMind file."""

    asked: int = 0

    def get(self, ip: str) -> Any:
        self.asked += 1
        if ip == "not an address":
            raise ValueError(ip)
        return {
            "192.0.2.1": {
                "country": {"iso_code": "DE"},
                "city": {"names": {"en": "Berlin", "de": "Berlin"}},
                "location": {"latitude": 52.5, "longitude": 13.4},
            },
            "192.0.2.2": {"registered_country": {"iso_code": "FR"}, "location": {"latitude": 48.8}},
            "192.0.2.3": {},
            "192.0.2.4": "odd",
        }.get(ip)


@pytest.mark.parametrize(
    ("ip", "place"),
    [
        ("192.0.2.1", Place("DE", "Berlin", (52.5, 13.4))),
        ("192.0.2.2", Place("FR")),
        ("192.0.2.3", Place()),
        ("192.0.2.4", None),
        ("192.0.2.9", None),
        ("not an address", None),
    ],
)
def test_an_address_is_looked_up_once(monkeypatch: pytest.MonkeyPatch, ip: str, place: Place | None) -> None:
    reader = FakeReader()
    monkeypatch.setattr("stream_processors.analyze.geo.maxminddb.open_database", lambda _path: reader)
    locate = build_logic({"TRACEFLOW_STAGE_GEO_DATABASE": "/cities.mmdb"}).locate
    assert (locate(ip), locate(ip)) == (place, place)
    assert reader.asked == 1


def test_without_a_database_no_address_is_anywhere() -> None:
    assert build_logic({}).locate("192.0.2.1") is None
