"""What is remembered of a session between its chunks: one entry per window.

A window is a browser tab, or a page load, as the SDK counts them.

Chunks of a window are counted from 0. Which were seen is kept as a number and a list of gaps. After a gap nothing that
depends on the missing chunk is known (there may have been another page, with node ids of its own): the document is
unknown until the next full snapshot.

Everything is bounded, for a hostile client too: windows, gaps, places, nodes, and the bytes of all documents together.
"""

import struct
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from stream_processors.digest.answers import Answers
from stream_processors.digest.background import Background
from stream_processors.digest.cursor import Cursor
from stream_processors.digest.document import MAX_DOCUMENT_BYTES, Document
from stream_processors.digest.dom import Tree
from stream_processors.digest.focus import Focus
from stream_processors.digest.forms import Forms
from stream_processors.digest.packing import pack, unpack
from stream_processors.digest.pages import Pages
from stream_processors.digest.pointer import Pointer
from stream_processors.digest.rrweb import JUMP_MS
from stream_processors.fold.logic import NewerStateFormat

MAX_WINDOWS = 16
MAX_DOCUMENTS = 6
"""Windows whose document is kept, the most recently used ones: people do not click in more tabs at once."""
MAX_SESSION_BYTES = 2_000_000
"""All documents of a session. With 16 windows of at most 80 kB each besides, a hostile session's state still fits into
one record of the changelog (4 MB)."""
MAX_GAPS = 64

_FORMAT = 3
_LENGTH = struct.Struct("<I")


class Arrival(Enum):
    """Where a chunk stands among those of its window."""

    IN_ORDER = "in_order"
    AFTER_GAP = "after_gap"
    LATE = "late"
    DUPLICATE = "duplicate"


@dataclass(slots=True)
class Window:
    """One window; the document is None while it is unknown."""

    id: str
    next_seq: int = 0
    gaps: list[list[int]] = field(default_factory=list)
    """First and last number of each run of missing chunks."""
    last: int = 0
    """Event time of the last event."""
    skew_ms: int | None = None
    """The least time from an event to its arrival: a chunk may be held back, but is never early."""
    had_selection: bool = False
    pages: Pages = field(default_factory=Pages)
    forms: Forms = field(default_factory=Forms)
    pointer: Pointer = field(default_factory=Pointer)
    background: Background = field(default_factory=Background)
    answers: Answers = field(default_factory=lambda: Answers(""))
    focus: Focus = field(default_factory=Focus)
    cursor: Cursor = field(default_factory=Cursor)
    document: Document | None = None

    def tree(self) -> Tree | None:
        """Return the document, decoded."""
        return self.document.decoded() if self.document is not None else None

    def set_tree(self, tree: Tree | None) -> None:
        """Replace the document by that of a full snapshot, or forget it."""
        self.document = None if tree is None else Document(tree=tree)

    def store(self) -> None:
        """Bring the bytes of the document up to the end of the chunk; forget one that is too large."""
        if self.document is not None:
            self.document.store()
            if self.document.size() > MAX_DOCUMENT_BYTES:
                self.document = None

    def arrive(self, seq: int) -> Arrival:
        """Note that the chunk of this number has come."""
        if seq == self.next_seq:
            self.next_seq += 1
            return Arrival.IN_ORDER
        if seq > self.next_seq:
            self.gaps = [*self.gaps, [self.next_seq, seq - 1]][-MAX_GAPS:]
            self.next_seq = seq + 1
            return Arrival.AFTER_GAP
        for index, (first, last) in enumerate(self.gaps):
            if first <= seq <= last:
                parts = [part for part in ([first, seq - 1], [seq + 1, last]) if part[0] <= part[1]]
                self.gaps[index : index + 1] = parts
                return Arrival.LATE
        return Arrival.DUPLICATE

    def is_put_forward(self, t: int, received_at: int) -> bool:
        """Take in when a chunk's last event came; return whether the browser's clock was put forward since the last."""
        skew_ms, before = received_at - t, self.skew_ms
        is_jump = before is not None and skew_ms <= before - JUMP_MS
        self.skew_ms = skew_ms if before is None or skew_ms < before else before
        return is_jump

    def dump(self) -> list[Any]:
        """Return the state without the document as JSON."""
        return [
            self.id,
            self.next_seq,
            self.gaps,
            self.last,
            self.had_selection,
            self.pages.dump(),
            self.forms.dump(),
            self.pointer.dump(),
            self.background.dump(),
            self.answers.dump(),
            self.focus.dump(),
            self.cursor.dump(),
            self.skew_ms,
        ]

    @classmethod
    def load(cls, data: list[Any]) -> "Window":
        """Make it again, without the document."""
        window_id, next_seq, gaps, last, had_selection, pages, forms, pointer, background, answers, *rest = data
        return cls(
            id=window_id,
            next_seq=next_seq,
            gaps=gaps,
            last=last,
            had_selection=had_selection,
            pages=Pages.load(pages),
            forms=Forms.load(forms),
            pointer=Pointer.load(pointer),
            background=Background.load(background),
            answers=Answers.load(window_id, answers),
            # format 1 knew none of these
            focus=Focus.load(rest[0]) if rest else Focus(),
            cursor=Cursor.load(rest[1]) if rest else Cursor(),
            skew_ms=rest[2] if rest else None,
        )


@dataclass(slots=True)
class Session:
    """The state of a session: its windows, the most recently used last."""

    gap_ms: int
    windows: dict[str, Window] = field(default_factory=dict)

    def window(self, window_id: str) -> Window:
        """Return a window, as the most recently used one."""
        window = self.windows.pop(window_id, None)
        if window is None:
            window = Window(window_id, answers=Answers(window_id))
            if len(self.windows) >= MAX_WINDOWS:
                del self.windows[next(iter(self.windows))]
        self.windows[window_id] = window
        return window

    def store(self, window: Window) -> None:
        """Bring a window's bytes up to date and keep the session within its bounds."""
        window.store()
        room, count = MAX_SESSION_BYTES, MAX_DOCUMENTS
        for other in reversed(self.windows.values()):
            if other.document is not None:
                room, count = room - other.document.size(), count - 1
                if room < 0 or count < 0:
                    other.document = None

    def nodes(self) -> int:
        """Return how many nodes are decoded."""
        documents = (window.document for window in self.windows.values())
        return sum(len(d.tree.rows) for d in documents if d is not None and d.tree is not None)


def encode_session(session: Session) -> bytes:
    """Encode a session: length of the head, the head, the documents' parts."""
    windows, parts = [], []
    for window in session.windows.values():
        document = window.document
        stored = [document.base, *document.deltas] if document is not None else []
        windows.append([window.dump(), list(map(len, stored))])
        parts += stored
    head = pack([_FORMAT, session.gap_ms, windows])
    return b"".join((_LENGTH.pack(len(head)), head, *parts))


def decode_session(data: bytes) -> Session:
    """Decode a session; its documents stay bytes until they are needed.

    Raises:
        NewerStateFormat: a newer version wrote it.
    """
    (length,) = _LENGTH.unpack_from(data)
    position = _LENGTH.size + length
    written, gap_ms, *rest = unpack(data[_LENGTH.size : position])
    if written > _FORMAT:
        raise NewerStateFormat(f"state of format {written}, this version reads up to {_FORMAT}")
    session = Session(gap_ms)
    for dumped, lengths in rest[-1]:  # formats 1 and 2 knew when windows were opened
        window = Window.load(dumped)
        parts = []
        for size in lengths:
            parts.append(data[position : position + size])
            position += size
        if parts:
            window.document = Document(parts[0], parts[1:])
        session.windows[window.id] = window
    return session
