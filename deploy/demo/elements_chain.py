"""Read posthog-js's `$elements_chain`: the element that was clicked and its ancestors, as one string.

`button.primary:attr__id="dead"nth-of-type="1"text="Buy now";div.row:nth-of-type="4";body:…`, innermost first; quotes in
values are escaped by a backslash.
"""

import re
from typing import NamedTuple

_ELEMENT = re.compile(r'(?:[^;"]|"(?:\\.|[^"\\])*")+')
_ATTRIBUTE = re.compile(r'([\w-]+)="((?:\\.|[^"\\])*)"')
_ROOTS = frozenset(("body", "html"))


class ChainElement(NamedTuple):
    """One element of a chain."""

    tag: str
    attributes: dict[str, str]

    def named(self, name: str) -> str:
        """Return an HTML attribute, empty if it is not there."""
        return self.attributes.get(f"attr__{name}", "")


def parse_chain(chain: str) -> list[ChainElement]:
    """Return the elements, innermost first."""
    return [_parse_element(part) for part in _ELEMENT.findall(chain)]


def selector_of(elements: list[ChainElement]) -> str:
    """Return a CSS selector for the innermost element, from the nearest ancestor that has an id."""
    steps: list[str] = []
    for element in elements:
        if element.named("id"):
            steps.append("#" + element.named("id"))
            break
        place = element.attributes.get("nth-of-type")
        steps.append(element.tag if element.tag in _ROOTS or not place else f"{element.tag}:nth-of-type({place})")
    return " > ".join(reversed(steps))


def _parse_element(part: str) -> ChainElement:
    head, _, rest = part.partition(":")
    attributes = {name: re.sub(r"\\(.)", r"\1", value) for name, value in _ATTRIBUTE.findall(rest)}
    return ChainElement(head.partition(".")[0], attributes)
