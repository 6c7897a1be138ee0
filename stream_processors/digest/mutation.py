"""Applying rrweb's mutation events to the document, and seeing what they changed.

An event lists, in the order in which it is applied: nodes that went, nodes that came (each with its parent and next
sibling), texts, attributes. It touches *places* (`background.Place`); a node that came inside another new one is no
place of its own.
"""

from typing import Any, NamedTuple

from schemas.signals import ChangeKind, Signal
from stream_processors.digest.answers import Answers
from stream_processors.digest.background import Background, Place
from stream_processors.digest.dom import MAX_NODE_ID, TAG, Added, DamagedTree, Tree
from stream_processors.digest.formers import is_feel

MAX_PLACES = 64
"""Places looked at in one event; more are a page rendered anew, of which a few tell enough."""
MAX_NAME_CHARS = 64
LONG_NAME = "@long"
"""Stands for attributes with a name that no page gives."""
_UNSEEN_TAGS = frozenset({"script", "noscript", "meta", "template", "base"})


class Mutation(NamedTuple):
    """A mutation event, checked."""

    removes: list[tuple[int, int]]
    """Parent and node each."""
    adds: list[Added]
    texts: list[tuple[int, str]]
    attributes: list[tuple[int, dict[str, Any]]]


def read_mutation(data: dict[str, Any]) -> Mutation:
    """Check a mutation event's data.

    Raises:
        DamagedTree: an entry is not as rrweb writes it, so the document's further way is unknown.
    """
    try:
        removes = [(_id(item["parentId"]), _id(item["id"])) for item in data.get("removes") or ()]
        adds = [(_id(item["parentId"]), item.get("nextId"), item["node"]) for item in data.get("adds") or ()]
        texts = [(_id(item["id"]), _text(item["value"])) for item in data.get("texts") or ()]
        attributes = [(_id(item["id"]), item["attributes"]) for item in data.get("attributes") or ()]
        for _, _, node in adds:
            _id(node["id"])
    except (KeyError, TypeError, AttributeError) as error:
        raise DamagedTree(f"mutation: {error}") from error
    if not all(isinstance(values, dict) for _, values in attributes):
        raise DamagedTree("mutation: attributes")
    return Mutation(removes, [(parent, _next(after), node) for parent, after, node in adds], texts, attributes)


def apply_mutation(
    mutation: Mutation, t: int, *, tree: Tree | None, answers: Answers, background: Background, out: list[Signal]
) -> None:
    """Apply a mutation and report what it changed; without a document all that it touches counts as changed.

    Raises:
        DamagedTree: the document cannot be followed any further.
    """
    is_open, is_idle = answers.is_open(t), background.is_idle(t)
    places = touched_places(mutation, tree, limit=MAX_PLACES if is_open or is_idle else 4)
    for place in places:
        background.see(place, t)
    if not is_open:
        answers.recent.append((t, ChangeKind.DOM, places[:4]))
        if tree is not None:
            _apply(mutation, tree)
        return
    lone = _is_lone(mutation, t, answers)
    if tree is None:
        for place in places:
            answers.report(t, ChangeKind.DOM, place, background, out, lone=lone)
        return
    for place in places:
        if not background.is_own(place, t):
            answers.formers.remember(tree, place)
    for parent, node in mutation.removes[:MAX_PLACES]:
        if node in tree.rows:
            answers.formers.remember_gone(tree, (parent, ""), node)
    _apply(mutation, tree)
    for place in places:
        answers.compare(t, tree, place, background, out, lone=lone)


def touched_places(mutation: Mutation, tree: Tree | None, *, limit: int) -> list[Place]:
    """Return the places that the mutation touches, each once, in the event's order."""
    places: dict[Place, None] = {}
    for parent, gone in mutation.removes:
        if len(places) >= limit:
            break
        row = tree.rows.get(gone) if tree is not None else None
        if row is None or row[TAG] not in _UNSEEN_TAGS:
            places[(parent, "")] = None
    new = {node.get("id") for _, _, node in mutation.adds}
    for parent, _, node in mutation.adds:
        if len(places) >= limit:
            break
        if parent not in new and node.get("tagName") not in _UNSEEN_TAGS:
            places[(parent, "")] = None
    for node_id, _ in mutation.texts[:limit]:
        places[(node_id, "#text")] = None
    for node_id, names in mutation.attributes[:limit]:
        if node_id not in new:
            for name in names:
                if not is_feel(name):
                    places[(node_id, name if len(name) <= MAX_NAME_CHARS else LONG_NAME)] = None
    return list(places)[:limit]


def _apply(mutation: Mutation, tree: Tree) -> None:
    for _, node in mutation.removes:
        tree.remove(node)
    if mutation.adds:
        tree.add_all(mutation.adds)
    for node, value in mutation.texts:
        tree.set_text(node, value)
    for node, values in mutation.attributes:
        tree.set_attributes(node, values)


def _is_lone(mutation: Mutation, t: int, answers: Answers) -> bool:
    if not mutation.removes or mutation.adds or mutation.texts or mutation.attributes:
        return False
    return answers.is_apart(t) and all(node not in answers.chain for _, node in mutation.removes)


def _id(value: Any) -> int:
    if not isinstance(value, int) or not -MAX_NODE_ID <= value <= MAX_NODE_ID:
        raise TypeError("no node id")
    return value


def _text(value: Any) -> str:
    if value is None:
        return ""
    if not isinstance(value, str):
        raise TypeError("no text")
    return value


def _next(after: Any) -> int:
    """Return the next sibling's id; 0 if there is none (rrweb writes null, or -1)."""
    return after if isinstance(after, int) and after > 0 else 0
