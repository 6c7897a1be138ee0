"""`python -m deploy.bench [NAME …]`: run the named benchmarks, all of them without names."""

import importlib
import os
import sys
from collections.abc import Sequence

from deploy.bench.lab import open_lab
from deploy.bench.report import show

NAMES = (
    *("engine", "gateway", "outage", "spool", "stress", "sink", "days"),
    *("stage", "pipeline", "analyst", "recovery", "memory"),
)


def main(arguments: Sequence[str]) -> int:
    """Run the benchmarks on one broker and one database; return 0 if every target is met."""
    names = list(arguments) or list(NAMES)
    if unknown := [name for name in names if name not in NAMES]:
        print(f"no such benchmark: {', '.join(unknown)}; there are: {', '.join(NAMES)}", file=sys.stderr)
        return 2
    is_met = True
    with open_lab(os.environ) as lab:
        for name in names:
            result = importlib.import_module(f"deploy.bench.{name}").run(lab)
            show(result)
            is_met &= all(line.met is not False for line in result.lines)
    return 0 if is_met else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
