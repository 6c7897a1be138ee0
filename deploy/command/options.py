"""What the commands' options and helps have in common."""

from pathlib import Path
from typing import Annotated

import typer

from deploy.command.failure import EXIT_HELP

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document and nothing else.")]
Data = Annotated[
    Path | None,
    typer.Option("--data", metavar="DIR", help="Data directory of the `traceflow up` to speak to; found by itself."),
]


def teach(*examples: str, more: str = "") -> str:
    """Return the end of a command's help: examples, line by line, what else to know, and the exit codes."""
    shown = "\n".join(f"  {example}" for example in examples)
    # the backspace keeps the lines of its paragraph from being wrapped
    return "\n\n".join(filter(None, (f"\b\nExamples:\n{shown}", more, EXIT_HELP)))


def group(about: str) -> typer.Typer:
    """Make a group of commands: plain help (rich would triple its time), our own handling of errors."""
    return typer.Typer(
        help=about, no_args_is_help=True, add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False
    )
