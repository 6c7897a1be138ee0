"""When a worker that is alive has to end."""

from stream_processors.runner.watchdog import Judgement, Patience, Progress, Vitals

PATIENCE = Patience(settling_s=120, stalled_s=60, silent_s=60, commit_s=120)


def vitals(now: float, *, is_settled: bool = True, committed_at: float | None = None, **progress: Progress) -> Vitals:
    return Vitals(
        is_settled=is_settled,
        heard_at=now,
        committed_at=now if committed_at is None else committed_at,
        progress={int(name[1:]): value for name, value in progress.items()},
    )


def verdicts(looks: dict[float, Vitals]) -> list[str | None]:
    judgement, found = Judgement(PATIENCE), []
    for now, seen in looks.items():
        judgement = judgement.look(seen, now=now)
        found.append(judgement.verdict(seen, now=now))
    return found


def test_a_worker_that_does_its_work_is_left_alone() -> None:
    looks = {now: vitals(now, p0=Progress(int(now), int(now) + 50)) for now in (0.0, 50.0, 100.0, 1_000.0)}
    assert verdicts(looks) == [None] * 4


def test_a_worker_without_partitions_is_left_alone() -> None:
    assert verdicts({now: vitals(now) for now in (0.0, 1_000.0)}) == [None, None]


def test_joining_and_recovering_may_take_two_minutes() -> None:
    looks = {now: vitals(now, is_settled=False) for now in (10.0, 130.0, 130.5)}
    assert verdicts(looks) == [None, None, "joining or recovering takes too long"]


def test_time_counts_anew_after_the_worker_was_settled() -> None:
    looks = {now: vitals(now, is_settled=now == 100.0) for now in (10.0, 100.0, 200.0, 220.0)}
    assert verdicts(looks) == [None] * 4


def test_one_partition_that_stands_still_while_records_wait_ends_the_worker() -> None:
    moving = {now: Progress(int(now), int(now) + 5) for now in (0.0, 30.0, 61.0)}
    looks = {now: vitals(now, p0=moving[now], p1=Progress(7, 9)) for now in (0.0, 30.0, 61.0)}
    assert verdicts(looks) == [None, None, "partition 1 stands at 7 while records wait"]


def test_a_partition_at_its_end_may_stand_still() -> None:
    assert verdicts({now: vitals(now, p0=Progress(7, 8)) for now in (0.0, 1_000.0)}) == [None, None]


def test_a_rebalance_forgives_what_stood_still() -> None:
    looks = {now: vitals(now, is_settled=now != 40.0, p0=Progress(7, 9)) for now in (0.0, 40.0, 61.0, 102.0)}
    assert verdicts(looks) == [None] * 4


def test_an_event_loop_that_does_not_answer_ends_the_worker() -> None:
    seen = vitals(10.0)
    assert verdicts({10.0: seen, 70.0: seen, 71.0: seen}) == [None, None, "the event loop hangs"]


def test_a_group_that_takes_no_commit_ends_the_worker() -> None:
    looks = {now: vitals(now, committed_at=5.0) for now in (10.0, 129.0, 131.0)}
    assert verdicts(looks) == [None, None, "the group takes no commit"]
