"""Reading one chunk of a window: its events in order of time, through all rules, to signals.

The document, the pointer, the forms and the places of a window move on with each event. Nothing here looks at a clock
or at the chunk's place in a batch; what only the next chunk can tell is left in the window's state.
"""

from dataclasses import replace
from typing import Any

from schemas.chunks import Event
from schemas.signals import Change, ChangeKind, Click, Leave, PageView, Signal
from stream_processors.digest import rrweb
from stream_processors.digest.background import Place
from stream_processors.digest.clicks import Clicks
from stream_processors.digest.console import read_console
from stream_processors.digest.dom import DamagedTree, Tree
from stream_processors.digest.mutation import apply_mutation, read_mutation
from stream_processors.digest.network import read_requests
from stream_processors.digest.pages import (
    HIDDEN_TAG,
    VISIBLE_TAG,
    Showing,
    clean_url,
    is_same_page,
    route_of,
    title_of,
    what_is_shown,
)
from stream_processors.digest.pointer import Point
from stream_processors.digest.windows import Window

MAX_SIGNALS = 4_000
"""Pointer events of a chunk with more signals are passed over: no person makes so many."""
_STYLE_SOURCES = frozenset({rrweb.STYLE_SHEET_RULE, rrweb.STYLE_DECLARATION, rrweb.ADOPTED_STYLE_SHEET})


class Interpreter:
    """Reads the events of one chunk of a window."""

    def __init__(self, window: Window) -> None:
        self._window = window
        self._out: list[Signal] = []
        self._clicks = Clicks(window.pointer, window.answers, window.background, window.id, self._out)

    def read(self, events: list[Event]) -> list[Signal]:
        """Read the events and return the chunk's signals in order of time."""
        window, pointer = self._window, self._window.pointer
        last = window.last
        for t, kind, data in events:
            if t <= last - rrweb.JUMP_MS:
                self.pass_jump(last)
            last = t
            if pointer.presses:
                self._clicks.send_presses(t)
            if kind == rrweb.INCREMENTAL:
                self._on_incremental(t, data)
            else:
                self._on_other(t, kind, data)
        self._clicks.send_presses()
        if events:
            window.last = events[-1].t
        window.answers.end_chunk(window.last)
        window.focus.end_chunk()
        window.forms.end_chunk()
        self._out.sort(key=lambda signal: signal.t)
        return self._out

    def pass_gap(self) -> None:
        """Forget what depends on chunks that are missing; whatever is open may have been answered in them."""
        window = self._window
        if window.last <= window.answers.until:
            self._out.append(Change(window.last, ChangeKind.GAP, window=window.id))
        window.set_tree(None)
        self._begin_page(window.last)

    def pass_jump(self, t: int) -> None:
        """Let the browser's clock jump after `t`: how long a click has waited for its answer is not known."""
        answers = self._window.answers
        if t <= answers.until:
            self._out.append(Change(t, ChangeKind.GAP, window=self._window.id))
        answers.until = answers.late = 0

    # Pages

    def _on_other(self, t: int, kind: int, data: dict[str, Any]) -> None:
        if kind == rrweb.META:
            self._on_meta(t, data.get("href"))
        elif kind == rrweb.FULL_SNAPSHOT:
            self._on_snapshot(t, data.get("node"))
        elif kind == rrweb.DOM_CONTENT_LOADED:
            self._window.pages.has_loaded = True
        elif kind == rrweb.CUSTOM:
            self._on_custom(t, data.get("tag"), data.get("payload"))
        elif kind == rrweb.PLUGIN:
            error = read_console(t, data, page_url=self._window.pages.url)
            if error is not None:
                self._out.append(error)
            for at, name in read_requests(t, data):
                self._note(at, ChangeKind.NETWORK, (0, name))

    def _on_meta(self, t: int, href: Any) -> None:
        pages = self._window.pages
        url = clean_url(href) if isinstance(href, str) else pages.url
        pages.is_announced = pages.has_loaded or not is_same_page(url, pages.url)
        if pages.is_announced:
            self._show_page(t, url, is_load=True)
        pages.url = url

    def _show_page(self, t: int, url: str, *, is_load: bool) -> None:
        window, pages = self._window, self._window.pages
        if is_load and pages.url and not is_same_page(pages.url, url):
            self._out.append(Leave(t, url=pages.url, window=window.id))
        self._report(t, ChangeKind.NAVIGATION)
        self._out.append(PageView(t, url=url, window=window.id))
        pages.url = url

    def _on_snapshot(self, t: int, node: Any) -> None:
        window, pages = self._window, self._window.pages
        now = _load(node)
        before = window.tree() if not pages.is_announced else None
        showing = what_is_shown(pages, before=before, now=now)
        if showing is Showing.PAGE and pages.url and not pages.is_announced:
            self._show_page(t, pages.url, is_load=True)
        if showing is not Showing.CHECKOUT:
            self._report(t, ChangeKind.SNAPSHOT)
            self._begin_page(t)
            pages.has_changed = False
        pages.is_announced = pages.has_loaded = False
        window.set_tree(now)
        if now is not None:
            self._add_title(now)

    def _begin_page(self, t: int) -> None:
        window = self._window
        window.answers.on_page()
        window.background.start_page(t)
        window.forms.on_page()
        window.focus.on_page()
        window.cursor.stop()
        window.pointer.down = None
        window.had_selection = False

    def _add_title(self, tree: Tree) -> None:
        for index in range(len(self._out) - 1, -1, -1):
            signal = self._out[index]
            if isinstance(signal, PageView):
                self._out[index] = replace(signal, title=signal.title or title_of(tree))
                return

    def _on_custom(self, t: int, tag: Any, payload: Any) -> None:
        window = self._window
        url = route_of(tag, payload)
        if url and not is_same_page(url, window.pages.url):
            self._show_page(t, url, is_load=False)
        elif tag == HIDDEN_TAG:
            self._report(t, ChangeKind.VISIBILITY)
            self._out.append(Leave(t, url=window.pages.url, window=window.id, hidden=True))
        elif tag == VISIBLE_TAG:
            self._report(t, ChangeKind.VISIBILITY)

    # Incremental events

    def _on_incremental(self, t: int, data: dict[str, Any]) -> None:
        source = data.get("source")
        if not isinstance(source, int):
            return
        if source == rrweb.MUTATION:
            self._on_mutation(t, data)
        elif source == rrweb.MOUSE_INTERACTION:
            self._on_interaction(t, data)
        elif source == rrweb.MOUSE_MOVE:
            self._on_moves(t, data.get("positions"))
        elif source == rrweb.SCROLL:
            self._on_scroll(t, _integer(data.get("id")))
        elif source == rrweb.INPUT:
            self._on_input(t, data)
        elif source == rrweb.MEDIA_INTERACTION:
            self._note(t, ChangeKind.MEDIA, (_integer(data.get("id")), f"@media{_integer(data.get('type'))}"))
        elif source == rrweb.CANVAS_MUTATION:
            self._note(t, ChangeKind.CANVAS, (_integer(data.get("id")), "@canvas"))
        elif source in _STYLE_SOURCES:
            self._note(t, ChangeKind.STYLE, (0, f"@style{source}"))
        elif source == rrweb.VIEWPORT_RESIZE:
            self._report(t, ChangeKind.VISIBILITY)  # full screen, a rotated device, the keyboard on the screen
        elif source == rrweb.SELECTION:
            self._on_selection(t, data.get("ranges"))

    def _on_moves(self, t: int, positions: Any) -> None:
        window = self._window
        if window.pointer.is_held():
            window.cursor.stop()
        elif len(self._out) <= MAX_SIGNALS:
            window.cursor.on_moves(
                t, positions, tree=window.tree(), page_url=window.pages.url, window=window.id, out=self._out
            )

    def _on_mutation(self, t: int, data: dict[str, Any]) -> None:
        window = self._window
        try:
            apply_mutation(
                read_mutation(data),
                t,
                tree=window.tree(),
                answers=window.answers,
                background=window.background,
                out=self._out,
            )
            window.pages.has_changed = True
        except DamagedTree:
            window.set_tree(None)
            self._report(t, ChangeKind.DOM)

    def _on_interaction(self, t: int, data: dict[str, Any]) -> None:
        kind, node, window = data.get("type"), _integer(data.get("id")), self._window
        if len(self._out) > MAX_SIGNALS:
            return
        if kind == rrweb.FOCUS:
            window.forms.focus = node
            window.focus.on_focus(
                t, node, tree=window.tree(), answers=window.answers, background=window.background, out=self._out
            )
            return
        if kind == rrweb.BLUR:
            self._on_blur(t, node)
            return
        if not isinstance(kind, int):
            return
        point = Point(t, node, _integer(data.get("x")), _integer(data.get("y")))
        tree = window.tree()
        click = self._clicks.on_pointer(kind, point, tree=tree, page_url=window.pages.url)
        if click is not None:
            self._on_click(click, tree)
            if window.pointer.is_touch and tree is not None:
                window.focus.on_tap(
                    t, node, tree=tree, answers=window.answers, background=window.background, out=self._out
                )

    def _on_blur(self, t: int, node: int) -> None:
        window = self._window
        window.focus.on_blur(
            t,
            node,
            is_pressed=window.pointer.is_pressed(t),
            tree=window.tree(),
            answers=window.answers,
            background=window.background,
            out=self._out,
        )

    def _on_click(self, click: Click, tree: Tree | None) -> None:
        submit = self._window.forms.on_click(click, tree=tree) if tree is not None else None
        if submit is not None:
            self._out.append(submit)

    def _on_scroll(self, t: int, node: int) -> None:
        window = self._window
        is_own = window.background.scroll(node, t)
        if not is_own:
            window.answers.on_other_input()
            window.pointer.scrolled_at = t
            self._report(t, ChangeKind.SCROLL, node)

    def _on_input(self, t: int, data: dict[str, Any]) -> None:
        window, node = self._window, _integer(data.get("id"))
        pressed, window.background.last_input = window.answers.since, t
        self._report(t, ChangeKind.INPUT, node)
        window.answers.on_other_input()
        tree = window.tree()
        if tree is None:
            return
        touch = window.forms.on_input(
            t, node, data, tree=tree, pressed=pressed, page_url=window.pages.url, window=window.id
        )
        if touch is not None:
            self._out.append(touch)

    def _on_selection(self, t: int, ranges: Any) -> None:
        """Take in a selection: what the user sees is text that is marked, or no longer is."""
        window = self._window
        is_real = any(
            isinstance(part, dict)
            and (part.get("start"), part.get("startOffset")) != (part.get("end"), part.get("endOffset"))
            for part in (ranges if isinstance(ranges, list) else ())
        )
        if is_real or window.had_selection:
            self._report(t, ChangeKind.SELECTION)
        window.had_selection = is_real

    def _note(self, t: int, what: ChangeKind, place: Place) -> None:
        self._window.answers.note(t, what, place, self._window.background, self._out)

    def _report(self, t: int, what: ChangeKind, node: int = 0) -> None:
        answers = self._window.answers
        if answers.is_open(t):
            answers.report(t, what, (node, ""), self._window.background, self._out)


def _load(node: Any) -> Tree | None:
    """Return the document of a full snapshot; None if it is damaged or too large."""
    tree = Tree()
    try:
        tree.load(node)
    except DamagedTree:
        return None
    return tree


def _integer(value: Any) -> int:
    """Return a number of the recording as an integer that JSON and Postgres can hold; 0 for anything else."""
    if isinstance(value, int | float) and -(2**31) < value < 2**31:
        return round(value)
    return 0
