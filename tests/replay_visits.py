"""Visits for the replay oracle: random ones, recorded and told at once, and the real ones of the demo.

A random visit is drawn from a seed, which is far quicker than letting Hypothesis draw each event, and lets it shrink
the size. Times lie on a grid on which gaps, deadlines and twins are met exactly now and then.
"""

import random
from functools import cache
from typing import Any

from deploy.command.captured import Captured, Recorded, Told
from deploy.command.detection import Names, take
from deploy.demo.captures import captured_of
from deploy.demo.recorded import load_sessions
from schemas.messages import RecordSettings
from stream_processors.offline.timetable import Arrival
from tests import digest_page as rrweb

PAUSES_MS = (10, 50, 90, 250, 400, 700, 1_000, 1_500, 2_500, 2_600, 5_000)
ANSWERS_MS = (5, 120, 400, 699, 2_499, 2_600)
BUTTON, BOX, COUNT, FORM, FIELD, SEND, LINK, LIST = 10, 11, 13, 20, 21, 22, 30, 40
PAGES = ("https://shop.example/cart", "https://shop.example/pay?step=1", "https://shop.example/help")
MESSAGES = ("no price in the cart", "cannot reach the stock", "x is not a function")
SETTINGS: RecordSettings = {"version": 1}

NAMES = tuple(session.name for session in load_sessions())
"""Of the real visits."""


def random_visit(rng: random.Random, size: int, *, name: str = "random") -> list[Arrival]:
    """Return a visit of so many steps as the gateway writes it."""
    visit = _Visit(rng)
    for _ in range(size):
        visit.step()
    return _arrivals(visit.captured(), name)


@cache
def real_visit(name: str) -> list[Arrival]:
    """Return a real visit: its recording, and what posthog-js told besides."""
    session = next(session for session in load_sessions() if session.name == name)
    captured = captured_of(session, starts_at_ms=rrweb.T0)
    return _arrivals(captured, name)


def _arrivals(captured: list[Captured], name: str) -> list[Arrival]:
    taken = take(captured, names=Names(name, None), settings=SETTINGS)
    assert taken.refused == []
    return taken.arrivals


class _Visit:
    """A user on a small shop: clicks that are answered or not, a ticker, a form, errors, pages, tabs.

    Some visits are told by an SDK alone, and some SDKs tell answers.
    """

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self.length_ms = 0
        self._window = "w0"
        self._url = PAGES[0]
        self._ids = 100
        self._recorded: list[tuple[int, str, Any]] = []
        self._told: list[dict[str, Any]] = []
        self._is_recorded, self._tells_answers = rng.random() < 0.8, rng.random() < 0.5
        self._enter()

    def captured(self) -> list[Captured]:
        """Return what was captured, in order of time."""
        self._recorded.sort(key=lambda item: item[0])
        self._told.sort(key=lambda event: event["timestamp"])
        recorded = [Recorded("recorded", window, rrweb.T0 + t, event) for t, window, event in self._recorded]
        return [*recorded, *(Told("told", event) for event in self._told)]

    def step(self) -> None:
        """Let something happen."""
        self.length_ms += self._rng.choice(PAUSES_MS)
        often = [*(self._click,) * 6, *(self._tick,) * 2]
        steps = [*often, self._type, self._submit, self._fail, self._go, self._look, self._shake]
        self._rng.choice(steps)()

    def _record(self, *events: Any) -> None:
        if self._is_recorded:
            self._recorded += ((event["timestamp"] - rrweb.T0, self._window, event) for event in events)

    def _tell(self, kind: str, t: int, **fields: Any) -> None:
        self._told.append({"event_type": kind, "timestamp": rrweb.T0 + t, "page_url": self._url, **fields})

    def _enter(self) -> None:
        body = (
            rrweb.el(BUTTON, "button", rrweb.text(BUTTON + 90, "Buy"), id="buy"),
            rrweb.el(BOX, "div", rrweb.el(12, "span", rrweb.text(COUNT, "0"))),
            rrweb.el(FORM, "form", rrweb.el(FIELD, "input", name="mail"), rrweb.el(SEND, "button"), id="pay"),
            rrweb.el(LINK, "a", rrweb.text(LINK + 1, "Help"), href="#"),
            rrweb.el(LIST, "ul"),
        )
        self._record(*rrweb.page(*body, t=self.length_ms, href=self._url))
        if self._rng.random() < 0.7:
            self._tell("pageview", self.length_ms + 30, page_title="Shop")

    def _click(self) -> None:
        node = self._rng.choice((BUTTON, BUTTON, BOX, LINK, FIELD))
        x, y = self._rng.choice(((10, 20), (20, 20), (35, 20), (300, 400)))
        pauses = self._rng.choice(((150, 400, 999, 1_000, 1_090, 1_200), (900, 1_000)))
        for _ in range(self._rng.choice((1, 1, 1, 1, 1, 1, 2, 2, 3, 3, 4, 4, 50))):
            press = rrweb.press(self.length_ms, node, x=x, y=y, held=self._rng.choice((60, 90)))
            self._record(*(press if self._rng.random() < 0.9 else press[:2]))
            clicked = press[-1]["timestamp"] - rrweb.T0
            if self._rng.random() < 0.5 or not self._is_recorded:
                place = {"x_position": x, "y_position": y, "element_tag": "button", "element_id": f"n{node}"}
                self._tell("click", clicked + self._rng.choice((0, 3, 50, 65)), **place)
            if self._rng.random() < 0.4:
                self._answer(clicked + self._rng.choice(ANSWERS_MS))
            self.length_ms += self._rng.choice(pauses)

    def _answer(self, t: int) -> None:
        match self._rng.randrange(5 if self._tells_answers else 4):
            case 0:
                self._ids += 2
                item = rrweb.el(self._ids, "li", rrweb.text(self._ids + 1, "new"))
                self._record(rrweb.mutation(t, adds=[(LIST, None, item)]))
            case 1:
                self._record(rrweb.mutation(t, attributes=[(BOX, {"class": self._rng.choice(("on", "off"))})]))
            case 2:
                self._record(rrweb.incremental(t, 3, id=1, x=0, y=self._rng.randrange(900)))
            case 3:
                self._record(rrweb.mutation(t, attributes=[(BOX, {"class": "busy"})]))
                self._record(rrweb.mutation(t + 40, attributes=[(BOX, {"class": None})]))
            case _:
                self._tell("network", t, event_name="fetch", metadata={"status": 200, "duration_ms": 80})

    def _tick(self) -> None:
        self._record(rrweb.mutation(self.length_ms, texts=[(COUNT, str(self._rng.randrange(9)))]))

    def _shake(self) -> None:
        for turn in range(self._rng.choice((6, 12, 13, 40))):
            spot = {"x": 100 + 60 * (turn % 2), "y": 40, "id": BOX, "timeOffset": 0}
            self._record(rrweb.incremental(self.length_ms, 1, positions=[spot]))
            self.length_ms += self._rng.choice((90, 200, 250))

    def _type(self) -> None:
        typed = "*" * self._rng.randint(1, 3)
        self._record(
            rrweb.pointer(5, self.length_ms, FIELD),
            rrweb.incremental(self.length_ms + 90, 5, id=FIELD, text=typed, isChecked=False),
        )
        if self._rng.random() < 0.5:
            self._tell("input", self.length_ms + 94, metadata={"form": "pay", "field": "mail"})

    def _submit(self) -> None:
        if self._rng.random() < 0.5:
            self._record(*rrweb.press(self.length_ms, SEND))
        else:
            self._tell("form_submit", self.length_ms, metadata={"form": "#pay"})

    def _fail(self) -> None:
        message = self._rng.choice(MESSAGES)
        most, pauses = self._rng.choice(((4, (90, 999, 1_000)), (30, (900, 1_000)), (12, (2_600,))))
        logged, told = self._rng.choice(((0.7, 0.5), (1, 0.05), (1, 0), (0, 1)))
        for _ in range(self._rng.choice((1, 1, 2, 2, 3, 3, 4, most))):
            if self._rng.random() < logged:
                payload = {"level": "error", "payload": [f'"Uncaught TypeError: {message}"'], "trace": ["at a.js:1:1"]}
                self._record(rrweb.event(6, self.length_ms, {"plugin": "rrweb/console@1", "payload": payload}))
            if self._rng.random() < told:
                self._tell("error", self.length_ms + self._rng.choice((0, 4)), error_message=f"TypeError: {message}")
            self.length_ms += self._rng.choice(pauses)

    def _go(self) -> None:
        before, self._url = self._url, self._rng.choice(PAGES)
        if self._rng.random() < 0.3:
            self._window = self._rng.choice(("w0", "w1"))
        if self._rng.random() < 0.3:
            self._tell("page_leave", self.length_ms - 5, time_on_page_ms=900)
        self._enter()
        if self._rng.random() < 0.5:
            self.length_ms += self._rng.choice((900, 1_999, 2_000, 2_001))
            self._url = before
            self._enter()

    def _look(self) -> None:
        if self._rng.random() < 0.5:
            self._record(rrweb.incremental(self.length_ms, 3, id=1, x=0, y=self._rng.randrange(900)))
        else:
            self._tell(
                "web_vital", self.length_ms, event_name="LCP", metadata={"value": self._rng.choice((900, 4_001, 9_000))}
            )
