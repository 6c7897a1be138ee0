"""Script errors that a recording knows: what rrweb's console plugin (posthog-js records with it) took from the console.

Uncaught errors reach the console as errors, with their message as written there, and so do exceptions that the page
caught and logged. A plain text on console.error is the application's own note ("gift wrap not available"): no error of
the script, so it is left out.
"""

import re
from typing import Any

import orjson

from schemas.signals import ScriptError
from stream_processors.digest.texts import clean

PLUGIN_NAME = "rrweb/console@1"
MAX_MESSAGE_CHARS = 1_000
MAX_STACK_CHARS = 4_000
_EXCEPTION = re.compile(r"^(?:Uncaught|Unhandled)\b|^(?:\w+\.)*\w*(?:Error|Exception)\b\s*(?::|$|\n)", re.IGNORECASE)


def read_console(t: int, data: dict[str, Any], *, page_url: str) -> ScriptError | None:
    """Return the error that a plugin event tells; None if it tells none."""
    payload = data.get("payload")
    if data.get("plugin") != PLUGIN_NAME or not isinstance(payload, dict) or payload.get("level") != "error":
        return None
    arguments = [_argument(part) for part in _texts(payload.get("payload"))]
    if not any(_EXCEPTION.search(argument) for argument in arguments):
        return None
    message = " ".join(arguments)
    stack = "\n".join(_texts(payload.get("trace")))
    return ScriptError(
        t,
        message=clean(message, limit=MAX_MESSAGE_CHARS),
        stack=clean(stack, limit=MAX_STACK_CHARS),
        page_url=page_url,
    )


def _texts(value: Any) -> list[str]:
    return [part for part in value if isinstance(part, str)] if isinstance(value, list) else []


def _argument(text: str) -> str:
    """Return an argument of console.error as people read it: strings come as JSON."""
    if text[:1] != '"':
        return text
    try:
        return str(orjson.loads(text))
    except orjson.JSONDecodeError:
        return text
