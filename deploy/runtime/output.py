"""Write the processes' log lines to the terminal, each with its process's name before it."""

import sys
from typing import TextIO

LONGEST_LINE = 16_384
"""Bytes; a longer line is cut, not split."""

# told apart on dark and light terminals alike
_COLOURS = ("36", "33", "35", "32", "34", "31")
_NAME_WIDTH = 10


class LineSplitter:
    """Cut a stream of bytes into lines, whatever the borders of its reads."""

    def __init__(self) -> None:
        self._rest = b""
        self._overlong = False

    def feed(self, data: bytes) -> list[str]:
        """Return the lines that are complete now."""
        *lines, rest = (self._rest + data).split(b"\n")
        out = []
        for line in lines:
            if not self._overlong:
                out.append(_decode(line))
            self._overlong = False
        if len(rest) > LONGEST_LINE:
            if not self._overlong:
                out.append(_decode(rest))
            self._overlong, rest = True, b""
        self._rest = rest
        return out

    def end(self) -> list[str]:
        """Return what came after the last line break."""
        rest, self._rest = self._rest, b""
        return [_decode(rest)] if rest and not self._overlong else []


def _decode(line: bytes) -> str:
    return line[:LONGEST_LINE].decode(errors="replace").rstrip("\r")


class Prefixed:
    """A terminal or file that takes lines with a name before them; colours only on a terminal."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stderr
        self._colour = self._stream.isatty()
        self._names: list[str] = []

    def write(self, name: str, line: str) -> None:
        """Write one line of a process."""
        if name not in self._names:
            self._names.append(name)
        label = name.ljust(_NAME_WIDTH)
        if self._colour:
            label = f"\x1b[{_COLOURS[self._names.index(name) % len(_COLOURS)]}m{label}\x1b[0m"
        try:
            self._stream.write(f"{label} | {line}\n")
            self._stream.flush()
        except BrokenPipeError:
            # the reader went away: the processes matter more than their log
            self._stream = open("/dev/null", "w")  # noqa: PTH123, SIM115 # stays open as long as we do
