"""The sessions of one partition: encoded, decoded as memory allows, and restored after an error. Pure.

Theory. Each session has three forms. Its *fact* is what the changelog holds, as of the last cut. Its *change* is what
happened since: the new head, and the steps that lead from an encoded base to the state of now. Its *decoded state* is a
cache of the two, bounded by the logic's weight, and may be dropped at any moment:

    state = steps applied to decode(base), with outputs discarded

So a state that an exception left half changed is simply dropped. The next use makes it anew, with all that earlier
records of the same batch did to it. A state made by steps becomes the new base at once, so that no step is applied more
than once more, however many records fail.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from stream_processors.fold.facts import HEAD_BYTES, SessionHead, session_fact_key
from stream_processors.fold.logic import SessionLogic

S = TypeVar("S")


class UnencodableState(Exception):
    """The logic made a state that it cannot encode: the process ends, because no record alone is to blame."""


Step = Callable[[Any], Any]
"""Takes the state (None before the first step of a life), and returns what it became; it may be the same object."""


@dataclass(slots=True)
class _Change:
    """What happened to a session since the last cut."""

    head: SessionHead
    base: bytes | None
    """Where the steps start; None for a life that began since."""
    steps: list[Step] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Cut:
    """What the changes since the last cut mean for the changelog."""

    facts: tuple[tuple[bytes, bytes], ...]
    obsolete: tuple[bytes, ...]
    """Keys of facts that these, or removals, supersede."""


class Sessions(Generic[S]):
    """The sessions by key; `cache_weight` bounds what stays decoded, the session in hand aside."""

    def __init__(self, logic: SessionLogic[S], facts: Mapping[bytes, bytes], *, cache_weight: int) -> None:
        self._logic = logic
        self._facts = dict(facts)
        self._changes: dict[bytes, _Change] = {}
        self._decoded: OrderedDict[bytes, tuple[S, int]] = OrderedDict()
        self._weight = 0
        self._cache_weight = cache_weight
        self._obsolete: list[bytes] = []

    @property
    def facts(self) -> Mapping[bytes, bytes]:
        """The facts as of the last cut, by session."""
        return self._facts

    def __len__(self) -> int:
        new = sum(key not in self._facts for key in self._changes)
        return len(self._facts) + new

    def heads(self) -> Iterable[tuple[bytes, SessionHead]]:
        """Yield every session's head, as of the last cut."""
        return ((key, SessionHead.unpack(fact)) for key, fact in self._facts.items())

    def head(self, key: bytes) -> SessionHead | None:
        """Return the session's head; None if there is no such session."""
        if change := self._changes.get(key):
            return change.head
        fact = self._facts.get(key)
        return None if fact is None else SessionHead.unpack(fact)

    def state(self, key: bytes) -> S:
        """Return the state of a session that exists, decoded."""
        found = self._decoded.get(key)
        if found is not None:
            self._decoded.move_to_end(key)
            return found[0]
        change = self._changes.get(key)
        state = self._make(self._facts[key][HEAD_BYTES:], ()) if change is None else self._make_changed(change)
        self._keep(key, state, self._logic.weight(state))
        return state

    def change(self, key: bytes, state: S, *, head: SessionHead, step: Step) -> None:
        """Take note that a step made this state; the first step of a life makes it from nothing."""
        weight = self._logic.weight(state)
        change = self._changes.get(key) or self._start_change(key, head)
        change.head = head
        change.steps.append(step)
        self._keep(key, state, weight)

    def change_head(self, key: bytes, head: SessionHead) -> None:
        """Take note that only the head changed, whatever became of a decoded state."""
        change = self._changes.get(key) or self._start_change(key, head)
        change.head = head

    def forget(self, key: bytes) -> None:
        """Drop a state that cannot be trusted any more; the next use makes it anew."""
        dropped = self._decoded.pop(key, None)
        if dropped is not None:
            self._weight -= dropped[1]

    def remove(self, key: bytes) -> None:
        """Remove the session."""
        self.forget(key)
        self._changes.pop(key, None)
        self._retire(key)

    def cut(self) -> Cut:
        """Encode what changed since the last cut."""
        facts = []
        for key, change in self._changes.items():
            data = self._encoded(key, change)
            self._retire(key)
            fact = self._facts[key] = change.head.pack() + data
            facts.append((session_fact_key(key, change.head.offset), fact))
        self._changes.clear()
        obsolete, self._obsolete = self._obsolete, []
        return Cut(facts=tuple(facts), obsolete=tuple(obsolete))

    def _start_change(self, key: bytes, head: SessionHead) -> _Change:
        fact = self._facts.get(key)
        change = self._changes[key] = _Change(head=head, base=None if fact is None else fact[HEAD_BYTES:])
        return change

    def _retire(self, key: bytes) -> None:
        fact = self._facts.pop(key, None)
        if fact is not None:
            self._obsolete.append(session_fact_key(key, SessionHead.unpack(fact).offset))

    def _make(self, base: bytes | None, steps: Iterable[Step]) -> S:
        state: Any = None if base is None else self._logic.decode(base)
        for step in steps:
            state = step(state)
        made: S = state
        return made

    def _make_changed(self, change: _Change) -> S:
        state = self._make(change.base, change.steps)
        if change.steps:
            self._rebase(change, state)
        return state

    def _rebase(self, change: _Change, state: S) -> None:
        change.base = self._encode(state)
        change.steps.clear()

    def _encoded(self, key: bytes, change: _Change) -> bytes:
        if change.base is not None and not change.steps:
            return change.base
        return self._encode(self.state(key))

    def _encode(self, state: S) -> bytes:
        try:
            return self._logic.encode(state)
        except Exception as error:
            raise UnencodableState(f"a state cannot be encoded: {error!r}") from error

    def _keep(self, key: bytes, state: S, weight: int) -> None:
        self.forget(key)
        self._decoded[key] = (state, weight)
        self._weight += weight
        while self._weight > self._cache_weight and len(self._decoded) > 1:
            self._evict_oldest()

    def _evict_oldest(self) -> None:
        key, (state, weight) = self._decoded.popitem(last=False)
        self._weight -= weight
        change = self._changes.get(key)
        if change is not None and change.steps:
            self._rebase(change, state)
