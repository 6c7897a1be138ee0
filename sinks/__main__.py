"""`python -m sinks [NAME …]`: run the named sinks, all of them without names, until SIGTERM or SIGINT."""

import os
import signal
import sys
import threading
from collections.abc import Mapping, Sequence

import structlog

from adapters import logs
from schemas.environment import SettingsError
from sinks.app import EXIT_HALTED, SINKS, START_FAILURES, Environment, run, start_failure


def main(arguments: Sequence[str], environ: Mapping[str, str]) -> int:
    """Run until a signal comes; return the exit code."""
    names = list(dict.fromkeys(arguments)) or list(SINKS)
    if unknown := [name for name in names if name not in SINKS]:
        print(f"no such sink: {', '.join(unknown)}; there are: {', '.join(SINKS)}", file=sys.stderr)
        return EXIT_HALTED
    try:
        environment = Environment.read(environ)
    except SettingsError as error:
        print(error, file=sys.stderr)
        return EXIT_HALTED
    logs.configure("sink", log_format=environment.log.log_format)
    log = structlog.get_logger()
    log.info("starting", sinks=names, **environment.masked())
    stopping = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.set())
    try:
        code = run(names, environment, stopping=stopping)
    except START_FAILURES as error:
        code, line = start_failure(error)
        log.error("cannot_start", reason=line)
    log.info("stopped", code=code)
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], os.environ))
