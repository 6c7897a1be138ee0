"""`python -m stream_processors digest|analyze`: run one worker of a stage until SIGTERM or SIGINT."""

import os
import sys
from collections.abc import Mapping, Sequence

import structlog

from adapters import logs
from schemas.environment import SettingsError
from stream_processors.kinds import KINDS
from stream_processors.runner.failstop import HALT
from stream_processors.runner.faust_app import FAUST_SERVICES
from stream_processors.worker import CannotStart, Environment, build_logic, run


def main(arguments: Sequence[str], environ: Mapping[str, str]) -> int:
    """Run until a signal comes; return the exit code of a start that failed."""
    kind = KINDS.get(arguments[0]) if len(arguments) == 1 else None
    if kind is None:
        print("usage: python -m stream_processors digest|analyze", file=sys.stderr)
        return HALT
    try:
        environment = Environment.read(environ)
        logic = build_logic(kind.name, environ)
    except SettingsError as error:
        print(error, file=sys.stderr)
        return HALT
    logs.configure(kind.name, log_format=environment.log.log_format, talkative=FAUST_SERVICES)
    log = structlog.get_logger()
    log.info("starting", **environment.masked())
    try:
        run(kind, environment, logic)
    except CannotStart as error:
        log.error("cannot_start", reason=str(error))
        return error.code
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], os.environ))
