"""A gateway that can be killed at a step of its spool: `python -m tests.chaos.gateway FILE`, with settings as usual.

It is the product's own, but that only one of several gateways keeps its spool (`faults.SPOOLED`), and that it kills
itself at the step that a file names, once the file is there. The file goes first: a kill strikes once.
"""

import os
import signal
import sys
from collections import Counter
from pathlib import Path

import ingest_gateway.__main__
from ingest_gateway.spool.files import SpoolStep
from tests.chaos.faults import SPOOLED
from tests.chaos.planted import replace

SPOOL_VARIABLE = "TRACEFLOW_GATEWAY_SPOOL"
IN_THE_MIDDLE = {"HANDED": 10, "ACKED": 10}
"""So many requests pass these steps first: some of a segment are done then, and some are not."""


class KillWhenArmed:
    """Kills this process at the step that a file names."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._came: Counter[str] = Counter()

    def __call__(self, step: SpoolStep) -> None:
        try:
            armed = self._file.read_text()
        except FileNotFoundError:
            self._came.clear()
            return
        self._came[step.name] += 1
        if step.name == armed and self._came[armed] >= IN_THE_MIDDLE.get(armed, 1):
            self._file.unlink(missing_ok=True)
            os.kill(os.getpid(), signal.SIGKILL)


def main(file: Path) -> int:
    """Serve until a signal, or until the armed step."""
    usual, kill = ingest_gateway.__main__.run, KillWhenArmed(file)
    replace(ingest_gateway.__main__, "run", lambda environment: usual(environment, on_step=kill))
    environ = dict(os.environ)
    if Path(environ[SPOOL_VARIABLE]).name != SPOOLED:
        del environ[SPOOL_VARIABLE]
    return ingest_gateway.__main__.main(environ)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
