"""Whether what is delivered continues where the state is."""

from stream_processors.runner.delivery import Decision, Delivery


def decide(delivery: Delivery, first: int, last: int, *, wanted: int, now: float = 100.0) -> tuple[Delivery, Decision]:
    return delivery.judge((first, last), wanted=wanted, now=now)


def test_a_run_that_holds_the_next_record_is_folded() -> None:
    for first, last in ((7, 7), (7, 9), (3, 7), (3, 20)):
        assert decide(Delivery(), first, last, wanted=7) == (Delivery(), Decision.FOLD)


def test_a_run_of_what_is_included_already_is_skipped() -> None:
    assert decide(Delivery(), 3, 6, wanted=7) == (Delivery(), Decision.SKIP)


def test_a_run_beyond_the_next_record_sends_the_consumer_back_once() -> None:
    sought, decision = decide(Delivery(), 9, 12, wanted=7)
    assert (sought, decision) == (Delivery(seeks=1, sought_at=100.0), Decision.SEEK)
    # what was fetched before still arrives
    assert decide(sought, 13, 20, wanted=7, now=100.9) == (sought, Decision.SKIP)
    assert decide(sought, 7, 8, wanted=7, now=100.9) == (Delivery(sought_at=100.0), Decision.FOLD)


def test_a_seek_without_effect_is_repeated_after_its_patience_and_not_for_ever() -> None:
    delivery, now, decisions = Delivery(max_seeks=3), 100.0, []
    for _ in range(4):
        delivery, decision = decide(delivery, 9, 12, wanted=7, now=now)
        decisions.append(decision)
        now += delivery.patience_s
    assert decisions == [Decision.SEEK, Decision.SEEK, Decision.SEEK, Decision.GIVE_UP]
