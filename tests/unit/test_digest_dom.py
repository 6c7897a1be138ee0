"""The document of a window: what is kept, and how mutations change it."""

from typing import Any

import pytest

from stream_processors.digest import dom
from stream_processors.digest.dom import DATA, DamagedTree, Tree
from tests.digest_page import document, el, outline, text, tree_of


def test_a_snapshot_becomes_rows_with_links() -> None:
    tree = tree_of(el(7, "p", text(8, "Hello"), el(9, "b"), text(10, "!")))
    assert outline(tree, 6) == ["body", ["p", "Hello", "b", "!"]]
    assert tree.root == 1
    assert tree.chain(9) == [9, 7, 6, 2, 1]


def test_the_chain_of_an_unknown_node_is_empty() -> None:
    assert tree_of().chain(99) == []


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ({"class": "a b"}, {"class": "a b"}),
        ({}, None),
        ({"checked": True, "disabled": False, "n": 5, "gone": None}, {"checked": "", "n": "5"}),
        ({"style": "x" * 65}, {"style": "\x017f5fb567"}),
        ({"class": "y" * 201}, {"class": "y" * 200 + "\x016e192ef2"}),
        ({"href": "https://shop.example/" + "z" * 80 + "#"}, {"href": "#"}),
        ({"_cssText": "a{}" * 50}, None),
    ],
)
def test_attributes_are_kept_short(given: dict[str, Any], kept: dict[str, str] | None) -> None:
    tree = tree_of({"type": 2, "id": 7, "tagName": "div", "attributes": given, "childNodes": []})
    assert tree.rows[7][DATA] == kept


def test_a_long_text_is_kept_as_its_beginning_and_a_fingerprint() -> None:
    kept = tree_of(el(7, "p", text(8, "t" * 500))).rows[8][DATA]
    assert kept == "t" * 87 + "\x01" + kept[-8:]
    assert kept != tree_of(el(7, "p", text(8, "t" * 501))).rows[8][DATA]


@pytest.mark.parametrize("tag", ["input", "textarea", "select"])
def test_what_a_user_typed_is_never_kept(tag: str) -> None:
    tree = tree_of(el(7, tag, value="secret"))
    assert tree.rows[7][DATA] == {"value": "1"}
    tree.set_attributes(7, {"value": "secret again"})
    assert tree.rows[7][DATA] == {"value": "1"}


def test_the_name_that_a_page_gives_a_button_is_kept() -> None:
    assert tree_of(el(7, "input", type="submit", value="Buy")).rows[7][DATA] == {"type": "submit", "value": "Buy"}


def test_a_node_is_put_before_its_sibling_or_at_the_end() -> None:
    tree = tree_of(el(7, "ul", el(8, "li"), el(9, "hr")))
    tree.add_all([(7, 9, el(10, "b")), (7, 0, el(11, "i")), (7, 8, el(12, "u"))])
    assert outline(tree, 7) == ["ul", "u", "li", "b", "hr", "i"]


def test_a_node_whose_sibling_or_parent_comes_later_waits_for_it() -> None:
    tree = tree_of(el(7, "ul"))
    tree.add_all([(7, 11, el(10, "b")), (12, 0, text(13, "x")), (7, 0, el(11, "i")), (11, 0, el(12, "u"))])
    assert outline(tree, 7) == ["ul", "b", ["i", ["u", "x"]]]


def test_without_its_sibling_a_node_goes_to_the_end_and_without_its_parent_it_is_left_out() -> None:
    tree = tree_of(el(7, "ul", el(8, "li")))
    tree.add_all([(7, 99, el(10, "b")), (98, 0, el(11, "i"))])
    assert outline(tree, 7) == ["ul", "li", "b"]
    assert 11 not in tree.rows


def test_a_sibling_under_another_parent_is_no_sibling() -> None:
    tree = tree_of(el(7, "ul", el(8, "li")), el(9, "ol", el(10, "li")))
    tree.add_all([(7, 10, el(11, "b"))])
    assert outline(tree, 7) == ["ul", "li", "b"]


def test_removing_a_node_takes_its_descendants_along() -> None:
    tree = tree_of(el(7, "ul", el(8, "li", text(9, "x")), el(10, "hr")))
    tree.remove(8)
    tree.remove(8)
    assert outline(tree, 7) == ["ul", "hr"]
    assert not {8, 9} & set(tree.rows)


def test_a_node_that_is_added_again_moves() -> None:
    tree = tree_of(el(7, "ul", el(8, "li"), el(9, "hr")), el(10, "ol"))
    tree.add_all([(10, 0, el(8, "li", text(11, "moved")))])
    assert outline(tree, 6) == ["body", ["ul", "hr"], ["ol", ["li", "moved"]]]


def test_a_style_difference_changes_single_properties() -> None:
    tree = tree_of(el(7, "div", style="color: red; width: 5px"))
    tree.set_attributes(7, {"style": {"width": "6px", "color": False, "top": ["1px", "important"]}})
    assert tree.rows[7][DATA] == {"style": "width: 6px; top: 1px !important"}
    tree.set_attributes(7, {"style": None})
    assert tree.rows[7][DATA] is None


def test_changes_of_unknown_nodes_are_passed_over() -> None:
    tree = tree_of()
    tree.set_text(99, "x")
    tree.set_attributes(99, {"class": "x"})
    assert 99 not in tree.rows


@pytest.mark.parametrize(
    "node",
    [
        None,
        {"type": 0},
        {"type": 0, "id": "1", "childNodes": []},
        {"type": 0, "id": 0, "childNodes": []},
        {"type": 0, "id": 2**31, "childNodes": []},
        document(el(7, "p", el(7, "p"))),
        document(el(1, "p")),
        document({"type": 2, "id": 7, "tagName": "", "attributes": {}, "childNodes": []}),
        document({"type": 2, "id": 7, "tagName": 5, "attributes": {}, "childNodes": []}),
        document({"type": 2, "id": 7, "tagName": "p", "attributes": [], "childNodes": []}),
        document({"type": 2, "id": 7, "tagName": "p", "attributes": {}, "childNodes": [5]}),
        document({"type": 3, "id": 7, "textContent": []}),
        document({"type": 3, "id": [7], "textContent": ""}),
    ],
    ids=lambda node: str(node)[-60:],
)
def test_a_document_that_contradicts_itself_is_damaged(node: Any) -> None:
    with pytest.raises(DamagedTree):
        Tree().load(node)


def test_a_node_put_into_itself_is_damaged() -> None:
    tree = tree_of(el(7, "ul", el(8, "li")))
    with pytest.raises(DamagedTree):
        tree.add_all([(8, 0, el(7, "ul"))])


def test_a_document_beyond_the_bound_is_damaged(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dom, "MAX_NODES", 10)
    tree_of(*(el(n, "p") for n in range(7, 11)))
    with pytest.raises(DamagedTree):
        tree_of(*(el(n, "p") for n in range(7, 12)))
