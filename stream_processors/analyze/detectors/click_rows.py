"""The rows of the click memory: plain JSON lists, because a state holds dozens and is written with every batch."""

from typing import Any, Final


class What:
    """What a mark stands for: plain numbers, because rows are JSON and are compared by the hundred."""

    EFFECT: Final = 0
    """A change that the user sees."""
    UNSEEN: Final = 1
    """An answer that is not seen itself: a request that starts, another tab shown, an event of the application."""
    SCROLL: Final = 2
    SELECTION: Final = 3
    FOCUS: Final = 4
    NAVIGATION: Final = 5
    DOWN: Final = 6
    """A pointer went down."""
    UNKNOWN: Final = 7
    """The page was left or hidden, or part of the recording is missing: an answer would not have been seen."""
    LONE: Final = 8
    """Something was only taken away: soon after a click an effect, later a toast that goes."""
    UNDONE: Final = 9
    """The effect of the same time, window and place was taken back at once, so it is none."""


class Flag:
    """What is known of a click, and what became of it: bits of a plain number."""

    STRUCTURED: Final = 1
    ENTRY: Final = 2
    """Text is typed or chosen there: clicking often is no rage, and nothing need happen."""
    UNJUDGED: Final = 4
    """Its effect is not to be seen in the page."""
    KEYBOARD: Final = 8
    """Made by a key: it has no place."""
    SETTLED: Final = 16
    RAGED: Final = 32
    """Its burst has been reported."""
    DEAD: Final = 64
    ERRED: Final = 128
    SLOW: Final = 256
    """Answered, but late."""
    DRAWN: Final = 512
    """What it shows is drawn, not built (a canvas, a film, a closed shadow root): no recording tells of its effect."""
    FIRST: Final = 1024
    """Of its burst, when that was judged."""


class Alone:
    """Whether an error came although nobody had clicked."""

    UNKNOWN: Final = 0
    YES: Final = 1
    NO: Final = 2


Row = list[Any]
"""A click: t, x, y, window, node, flags, lead, due, details. `lead` is how long before `t` the pointer went down, -1 if
unknown; once the click is settled, `due` is 0 and the details (the element's six fields and its page) are gone."""

T, FLAGS, DUE, DETAILS = 0, 5, 7, 8
"""Where a row holds what is asked for most."""

PAGE = 6
"""Where the details hold the page."""

ALONE = 3
"""Where an error's row holds whether it came alone."""
