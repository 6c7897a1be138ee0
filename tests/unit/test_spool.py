"""A lane's queue with a disk behind it, on a producer that does what a test says and real files."""

import asyncio
import itertools
import os
import random
import stat
import time
from collections import deque
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import KafkaError

from adapters.kafka_producer import DeliveryFailed, ProducerHealth, Record
from ingest_gateway.admission.records import Outgoing
from ingest_gateway.spool.files import SegmentFiles, SpoolStep, SpoolUnusable, hold_spool
from ingest_gateway.spool.format import HEAD_BYTES, encode_request, scan
from ingest_gateway.spool.queue import Spool, SpoolFull
from ingest_gateway.spool.route import Route, SpoolLimits

AWAY = ProducerHealth(queue_fill=0.1, oldest_unacked_s=3.0, all_brokers_down=False)
WELL = ProducerHealth(queue_fill=0.1, oldest_unacked_s=0.1, all_brokers_down=False)


class FakeLog:
    """A producer with its broker: takes everything in order, and has it when it is told to."""

    def __init__(self) -> None:
        self.state = WELL
        self.has: list[bytes] = []
        self._replacing = False
        self._queue: deque[tuple[Sequence[Record], asyncio.Future[None]]] = deque()

    def health(self) -> ProducerHealth:
        return replace(self.state, is_replacing=self._replacing)

    def send(self, records: Sequence[Record]) -> "asyncio.Future[None]":
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._queue.append((records, future))
        return future

    @property
    def queued(self) -> int:
        return len(self._queue)

    def take(self, count: int = 1_000_000) -> None:
        """Acknowledge the oldest requests that are queued."""
        for _ in range(min(count, len(self._queue))):
            records, future = self._queue.popleft()
            self.has.extend(record.value for record in records)
            future.set_result(None)

    def fail(self, code: int, *, only: bytes | None = None) -> None:
        """Fail everything that is queued, as a producer that dies does, or the request that holds a value."""
        kept: deque[tuple[Sequence[Record], asyncio.Future[None]]] = deque()
        for records, future in self._queue:
            if only is None or records[0].value == only:
                future.set_exception(DeliveryFailed(KafkaError(code), "as a test says"))
            else:
                kept.append((records, future))
        self._queue = kept
        if only is None:
            self._replacing = True
            asyncio.get_running_loop().call_soon(self._replaced)

    def _replaced(self) -> None:
        self._replacing = False


class Running:
    """A spool at work in a directory."""

    def __init__(self, directory: Path, log: FakeLog | None = None, **limits: int) -> None:
        self.log = log or FakeLog()
        self.steps: list[SpoolStep] = []
        self.set_aside = 0
        allowed = SpoolLimits(limits.pop("max_bytes", 10_000_000), 2.0, 0.8, **limits)
        self.files = SegmentFiles(directory, segment_bytes=allowed.segment_bytes, on_step=self.steps.append)
        self.files.recover()
        self.spool = Spool(
            "events",
            self.files,
            self.log,
            allowed,
            topic_prefix="t.",
            on_step=self.steps.append,
            on_set_aside=self._count,
        )
        self._task = asyncio.create_task(self.spool.run())

    def _count(self) -> None:
        self.set_aside += 1

    def send(self, *values: bytes) -> "list[asyncio.Future[None]]":
        return [self.spool.send([request(value)]) for value in values]

    async def until(self, true: Callable[[], bool]) -> None:
        async with asyncio.timeout(20):
            while not true():  # noqa: ASYNC110 - looked at from outside, as an operator does
                await asyncio.sleep(0.002)

    async def until_direct(self) -> None:
        """Let the broker have all, and the disk be empty."""
        self.log.state = WELL
        async with asyncio.timeout(20):
            while self.spool.route is not Route.DIRECT or self.files.segments:
                self.log.take()
                await asyncio.sleep(0.002)
        self.log.take()

    async def stop(self) -> None:
        """End it as a crash does: what only memory knows is gone."""
        self.spool.close()
        await self._task


def request(value: bytes) -> Outgoing:
    return Outgoing("events", b"p/s", value, [("kind", "events")])


def run(main: Coroutine[Any, Any, None]) -> None:
    asyncio.run(main)


def values(start: int, stop: int) -> list[bytes]:
    return [b"%04d" % number for number in range(start, stop)]


def segments_in(directory: Path) -> list[Path]:
    return sorted(directory.glob("*.spool"))


def test_while_the_broker_is_well_nothing_is_written_and_the_client_waits_for_it(tmp_path: Path) -> None:
    async def main() -> None:
        running = Running(tmp_path)
        (told,) = running.send(b"a")
        await asyncio.sleep(0)
        assert not told.done()
        running.log.take()
        await told
        assert (running.log.has, segments_in(tmp_path), running.steps) == ([b"a"], [], [])
        await running.stop()

    run(main())


def test_what_was_on_its_way_and_what_comes_is_told_once_it_is_synced_and_keeps_its_order(tmp_path: Path) -> None:
    async def main() -> None:
        running = Running(tmp_path)
        first = running.send(*values(0, 3))
        running.log.state = AWAY
        then = running.send(*values(3, 6))
        assert not any(told.done() for told in first + then)
        await asyncio.gather(*first, *then)
        assert (running.spool.route, running.log.has, running.spool.requests) == (Route.SPOOL, [], 6)
        assert running.steps[: running.steps.index(SpoolStep.SYNCED) + 1] == [
            SpoolStep.CREATED,
            SpoolStep.WRITTEN,
            SpoolStep.SYNCED,
        ]

        running.log.state = WELL
        running.log.take()
        await running.until_direct()
        assert (running.log.has, running.spool.requests, running.spool.size) == (values(0, 6), 0, 0)
        assert segments_in(tmp_path) == []
        await running.stop()

    run(main())


def test_one_fsync_serves_all_that_came_while_another_one_ran(tmp_path: Path) -> None:
    async def main() -> None:
        running = Running(tmp_path)
        running.log.state = AWAY
        await asyncio.gather(*running.send(*values(0, 500)))
        assert running.steps.count(SpoolStep.SYNCED) <= 2
        await running.stop()

    run(main())


def test_more_than_the_window_holds_is_read_back_from_the_disk_in_order(tmp_path: Path) -> None:
    async def main() -> None:
        running = Running(tmp_path, max_bytes=20_000, window_bytes=40)
        running.log.state = AWAY
        for start in range(0, 200, 20):
            await asyncio.gather(*running.send(*values(start, start + 20)))
        assert len(segments_in(tmp_path)) > 1
        assert running.log.queued == 10
        await running.until_direct()
        assert running.log.has == values(0, 200)
        await running.stop()

    run(main())


def test_what_comes_while_the_last_ones_are_acknowledged_waits_and_goes_behind_them(tmp_path: Path) -> None:
    async def main() -> None:
        running = Running(tmp_path)
        running.log.state = AWAY
        await asyncio.gather(*running.send(b"1"))
        running.log.state = WELL
        await running.until(lambda: running.spool.route is Route.DOOR)
        (late,) = running.send(b"2")
        assert running.log.queued == 1
        running.log.take()
        await running.until(lambda: running.spool.route is Route.DIRECT)
        assert running.log.queued == 1
        running.log.take()
        await late
        assert running.log.has == [b"1", b"2"]
        await running.stop()

    run(main())


def test_who_waits_at_the_door_is_written_where_the_broker_goes_away_again(tmp_path: Path) -> None:
    async def main() -> None:
        running = Running(tmp_path)
        running.log.state = AWAY
        await asyncio.gather(*running.send(b"1"))
        running.log.state = WELL
        await running.until(lambda: running.spool.route is Route.DOOR)
        late = running.send(b"2", b"3")
        running.log.state = AWAY
        await asyncio.gather(*late)
        assert (running.spool.route, running.log.has) == (Route.SPOOL, [])
        await running.until_direct()
        assert running.log.has == [b"1", b"2", b"3"]
        await running.stop()

    run(main())


def test_a_full_spool_lets_nothing_in_and_loses_nothing_that_it_has(tmp_path: Path) -> None:
    async def main() -> None:
        running = Running(tmp_path, max_bytes=2_000)
        running.log.state = AWAY
        told = await asyncio.gather(*running.send(*values(0, 60)), return_exceptions=True)
        kept = [value for value, answer in zip(values(0, 60), told, strict=True) if answer is None]
        assert {type(answer) for answer in told} == {type(None), SpoolFull}
        assert kept == values(0, len(kept))
        assert running.spool.size <= 2_000
        await asyncio.gather(*running.send(b"x" * 2_000), return_exceptions=True)
        running.log.state = WELL
        await running.until_direct()
        assert running.spool.admit()
        assert running.log.has == kept
        await running.stop()

    run(main())


def test_a_spool_that_is_full_says_so_before_a_body_is_read(tmp_path: Path) -> None:
    async def main() -> None:
        size = HEAD_BYTES + len(encode_request([request(b"x" * 900)]))
        running = Running(tmp_path, max_bytes=size)
        running.log.state = AWAY
        assert running.spool.admit()
        await asyncio.gather(*running.send(b"x" * 900))
        assert (running.spool.size, running.spool.admit(), running.spool.has_room) == (size, False, False)
        await running.until_direct()
        assert running.spool.admit()
        await running.stop()

    run(main())


def test_the_disk_is_emptied_while_something_is_always_being_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sync = os.fsync

    def slowly(file: int) -> None:
        time.sleep(0.005)
        sync(file)

    monkeypatch.setattr(os, "fsync", slowly)

    async def main() -> None:
        running = Running(tmp_path, max_bytes=1_000_000, window_bytes=4_000)
        running.log.state = AWAY
        await asyncio.gather(*running.send(*values(0, 3_000)))
        running.log.state = WELL
        sent = 3_000
        told = []
        while running.spool.route is not Route.DIRECT:
            assert sent < 9_000, "what comes keeps what is there from being read"
            told += running.send(*values(sent, sent + 3))
            sent += 3
            running.log.take()
            await asyncio.sleep(0.001)
        await running.until_direct()
        await asyncio.gather(*told)
        assert running.log.has == values(0, sent)
        await running.stop()

    run(main())


def test_what_the_producer_fails_is_handed_over_again_in_order_and_nothing_before_it(tmp_path: Path) -> None:
    async def main() -> None:
        running = Running(tmp_path)
        first = running.send(*values(0, 3))
        running.log.fail(KafkaError._PURGE_QUEUE)
        await asyncio.gather(*first)
        await asyncio.gather(*running.send(*values(3, 5)))
        assert running.log.queued == 0
        await running.until_direct()
        assert running.log.has == values(0, 5)
        await running.stop()

    run(main())


def test_what_no_broker_will_ever_take_is_told_to_its_client_or_kept_aside_and_blocks_nothing(tmp_path: Path) -> None:
    async def main() -> None:
        running = Running(tmp_path)
        (refused,) = running.send(b"large")
        running.log.fail(KafkaError.MSG_SIZE_TOO_LARGE, only=b"large")
        with pytest.raises(DeliveryFailed):
            await refused
        assert running.spool.route is Route.DIRECT

        running.log.state = AWAY
        await asyncio.gather(*running.send(b"1", b"poison", b"2"))
        running.log.fail(KafkaError.MSG_SIZE_TOO_LARGE, only=b"poison")
        await running.until_direct()
        assert (running.log.has, running.set_aside) == ([b"1", b"2"], 1)
        (kept,) = (tmp_path / "damaged").iterdir()
        assert b"poison" in kept.read_bytes()
        await running.stop()

    run(main())


def test_a_disk_that_fails_refuses_and_one_that_works_again_is_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sync = os.fsync

    def failing(file: int) -> None:
        if stat.S_ISREG(os.fstat(file).st_mode):
            raise OSError(28, "No space left on device")
        sync(file)

    async def main() -> None:
        running = Running(tmp_path)
        running.log.state = AWAY
        await asyncio.gather(*running.send(b"1"))
        with monkeypatch.context() as patched:
            patched.setattr(os, "fsync", failing)
            (refused,) = running.send(b"2")
            with pytest.raises(SpoolFull):
                await refused
            assert not running.spool.admit()
        await running.until(running.spool.admit)
        await asyncio.gather(*running.send(b"3"))
        await running.stop()
        again = Running(tmp_path)
        await again.until_direct()
        assert again.log.has == [b"1", b"3"]
        await again.stop()

    run(main())


def test_the_next_process_takes_up_what_one_has_left_before_anything_new(tmp_path: Path) -> None:
    async def main() -> None:
        running = Running(tmp_path, max_bytes=20_000)
        running.log.state = AWAY
        for start in range(0, 100, 20):
            await asyncio.gather(*running.send(*values(start, start + 20)))
        await running.stop()

        away = FakeLog()
        away.state = AWAY
        again = Running(tmp_path, away, max_bytes=20_000)
        assert (again.spool.route, again.spool.requests) == (Route.SPOOL, 100)
        await asyncio.gather(*again.send(*values(100, 110)))
        await again.until(lambda: again.spool.oldest_s > 0)
        await again.until_direct()
        assert again.log.has == values(0, 110)
        await again.stop()

    run(main())


def test_a_damaged_segment_costs_its_damaged_requests_is_told_and_kept(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async def main() -> None:
        running = Running(tmp_path)
        running.log.state = AWAY
        await asyncio.gather(*running.send(*values(0, 10)))
        await running.stop()
        (segment,) = segments_in(tmp_path)
        data = bytearray(segment.read_bytes())
        third = scan(bytes(data), running.files.segments[0].marker).frames[3]
        data[third.end - 1] ^= 1
        segment.write_bytes(data)

        again = Running(tmp_path)
        await again.until_direct()
        assert again.log.has == [*values(0, 3), *values(4, 10)]
        assert (again.set_aside, again.spool.requests) == (1, 0)
        assert (tmp_path / "damaged" / segment.name).read_bytes() == bytes(data)
        told = capsys.readouterr().out
        for part in ("spool_damaged", segment.name, f"{third.start}-{third.end}", "requests_known_lost=1"):
            assert part in told
        await again.stop()

    run(main())


def test_a_segment_that_cannot_be_read_is_told_and_the_others_are_replayed(tmp_path: Path) -> None:
    async def main() -> None:
        running = Running(tmp_path, max_bytes=8_000)
        running.log.state = AWAY
        for start in range(0, 60, 20):
            await asyncio.gather(*running.send(*values(start, start + 20)))
        await running.stop()
        firsts = [segment.first for segment in running.files.segments]
        second = segments_in(tmp_path)[1]
        second.unlink()
        second.mkdir()
        again = Running(tmp_path, max_bytes=8_000)
        second.rmdir()
        await again.until_direct()
        assert again.log.has == [*values(0, firsts[1] - 1), *values(firsts[2] - 1, 60)]
        assert again.set_aside == 1
        await again.stop()

    run(main())


def test_a_stopping_gateway_waits_for_a_broker_that_is_well_and_not_for_one_that_is_away(tmp_path: Path) -> None:
    async def main() -> None:
        running = Running(tmp_path)
        running.log.state = AWAY
        told = running.send(*values(0, 3))
        assert await running.spool.drain(timeout_s=20) == 3
        assert all(future.done() for future in told)
        running.log.state = WELL
        draining = asyncio.create_task(running.spool.drain(timeout_s=20))
        await asyncio.sleep(0.01)
        assert not draining.done()
        running.log.take()
        assert await draining == 0
        await running.stop()

    run(main())


def test_only_the_owner_may_read_it_and_only_one_process_may_use_it(tmp_path: Path) -> None:
    async def main() -> None:
        with hold_spool(tmp_path / "spool"):
            with pytest.raises(SpoolUnusable, match="in use by another gateway"), hold_spool(tmp_path / "spool"):
                pass
            running = Running(tmp_path / "spool" / "events")
            running.log.state = AWAY
            await asyncio.gather(*running.send(b"a"))
            await running.stop()
        with hold_spool(tmp_path / "spool"):
            modes = {path.is_dir(): stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "spool").rglob("*")}
            assert (modes, stat.S_IMODE((tmp_path / "spool").stat().st_mode)) == ({True: 0o700, False: 0o600}, 0o700)

    run(main())


@pytest.mark.parametrize("seed", range(12))
def test_whatever_happens_in_whatever_order_what_was_told_is_in_the_log_in_the_order_in_which_it_came(
    tmp_path: Path, seed: int
) -> None:
    """Requests come, the broker goes and comes, takes some, fails some, the process dies: as a seed has it."""
    choose = random.Random(seed)

    async def main() -> None:
        numbers = itertools.count()
        log: list[bytes] = []
        told: list[tuple[bytes, asyncio.Future[None]]] = []
        running = Running(tmp_path, max_bytes=60_000, window_bytes=choose.choice((8, 200, 100_000)))
        for _ in range(80):
            deed = choose.choices(("send", "away", "well", "take", "fail", "crash", "wait"), (8, 2, 2, 5, 1, 0.5, 5))[0]
            if deed == "send":
                new = [b"%06d" % next(numbers) for _ in range(choose.randint(1, 12))]
                told.extend(zip(new, running.send(*new), strict=True))
            elif deed in ("away", "well"):
                running.log.state = AWAY if deed == "away" else WELL
            elif deed == "take":
                running.log.take(choose.randint(1, 20))
            elif deed == "fail":
                running.log.fail(KafkaError._PURGE_QUEUE)
            elif deed == "crash":
                await running.stop()
                log.extend(running.log.has)
                running = Running(tmp_path, max_bytes=60_000, window_bytes=choose.choice((8, 200, 100_000)))
            else:
                await asyncio.sleep(choose.choice((0, 0, 0.005)))
        await running.until_direct()
        await running.stop()
        log.extend(running.log.has)
        promised = [value for value, future in told if future.done() and future.exception() is None]
        firsts = list(dict.fromkeys(log))
        assert set(promised) <= set(firsts)
        assert firsts == sorted(firsts)
        assert running.spool.requests == 0
        assert segments_in(tmp_path) == []

    run(main())
