"""Small recordings for the tests of the digest stage: nodes, rrweb events, and a reader of chunks."""

from collections.abc import Sequence
from typing import Any

import orjson

from schemas import signals
from schemas.signals import Change, Click, Signal
from stream_processors.digest import build_logic
from stream_processors.digest.dom import DATA, FIRST, LAST, NEXT, PARENT, PREVIOUS, TAG, Tree
from stream_processors.digest.windows import Session
from stream_processors.fold.logic import Emitted, LogRecord, RecordRefused

T0 = 1_790_000_000_000
"""Event time at which recordings begin."""
URL = "https://shop.example/cart"
KEY = b"p/s"

Node = dict[str, Any]
Event = dict[str, Any]


def el(node_id: int, tag: str, *children: Node, **attributes: Any) -> Node:
    """Return an element; `class_` stands for `class`, underscores for hyphens."""
    names = {name.rstrip("_").replace("_", "-"): value for name, value in attributes.items()}
    return {"type": 2, "id": node_id, "tagName": tag, "attributes": names, "childNodes": list(children)}


def text(node_id: int, content: str) -> Node:
    """Return a text node."""
    return {"type": 3, "id": node_id, "textContent": content}


def document(*body: Node, title: str = "Cart") -> Node:
    """Return a document: 1 document, 2 html, 3 head, 4 title, 5 its text, 6 body."""
    head = el(3, "head", el(4, "title", text(5, title)))
    return {"type": 0, "id": 1, "childNodes": [el(2, "html", head, el(6, "body", *body))]}


def event(kind: int, t: int, data: Any) -> Event:
    """Return an rrweb event, `t` ms after T0."""
    return {"type": kind, "timestamp": T0 + t, "data": data}


def meta(t: int = 0, href: str = URL) -> Event:
    """Return a Meta event."""
    return event(4, t, {"href": href, "width": 1280, "height": 800})


def snapshot(t: int, node: Node) -> Event:
    """Return a full snapshot."""
    return event(2, t, {"node": node, "initialOffset": {"left": 0, "top": 0}})


def page(*body: Node, t: int = 0, href: str = URL, title: str = "Cart") -> list[Event]:
    """Return the events with which a page begins."""
    return [meta(t, href), snapshot(t + 1, document(*body, title=title))]


def incremental(t: int, source: int, **data: Any) -> Event:
    """Return an incremental event."""
    return event(3, t, {"source": source, **data})


def pointer(kind: int, t: int, node: int, *, x: int = 50, y: int = 60) -> Event:
    """Return a mouse or touch event."""
    return incremental(t, 2, type=kind, id=node, x=x, y=y)


def press(t: int, node: int, *, x: int = 50, y: int = 60, held: int = 90) -> list[Event]:
    """Return a whole click: down, up and Click, `held` ms later."""
    return [
        pointer(1, t, node, x=x, y=y),
        pointer(0, t + held, node, x=x, y=y),
        pointer(2, t + held, node, x=x, y=y),
    ]


def mutation(
    t: int,
    *,
    removes: Sequence[tuple[int, int]] = (),
    adds: Sequence[tuple[int, int | None, Node]] = (),
    texts: Sequence[tuple[int, str]] = (),
    attributes: Sequence[tuple[int, dict[str, Any]]] = (),
) -> Event:
    """Return a mutation: removes as (parent, node), adds as (parent, next sibling, node)."""
    return incremental(
        t,
        0,
        removes=[{"parentId": parent, "id": node} for parent, node in removes],
        adds=[{"parentId": parent, "nextId": after, "node": node} for parent, after, node in adds],
        texts=[{"id": node, "value": value} for node, value in texts],
        attributes=[{"id": node, "attributes": values} for node, values in attributes],
    )


def chunk_record(
    body: bytes, *, offset: int = 0, seq: int = 0, window: str = "w", encoding: str = "identity", **more: Any
) -> LogRecord:
    """Return a chunk as a record of the recordings log."""
    header = {
        "v": 1,
        "project_id": "p",
        "session_id": "s",
        "window_id": window,
        "seq": seq,
        "received_at": T0,
        "encoding": encoding,
        "codec": "json",
        "settings": {"version": 1},
    } | more
    headers = [("kind", b"chunk"), ("meta", orjson.dumps(header))]
    return LogRecord(offset, T0 + offset, "chunk", KEY, body, headers)


def tree_of(*body: Node) -> Tree:
    """Return the document with this body as the stage keeps it."""
    tree = Tree()
    tree.load(document(*body))
    return tree


def outline(tree: Tree, node: int) -> Any:
    """Return a subtree as nested lists, reading the children forwards and checking every link."""
    row = tree.rows[node]
    children = tree.children(node, limit=1_000)
    ends = (children[0], children[-1]) if children else (0, 0)
    assert (row[FIRST], row[LAST]) == ends
    for before, child, after in zip([0, *children], children, [*children[1:], 0], strict=False):
        assert tree.rows[child][PARENT] == node
        assert (tree.rows[child][PREVIOUS], tree.rows[child][NEXT]) == (before, after)
    own = row[DATA] if row[TAG] == "" else row[TAG]
    return [own, *(outline(tree, child) for child in children)] if children else own


class Reader:
    """Reads the chunks of one session in order."""

    def __init__(self) -> None:
        self.logic = build_logic({})
        self.session: Session | None = None
        self.offset = 0
        self.seqs: dict[str, int] = {}

    def digest(self, events: Sequence[Any], *, window: str = "w", seq: int | None = None) -> dict[str, Any]:
        """Read a chunk and return its digest; the state is encoded and decoded in between."""
        number = self.seqs.get(window, 0) if seq is None else seq
        self.seqs[window] = number + 1
        record = chunk_record(orjson.dumps(list(events)), offset=self.offset, seq=number, window=window)
        self.offset += 1
        if self.session is None:
            self.session = self.logic.open(KEY, record)
        out = Emitted()
        self.logic.apply(self.session, KEY, record, out)
        stored = self.logic.encode(self.session)
        self.session = self.logic.decode(stored)
        assert self.logic.encode(self.session) == stored
        assert out.parked == []
        (output,) = out.outputs
        decoded: dict[str, Any] = orjson.loads(output.value)
        return decoded

    def read(self, events: Sequence[Any], *, window: str = "w", seq: int | None = None) -> list[Signal]:
        """Read a chunk and return its signals."""
        decoded = [signals.decode(data) for data in self.digest(events, window=window, seq=seq)["signals"]]
        return [signal for signal in decoded if signal is not None]


def read(*chunks: Sequence[Any]) -> list[Signal]:
    """Read chunks of one window in order and return all signals."""
    reader = Reader()
    return [signal for chunk in chunks for signal in reader.read(chunk)]


def clicks(found: Sequence[Signal]) -> list[Click]:
    """Return the clicks among signals."""
    return [signal for signal in found if isinstance(signal, Click)]


def changes(found: Sequence[Signal]) -> list[Change]:
    """Return the changes among signals."""
    return [signal for signal in found if isinstance(signal, Change)]


def refusal(record: LogRecord) -> RecordRefused:
    """Return why a first record is refused."""
    logic = build_logic({})
    try:
        logic.apply(logic.open(KEY, record), KEY, record, Emitted())
    except RecordRefused as refused:
        return refused
    raise AssertionError("the record was taken")
