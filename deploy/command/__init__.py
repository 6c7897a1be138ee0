"""The `traceflow` command: everything an operator types.

- `application`: the commands, their options and help; each imports its work when it is run.
- `failure`: every error as one line and an exit code.
- `reach`: which Kafka and Postgres a command speaks to.
- `captured`, `detection`: what `detect` reads and how it finds, pure.
- `lag`: the arithmetic of `status`, pure; `status`, `forget`, `query`, `projects`, `parked`, `export`, `bring_up`: the
  work.

Floor 3: wiring. Imports of drivers are inside functions, so that `traceflow --help` answers at once.
"""


def main() -> None:
    """Run the command line of this process and exit with its code."""
    import sys

    from deploy.command.application import run

    sys.exit(run(sys.argv[1:]))
