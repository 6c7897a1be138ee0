import pytest

from deploy.runtime.restart import GiveUp, History, RestartAt, RestartPolicy, describe_exit, on_exit

POLICY = RestartPolicy(
    resume_delay_ms=200,
    resume_longest_ms=1_000,
    first_delay_ms=500,
    longest_delay_ms=4_000,
    jitter=0.5,
    clean_after_ms=60_000,
)


def delays(codes: list[int], *, ran_ms: int = 10, chance: float = 0.0) -> list[int]:
    history, found = History(), []
    for code in codes:
        history, decision = on_exit(history, POLICY, code=code, ran_ms=ran_ms, now_ms=1_000, chance=chance)
        assert isinstance(decision, RestartAt)
        found.append(decision.at_ms - 1_000)
    return found


def test_a_crash_waits_longer_each_time_up_to_a_bound() -> None:
    assert delays([1, 1, 1, 1, 1, 1]) == [500, 1_000, 2_000, 4_000, 4_000, 4_000]


def test_death_by_a_signal_and_an_unexpected_success_count_as_crashes() -> None:
    assert delays([-9, 0, -11]) == [500, 1_000, 2_000]


def test_a_wish_to_be_restarted_is_granted_soon_and_only_slowly_later() -> None:
    assert delays([75, 75, 75, 75]) == [200, 400, 800, 1_000]


def test_a_long_run_forgives_what_was_before_it() -> None:
    assert delays([1, 1, 1], ran_ms=60_000) == [500, 500, 500]
    assert delays([1, 1, 1], ran_ms=59_999) == [500, 1_000, 2_000]


def test_jitter_adds_its_share() -> None:
    assert delays([1, 75], chance=0.5) == [625, 500]


def test_years_of_failures_do_not_overflow() -> None:
    history, decision = on_exit(History(failures=10**9), POLICY, code=1, ran_ms=0, now_ms=0, chance=0)
    assert (history, decision) == (History(failures=10**9 + 1), RestartAt(4_000))


def test_what_a_person_has_to_mend_gives_up_at_once() -> None:
    assert on_exit(History(), POLICY, code=78, ran_ms=90_000, now_ms=0, chance=0)[1] == GiveUp("a person has to act")


@pytest.mark.parametrize(
    ("code", "words"),
    [(-9, "was ended by signal 9"), (75, "asked to be restarted (exit 75)"), (1, "ended with exit 1")],
)
def test_an_end_is_told_in_words(code: int, words: str) -> None:
    assert describe_exit(code) == words
