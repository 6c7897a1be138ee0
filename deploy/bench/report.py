"""How a benchmark says what it measured: a table for people and one JSON line for machines."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

import orjson
from rich.console import Console
from rich.table import Table


@dataclass(frozen=True, slots=True)
class Line:
    """One measured value beside its target."""

    what: str
    value: float
    unit: str
    target: str = ""
    met: bool | None = None
    note: str = ""


@dataclass(frozen=True, slots=True)
class Result:
    """The outcome of one benchmark."""

    name: str
    lines: Sequence[Line]
    context: dict[str, Any]
    """What was run: sizes, counts, versions."""


def show(result: Result) -> None:
    """Print the table and the JSON line."""
    console = Console()
    table = Table(title=f"bench {result.name}", title_justify="left")
    for column in ("what", "value", "unit", "target", "met", "note"):
        table.add_column(column, justify="right" if column == "value" else "left")
    for line in result.lines:
        met = "" if line.met is None else "yes" if line.met else "NO"
        table.add_row(line.what, f"{line.value:,.4g}", line.unit, line.target, met, line.note)
    console.print(table)
    print(orjson.dumps({"bench": result.name, **asdict(result)}).decode(), flush=True)


def middle(values: Sequence[float]) -> float:
    """Return the median of repeated measures."""
    return median(values)
