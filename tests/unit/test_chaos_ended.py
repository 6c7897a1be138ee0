"""Which service ended a chaos run and why is read from what the processes said, and held against what was planted."""

import asyncio
import sys

import pytest

from deploy.runtime.program import Program
from deploy.runtime.restart import EXIT_CONFIGURATION, EXIT_RESUME, RestartPolicy
from deploy.runtime.supervisor import Child, ConfigurationRefused, Supervisor
from tests.chaos.ended import Ended, end_of_system, reason_in
from tests.chaos.plants import PLANTS, Plant, is_found

REASON = (
    "timestamp=2026-12-01T00:49:54Z level=error service=analyze event=too_many_dead_letters code=78"
    ' reason="11 of the last 835 records had to be parked, latest as sources_lost" what_to_do="see the letters"'
)
LOG = f"""\
traceflow  | created 8 topics of 8 partitions
analyze-0  | event=stage_failed code=75 reason="of a restart that was survived"
traceflow  | analyze-0 asked to be restarted (exit 75); starting it again in 0.2 s
analyze-1  | event=sources_lost sources=35 offset=112
analyze-1  | {REASON}
traceflow  | stopping
gateway    | event=stopped unacknowledged_requests=0
traceflow: analyze-1 ended with exit 78: a person has to act: {REASON}
"""
HALTED = Ended("analyze", "analyze-1", EXIT_CONFIGURATION, REASON)


def test_the_service_that_ended_the_system_is_told_with_its_code_and_its_reason() -> None:
    assert end_of_system(LOG) == HALTED


def test_its_line_begins_with_its_place() -> None:
    assert HALTED.line == f"analyze: analyze-1 ended with exit 78: {REASON}"


def test_a_service_of_one_process_has_no_number() -> None:
    said = "gateway    | unusable\ntraceflow: gateway ended with exit 78: a person has to act: unusable\n"
    assert end_of_system(said) == Ended("gateway", "gateway", 78, "unusable")


def test_what_the_supervisor_says_of_a_service_that_gives_up_is_understood() -> None:
    program = Program(name="sink-0", argv=(sys.executable, "-c", f"exit({EXIT_CONFIGURATION})"), environ={})

    async def run() -> str:
        supervisor = Supervisor(write=lambda _name, _line: None, on_restart=lambda: None, policy=RestartPolicy())
        with pytest.raises(ConfigurationRefused) as gave_up:
            await supervisor.start([Child(program, probe=not_yet)], deadline_s=30.0)
        return str(gave_up.value)

    assert end_of_system(f"traceflow: {asyncio.run(run())}\n") == Ended("sink", "sink-0", EXIT_CONFIGURATION, "")


async def not_yet() -> str:
    return "it never can"


def test_a_system_that_ended_without_a_word_about_a_service_says_its_last_line() -> None:
    ended = end_of_system("traceflow  | stopping\nTraceback\nMemoryError\n\n")
    assert (ended.role, ended.code, ended.reason) == ("traceflow up", None, "MemoryError")


@pytest.mark.parametrize(
    ("lines", "reason"),
    [
        (["a", "event=halted reason=full", "event=stopped code=78"], "event=halted reason=full"),
        (["event=old reason=past", *"abcd", "last"], "last"),
        ([], ""),
    ],
    ids=["the last that gives a reason", "the last, if a reason is long past", "nothing"],
)
def test_the_reason_of_a_process(lines: list[str], reason: str) -> None:
    assert reason_in(lines) == reason


# --- what counts as the find of a planted fault

LOST_SEEK, EARLY = PLANTS["lost-seek"], PLANTS["early-tombstone"]


def test_a_service_that_halted_over_what_its_fault_does_has_found_it() -> None:
    assert is_found(LOST_SEEK, [HALTED], [])


@pytest.mark.parametrize(
    ("plant", "ends"),
    [
        (LOST_SEEK, [Ended("sink", "sink-0", EXIT_CONFIGURATION, REASON)]),
        (LOST_SEEK, [Ended("analyze", "analyze-0", -11, REASON)]),
        (LOST_SEEK, [Ended("analyze", "analyze-0", EXIT_RESUME, REASON)]),
        (LOST_SEEK, [Ended("analyze", "analyze-0", EXIT_CONFIGURATION, 'reason="2 of 9 parked as engine_error"')]),
        (LOST_SEEK, [HALTED, Ended("sink", "sink-0", EXIT_CONFIGURATION, "")]),
        (EARLY, [HALTED]),
        (LOST_SEEK, [Ended("traceflow up", "nobody says which service", None, REASON)]),
    ],
    ids=["another service", "a crash", "a restart", "another reason", "another beside it", "another fault", "nobody"],
)
def test_any_other_end_is_no_find_even_if_its_service_differs(plant: Plant, ends: list[Ended]) -> None:
    assert not is_found(plant, ends, ["analyze: partition 3 did not send 2 records that its log gives"])


def test_a_difference_in_its_service_is_a_find_and_one_elsewhere_is_none() -> None:
    assert is_found(EARLY, [], ["sink-events: rows are missing", "analyze: partition 3 has lost session s"])
    assert not is_found(EARLY, [], ["sink-events: rows are missing"])
    assert not is_found(EARLY, [], [])
