"""What a style sheet reveals by itself: menus that open because something in them has the focus, without any script.

`.menu:focus-within ul { display: block }` shows a list as soon as the focus is somewhere in `.menu`, `.btn:focus + ul`
one beside what has it, `.menu:hover ul` one under the pointer, which on a touch screen stays where the last tap was.
Nothing of it is a change of the document, so a recording tells of it only by its events and its style sheets.

Of a sheet only such *holders* are kept, in place of its text: one a line, `w` (the focus is within), `f` (it has the
focus) or `h` (the pointer is within), and the compound of tag, `#id` and `.classes`. A rule counts if it is about
another element than the holder, and shows or hides it; rings, colours, zooms and decorations (`::after`) are only how
a control feels. Not understood, and so left out: nested rules (`&:focus-within`), `:has(:focus)`, attribute selectors.
"""

import re
from collections.abc import Mapping
from typing import Final, NamedTuple

from stream_processors.digest.texts import FINGERPRINT, checksum

TEXT_ATTRIBUTE: Final = "_cssText"
"""rrweb's attribute for the text of a sheet, on `style` and `link`."""
TAGS: Final = frozenset({"style", "link"})

_MARK: Final = "\x02"
"""Begins the kept text of a sheet that rrweb 1 recorded as a text node."""

FOCUS_WITHIN, FOCUS, HOVER = "w", "f", "h"

MAX_HOLDERS = 64
MAX_SELECTOR_CHARS = 2_000
MAX_RULE_CHARS = 2_000
MAX_COMPOUND_CHARS = 80
"""How far is looked around a pseudo-class, so that no sheet costs more than its length."""
_MAX_LOOKS = 2_000
"""Occurrences of a pseudo-class in a sheet; bootstrap has 400."""

_PSEUDO = {":focus-within": FOCUS_WITHIN, ":focus": FOCUS, ":hover": HOVER}
_OCCURRENCE = re.compile(r":(?:focus-within|focus|hover)(?=[:.\[]|\s*[>+~]|\s+[^\s{,>+~])")
"""A pseudo-class with more of a selector behind it."""
_HOLDER = re.compile(r"([\w-]*(?:[#.][\w-]+)*)(?::[\w-]+(?:\([^()]*\))?)*$", re.ASCII)
_OTHER = re.compile(r"[^\s,>+~]*\s*[\s>+~]\s*[^\s,>+~{]")
"""The rest of the holder, a combinator, and another element."""
_REVEALING = re.compile(
    r"[{;\s](?:display|visibility|opacity|(?:max-)?height|clip-path|left|right|top|bottom|inset|grid-template-rows)\s*:"
)


class Holder(NamedTuple):
    """An element that reveals another one, by what it is called."""

    kind: str
    tag: str
    id: str
    classes: frozenset[str]

    def matches(self, tag: str, attributes: Mapping[str, str]) -> bool:
        """Tell whether an element is one of these."""
        if (self.tag and self.tag != tag) or (self.id and self.id != attributes.get("id")):
            return False
        return not self.classes or self.classes.issubset(attributes.get("class", "").split())


def holders_in(css: str) -> str:
    """Return the holders of a sheet as they are kept; empty if there are none."""
    found: dict[str, None] = {}
    for looks, match in enumerate(_OCCURRENCE.finditer(css)):
        if looks >= _MAX_LOOKS or len(found) >= MAX_HOLDERS:
            break
        opened = css.find("{", match.end(), match.end() + MAX_SELECTOR_CHARS)
        closed = css.find("}", opened, opened + MAX_RULE_CHARS)
        if not 0 <= opened < closed:
            continue
        rest = css[match.end() : opened].partition(",")[0][:MAX_COMPOUND_CHARS]
        if "::" in rest or not _OTHER.match(rest) or not _REVEALING.search(css, opened, closed):
            continue
        holder = _HOLDER.search(css, max(0, match.start() - MAX_COMPOUND_CHARS), match.start())
        compound = holder.group(1) if holder else ""
        if compound and compound not in ("body", "html"):
            found[_PSEUDO[match.group()] + compound] = None
    return "\n".join(found)


def kept_text(css: str) -> str:
    """Return what is kept of a text node that is a sheet."""
    return f"{_MARK}{holders_in(css)}{FINGERPRINT}{checksum(css)}"


def of_text(kept: str) -> str:
    """Return the holders in the kept text of a node; empty if it is no sheet's."""
    return kept.partition(FINGERPRINT)[0][1:] if kept.startswith(_MARK) else ""


def read_holders(kept: str) -> list[Holder]:
    """Return the holders that a kept sheet names."""
    return [_read(line[:1], line[1:]) for line in kept.split("\n") if line]


def _read(kind: str, compound: str) -> Holder:
    tag, *names = re.split(r"(?=[#.])", compound)
    identifier = next((name[1:] for name in names if name[0] == "#"), "")
    return Holder(kind, tag.lower(), identifier, frozenset(name[1:] for name in names if name[0] == "."))
