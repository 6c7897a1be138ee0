"""What a hostile page may ask for: work is bounded by chunk, not by what it has of everything times each other."""

from typing import Any

import pytest

from schemas.signals import FormTouch
from stream_processors.digest import forms
from stream_processors.digest.dom import Row
from stream_processors.digest.forms import Forms
from tests.digest_page import el, tree_of

FORM, FIELD, SENDER = 20, 21, 22


class CountedRows(dict[int, Row]):
    """Rows of a document that know how often all of them were looked at."""

    walks = 0

    def values(self) -> Any:
        self.walks += 1
        return super().values()


def touch(memory: Forms, tree: Any, t: int = 1_000) -> FormTouch | None:
    """Type into the field."""
    memory.focus = FIELD
    return memory.on_input(t, FIELD, {"text": "x"}, tree=tree, pressed=0, page_url="", window="w")


def test_a_form_that_cannot_be_sent_is_looked_for_no_more_than_a_chunk_allows(monkeypatch: pytest.MonkeyPatch) -> None:
    tree = tree_of(el(FORM, "form", el(FIELD, "input"), id="pay"))
    tree.rows = rows = CountedRows(tree.rows)
    monkeypatch.setattr(forms, "MAX_WALKED", 10 * len(rows))
    memory = Forms()
    assert [touch(memory, tree) for _ in range(500)] == [None] * 500
    assert rows.walks == 10
    memory.end_chunk()
    touch(memory, tree)
    assert rows.walks == 11


def test_what_a_chunk_asks_beyond_is_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    tree = tree_of(el(FORM, "form", el(FIELD, "input"), el(SENDER, "button"), id="pay"))
    monkeypatch.setattr(forms, "MAX_WALKED", len(tree.rows) - 1)
    memory = Forms()
    assert touch(memory, tree) is None
    monkeypatch.undo()
    memory.end_chunk()
    assert touch(memory, tree) is not None


def test_of_many_children_only_the_first_are_listed() -> None:
    tree = tree_of(el(FORM, "ul", *(el(100 + n, "li") for n in range(50))))
    assert tree.children(FORM, limit=3) == [100, 101, 102]
