import io
import json
import logging
from collections.abc import Iterator

import pytest
import structlog

from adapters import logs


@pytest.fixture(autouse=True)
def _restore_logging() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:], root.level = handlers, level
    structlog.reset_defaults()


def written(log_format: str, **fields: object) -> str:
    stream = io.StringIO()
    logs.configure("sink", log_format="json" if log_format == "json" else "text", stream=stream)
    structlog.get_logger().info("batch_stored", **fields)
    return stream.getvalue()


def test_a_json_line_holds_event_service_level_and_fields() -> None:
    line = json.loads(written("json", rows=3))
    assert {**line, "timestamp": ""} == {
        "event": "batch_stored",
        "service": "sink",
        "level": "info",
        "rows": 3,
        "timestamp": "",
    }


def test_a_text_line_is_logfmt_in_a_fixed_order() -> None:
    time, _, rest = written("text", rows=3, why="a b").partition(" ")
    assert time.startswith("timestamp=")
    assert rest == 'level=info service=sink event=batch_stored rows=3 why="a b"\n'


def test_lines_of_libraries_have_the_same_shape() -> None:
    stream = io.StringIO()
    logs.configure("gateway", log_format="json", stream=stream)
    logging.getLogger("library").warning("lost %s", "it")
    line = json.loads(stream.getvalue())
    assert (line["event"], line["service"], line["level"]) == ("lost it", "gateway", "warning")


def test_of_talkative_libraries_only_the_warnings_are_heard() -> None:
    stream = io.StringIO()
    logs.configure("digest", log_format="text", stream=stream)
    logging.getLogger("faust.worker").info("starting step 17 of 40")
    logging.getLogger("faust.worker").warning("cannot go on")
    assert "step 17" not in stream.getvalue()
    assert "cannot go on" in stream.getvalue()


@pytest.mark.parametrize("log_format", ["text", "json"])
def test_no_key_password_or_payload_is_ever_written(log_format: str) -> None:
    line = written(
        log_format,
        project_key="tfk_s3cret",
        password="s3cret",
        url="postgresql://u:s3cret@h/d",
        error="cannot use tfk_s3cret",
        body="s3cret",
        raw=b"s3cret",
    )
    assert "s3cret" not in line
    assert "postgresql://u:***@h/d" in line


def test_a_traceback_is_one_line() -> None:
    stream = io.StringIO()
    logs.configure("sink", log_format="text", stream=stream)
    try:
        raise ValueError("no")
    except ValueError:
        structlog.get_logger().exception("failed")
    assert stream.getvalue().count("\n") == 1
    assert "ValueError: no" in stream.getvalue()


def test_a_long_field_is_cut() -> None:
    assert len(json.loads(written("json", text="x" * 5000))["text"]) == 2001


def library_line(name: str, message: str, *arguments: object) -> logging.LogRecord:
    return logging.LogRecord(name, logging.ERROR, "", 0, message, arguments, None)


def test_the_same_line_of_a_library_is_written_once_in_a_while() -> None:
    now = 100.0
    sparingly = logs.Sparingly(every_s=10, clock=lambda: now)
    unreachable = library_line("aiokafka.client", "Unable connect to node with id %s: %s", 1, "refused")
    assert sparingly.filter(unreachable)
    now = 109.9
    assert not sparingly.filter(library_line(unreachable.name, unreachable.msg, 1, "timed out"))
    assert sparingly.filter(library_line(unreachable.name, unreachable.msg, 2, "refused"))
    assert sparingly.filter(library_line("librdkafka", "%s [%s] %s", "FAIL", "producer-1", "refused"))
    now = 110.0
    assert sparingly.filter(unreachable)


def test_a_process_whose_broker_is_away_says_so_once_in_a_while() -> None:
    stream = io.StringIO()
    logs.configure("gateway", log_format="text", stream=stream)
    for _ in range(3):
        logging.getLogger("librdkafka").error("%s [%s] %s", "FAIL", "producer-1", "refused")
    assert stream.getvalue().count("refused") == 1


def test_our_own_lines_are_all_written() -> None:
    stream = io.StringIO()
    logs.configure("sink", log_format="text", stream=stream)
    for _ in range(3):
        structlog.get_logger().info("batch_stored")
    assert stream.getvalue().count("batch_stored") == 3
