"""A redrive of everything that waits, as a process that kills itself at a named step.

Run as a script: `python -m tests.integration.redrive_process STEP`, with the settings in the environment.
"""

import os
import signal
import sys
from collections.abc import Callable

from adapters.dead_letter_reader import LetterFilter
from deploy.command import parked, repair
from deploy.redrive.run import LogStep
from sinks.app import Environment
from sinks.commit.writer import Step

AnyStep = LogStep | Step


def redrive_all(settings: Environment, on_step: Callable[[AnyStep], None] = lambda _step: None) -> repair.Json:
    """Do what `traceflow dead-letters redrive --all` does."""
    found = parked.scan(settings.kafka, prefix=settings.log.topic_prefix, wanted=LetterFilter())
    return repair.redrive(settings, list(found.letters.values()), dry_run=False, on_step=on_step)


def main(name: str) -> None:
    """Redrive until the step comes."""

    def on_step(step: AnyStep) -> None:
        if step.name == name:
            os.kill(os.getpid(), signal.SIGKILL)

    redrive_all(Environment.read(os.environ), on_step)


if __name__ == "__main__":
    main(sys.argv[1])
