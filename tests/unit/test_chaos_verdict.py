"""What a chaos run counts for itself is held against what `traceflow accounts` counts."""

from dataclasses import replace

import pytest

from deploy.accounts.count import CHUNKS, EVENTS, Accounts
from deploy.accounts.count import Account as Counted
from tests.chaos.verdict import Account

OWN = Account(
    project_id="p", accepted=90, rejected=3, in_log=100, stored=91, duplicates=8, parked=1, unreadable=2, chunks=7
)
EVENTS_COUNTED = Counted(accepted=102, rejected=4, stored=91, parked=3, duplicates=8)
CHUNKS_COUNTED = Counted(accepted=9, stored=6, parked=2, duplicates=1)


def counted(events: Counted = EVENTS_COUNTED, chunks: Counted = CHUNKS_COUNTED) -> Accounts:
    return {("p", EVENTS): events, ("p", CHUNKS): chunks}


def test_the_same_counts_agree_and_records_that_nobody_can_read_are_accepted_and_parked() -> None:
    assert OWN.differs(counted()) == []


@pytest.mark.parametrize("name", ["accepted", "stored", "parked", "duplicates"])
def test_an_event_more_than_was_counted_here_is_said_and_is_unexplained(name: str) -> None:
    more = replace(EVENTS_COUNTED, **{name: getattr(EVENTS_COUNTED, name) + 1})
    lines = OWN.differs(counted(events=more))
    assert len(lines) == 2
    assert "unexplained" in lines[1]


def test_fewer_rejections_than_clients_were_told_of_are_said() -> None:
    assert OWN.differs(counted(events=replace(EVENTS_COUNTED, rejected=2))) == [
        "traceflow accounts, project p: 2 events rejected, clients were told of 3"
    ]


def test_a_chunk_that_was_acknowledged_and_is_nowhere_is_said() -> None:
    lost = Counted(accepted=7, stored=4, parked=2, duplicates=1)
    assert OWN.differs(counted(chunks=lost)) == [
        "traceflow accounts, project p: 6 chunks stored or parked, 7 acknowledged"
    ]


def test_a_project_that_is_not_counted_at_all_is_said() -> None:
    assert len(OWN.differs({})) == 3
