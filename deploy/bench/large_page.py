"""Recordings of large pages: a full snapshot of some thousand nodes with its style sheets, then busy chunks.

Sizes are those of the larger tenth of real applications: 2,000 nodes and 400 kB a snapshot, half of it CSS, 50 kB a
chunk of two seconds, and about as many bytes of snapshots as of what changes.
"""

import random
from collections.abc import Iterator
from typing import Any

import orjson

NODES = 2_000
CSS_RULES = 3_000
CHUNKS = 9
ROWS_A_CHUNK = 24

_T0 = 1_790_000_000_000
_FLUSH_MS = 2_000
_LIST = 6

Json = dict[str, Any]


def chunks(seed: int) -> list[bytes]:
    """Return the chunks of one visit, the same for the same seed."""
    page = _Page(random.Random(seed))  # noqa: S311 # repeatable, no secret
    return [orjson.dumps(page.opening()), *(orjson.dumps(list(page.busy(number))) for number in range(1, CHUNKS))]


class _Page:
    """A long list whose rows come and go while somebody clicks in it."""

    def __init__(self, draw: random.Random) -> None:
        self._draw = draw
        self._next_id = 10
        self._rows: list[int] = []

    def opening(self) -> list[Json]:
        rows = []
        while self._next_id < NODES:
            rows.append(self._row())
        rules = "".join(
            f".row-{n} .cell:hover > a.link-{n} {{ color: #{n:06x}; padding: {n % 9}px; }}\n" for n in range(CSS_RULES)
        )
        style = _element(4, "style", [_text(5, rules)])
        body = _element(8, "body", [_element(_LIST, "ul", rows, id="list")])
        document = {"type": 0, "id": 1, "childNodes": [_element(2, "html", [_element(3, "head", [style]), body])]}
        meta = {"href": "https://shop.example/orders", "width": 1280, "height": 800}
        snapshot = {"node": document, "initialOffset": {"left": 0, "top": 0}}
        return [_event(4, 0, meta), _event(2, 1, snapshot)]

    def busy(self, number: int) -> Iterator[Json]:
        """Yield the events of a chunk: rows replaced, classes changed, the mouse moved, a click or two."""
        t = number * _FLUSH_MS
        for part in range(4):
            at = t + part * 450
            gone = [self._rows.pop(0) for _ in range(ROWS_A_CHUNK // 4)]
            adds = [add for row in (self._row() for _ in gone) for add in _flat(row, _LIST)]
            attributes = [
                {"id": row, "attributes": {"class": f"row row-{self._draw.randrange(900)}", "aria-selected": "false"}}
                for row in self._rows[:40]
            ]
            removes = [{"parentId": _LIST, "id": row} for row in gone]
            yield _incremental(at, 0, removes=removes, adds=adds, texts=[], attributes=attributes)
            yield _incremental(at + 20, 1, positions=[self._position(offset) for offset in range(-450, 0, 50)])
            if part % 2:
                yield from self._press(at + 100)

    def _press(self, t: int) -> Iterator[Json]:
        node = self._draw.choice(self._rows) + 1
        x, y = self._draw.randrange(1280), self._draw.randrange(800)
        for kind, after in ((1, 0), (0, 80), (2, 80)):
            yield _incremental(t + after, 2, type=kind, id=node, x=x, y=y)

    def _position(self, offset: int) -> Json:
        x, y = self._draw.randrange(1280), self._draw.randrange(800)
        return {"x": x, "y": y, "id": self._rows[0], "timeOffset": offset}

    def _row(self) -> Json:
        first = self._next_id
        self._next_id += 9
        self._rows.append(first)
        price = _element(first + 3, "span", [_text(first + 4, f"{self._draw.randrange(90_000) / 100:.2f} EUR")])
        link = _element(
            first + 5, "a", [_text(first + 6, f"Order {first}")], href=f"https://shop.example/orders/{first}"
        )
        icon = _element(first + 7, "svg", [_element(first + 8, "path", [], d="M12 2L2 7l10 5 10-5-10-5z" * 4)])
        button = _element(first + 1, "button", [_text(first + 2, "Details")], type="button", data_testid=f"row-{first}")
        return _element(first, "li", [button, price, link, icon], role="row", aria_selected="false")


def _element(node_id: int, tag: str, children: list[Json], **attributes: str) -> Json:
    named = {name.replace("_", "-"): value for name, value in attributes.items()}
    named.setdefault("class", f"{tag} cell row-{node_id % 900} theme-light density-compact")
    return {"type": 2, "id": node_id, "tagName": tag, "attributes": named, "childNodes": children}


def _text(node_id: int, content: str) -> Json:
    return {"type": 3, "id": node_id, "textContent": content}


def _flat(node: Json, parent: int) -> Iterator[Json]:
    """Yield a subtree as rrweb adds it: each node by itself, parents and later siblings first."""
    children = node.get("childNodes", [])
    yield {"parentId": parent, "nextId": None, "node": {**node, "childNodes": []} if children else node}
    for child in children:
        yield from _flat(child, node["id"])


def _event(kind: int, t: int, data: Json) -> Json:
    return {"type": kind, "timestamp": _T0 + t, "data": data}


def _incremental(t: int, source: int, **data: Any) -> Json:
    return _event(3, t, {"source": source, **data})
