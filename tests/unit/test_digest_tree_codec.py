"""The document as bytes: a base and deltas give exactly the tree that wrote them."""

import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stream_processors.digest import tree_codec
from stream_processors.digest.dom import Tree
from tests.digest_page import Node, document, el, outline, text, tree_of


def rebuilt(*parts: bytes) -> Tree:
    tree = Tree()
    for part in parts:
        tree_codec.apply(tree, part)
    return tree


def based(tree: Tree) -> bytes:
    base = tree_codec.encode_base(tree)
    tree.forget_changes()
    return base


PAGE = (
    el(7, "ul", el(8, "li", text(9, "one")), el(10, "li", text(11, "two")), class_="list"),
    el(12, "input", type="text", value="typed"),
    el(13, "p"),
)


def test_a_base_gives_the_document() -> None:
    tree = tree_of(*PAGE)
    again = rebuilt(based(tree))
    assert (again.rows, again.root) == (tree.rows, 1)


def test_an_empty_document_has_a_base_too() -> None:
    assert rebuilt(tree_codec.encode_base(Tree())).rows == {}


def test_nothing_changed_is_no_delta() -> None:
    tree = tree_of(*PAGE)
    based(tree)
    assert tree_codec.encode_delta(tree) == b""


@pytest.mark.parametrize(
    "change",
    [
        lambda tree: tree.remove(8),
        lambda tree: tree.add_all([(7, 10, el(20, "li", text(21, "x"))), (7, 0, el(22, "li"))]),
        lambda tree: tree.add_all([(7, 8, el(20, "b")), (20, 0, el(21, "i")), (21, 0, text(22, "deep"))]),
        lambda tree: tree.set_text(9, "changed"),
        lambda tree: tree.set_attributes(7, {"class": None, "id": "new"}),
        lambda tree: (tree.remove(8), tree.add_all([(13, 0, el(8, "li", text(9, "moved")))])),
        lambda tree: (tree.remove(7), tree.add_all([(6, 12, el(7, "ul", el(8, "li")))])),
        lambda tree: (tree.add_all([(7, 0, el(20, "li"))]), tree.remove(20)),
        lambda tree: (tree.set_text(9, "changed"), tree.remove(8)),
        lambda tree: (tree.add_all([(10, 0, el(8, "li"))]), tree.remove(7)),
    ],
)
def test_a_delta_gives_what_the_tree_has_become(change: Any) -> None:
    tree = tree_of(*PAGE)
    base = based(tree)
    change(tree)
    delta = tree_codec.encode_delta(tree)
    tree.forget_changes()
    again = rebuilt(base, delta) if delta else rebuilt(base)
    assert again.rows == tree.rows
    assert outline(again, 1) == outline(tree, 1)


@settings(max_examples=300, deadline=None)
@given(seed=st.integers(0, 2**32), steps=st.integers(1, 60))
def test_any_way_of_changes_is_rebuilt_from_its_deltas(seed: int, steps: int) -> None:
    rng = random.Random(seed)
    tree = Tree()
    tree.load(document(*PAGE))
    parts = [based(tree)]
    free = 20
    for _ in range(steps):
        for _ in range(rng.randint(1, 6)):
            free = _change_at_random(tree, rng, free)
        delta = tree_codec.encode_delta(tree)
        tree.forget_changes()
        if delta:
            parts.append(delta)
    again = rebuilt(*parts)
    assert again.rows == tree.rows
    outline(again, 1)
    assert rebuilt(tree_codec.encode_base(again)).rows == tree.rows


def _change_at_random(tree: Tree, rng: random.Random, free: int) -> int:
    """Make one change as rrweb would tell it: a removal, an addition or move, a text, an attribute."""
    node = rng.choice([n for n in tree.rows if n > 6] or [6])
    kind = rng.randrange(5)
    if kind == 0 and node != 6:
        tree.remove(node)
    elif kind == 1:
        tree.set_text(node, rng.choice(["a", "b" * 100]))
    elif kind == 2:
        tree.set_attributes(node, {rng.choice("xy"): rng.choice(["1", None, "z" * 70])})
    else:
        parents = [n for n, row in tree.rows.items() if row[1] not in ("", "#") and node not in tree.chain(n)]
        parent = rng.choice(parents or [1])
        moved = node if kind == 3 and node not in (6, parent) else free + 1
        if moved in tree.chain(parent):
            return free
        siblings = [n for n in tree.children(parent, limit=100) if n != moved]
        tree.add_all([(parent, rng.choice([0, *siblings]), _random_node(rng, moved, free + 1))])
    return free + 10


def _random_node(rng: random.Random, top: int, free: int) -> Node:
    children = [text(free + n, "t") if rng.random() < 0.5 else el(free + n, "b") for n in range(1, rng.randint(1, 4))]
    return el(top, rng.choice(["li", "div"]), *children, **({"class_": "c"} if rng.random() < 0.5 else {}))
