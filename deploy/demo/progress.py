"""How the demo proceeds, on standard error: in place on a terminal, else line by line."""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.markup import escape

_NUMBER = re.compile(r"\d+")


@contextmanager
def progress(console: Console) -> Iterator[Callable[[str], None]]:
    """Give a function that takes what happens now; where lines are kept, one that only counts on is left out."""
    if console.is_terminal:
        with console.status("") as status:
            yield lambda line: status.update(escape(line))
        return
    last = ""

    def tell(line: str) -> None:
        nonlocal last
        if (kind := _NUMBER.sub("", line)) != last:
            console.print(line, markup=False, soft_wrap=True)
            last = kind

    yield tell
