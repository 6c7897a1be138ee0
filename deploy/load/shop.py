"""A small synthetic shop: its pages, their controls, and each page as rrweb's full snapshot shows it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

ORIGIN = "https://shop.example"
VIEWPORT_WIDTH, VIEWPORT_HEIGHT = 1280, 800
MAIN_NODE = 6
"""rrweb's id of the `main` element."""

_FIRST_CONTROL_NODE = 100
_PROSE = "Fits the hand, lasts for years, and is repaired for free by the people who made it. "

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Control:
    """Something on a page that can be clicked."""

    tag: str
    id: str
    text: str
    node: int
    """rrweb's node id; the text inside is `node + 1`."""
    x: int
    y: int
    """Its middle, CSS pixels in the viewport."""

    @property
    def selector(self) -> str:
        """Return its CSS selector."""
        return f"#{self.id}"


@dataclass(frozen=True, slots=True)
class Page:
    """One page of the shop."""

    path: str
    title: str
    controls: Sequence[Control]

    @property
    def url(self) -> str:
        """Return the whole URL, as a campaign's visitors bring it."""
        return f"{ORIGIN}{self.path}?utm_source=newsletter&utm_medium=email&utm_campaign=autumn"

    def snapshot(self) -> Json:
        """Return the document as the data of rrweb's full snapshot."""
        children: list[Json] = [_element(7, "h1", {}, [_text(8, self.title)])]
        children += [_element(10 + 2 * n, "p", {"class": "prose"}, [_text(11 + 2 * n, _PROSE)]) for n in range(12)]
        for control in self.controls:
            attributes = {"id": control.id, "class": "control"}
            children.append(_element(control.node, control.tag, attributes, [_text(control.node + 1, control.text)]))
        head = _element(3, "head", {}, [_element(4, "title", {}, [_text(9, self.title)])])
        body = _element(5, "body", {}, [_element(MAIN_NODE, "main", {"id": "main"}, children)])
        document = {"type": 0, "id": 1, "childNodes": [_element(2, "html", {"lang": "en"}, [head, body])]}
        return {"node": document, "initialOffset": {"left": 0, "top": 0}}


def _element(node: int, tag: str, attributes: Json, children: list[Json]) -> Json:
    return {"type": 2, "id": node, "tagName": tag, "attributes": attributes, "childNodes": children}


def _text(node: int, content: str) -> Json:
    return {"type": 3, "id": node, "textContent": content}


def _page(path: str, title: str, *controls: tuple[str, str, str]) -> Page:
    placed = [
        Control(tag, id_, text, _FIRST_CONTROL_NODE + 2 * n, 160 + 220 * (n % 5), 240 + 120 * (n // 5))
        for n, (tag, id_, text) in enumerate(controls)
    ]
    return Page(path, title, placed)


def pages() -> list[Page]:
    """Return the pages in the order in which people usually see them."""
    return [
        _page(
            "/",
            "Welcome",
            ("button", "offers", "Show offers"),
            ("button", "newest", "Newest first"),
            ("button", "menu", "Menu"),
            ("a", "about", "About us"),
        ),
        _page(
            "/kettles",
            "Kettles",
            ("button", "filter", "Filter"),
            ("button", "sort", "Sort by price"),
            ("button", "compare", "Compare"),
            ("button", "more", "Load more"),
            ("a", "kettle-7", "Copper kettle"),
        ),
        _page(
            "/kettles/copper",
            "Copper kettle",
            ("button", "add-to-cart", "Add to cart"),
            ("button", "gallery", "Next picture"),
            ("button", "size", "1.5 litres"),
            ("button", "wish", "Remember"),
        ),
        _page(
            "/checkout",
            "Checkout",
            ("button", "voucher", "Apply voucher"),
            ("button", "pay", "Pay now"),
            ("button", "address", "Change address"),
        ),
    ]
