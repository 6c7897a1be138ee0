"""Thresholds of the detectors: frozen dataclasses whose fields carry their own bounds, so that overrides are checked.

Two ways to read overrides. `parse` is for people: it refuses what it does not understand and names the field. `read` is
for the log, where settings of an older or newer version may travel: what it does not understand keeps its default.
"""

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, TypeVar

T = TypeVar("T")

Check = Callable[[Any], Any]
"""Return the value to use, or raise ValueError with what was expected."""

# A compound selector of one element: tag, #id and .class; nothing about ancestors, which a click does not carry.
_COMPOUND = re.compile(r"(?:[a-zA-Z][\w-]*)?(?:[#.][\w-]+)*")

MAX_IGNORED = 50
MAX_IGNORED_CHARS = 100
"""Entries of an ignore list and their length: overrides travel in every record and in every session's state."""


def number(default: float, *, low: float, high: float) -> Any:
    """Declare a threshold with a fraction between `low` and `high`, both allowed."""

    def check(value: Any) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
            raise ValueError(f"expected a number from {low:g} to {high:g}")
        return float(value)

    return field(default=default, metadata={"check": check})


def whole(default: int, *, low: int, high: int) -> Any:
    """Declare a whole-numbered threshold between `low` and `high`, both allowed."""

    def check(value: Any) -> int:
        if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
            raise ValueError(f"expected a whole number from {low} to {high}")
        if value != math.floor(value):
            raise ValueError(f"expected a whole number from {low} to {high}")
        return int(value)

    return field(default=default, metadata={"check": check})


def switch(*, default: bool = True) -> Any:
    """Declare an on/off setting."""

    def check(value: Any) -> bool:
        if not isinstance(value, bool):
            raise ValueError("expected true or false")
        return value

    return field(default=default, metadata={"check": check})


def texts() -> Any:
    """Declare a list of element texts, compared without case and outer space."""

    def check(value: Any) -> tuple[str, ...]:
        return tuple(text.strip().casefold() for text in _strings(value))

    return field(default=(), metadata={"check": check})


def selectors() -> Any:
    """Declare a list of compound selectors (`button`, `#next`, `.pager.next`), compared with the clicked element."""

    def check(value: Any) -> tuple[str, ...]:
        found = _strings(value)
        if any(not text or not _COMPOUND.fullmatch(text) for text in found):
            raise ValueError("expected selectors made of tag, #id and .class only")
        return tuple(found)

    return field(default=(), metadata={"check": check})


def _strings(value: Any) -> list[str]:
    if (
        not isinstance(value, list | tuple)
        or len(value) > MAX_IGNORED
        or not all(isinstance(text, str) and len(text) <= MAX_IGNORED_CHARS for text in value)
    ):
        raise ValueError(f"expected a list of at most {MAX_IGNORED} strings of at most {MAX_IGNORED_CHARS} characters")
    return list(value)


@dataclass(frozen=True, slots=True)
class Rejected:
    """An override that is not understood: the dotted name of the field, and what was expected."""

    name: str
    expected: str


def override(kind: type[T], values: Any, *, name: str) -> tuple[T, list[Rejected]]:
    """Build `kind` from its defaults and what is valid in `values`; also return what is not."""
    if not isinstance(values, Mapping):
        return kind(), [Rejected(name, "expected an object of thresholds")]
    checks: dict[str, Check] = {f.name: f.metadata["check"] for f in fields(kind)}  # type: ignore[arg-type]
    used: dict[str, Any] = {}
    rejected: list[Rejected] = []
    for key, value in values.items():
        if key not in checks:
            rejected.append(Rejected(f"{name}.{key}", f"no such threshold; known are {', '.join(sorted(checks))}"))
            continue
        try:
            used[key] = checks[key](value)
        except ValueError as error:
            rejected.append(Rejected(f"{name}.{key}", str(error)))
    return kind(**used), rejected
