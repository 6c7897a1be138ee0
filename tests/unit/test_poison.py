"""What a client sends wrong never stops anything, what we do wrong does, and one bad record blocks no partition."""

import random
from collections import Counter
from collections.abc import Iterator

import orjson

from adapters.dead_letters import DeadLetterCounts, DeadLetterLimit
from adapters.kafka_consumer import ConsumedRecord
from schemas.ids import session_key
from schemas.messages import Kind
from schemas.reasons import Blame, Reason
from sinks.commit.loop import prepared
from sinks.commit.writer import counts_after
from sinks.contract.sink import Parking
from sinks.topics.recordings import RecordingsSink
from stream_processors.digest.logic import DigestLogic, DigestSettings
from stream_processors.fold.logic import LogRecord
from stream_processors.fold.partition import PartitionFold
from stream_processors.runner.dispatch import count_parked
from tests.stage_toy import ToyLogic

GARBAGE = 10_000
PROJECT = "11111111-1111-4111-8111-111111111111"


def garbage() -> Iterator[tuple[bytes, tuple[tuple[str, bytes], ...], bytes]]:
    """Yield key, headers and value of chunks that a hostile client may send: the gateway never opens them."""
    rng = random.Random(7)
    for n in range(GARBAGE):
        encoding = rng.choice(["identity", "gzip", "deflate", "zstd"])
        value = rng.choice([b"{}", b"[1,2", b'"text"', b"[{}]", b"\x1f\x8b\x08\x00garbage", rng.randbytes(60)])
        meta = {
            **{"v": 1, "project_id": PROJECT, "session_id": f"s{n % 50}", "window_id": "w", "seq": n},
            **{"received_at": 1_000, "encoding": encoding, "codec": "json", "settings": {"version": 1}},
        }
        headers = (("kind", b"chunk"), ("meta", orjson.dumps(meta)))
        yield session_key(PROJECT, f"s{n % 50}"), headers, value


def test_ten_thousand_garbage_chunks_do_not_stop_the_digest() -> None:
    fold = PartitionFold(DigestLogic(DigestSettings()))
    records = (
        LogRecord(n, 1_000 + n, "chunk", key, value, headers) for n, (key, headers, value) in enumerate(garbage())
    )
    batch = fold.apply(records)
    reasons = Counter(parked.reason for parked in batch.parked)
    assert len(batch.parked) > GARBAGE * 0.9
    assert {reason.blame for reason in reasons} == {Blame.CLIENT}
    assert DeadLetterLimit().exceeded(count_parked(DeadLetterCounts(), {0: batch})) is None
    assert [orjson.loads(output.value)["src"] for output in batch.outputs] == list(range(GARBAGE))


def test_ten_thousand_garbage_chunks_do_not_stop_the_sink() -> None:
    sink, counts, parked = RecordingsSink(), DeadLetterCounts(), 0
    for n, (key, headers, value) in enumerate(garbage()):
        item = prepared(sink, ConsumedRecord(0, n, 1_000, Kind.CHUNK, key, value, headers))
        assert item is not None
        parked += len(item.refusals)
        assert {refusal.reason.blame for refusal in item.refusals} <= {Blame.CLIENT}
        counts = counts_after(counts, [item], [Parking(item, refusal) for refusal in item.refusals])
        assert DeadLetterLimit().exceeded(counts) is None
    assert parked > GARBAGE * 0.9


def test_a_hundred_records_in_a_row_on_which_the_engine_raises_stop_the_stage() -> None:
    limit, fold, counts = DeadLetterLimit(), PartitionFold(ToyLogic()), DeadLetterCounts(records=20_000)
    stopped = []
    for n in range(101):
        value = orjson.dumps({"x": 1, "bad": "apply"})
        batch = fold.apply([LogRecord(n, n, "events", b"p/s", value)])
        counts = count_parked(counts, {0: batch})
        stopped.append(limit.exceeded(counts) is not None)
    assert stopped == [False] * 99 + [True] * 2


def test_a_record_on_which_the_engine_raises_is_parked_and_its_neighbours_are_folded() -> None:
    fold = PartitionFold(ToyLogic())
    values = [{"x": 1}, {"x": 2, "bad": "apply"}, {"x": 3}]
    batch = fold.apply([LogRecord(n, n, "events", b"p/s", orjson.dumps(value)) for n, value in enumerate(values)])
    assert [(parked.record.offset, parked.reason) for parked in batch.parked] == [(1, Reason.ENGINE_ERROR)]
    assert "apply is bad" in batch.parked[0].detail
    assert batch.offset == 2
    assert ToyLogic().decode(fold.facts[b"p/s"][42:])["n"] == 2
