"""End the process at once, with one clear line: what is not acknowledged is read again by whoever comes next.

Faust acknowledges what raised an exception and goes on, so nothing that must stop a stage may reach it. Ending the
process is always safe here, because positions and states lie in the changelog, and it is the only thing that also ends
a thread that hangs.
"""

import faulthandler
import os
import sys
from typing import NoReturn

import structlog

RESTART = 75
"""Restart me, I resume from my state (EX_TEMPFAIL)."""
HALT = 78
"""A person has to act; a restart alone would stop at the same place (EX_CONFIG)."""

WHAT_TO_DO = {
    "stage_failed": "a newer format: run the version that wrote it; else report it, `traceflow forget` the stage",
    "too_many_dead_letters": "see `traceflow dead-letters list`; mend the cause or run the version before; start again",
    "retention_took_records": "stop the stage's workers, `traceflow forget` it, start them: it takes what is left",
    "log_does_not_continue": "stop the stage's workers, `traceflow forget` it, start them: it takes what is there",
    "changelog_lost_records": "stop the stage's workers, `traceflow forget` it, start them: it takes what is left",
    "log_has_a_hole": "mend what `traceflow topics --check` says, delete what is before the hole, then `forget` it",
}
"""The step that a person takes, by the line with which a process halts."""

log = structlog.get_logger()


def fail_stop(event: str, *, code: int = RESTART, stacks: bool = False, **fields: object) -> NoReturn:
    """Say why, and end the process without any further word; `stacks` shows where every thread stands."""
    if code == HALT:
        fields["what_to_do"] = WHAT_TO_DO[event]
    log.error(event, code=code, **fields)
    if stacks:
        faulthandler.dump_traceback(file=sys.stderr, all_threads=True)
    sys.stderr.flush()
    os._exit(code)
