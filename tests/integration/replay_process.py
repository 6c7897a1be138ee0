"""`traceflow` as a process that kills itself when a step of a replay's writing comes for the nth time.

Run as a script: `python -m tests.integration.replay_process STEP NTH replay --from 0`, with the settings in the
environment.
"""

import os
import signal
import sys
from collections.abc import Sequence
from functools import partial

import deploy.replay.restore
from deploy.command.application import run
from deploy.replay.restore import Restorer
from sinks.commit.writer import Step


def main(name: str, nth: int, arguments: Sequence[str]) -> int:
    """Run the command until the step comes."""
    came = 0

    def on_step(step: Step) -> None:
        nonlocal came
        came += step.name == name
        if came == nth:
            os.kill(os.getpid(), signal.SIGKILL)

    # the command looks it up when it is run
    setattr(deploy.replay.restore, "Restorer", partial(Restorer, on_step=on_step))  # noqa: B010 # mypy: not assignable
    return run(list(arguments))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], int(sys.argv[2]), sys.argv[3:]))
