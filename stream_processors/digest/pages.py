"""Pages of a window: loads, routes of a single-page application, and how they are left.

rrweb writes Meta (the address) before every full snapshot. A full snapshot starts a page, or is a checkout: the same
page again, taken now and then so that a player can begin there. It is a checkout if the address is the same, no
DOMContentLoaded was recorded in between (a Load may follow the snapshot of its own page), and the node ids go on: a
recorder that has just started numbers nodes from 1 without holes, while a page that lived has lost some. A page that
has not changed since it came looks alike after a reload: that counts as an answer (the user may have seen it load), not
as a page view.

A route change without a load is known from custom events with an `href` (posthog-js: `$pageview`, `$url_changed`), and
so is a window that was hidden ("window hidden").
"""

from dataclasses import dataclass
from enum import Enum
from typing import Any

from stream_processors.digest.dom import DATA, TAG, TEXT_TAG, Tree
from stream_processors.digest.texts import clean

MAX_URL_CHARS = 2_000
MAX_TITLE_CHARS = 300
_MAX_CHILDREN = 1_000
ROUTE_TAGS = frozenset({"$pageview", "$url_changed", "pageview", "navigation", "route"})
HIDDEN_TAG = "window hidden"
VISIBLE_TAG = "window visible"


@dataclass(slots=True)
class Pages:
    """The page that a window shows; state that outlives a chunk."""

    url: str = ""
    has_loaded: bool = False
    """A load was recorded since the last full snapshot."""
    is_announced: bool = False
    """Meta told of another page; its full snapshot follows."""
    has_changed: bool = False
    """The document changed since its last full snapshot."""

    def dump(self) -> list[Any]:
        """Return the state as JSON."""
        return [self.url, self.has_loaded, self.is_announced, self.has_changed]

    @classmethod
    def load(cls, data: list[Any]) -> "Pages":
        """Make it again."""
        return cls(*data)


class Showing(Enum):
    """What a full snapshot is."""

    PAGE = "page"
    """Another page, or the same one loaded anew."""
    MAYBE_RELOAD = "maybe_reload"
    """The page as it came: a checkout, or loaded anew."""
    CHECKOUT = "checkout"


def what_is_shown(pages: Pages, *, before: Tree | None, now: Tree | None) -> Showing:
    """Tell what a full snapshot is; `before` is the document until then, None for one that is unknown."""
    if pages.is_announced or now is None:
        return Showing.PAGE
    if before is not None and before.rows == now.rows:
        return Showing.CHECKOUT if pages.has_changed else Showing.MAYBE_RELOAD
    return Showing.PAGE if is_fresh(now) else Showing.CHECKOUT


def is_fresh(tree: Tree) -> bool:
    """Tell whether a recorder that has just started numbered these nodes: 1 to n without a hole."""
    return bool(tree.rows) and max(tree.rows) == len(tree.rows)


def title_of(tree: Tree) -> str:
    """Return the document's title."""
    node = tree.root
    for wanted in ("html", "head", "title", TEXT_TAG):
        children = tree.children(node, limit=_MAX_CHILDREN) if node else []
        node = next((child for child in children if tree.rows[child][TAG] == wanted), 0)
    return clean(tree.rows[node][DATA], limit=MAX_TITLE_CHARS) if node else ""


def route_of(tag: Any, payload: Any) -> str:
    """Return the address that a custom event tells; empty if it tells none."""
    if (
        isinstance(tag, str)
        and tag in ROUTE_TAGS
        and isinstance(payload, dict)
        and isinstance(payload.get("href"), str)
    ):
        return clean_url(payload["href"])
    return ""


def is_same_page(one: str, other: str) -> bool:
    """Compare addresses; one without a fragment, as posthog-js writes them, is the same as one with any."""
    if "#" in one and "#" in other:
        return one == other
    return one.partition("#")[0] == other.partition("#")[0]


def clean_url(url: str) -> str:
    """Cut an address for the wire."""
    return clean(url, limit=MAX_URL_CHARS)
