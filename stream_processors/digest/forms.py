"""Form fields that the user changed, and forms that the user sent. Values are never carried, here or anywhere.

rrweb records every input, the page's own included, and no submit. So:
- a *touch* is an input on a field that has the focus or was just pressed (a box ticked through its label); each field
  counts once per page view, and again after a submit. A form without a submit control is sent by Enter or by a script,
  neither of which is recorded: what became of it is unknown, so it has no touches;
- a *submit* is a click (by keyboard too: Enter clicks the form's button) on a submit control whose form has no required
  field that is known to be empty, because then the browser refuses and shows its own bubble.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from schemas.signals import Click, FormSubmit, FormTouch, Signal
from stream_processors.digest.dom import FIRST, NEXT, TAG, Row, Tree, attributes_of
from stream_processors.digest.kept import FILLED, is_typed_into
from stream_processors.digest.selector import selector_of
from stream_processors.digest.texts import clean

PRESSED_MS = 1_000
MAX_TOUCHED = 200
MAX_FIELD_CHARS = 100
_MAX_FORM_NODES = 5_000
MAX_WALKED = 5_000_000
"""Rows of the document that are looked at for one chunk, 1 s: a form's controls may lie anywhere in the document, and a
hostile chunk has a large document and as many inputs. What is asked beyond is unknown: no touch, no submit."""
_SUBMIT_TYPES = frozenset({"submit", "image"})
_SUBMITTING_TAGS = frozenset({"button", "input"})
_CHECKED_TYPES = frozenset({"checkbox", "radio"})
_FIELD_TAGS = frozenset({"input", "select", "textarea"})


@dataclass(slots=True)
class Forms:
    """The forms of one page; state that outlives a chunk."""

    focus: int = 0
    touched: dict[int, int] = field(default_factory=dict)
    """Field -> its form."""
    walked: int = 0
    """Rows that were looked at for this chunk."""

    def on_page(self) -> None:
        """Begin anew with a new page."""
        self.focus, self.touched = 0, {}

    def on_input(
        self, t: int, node: int, data: dict[str, Any], *, tree: Tree, pressed: int, page_url: str, window: str
    ) -> FormTouch | None:
        """Take in an input; `pressed` is when the pointer was last used."""
        row = tree.rows.get(node)
        if row is None or row[TAG] not in _FIELD_TAGS:
            return None
        attributes = attributes_of(row)
        _fill(tree, node, attributes, data)
        form = form_of(tree, node)
        is_users = self.focus == node or 0 <= t - pressed <= PRESSED_MS or "autofocus" in attributes
        if not form or not is_users or data.get("userTriggered") is False:
            return None
        if node in self.touched or len(self.touched) >= MAX_TOUCHED:
            return None
        if not self._may_walk(tree) or not _can_be_submitted(tree, form):
            return None
        self.touched[node] = form
        return FormTouch(
            t, form=_name_of_form(tree, form), field=_name_of_field(tree, node), page_url=page_url, window=window
        )

    def on_click(self, click: Click, *, tree: Tree) -> FormSubmit | None:
        """Take in a click: on a submit control it sends the form."""
        row = tree.rows.get(click.node)
        if row is None or row[TAG] not in _SUBMITTING_TAGS or not _submits(row[TAG], attributes_of(row)):
            return None
        if not self._may_walk(tree):
            return None
        form = form_of(tree, click.node) or _form_named(tree, attributes_of(row).get("form", ""))
        if not form or _lacks_required(tree, form):
            return None
        self.touched = {touched: its for touched, its in self.touched.items() if its != form}
        return FormSubmit(click.t, form=_name_of_form(tree, form), page_url=click.page_url, window=click.window)

    def end_chunk(self) -> None:
        """Begin to count anew."""
        self.walked = 0

    def _may_walk(self, tree: Tree) -> bool:
        """Tell whether the whole document may be looked at once more."""
        self.walked += len(tree.rows)
        return self.walked <= MAX_WALKED

    def dump(self) -> list[Any]:
        """Return the state as JSON."""
        return [self.focus, list(self.touched.items())]

    @classmethod
    def load(cls, data: list[Any]) -> "Forms":
        """Make it again."""
        focus, touched = data
        return cls(focus, dict(touched))


def form_of(tree: Tree, node: int) -> int:
    """Return the form around a node; 0 if it is in none."""
    return next((ancestor for ancestor in tree.chain(node) if tree.rows[ancestor][TAG] == "form"), 0)


def append_signals(out: list[Signal], *signals: Signal | None) -> None:
    """Append those that are."""
    out.extend(signal for signal in signals if signal is not None)


def _fill(tree: Tree, node: int, attributes: Mapping[str, str], data: dict[str, Any]) -> None:
    """Note whether the field holds something now."""
    is_checked_kind = attributes.get("type", "").lower() in _CHECKED_TYPES
    name = "checked" if is_checked_kind else "value"
    is_full = bool(data.get("isChecked") if is_checked_kind else data.get("text"))
    if is_full != (name in attributes) and (is_checked_kind or is_typed_into(tree.rows[node][TAG], attributes)):
        tree.set_attributes(node, {name: ("" if is_checked_kind else FILLED) if is_full else None})


def _submits(tag: str, attributes: Mapping[str, str]) -> bool:
    return "disabled" not in attributes and _is_submit(tag, attributes)


def _is_submit(tag: str, attributes: Mapping[str, str]) -> bool:
    default = "submit" if tag == "button" else ""
    return tag in _SUBMITTING_TAGS and attributes.get("type", default).lower() in _SUBMIT_TYPES


def _form_named(tree: Tree, name: str) -> int:
    """Return the form that a control outside of it names."""
    rows = tree.rows
    found = (node for node, row in rows.items() if row[TAG] == "form" and attributes_of(row).get("id") == name)
    return next(found, 0) if name else 0


def _can_be_submitted(tree: Tree, form: int) -> bool:
    """Tell whether the form has a submit control, inside or, named by its id, elsewhere; a disabled one counts."""
    if any(_is_submit(row[TAG], attributes_of(row)) for row in _rows_within(tree, form)):
        return True
    name = attributes_of(tree.rows[form]).get("id")
    return bool(name) and any(
        row[TAG] in _SUBMITTING_TAGS
        and attributes_of(row).get("form") == name
        and _is_submit(row[TAG], attributes_of(row))
        for row in tree.rows.values()
    )


def _rows_within(tree: Tree, form: int) -> Iterator[Row]:
    rows = tree.rows
    stack = [rows[form][FIRST]]
    for _ in range(_MAX_FORM_NODES):
        if not stack:
            return
        node = stack.pop()
        if node:
            row = rows[node]
            stack += (row[NEXT], row[FIRST])
            yield row


def _lacks_required(tree: Tree, form: int) -> bool:
    """Tell whether a required field of the form is empty; a form with `novalidate` is sent all the same."""
    if "novalidate" in attributes_of(tree.rows[form]):
        return False
    for row in _rows_within(tree, form):
        attributes = attributes_of(row)
        if row[TAG] in _FIELD_TAGS and "required" in attributes and "disabled" not in attributes:
            kind = attributes.get("type", "").lower()
            if kind != "radio" and not attributes.get("value") and "checked" not in attributes:
                return True
    return False


def _name_of_form(tree: Tree, form: int) -> str:
    return selector_of(tree, form)


def _name_of_field(tree: Tree, node: int) -> str:
    attributes = attributes_of(tree.rows[node])
    name = attributes.get("name") or attributes.get("id")
    return clean(name, limit=MAX_FIELD_CHARS) if name else selector_of(tree, node)
