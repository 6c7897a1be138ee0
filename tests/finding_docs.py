"""The tables of deploy/docs/findings that are made from the code: numbers with their reasons, scores, accuracy.

A page marks each with `<!-- table: name -->`, and `tests/unit/test_finding_docs.py` compares it with what is made here.
`python -m tests.finding_docs` writes the pages anew.
"""

import ast
import importlib
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import fields
from itertools import pairwise
from pathlib import Path
from typing import Any

from stream_processors.analyze.config import DetectorConfig
from stream_processors.analyze.score import SCALE, WEIGHTS, frustration_score
from tests.browser_score import Score, score
from tests.browser_sessions import found_in, truths
from tests.replay_faults import IN_ANALYZE, IN_DIGEST

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "deploy" / "docs"
PAGES = (*sorted((DOCS / "findings").glob("*.md")), DOCS / "score.md", DOCS / "accuracy.md")

MARKED = re.compile(r"(<!-- table: (\S+)(?: (\S+))? -->\n)(.*?)(<!-- end -->)", re.DOTALL)
"""A table that is made: its beginning, its name, its argument, what stands there now, its end."""

_SENTENCE_END = re.compile(r"\.$")


def made(page: str) -> str:
    """Return a page with its tables as they have to be."""
    return MARKED.sub(_remade, page)


def _remade(marked: re.Match[str]) -> str:
    begin, name, argument, body, end = marked.groups()
    made = thresholds(argument, body) if name == "thresholds" else _TABLES[name](argument or "")
    return f"{begin}{made}{end}"


def table(head: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """Lay out a table."""
    lines = [list(head), ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(str(cell) for cell in line)} |\n" for line in lines)


def cells(body: str) -> list[list[str]]:
    """Return the cells of a table without its head."""
    lines = [line.strip().strip("|") for line in body.splitlines() if line.startswith("|")]
    return [[cell.strip().replace("\\|", "|") for cell in re.split(r"(?<!\\)\|", line)] for line in lines[2:]]


def thresholds(part: str, body: str) -> str:
    """Return the thresholds of a part of the configuration; what each means stands in the page alone."""
    meanings = {row[0]: row[-1] for row in cells(body)}
    rows = [
        [f"`{f.name}`", f"`{_shown(f.default)}`", _allowed(f.metadata["check"]), meanings.get(f"`{f.name}`", "")]
        for f in fields(getattr(DetectorConfig(), part))
    ]
    return table(["threshold", "default", "allowed", "meaning"], rows)


def _shown(value: Any) -> str:
    return "[]" if value == () else str(value).lower()


def _allowed(check: Callable[[Any], Any]) -> str:
    """Return what a threshold's own check says that it expects."""
    told = []
    for wrong in (object(), ["?"]):
        try:
            check(wrong)
        except ValueError as error:
            told.append(str(error).removeprefix("expected "))
    return "; ".join(dict.fromkeys(told))


def numbers(module_name: str) -> str:
    """Return the numbers that a module fixes, each with the reason that stands below it."""
    rows = [[f"`{name}`", f"`{value}`", reason] for name, value, reason in constants(module_name)]
    return table(["number", "value", "why"], rows)


def constants(module_name: str) -> Iterator[tuple[str, int | float, str]]:
    """Yield name, value and reason of a module's public numbers."""
    module = importlib.import_module(module_name)
    body = ast.parse(Path(str(module.__file__)).read_text()).body
    for at, node in enumerate(body):
        if not isinstance(node, ast.Assign | ast.AnnAssign):
            continue
        target = node.targets[0] if isinstance(node, ast.Assign) else node.target
        name = target.id if isinstance(target, ast.Name) else ""
        value = getattr(module, name, None)
        if name.isupper() and not name.startswith("_") and isinstance(value, int | float):
            yield name, value, _reason(body[at:])


def _reason(body: Sequence[ast.stmt]) -> str:
    """Return the text below an assignment; it may stand below several, one a line."""
    for node, after in pairwise([*body, ast.Pass(lineno=0)]):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            return _SENTENCE_END.sub("", " ".join(str(node.value.value).split())).replace("|", "\\|")
        if after.lineno != node.lineno + 1:
            break
    return ""


def evidence_of(module_name: str) -> list[str]:
    """Return the names in the evidence that a module's verdicts carry, in order."""
    tree = ast.parse(Path(str(importlib.import_module(module_name).__file__)).read_text())
    found: dict[str, None] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.keyword) and node.arg == "evidence" and isinstance(node.value, ast.Dict):
            found |= dict.fromkeys(str(key.value) for key in node.value.keys if isinstance(key, ast.Constant))
    return list(found)


def weights(_: str) -> str:
    """Return what each kind weighs."""
    return table(["finding", "weight"], [[f"`{kind}`", weight] for kind, weight in WEIGHTS.items()])


_EXAMPLES: Sequence[Mapping[str, int]] = (
    {},
    {"slow_load": 1},
    {"dead_click": 1},
    {"rage_click": 1},
    {"error": 1},
    {"rage_click": 1, "dead_click": 1},
    {"error": 1, "error_click": 1},
    {"rage_click": 2, "error_click": 1, "error": 1},
    {"dead_click": 10},
    {"error": 10},
)


def examples(_: str) -> str:
    """Return the scores of some sessions."""
    rows = []
    for counts in _EXAMPLES:
        told = ", ".join(f"{count} `{kind}`" for kind, count in counts.items()) or "none"
        rows.append([told, sum(WEIGHTS[kind] * n for kind, n in counts.items()), frustration_score(counts)])
    return table(["findings", "sum of weights", "score"], rows)


def formula(_: str) -> str:
    """Return the formula with its scale."""
    return f"\n    score = round(100 * (1 - exp(-sum(weight * count) / {SCALE})))\n\n"


PASSES = {"rrweb": "rrweb, default options", "rrweb-pack": "rrweb with packFn, a part", "posthog": "posthog-js, /s/"}
WITH_CONSOLE = frozenset(("posthog",))
"""Passes whose recorder takes the console along: the others hold no errors."""

PEERS = (
    ("posthog-js, in the browser", "dead_click", 45, 32, 22),
    ("Sentry, in the browser", "dead_click", 27, 9, 40),
    ("OpenReplay's rule, on the recording", "dead_click", 43, 48, 24),
    ("no change within 1.2 s, on the recording", "dead_click", 56, 81, 11),
    ("posthog-js, in the browser", "rage_click", 7, 10, 5),
    ("Sentry, in the browser", "rage_click", 2, 14, 10),
    ("OpenReplay's rule, on the recording", "rage_click", 1, 6, 11),
    ("posthog-js, in the browser", "error_click", 4, 0, 1),
)
"""What others find in the same sessions: right, wrong, missed, by the same scorer when the sessions were recorded."""


def ours(_: str) -> str:
    """Return how our findings in the labelled sessions fare."""
    rows = []
    for sdk, name in PASSES.items():
        for kind, result in _scores(sdk).items():
            if result.right or result.missed or result.wrong:
                rows.append([f"`{kind}`", name, *_figures(result.right, len(result.wrong), len(result.missed))])
    return table(["finding", "recorded by", "right", "wrong", "missed", "precision", "recall"], sorted(rows))


def peers(_: str) -> str:
    """Return how others fare."""
    rows = [[f"`{kind}`", name, *_figures(*figures)] for name, kind, *figures in PEERS]
    return table(["finding", "found by", "right", "wrong", "missed", "precision", "recall"], rows)


def _scores(sdk: str) -> dict[str, Score]:
    scores = score(found_in(sdk), truths(sdk))
    return {kind: result for kind, result in scores.items() if kind != "error_click" or sdk in WITH_CONSOLE}


def _figures(right: int, wrong: int, missed: int) -> list[str]:
    precision = f"{right / (right + wrong):.2f}" if right + wrong else "-"
    recall = f"{right / (right + missed):.2f}" if right + missed else "-"
    return [str(right), str(wrong), str(missed), precision, recall]


def left(sdk: str) -> str:
    """Return every finding that is missed or wrong in one pass."""
    rows = [
        [f"`{kind}`", what, place.replace("|", "\\|")]
        for kind, result in _scores(sdk).items()
        for what, places in (("missed", result.missed), ("wrong", result.wrong))
        for place in places
    ]
    return table(["finding", "", "session, click and what the user saw"], rows)


def faults(_: str) -> str:
    """Return the faults that the replay oracle finds."""
    return table(["fault"], [[(fault.__doc__ or "").rstrip(".")] for fault in (*IN_ANALYZE, *IN_DIGEST)])


_TABLES: Mapping[str, Callable[[str], str]] = {
    "numbers": numbers,
    "weights": weights,
    "examples": examples,
    "formula": formula,
    "ours": ours,
    "peers": peers,
    "left": left,
    "faults": faults,
}

if __name__ == "__main__":
    for path in PAGES:
        path.write_text(made(path.read_text()))
