"""While there is not enough for all, who holds more than a share is refused; alone, or with little, nobody is."""

from ingest_gateway.limits.fair_share import ACTIVE_S, Lateness, Shares


def shares(**held: int) -> Shares:
    made = Shares(floor=8)
    for project, weight in held.items():
        made.take(project, weight, now_s=10.0)
    return made


def exceeded(made: Shares, *, now_s: float = 11.0) -> set[str]:
    return {project for project in "abcdefghij" if made.is_exceeded(project, now_s=now_s)}


def test_a_project_that_is_alone_may_hold_everything() -> None:
    assert exceeded(shares(a=10_000)) == set()


def test_of_two_the_one_that_holds_more_than_half_is_over_its_share() -> None:
    assert exceeded(shares(a=500, b=2)) == {"a"}
    assert exceeded(shares(a=50, b=50)) == set()


def test_several_that_hold_more_than_an_equal_part_are_all_over_it() -> None:
    assert exceeded(shares(a=400, b=400, c=1, d=1)) == {"a", "b"}


def test_among_many_whoever_holds_less_than_an_eighth_is_never_refused() -> None:
    small = dict.fromkeys("bcdefghij", 10)
    assert exceeded(shares(a=9, **small)) == set()
    assert exceeded(shares(a=40, **small)) == {"a"}


def test_what_is_little_is_no_share_to_speak_of() -> None:
    assert exceeded(shares(a=8, b=0)) == set()
    assert exceeded(shares(a=9, b=0)) == {"a"}


def test_who_has_sent_lately_wants_a_share_and_who_has_left_does_not() -> None:
    made = shares(a=100, b=1)
    made.give_back("b", 1)
    assert exceeded(made, now_s=10.0 + ACTIVE_S - 1) == {"a"}
    assert exceeded(made, now_s=10.0 + ACTIVE_S + 1) == set()


def test_what_was_acknowledged_is_held_no_more() -> None:
    made = shares(a=100, b=5)
    made.give_back("a", 96)
    assert exceeded(made) == set()


def late(*samples_s: float) -> bool:
    lateness = Lateness(max_late_s=0.05)
    for late_s in samples_s:
        lateness.sample(late_s, now_s=10.0)
    return lateness.is_late(now_s=10.0)


def test_the_loop_is_late_once_samples_in_a_row_were_late_by_a_quarter_of_a_second_together() -> None:
    assert not late(0.06, 0.06, 0.06, 0.06)
    assert late(0.06, 0.06, 0.06, 0.06, 0.06)
    assert late(0.1, 0.2)


def test_one_pause_of_the_machine_is_no_contention_and_nor_are_several_with_good_moments_between() -> None:
    assert not late(5.0)
    assert not late(0.2, 0.05, 0.2, 0.01, 0.2)


def test_what_was_contended_is_so_for_a_while() -> None:
    lateness = Lateness(max_late_s=0.05)
    lateness.sample(0.2, now_s=10.0)
    lateness.sample(0.2, now_s=10.2)
    lateness.sample(0.0, now_s=10.22)
    assert lateness.is_late(now_s=13.1)
    assert not lateness.is_late(now_s=13.3)
