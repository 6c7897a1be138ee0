"""One log line an event, as text or JSON, for our own messages and those of the libraries; never keys or payloads.

`configure` is called once, at the top of a process. Then `structlog.get_logger()` anywhere:
`log.info("batch_stored", rows=500, ms=12)` - the event is a fixed name in snake_case, what varies is in the fields.
"""

import logging
import re
import sys
import time
from collections.abc import Callable, Mapping, MutableMapping, Sequence
from typing import Any, Literal, TextIO

import structlog

_SECRET_NAMES = re.compile(r"(^|_)(key|keys|password|secret|token|authorization|cookie|dsn)$", re.IGNORECASE)
_PAYLOAD_NAMES = frozenset({"body", "payload", "value", "record", "headers"})
_URL_PASSWORD = re.compile(r"(?P<head>[a-z][a-z0-9+.-]*://[^:/?#@\s]*):[^@\s]*@", re.IGNORECASE)
_PROJECT_KEY = re.compile(r"tfk_[A-Za-z0-9_-]+")
_LONGEST = 2_000
"""Characters of one field; a driver's message can quote a whole row."""
_TALKATIVE = ("aiokafka", "faust", "mode")
"""Libraries that tell each step of their start and each rebalance: their warnings are enough."""
_REPETITIVE = frozenset({"aiokafka", "faust", "mode", "librdkafka"})
"""Libraries that say the same thing at each attempt: while a broker is away, up to 80 lines a second and process."""
REPEAT_S = 10.0
_MOST_KEPT = 1_000


def configure(
    service: str,
    *,
    log_format: Literal["text", "json"],
    stream: TextIO = sys.stderr,
    level: int = logging.INFO,
    talkative: Sequence[str] = (),
) -> None:
    """Send every log line of this process to `stream` in one shape; each carries `service`.

    `talkative` names loggers whose warnings are enough, besides those of the libraries that are known to be.
    """
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
        _naming(service),
        mask,
    ]
    renderer: structlog.typing.Processor = structlog.processors.JSONRenderer(default=str)
    if log_format == "text":
        order = ["timestamp", "level", "service", "event"]
        renderer = structlog.processors.LogfmtRenderer(key_order=order, drop_missing=True, bool_as_flag=False)
    handler = logging.StreamHandler(stream)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, _on_one_line, renderer],
            foreign_pre_chain=shared,
        )
    )
    handler.addFilter(Sparingly())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    for name in (*_TALKATIVE, *talkative):
        logging.getLogger(name).setLevel(max(level, logging.WARNING))
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )


class Sparingly(logging.Filter):
    """Passes a library's line if the same one was not written lately; values aside, its first one included."""

    def __init__(self, *, every_s: float = REPEAT_S, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._every_s = every_s
        self._clock = clock
        self._written: dict[tuple[str, str, str], float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Tell whether the line is written."""
        if record.name.partition(".")[0] not in _REPETITIVE:
            return True
        first = str(record.args[0]) if isinstance(record.args, tuple) and record.args else ""
        line, now = (record.name, str(record.msg), first), self._clock()
        if now - self._written.get(line, float("-inf")) < self._every_s:
            return False
        if len(self._written) >= _MOST_KEPT:
            self._written.clear()
        self._written[line] = now
        return True


def _naming(service: str) -> structlog.typing.Processor:
    def name(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> Mapping[str, Any]:
        event.setdefault("service", service)
        return event

    return name


def mask(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> Mapping[str, Any]:
    """Replace what no log may hold: secrets by name, passwords within URLs, payloads, whatever is too long."""
    for name, value in event.items():
        if _SECRET_NAMES.search(name):
            event[name] = "***"
        elif name in _PAYLOAD_NAMES or isinstance(value, bytes | bytearray | memoryview):
            size = len(value) if hasattr(value, "__len__") else 1
            event[name] = f"<{type(value).__name__} of {size}>"
        elif isinstance(value, str):
            text = _PROJECT_KEY.sub("tfk_***", _URL_PASSWORD.sub(r"\g<head>:***@", value))
            event[name] = text if len(text) <= _LONGEST else text[:_LONGEST] + "…"
    return event


def _on_one_line(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> Mapping[str, Any]:
    # logfmt would quote a line break as it is; a traceback stays readable as one line with visible breaks
    for name, value in event.items():
        if isinstance(value, str) and "\n" in value:
            event[name] = value.rstrip("\n").replace("\n", "\\n")
    return event
