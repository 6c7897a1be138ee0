"""The faults of a chaos run: the same for the same seed, every kind before any comes again, one at a time a server."""

from itertools import pairwise

import pytest

from tests.chaos.faults import BROKER, DATABASE, Card, Fault, Strike, draw_schedule, whole_deck
from tests.chaos.run import WORKERS, long_plan

DECK = whole_deck(WORKERS, broker_away_s=60.0)


def draw(seed: int, *, minutes: float = 12.0) -> list[Strike]:
    plan = long_plan(seed, minutes=minutes)
    return draw_schedule(plan.seed, plan.deck, seconds=plan.seconds, gap_s=plan.gap_s)


def test_a_seed_gives_the_same_faults_again_and_another_seed_others() -> None:
    assert draw(3) == draw(3)
    assert draw(3) != draw(4)


def test_a_schedule_is_known_in_whole_values() -> None:
    deck = [Card(Fault.KILLED, "sink", ("sink-0", "sink-1")), Card(Fault.READ_ONLY, DATABASE, (DATABASE,), (3.0, 10.0))]
    assert draw_schedule(1, deck, seconds=12.0, gap_s=4.0) == [
        Strike(2.54, Fault.KILLED, "sink", "sink-0", 0.0),
        Strike(6.34, Fault.READ_ONLY, DATABASE, DATABASE, 8.52),
        # the database is still read-only
        Strike(8.71, Fault.KILLED, "sink", "sink-1", 0.0),
    ]


@pytest.mark.parametrize("seed", range(20))
def test_twelve_minutes_hold_a_hundred_faults_and_every_kind(seed: int) -> None:
    strikes = draw(seed)
    assert len(strikes) >= 100
    assert {strike.fault for strike in strikes} == set(Fault)
    assert {(s.fault, s.role) for s in strikes} == {(card.fault, card.role) for card in DECK}


@pytest.mark.parametrize("seed", range(20))
def test_faults_come_in_order_and_a_server_has_one_at_a_time(seed: int) -> None:
    strikes = draw(seed)
    assert all(first.at_s <= second.at_s for first, second in pairwise(strikes))
    places = {(card.fault, card.role): card.place for card in DECK}
    for server in (BROKER, DATABASE):
        own = [strike for strike in strikes if places[strike.fault, strike.role] == server]
        assert own
        assert all(first.at_s + first.lasts_s <= second.at_s + 0.02 for first, second in pairwise(own))


def test_every_kind_comes_before_any_comes_again() -> None:
    cards = [(card.fault, card.role) for card in DECK]
    first_round = [(s.fault, s.role) for s in draw(7)][: len(DECK)]
    assert sorted(first_round) == sorted(cards)
