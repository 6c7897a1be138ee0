"""What a synthetic person does on the shop: a timeline of events, and the recording of the same moments.

A visit is drawn from a seed alone and knows only relative times. Most clicks are answered (the page changes, the
network is asked); some visits hold what TraceFlow looks for: a burst of clicks on a control that does nothing, a click
that throws, a page that is slow, a form that is begun and left.
"""

import random
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from deploy.load.shop import MAIN_NODE, VIEWPORT_HEIGHT, VIEWPORT_WIDTH, Control, Page, pages

Json = dict[str, Any]

RAGE_SHARE, ERROR_SHARE, SLOW_SHARE, FORM_SHARE = 0.12, 0.2, 0.1, 0.15
"""Of all visits."""

_RELEASE = {
    "release": "shop-frontend@4.18.2+7f3c1d9",
    "locale": "en-GB",
    "connection": "4g",
    "experiments": ["checkout-steps-b", "large-pictures"],
}
"""What applications add to every event: with it 20 events take about 10 kB."""

_META, _FULL_SNAPSHOT, _INCREMENTAL = 4, 2, 3
_MUTATION, _MOUSE_MOVE, _MOUSE_INTERACTION, _SCROLL = 0, 1, 2, 3
_MOUSE_UP, _MOUSE_DOWN, _CLICK = 0, 1, 2


class Moment(NamedTuple):
    """Something that happened `t` ms after the visit began."""

    t: int
    data: Json
    """An event without its timestamp: of TraceFlow, or of rrweb."""


@dataclass(slots=True)
class Visit:
    """The two tellings of one visit, each in order of time."""

    events: list[Moment] = field(default_factory=list)
    recording: list[Moment] = field(default_factory=list)


def draw_visit(seed: int, *, events: int) -> Visit:
    """Draw a visit of about so many events."""
    person = _Person(random.Random(seed))  # noqa: S311 # repeatable, no secret
    person.browse(events)
    for telling in (person.visit.events, person.visit.recording):
        telling.sort(key=lambda moment: moment.t)
    return person.visit


class _Person:
    """Acts on pages and notes what an SDK and a recorder would see."""

    def __init__(self, draw: random.Random) -> None:
        self._draw = draw
        self._t = 0
        self._opened = 0
        self._new_node = 10_000
        self.visit = Visit()

    def browse(self, events: int) -> None:
        rages, fails = self._chance(RAGE_SHARE), self._chance(ERROR_SHARE)
        abandons = self._chance(FORM_SHARE)
        for page in pages():
            self._open(page, slow=self._chance(SLOW_SHARE))
            enough = len(self.visit.events) + events // 4
            if rages:
                self._rage(page)
                rages = False
            if abandons and page.path == "/checkout":
                self._touch_form(page)
            while len(self.visit.events) < enough:
                self._click(page, self._draw.choice(page.controls), fails=fails)
                fails = False
                if self._chance(0.4):
                    self._scroll(page)
            self._note("page_leave", page, time_on_page_ms=self._t - self._opened)

    def _open(self, page: Page, *, slow: bool) -> None:
        self._wait(300, 900)
        self._opened = self._t
        self._note("pageview", page, page_title=page.title, metadata={"referrer": ""})
        size = {"href": page.url, "width": VIEWPORT_WIDTH, "height": VIEWPORT_HEIGHT}
        self._record(_META, size)
        self._record(_FULL_SNAPSHOT, page.snapshot())
        self._wait(50, 300)
        lcp = self._draw.randrange(4_100, 9_000) if slow else self._draw.randrange(600, 2_400)
        for name, value in (("FCP", lcp // 2), ("LCP", lcp)):
            self._note("web_vital", page, event_name=name, metadata={"value": value})

    def _click(self, page: Page, control: Control, *, fails: bool = False) -> None:
        self._wait(900, 2_500)
        self._press(page, control)
        if fails:
            self._wait(5, 40)
            message = "TypeError: Cannot read properties of undefined (reading 'price')"
            stack = f"{message}\n    at total ({page.url}app.js:{self._draw.randrange(1, 400)}:17)"
            self._note("error", page, error_message=message, error_stack=stack)
        self._answer(page, control)

    def _rage(self, page: Page) -> None:
        control = page.controls[0]
        self._wait(800, 1_500)
        for _ in range(self._draw.randrange(4, 8)):
            self._wait(140, 260)
            self._press(page, control)
        self._wait(2_700, 3_500)

    def _touch_form(self, page: Page) -> None:
        for name in ("voucher", "street"):
            self._wait(700, 1_500)
            self._note("input", page, element_tag="input", metadata={"form": "checkout", "field": name})

    def _press(self, page: Page, control: Control) -> None:
        x, y = control.x + self._draw.randrange(-6, 7), control.y + self._draw.randrange(-4, 5)
        trail = [{"x": x - 40 + 10 * n, "y": y - 8 + 2 * n, "id": control.node, "timeOffset": n * 50} for n in range(4)]
        self._record(_INCREMENTAL, {"source": _MOUSE_MOVE, "positions": trail})
        for kind in (_MOUSE_DOWN, _MOUSE_UP, _CLICK):
            where = {"type": kind, "id": control.node, "x": x, "y": y, "pointerType": 0}
            self._record(_INCREMENTAL, {"source": _MOUSE_INTERACTION, **where})
        self._note(
            "click",
            page,
            element_tag=control.tag,
            element_id=control.id,
            element_class="control",
            element_text=control.text,
            element_selector=control.selector,
            x_position=x,
            y_position=y,
        )

    def _answer(self, page: Page, control: Control) -> None:
        self._wait(30, 200)
        metadata = {"status": 200, "duration_ms": self._draw.randrange(20, 400), "url": f"/api/{control.id}"}
        self._note("network", page, event_name="fetch", metadata=metadata)
        self._note("dom_change", page, element_selector="#main")
        text = {"type": 3, "id": self._new_node + 1, "textContent": f"{control.text}: {self._draw.randrange(99)}"}
        node = {"type": 2, "id": self._new_node, "tagName": "p", "attributes": {}, "childNodes": []}
        adds = [
            {"parentId": MAIN_NODE, "nextId": None, "node": node},
            {"parentId": self._new_node, "nextId": None, "node": text},
        ]
        self._new_node += 2
        self._record(_INCREMENTAL, {"source": _MUTATION, "texts": [], "attributes": [], "removes": [], "adds": adds})

    def _scroll(self, page: Page) -> None:
        self._wait(200, 800)
        depth = self._draw.randrange(10, 100)
        self._note("scroll", page, scroll_depth=depth)
        self._record(_INCREMENTAL, {"source": _SCROLL, "id": 1, "x": 0, "y": depth * 12})

    def _note(self, event_type: str, page: Page, **columns: Any) -> None:
        where = {"page_url": page.url, "page_title": page.title}
        size = {"viewport_width": VIEWPORT_WIDTH, "viewport_height": VIEWPORT_HEIGHT}
        metadata = {**_RELEASE, **columns.pop("metadata", {})}
        event = {"event_type": event_type, **where, **size, **columns, "metadata": metadata}
        self.visit.events.append(Moment(self._t, event))

    def _record(self, kind: int, data: Json) -> None:
        self.visit.recording.append(Moment(self._t, {"type": kind, "data": data}))

    def _wait(self, least_ms: int, most_ms: int) -> None:
        self._t += self._draw.randrange(least_ms, most_ms)

    def _chance(self, share: float) -> bool:
        return self._draw.random() < share
