"""Which changes of a page may answer a click, and are therefore sent.

Only what lies near a click counts: from 150 ms before its pointer-down (a tenth of the live controls act before the
click event, and stamps jitter) to 2.6 s after the click. Of that, the first change of each place since the last
pointer-down is sent: one visible change answers a click as well as a thousand.

A click that nothing was seen to answer is followed for 10.1 s, if the user does nothing else meanwhile: what changes
then, at a place that has not changed before, is a slow answer.

Not sent, or sent with a mark, is what a person would not take for an answer:
- *the same again*: after the event the place is as it was before (the same text written anew, a list rendered anew with
  equal content): not sent;
- *undone*: the place returns to what it was before the click, so soon that it was only the control's feel (pressed,
  rippling): within 900 ms at the control itself, within 100 ms anywhere. A second change says so (`undoes`). What
  lasts longer was seen: a toast, a "Copied!";
- *background*: the place also changes while nobody does anything (`background`); marked;
- *lone*: nodes went and nothing came in their place, and the click's target was not among them: a toast that
  leaves. Marked; how long after a click it still counts is judged later;
- *own focus*: the control that was pressed takes the focus: not sent. Focus that moves elsewhere is.

What a place was before is known only while the document is. Without it every change counts: silence is claimed only
where it was heard.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from operator import itemgetter
from typing import Any

from schemas.signals import Change, ChangeKind, Signal
from stream_processors.digest.background import Background, Place
from stream_processors.digest.dom import Tree
from stream_processors.digest.formers import Former, Formers
from stream_processors.digest.targets import Target

BEFORE_DOWN_MS = 150
AFTER_DOWN_MS = 1_500
"""A press that becomes no click is followed this long."""
AFTER_CLICK_MS = 2_600
LATE_MS = 10_100
"""A click without an answer is followed so long: a little longer than any deadline that can be set."""
FEEL_MS = 900
FLICKER_MS = 100
SAME_MOMENT_MS = 30

MAX_SENT = 16
"""Changes sent per pointer-down; a page that is rendered anew has thousands."""
MAX_SENT_BACKGROUND = 2
_MAX_DEPTH_IN_CONTROL = 8
_MAX_CHAIN = 64

_GAINS = frozenset({ChangeKind.DOM, ChangeKind.STYLE, ChangeKind.SNAPSHOT})

_LATE = frozenset({ChangeKind.DOM, ChangeKind.STYLE, ChangeKind.CANVAS, ChangeKind.MEDIA})
"""Kinds that may be a late answer."""
_SEEN = _LATE | {ChangeKind.SNAPSHOT, ChangeKind.NAVIGATION, ChangeKind.INPUT}
_OWN_KINDS = frozenset(
    {ChangeKind.DOM, ChangeKind.STYLE, ChangeKind.CANVAS, ChangeKind.MEDIA, ChangeKind.NETWORK, ChangeKind.SCROLL}
)
"""Kinds that a page may make by itself all the time."""

_Key = tuple[str, int, str, bool, bool]
_is_background: Callable[[_Key], bool] = itemgetter(3)


@dataclass(slots=True)
class Answers:
    """The changes near the clicks of one window; state that outlives a chunk."""

    window: str
    since: int = 0
    """When the pointer last went down."""
    until: int = 0
    late: int = 0
    """Until when an answer that is late is waited for."""
    chain: list[int] = field(default_factory=list)
    """The nodes around what was pressed."""
    target: int = 0
    is_control: bool = False
    sent: dict[_Key, None] = field(default_factory=dict)
    formers: Formers = field(default_factory=Formers)
    recent: deque[tuple[int, ChangeKind, list[Place]]] = field(default_factory=lambda: deque(maxlen=8))
    last_gain: int = 0
    """When something visible last came or changed, other than by going away."""
    lone: list[tuple[int, int]] = field(default_factory=list)
    """Lone removals of this chunk that may prove not to be: time and index among the signals."""

    def on_down(self, t: int, target: Target, background: Background, out: list[Signal]) -> None:
        """Begin to follow what a press may bring about."""
        self.since, self.until, self.late = t, t + AFTER_DOWN_MS, 0
        self.chain, self.target, self.is_control = target.chain[:_MAX_CHAIN], target.node, target.is_control
        self.sent, self.formers = {}, Formers()
        for at, what, places in self.recent:
            if t - BEFORE_DOWN_MS <= at <= t:
                for place in places:
                    self.report(at, what, place, background, out)

    def on_click(self, t: int, target: Target) -> None:
        """Follow on until the click has had its time."""
        self.until, self.late = max(self.until, t + AFTER_CLICK_MS), t + LATE_MS
        self.chain = list(dict.fromkeys((*self.chain, *target.chain[:_MAX_CHAIN])))

    def on_page(self) -> None:
        """Stop: a new page was shown, which answers whatever was open."""
        self.until, self.late, self.chain, self.target, self.formers = 0, 0, [], 0, Formers()
        self.recent.clear()

    def is_open(self, t: int) -> bool:
        """Tell whether a change at this time is near a click."""
        if t > self.until:
            return t <= self.late and not self._is_answered()
        return self.since - BEFORE_DOWN_MS <= t

    def on_other_input(self) -> None:
        """Wait no longer for a late answer: what comes now may be the doing of what the user does."""
        self.late = 0

    def _is_timely(self, t: int, what: ChangeKind, place: Place, background: Background) -> bool:
        """Tell whether a change can be an answer so late: then one of the document has to be the first of its place."""
        return t <= self.until or (what in _LATE and (what is not ChangeKind.DOM or background.is_new(place, t)))

    def _is_answered(self) -> bool:
        return any(what in _SEEN and not (background or lone) for what, _, _, background, lone in self.sent)

    def is_apart(self, t: int) -> bool:
        """Tell whether nothing has come at this moment, so that a removal would be a lone one."""
        return t - self.last_gain > SAME_MOMENT_MS

    def report(
        self, t: int, what: ChangeKind, place: Place, background: Background, out: list[Signal], *, lone: bool = False
    ) -> None:
        """Send a change, if it is the first of its place since the pointer-down."""
        node, name = place
        is_background = what in _OWN_KINDS and background.is_own(place, t)
        if what in _GAINS and not (lone or is_background):
            self._gain(t, out)
        key = (what, node, name, is_background, lone)
        if key in self.sent or not self._has_room(is_background) or not self._is_timely(t, what, place, background):
            return
        self.sent[key] = None
        if lone:
            self.lone.append((t, len(out)))
        out.append(Change(t, what, window=self.window, node=node, place=name, background=is_background, lone=lone))

    def note(self, t: int, what: ChangeKind, place: Place, background: Background, out: list[Signal]) -> None:
        """Take in a change that needs no look at the document: send it, or keep it for a click that follows."""
        background.see(place, t)
        if self.is_open(t):
            self.report(t, what, place, background, out)
        else:
            self.recent.append((t, what, [place]))

    def note_focus(self, t: int, node: int, background: Background, out: list[Signal]) -> None:
        """Take in that the focus moved."""
        if self.is_open(t) and node not in self.chain:
            self.report(t, ChangeKind.FOCUS, (node, ""), background, out)

    def compare(
        self, t: int, tree: Tree, place: Place, background: Background, out: list[Signal], *, lone: bool
    ) -> None:
        """Look at a place after a mutation: send that it changed, that it is again as before, or nothing."""
        former = self.formers.places.get(place)
        if former is None:
            self.report(t, ChangeKind.DOM, place, background, out, lone=lone)
        elif not self.formers.is_as_before(tree, place, former):
            former.changed = former.changed or t
            self.report(t, ChangeKind.DOM, place, background, out, lone=lone)
        elif former.changed:
            self._undo(t, tree, place, former, out)
            former.changed = 0

    def take_back(self, t: int, place: Place, *, since: int, out: list[Signal]) -> None:
        """Say that a change of the document that was sent is undone."""
        keys = [key for key in self.sent if (key[1], key[2]) == place and key[0] == ChangeKind.DOM]
        if not keys:
            return
        for key in keys:
            del self.sent[key]
        node, name = place
        out.append(Change(t, ChangeKind.DOM, window=self.window, node=node, place=name, undoes=since))

    def end_chunk(self, last: int) -> None:
        """Drop what only the chunk needed."""
        self.lone = []
        self.recent = deque((entry for entry in self.recent if entry[0] >= last - BEFORE_DOWN_MS), maxlen=8)

    def dump(self) -> list[Any]:
        """Return the state as JSON."""
        return [
            self.since,
            self.until,
            self.chain,
            self.target,
            self.is_control,
            list(self.sent),
            self.formers.dump(),
            [[t, what.value, places] for t, what, places in self.recent],
            self.last_gain,
            self.late,
        ]

    @classmethod
    def load(cls, window: str, data: list[Any]) -> "Answers":
        """Make it again."""
        since, until, chain, target, is_control, sent, formers, recent, last_gain, *rest = data
        return cls(
            window=window,
            since=since,
            until=until,
            chain=chain,
            target=target,
            is_control=is_control,
            sent=dict.fromkeys((what, node, name, mark, lone) for what, node, name, mark, lone in sent),
            formers=Formers.load(formers),
            recent=deque(
                ((t, ChangeKind(what), [(node, name) for node, name in places]) for t, what, places in recent), maxlen=8
            ),
            last_gain=last_gain,
            late=rest[0] if rest else 0,  # format 1 knew no late answers
        )

    def _has_room(self, is_background: bool) -> bool:
        in_background = sum(map(_is_background, self.sent))
        if is_background:
            return in_background < MAX_SENT_BACKGROUND
        return len(self.sent) - in_background < MAX_SENT

    def _gain(self, t: int, out: list[Signal]) -> None:
        """Something came: a removal at the same moment was no lone one."""
        self.last_gain = t
        for at, index in self.lone:
            change = out[index]
            if t - at <= SAME_MOMENT_MS and isinstance(change, Change):
                out[index] = replace(change, lone=False)

    def _undo(self, t: int, tree: Tree, place: Place, former: Former, out: list[Signal]) -> None:
        lasted = t - former.changed
        if lasted > FEEL_MS or (lasted > FLICKER_MS and not self._is_at_target(tree, place[0])):
            return
        self.take_back(t, place, since=former.changed, out=out)

    def _is_at_target(self, tree: Tree, node: int) -> bool:
        if not self.is_control:
            return node == self.target
        own = self.chain[: self.chain.index(self.target) + 1] if self.target in self.chain else [self.target]
        return node in own or self.target in tree.chain(node, limit=_MAX_DEPTH_IN_CONTROL)
