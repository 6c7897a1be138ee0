"""What a redrive does with each letter."""

import pytest

from adapters.dead_letter_marks import LetterId, LetterPlace, Mark, MarkState
from deploy.command.parked import statistics
from deploy.redrive.plan import Letter, make_plan, obstacle
from schemas.messages import DeadLetter

SINKS = {"events", "recordings"}


def letter(
    stage: str, offset: int, *, index: int = -1, kind: str = "events", partition: int = 0, project: str = "p"
) -> Letter:
    place = LetterPlace(LetterId(stage, "events", partition, offset, index), partition, 100 - offset)
    return Letter(place, "engine_error", kind, project)


def test_letters_go_back_in_the_order_of_the_log_that_they_come_from_not_of_their_parking() -> None:
    later, first = letter("analyze", 9), letter("analyze", 2)
    other, event = letter("analyze", 5, partition=1), letter("sink-events", 4, index=1)
    plan = make_plan([later, other, event, letter("sink-events", 4, index=0), first], {}, sinks=SINKS)
    assert plan.log == [first.place, later.place, other.place]
    assert plan.sinks == {"events": [letter("sink-events", 4, index=0).place, event.place]}
    assert plan.counts() == {"analyze": 3, "sink-events": 2}


@pytest.mark.parametrize("state", list(MarkState))
def test_what_is_marked_is_left_alone(state: MarkState) -> None:
    one = letter("analyze", 1)
    plan = make_plan([one], {one.place.id: Mark(one.place, state, 1)}, sinks=SINKS)
    assert (plan.log, plan.sinks, plan.impossible) == ([], {}, {})


@pytest.mark.parametrize(
    ("stage", "kind", "stands_against"),
    [
        ("analyze", "events", None),
        ("analyze", "digest", None),
        ("digest", "chunk", None),
        ("sink-events", "events", None),
        ("sink-signals", "", "no sink signals"),
        ("analyze", "digest_tick", "a tick: what it settled is settled, and the session that raised was closed"),
        ("digest", "tick", "a tick: what it settled is settled, and the session that raised was closed"),
        ("gateway", "", "refused by the gateway: its client was told, and may send it again"),
        ("other", "events", "no stage other"),
    ],
)
def test_what_stands_against_putting_a_letter_back(stage: str, kind: str, stands_against: str | None) -> None:
    assert obstacle(stage, kind, sinks=SINKS) == stands_against


def test_copies_of_a_letter_are_one_and_a_refused_request_is_named_by_its_own_place() -> None:
    parked = DeadLetter(reason="engine_error", stage="analyze", topic="events", partition=1, offset=9, index=2)
    assert LetterId.of(parked, topic="dead_letters", partition=3, offset=120) == ("analyze", "events", 1, 9, 2)
    refused = DeadLetter(reason="event_too_large", stage="gateway", topic="", partition=-1, offset=-1, index=2)
    assert LetterId.of(refused, topic="dead_letters", partition=3, offset=120) == (
        ("gateway", "dead_letters", 3, 120, 2)
    )


def test_statistics_count_by_stage_reason_project_and_what_was_done() -> None:
    letters = [letter("analyze", 1), letter("analyze", 2), letter("analyze", 3, project=""), letter("sink-events", 1)]
    marks = {letters[0].place.id: Mark(letters[0].place, MarkState.DROPPED, None)}
    common = {"reason": "engine_error", "sending": 0, "redriven": 0}
    assert statistics(letters, marks) == [
        {"stage": "analyze", "project_id": "p", "letters": 2, "waiting": 1, "dropped": 1, **common},
        {"stage": "analyze", "project_id": None, "letters": 1, "waiting": 1, "dropped": 0, **common},
        {"stage": "sink-events", "project_id": "p", "letters": 1, "waiting": 1, "dropped": 0, **common},
    ]


def test_statistics_without_postgres_count_and_claim_nothing() -> None:
    assert statistics([letter("analyze", 1)], None) == [
        {
            **{"stage": "analyze", "reason": "engine_error", "project_id": "p", "letters": 1},
            **{"waiting": None, "sending": None, "redriven": None, "dropped": None},
        }
    ]
