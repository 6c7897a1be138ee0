"""What the click detectors remember of a session: the recent clicks, and the marks that may answer them.

Clicks, marks and errors lie in order of event time, whatever order they came in, so that a click is judged by what
happened around it. Three things keep the memory small:

- what lies `KEEP_MS` of event time back, and belongs to no open click, is forgotten when clicks are settled;
- a settled click keeps its time, place and flags only;
- each list has a bound; the oldest entry goes first.

`forgotten` is the event time up to which marks or clicks were given up. A click whose window reaches back beyond it
cannot be judged, for its answer may be among them: it is let go as unknown.
"""

from bisect import bisect_left, insort
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from stream_processors.analyze.detectors.click_rows import ALONE, DETAILS, DUE, FLAGS, PAGE, Alone, Flag, Row, T, What

KEEP_MS = 30_000
"""Recorders flush within 10 s: a click still finds what other sources told before. A slower one loses findings where
structured events come too, for its clicks are then unknown."""

LOOK_BACK_MS = 2_000
"""How far before a click anything matters to it: a long press, or the click before it in a burst."""

MAX_CLICKS = 128
"""A person makes about 60 clicks in KEEP_MS at most; a row takes 50 bytes once settled, 300 before."""

MAX_MARKS = 400
"""A digest sends about five marks a click; a row takes 22 bytes."""

SAME_ERROR_MS = 100
"""Errors of one fingerprint in the same tenth of a second are one, whoever tells of them: a click that one of them
belongs to has all of them."""

MAX_ERRORS = 64
"""Errors that may still belong to a click; a row takes up to 350 bytes. Of a flood the beginning is kept: it says which
click set it off, and that it comes by itself."""

MAX_IDLE = 32
"""Fingerprints of errors that come by themselves."""

MAX_WINDOWS = 16
"""Tabs of one session with a name of their own; further ones count as unknown."""

MAX_PAGES = 16
"""Pages of open clicks, up to 2 kB each; a click on a further one does not know its page."""


@dataclass(slots=True)
class ClickMemory:
    """The memory; its fields are plain JSON values in the order in which they are packed."""

    wake: int = 0
    """Log time at which something may be judged; 0 for never."""
    answering_since: int = 0
    """Event time of the session's first structured answer, 0 if it has sent none."""
    forgotten: int = 0
    windows: list[str] = field(default_factory=lambda: [""])
    """Names of windows; rows hold the index, 0 is unknown."""
    pages: list[str] = field(default_factory=lambda: [""])
    """URLs of open clicks; rows hold the index, 0 is unknown."""
    clicks: list[Row] = field(default_factory=list)
    marks: list[list[int]] = field(default_factory=list)
    """t, what, window, node; the node only where it matters, else 0: the node of DOWN and FOCUS, of EFFECT and UNDONE a
    number that stands for node and place."""
    errors: list[list[Any]] = field(default_factory=list)
    """t, fingerprint, message, whether it came alone."""
    idle: dict[str, int] = field(default_factory=dict)
    """How often errors of a fingerprint came alone, of those that are forgotten."""

    def window(self, name: str) -> int:
        """Return the index of a window's name."""
        return _index(self.windows, name, MAX_WINDOWS)

    def page(self, url: str) -> int:
        """Return the index of a page's URL."""
        return _index(self.pages, url, MAX_PAGES)

    def add_click(self, row: Row) -> None:
        """Take a click in."""
        _insert(self.clicks, row)
        if len(self.clicks) > MAX_CLICKS:
            self._forget(self.clicks.pop(0)[T])

    def add_mark(self, row: list[int]) -> None:
        """Take a mark in; one that is known already changes nothing."""
        marks = self.marks
        if not marks or marks[-1] < row:
            marks.append(row)
        elif (at := bisect_left(marks, row)) == len(marks) or marks[at] != row:
            marks.insert(at, row)
        if len(marks) > MAX_MARKS:
            self._forget(marks.pop(0)[T])

    def undone(self, mark: list[int]) -> bool:
        """Return whether an effect was taken back at once."""
        row = [mark[0], What.UNDONE, mark[2], mark[3]]
        at = bisect_left(self.marks, row)
        return at < len(self.marks) and self.marks[at] == row

    def open_dues(self) -> list[int]:
        """Return when each click that has not been judged is due."""
        return [row[DUE] for row in self.clicks if row[DUE]]

    def open_clicks(self, reach_ms: int) -> Sequence[Row]:
        """Return the clicks that have not been judged, and those before in steps of at most `reach_ms`."""
        rows = self.clicks
        start = next((at for at, row in enumerate(rows) if row[DUE]), len(rows))
        while 0 < start < len(rows) and rows[start][T] - rows[start - 1][T] <= reach_ms:
            start -= 1
        return rows[start:]

    def add_error(self, row: list[Any]) -> None:
        """Take an error in; of those that are one, the first."""
        errors, (t, fingerprint, *_) = self.errors, row
        tenth = t // SAME_ERROR_MS
        for at in range(bisect_left(errors, [tenth * SAME_ERROR_MS]), len(errors)):
            if errors[at][0] // SAME_ERROR_MS != tenth:
                break
            if errors[at][1] == fingerprint:
                if errors[at][:ALONE] <= row[:ALONE]:
                    return
                del errors[at]
                break
        _insert(errors, row)
        if len(errors) > MAX_ERRORS:
            self._drop_error()

    def _drop_error(self) -> None:
        """Drop the latest error that repeats another, or the oldest of all."""
        known = [error[1] for error in self.errors]
        repeated = (at for at in range(len(known) - 1, 0, -1) if known[at] in known[:at])
        del self.errors[next(repeated, 0)]

    def idle_errors(self, fingerprint: str, before: int) -> int:
        """Return how often an error came before that time although nobody had clicked."""
        here = self.errors[: bisect_left(self.errors, [before])]
        alone = [error for error in here if error[1] == fingerprint and error[ALONE] == Alone.YES]
        return self.idle.get(fingerprint, 0) + len(alone)

    def _forget_error(self, error: list[Any]) -> None:
        if error[ALONE] == Alone.YES and (error[1] in self.idle or len(self.idle) < MAX_IDLE):
            self.idle[error[1]] = self.idle.get(error[1], 0) + 1

    def prune(self) -> None:
        """Forget what lies too far back for any click that is open or may still come."""
        newest = max((rows[-1][T] for rows in (self.clicks, self.marks) if rows), default=0)
        floor = newest - KEEP_MS
        still_open = next((row[T] for row in self.clicks if not row[FLAGS] & Flag.SETTLED), None)
        if still_open is not None:
            floor = min(floor, still_open - LOOK_BACK_MS)
        for rows in (self.clicks, self.marks):
            gone = bisect_left(rows, [floor])
            if gone:
                self._forget(rows[gone - 1][T])
            del rows[:gone]
        while self.errors and self.errors[0][0] < floor:
            self._forget_error(self.errors.pop(0))
        self._prune_pages()

    def _prune_pages(self) -> None:
        """Keep the pages of open clicks only."""
        opened = [row[DETAILS] for row in self.clicks if row[DETAILS]]
        used = sorted({0, *(details[PAGE] for details in opened)})
        if len(used) < len(self.pages):
            self.pages = [self.pages[old] for old in used]
            for details in opened:
                details[PAGE] = used.index(details[PAGE])

    def weight(self) -> int:
        """Return about how many bytes it takes."""
        return 700 * len(self.clicks) + 150 * len(self.marks)

    def _forget(self, t: int) -> None:
        self.forgotten = max(self.forgotten, t)

    def clicks_between(self, start: int, end: int) -> int:
        """Return how many rows of clicks have start <= t <= end."""
        return bisect_left(self.clicks, [end + 1]) - bisect_left(self.clicks, [start])

    def marks_between(self, start: int, end: int) -> Iterator[list[int]]:
        """Yield the marks with start <= t < end in order."""
        marks = self.marks
        return islice(marks, bisect_left(marks, [start]), bisect_left(marks, [end]))


def _index(names: list[str], name: str, limit: int) -> int:
    """Return where a name is, or 0 if there is no more room for it."""
    try:
        return names.index(name)
    except ValueError:
        if len(names) >= limit:
            return 0
    names.append(name)
    return len(names) - 1


def _insert(rows: list[Any], row: list[Any]) -> None:
    """Insert in order of time; nearly always at the end."""
    if not rows or rows[-1] <= row:
        rows.append(row)
    else:
        insort(rows, row)
