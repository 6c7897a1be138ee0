"""A gateway that kills itself at a named step of its spool, for tests that run it as a process.

`python -m tests.integration.spool_process STEP`, with the settings in the environment.
"""

import asyncio
import os
import signal
import sys

from ingest_gateway.__main__ import Environment, run
from ingest_gateway.spool.files import SpoolStep


def main(name: str) -> None:
    """Serve until the step comes."""

    def on_step(step: SpoolStep) -> None:
        if step.name == name:
            os.kill(os.getpid(), signal.SIGKILL)

    asyncio.run(run(Environment(os.environ), on_step=on_step))


if __name__ == "__main__":
    main(sys.argv[1])
