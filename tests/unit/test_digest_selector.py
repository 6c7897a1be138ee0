"""How elements are named."""

import pytest

from schemas.signals import Element
from stream_processors.digest.selector import component_of, describe, escape, selector_of, text_of
from tests.digest_page import Node, el, text, tree_of


def selector(*body: Node, of: int) -> str:
    return selector_of(tree_of(*body), of)


def test_an_element_is_described_whole() -> None:
    button = el(9, "button", el(10, "svg"), text(11, " Add \n to cart "), class_="btn primary", id="add")
    tree = tree_of(el(7, "main", el(8, "div", button, data_component="ProductCard")))
    assert describe(tree, 9) == Element(
        tag="button",
        id="add",
        classes="btn primary",
        text="Add to cart",
        selector="#add",
        component="ProductCard",
    )


def test_a_chosen_id_anchors_a_selector() -> None:
    assert selector(el(7, "div", el(8, "ul", el(9, "li"), el(10, "li")), id="cart"), of=10) == (
        "#cart > ul > li:nth-of-type(2)"
    )


@pytest.mark.parametrize(
    "generated", ["ember1234", ":r1:", "radix-dialog", "mui-7", "a1b2c3d4e5", "headlessui-menu", "x" * 41]
)
def test_a_generated_id_is_left_out(generated: str) -> None:
    assert selector(el(7, "button", id=generated), of=7) == "body > button"


def test_a_test_attribute_anchors_a_selector() -> None:
    assert selector(el(7, "div", el(8, "b"), data_testid='say "hi"'), of=8) == '[data-testid="say \\"hi\\""] > b'


def test_a_field_is_named_by_its_name() -> None:
    assert selector(el(7, "form", el(8, "input", name="email"), id="signup"), of=8) == '#signup > input[name="email"]'


@pytest.mark.parametrize(
    ("classes", "step"),
    [
        ("btn", "a.btn"),
        ("is-active btn", "a.btn"),
        ("css-1q2w3e active open", "a"),
        ("btn--selected card-link", "a.card-link"),
        ("MuiButton x", "a"),
    ],
)
def test_a_class_that_says_what_it_is_belongs_to_the_selector(classes: str, step: str) -> None:
    assert selector(el(7, "a", class_=classes), of=7) == f"body > {step}"


def test_places_count_siblings_of_the_same_tag_only() -> None:
    body = (el(7, "p"), el(8, "div"), el(9, "p"))
    assert selector(*body, of=9) == "body > p:nth-of-type(2)"
    assert selector(*body, of=8) == "body > div"


def test_a_selector_goes_up_eight_levels_at_most() -> None:
    node = el(30, "b")
    for n in range(29, 15, -1):
        node = el(n, "i", node)
    assert selector(node, of=30) == " > ".join(["i"] * 7 + ["b"])


@pytest.mark.parametrize(
    ("name", "escaped"),
    [("a-b_c", "a-b_c"), ("1st", "\\31 st"), ("-2", "-\\32 "), ("-", "\\-"), ("a:b", "a\\:b"), ("größe", "größe")],
)
def test_names_are_escaped_as_css_asks(name: str, escaped: str) -> None:
    assert escape(name) == escaped


@pytest.mark.parametrize(
    ("element", "expected"),
    [
        (el(7, "button", text(8, "Pay"), el(9, "b", text(10, "now"))), "Pay now"),
        (el(7, "button", el(8, "script", text(9, "x=1")), text(10, "Pay")), "Pay"),
        (el(7, "button", aria_label="Close"), "Close"),
        (el(7, "img", alt="Logo"), "Logo"),
        (el(7, "input", placeholder="Search"), "Search"),
        (el(7, "input", type="submit", value="Send"), "Send"),
        (el(7, "input", type="text", value="typed"), ""),
        (el(7, "textarea", text(8, "typed")), ""),
        (el(7, "div", text(8, "typed"), contenteditable="true"), ""),
        (el(7, "label", text(8, "Note"), el(9, "textarea", text(10, "typed"))), "Note"),
        (el(7, "p", text(8, "*** ****")), "*** ****"),
        (el(7, "p", text(8, "long " * 100)), ("long " * 100)[:87]),
        (el(7, "p", *(text(n, "word ") for n in range(8, 60))), ("word " * 60)[:120].rstrip()),
    ],
)
def test_the_text_is_what_the_page_says_and_never_what_a_user_typed(element: Node, expected: str) -> None:
    assert text_of(tree_of(element), 7) == expected


@pytest.mark.parametrize(
    ("around", "component"),
    [
        ({"id": "checkout"}, "#checkout"),
        ({"role": "dialog"}, "dialog"),
        ({"data_component": "Cart"}, "Cart"),
        ({"id": "ember1234"}, ""),
        ({}, ""),
    ],
)
def test_the_component_is_the_nearest_named_ancestor(around: dict[str, str], component: str) -> None:
    assert component_of(tree_of(el(7, "div", el(8, "button", id="own"), **around)), 8) == component


def test_a_landmark_is_a_component() -> None:
    assert component_of(tree_of(el(7, "nav", el(8, "a"))), 8) == "nav"
