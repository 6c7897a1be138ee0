"""What the libraries of a stage may write."""

import logging

from stream_processors.library_logs import Sparingly


def line(name: str, message: str, *arguments: object) -> logging.LogRecord:
    return logging.LogRecord(name, logging.ERROR, "", 0, message, arguments, None)


def test_the_same_line_of_a_library_is_written_once_in_a_while() -> None:
    now = 100.0
    sparingly = Sparingly(every_s=10, clock=lambda: now)
    unreachable = line("aiokafka.client", "Unable connect to node with id %s: %s", 1, "refused")
    assert sparingly.filter(unreachable)
    now = 109.9
    assert not sparingly.filter(line("aiokafka.client", "Unable connect to node with id %s: %s", 1, "timed out"))
    assert sparingly.filter(line("aiokafka.client", "Unable connect to node with id %s: %s", 2, "refused"))
    assert sparingly.filter(line("rdkafka", "%s [%s] %s", "FAIL", "producer-1", "refused"))
    now = 110.0
    assert sparingly.filter(unreachable)


def test_our_own_lines_are_all_written() -> None:
    sparingly = Sparingly()
    assert all(sparingly.filter(line("stream_processors.stage", "stage_failed")) for _ in range(3))
