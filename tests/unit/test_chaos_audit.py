"""The audit of a stage says what is lost or changed, and holds its peace about what is only late or repeated."""

import orjson
import pytest

from stream_processors.fold.facts import Recovered, recover
from stream_processors.fold.logic import LogRecord
from stream_processors.fold.partition import PartitionFold
from tests.chaos.audit import Effect, _effects, audit_partition
from tests.stage_toy import ToyLogic

LOG = [
    LogRecord(offset, 1_000 + offset, "events", b"k%d" % (offset % 3), orjson.dumps({"x": offset}))
    for offset in range(30)
]
LOG += [LogRecord(30, 9_000, "digest_tick", b"", orjson.dumps({"at": 9_000}))]


class Left:
    """What a stage leaves that was stopped after some of its batches."""

    def __init__(self, *, until: int = 31) -> None:
        fold = PartitionFold(ToyLogic())
        self.facts: dict[bytes, bytes] = {}
        self.sent: set[Effect] = set()
        for start in range(0, until, 4):
            batch = fold.apply(LOG[start : min(start + 4, until)])
            self.sent |= set(_effects(batch))
            self.facts |= dict(batch.facts)
            for key in batch.deletions:
                self.facts.pop(key, None)
            self.facts |= dict([batch.record])

    @property
    def recovered(self) -> Recovered:
        return recover(self.facts)

    def audit(self) -> list[str]:
        return audit_partition(LOG, self.recovered, self.sent, ToyLogic())


@pytest.mark.parametrize("until", [1, 12, 30, 31])
def test_a_stage_that_did_as_its_log_says_passes_wherever_it_stands(until: int) -> None:
    assert Left(until=until).audit() == []


def test_a_record_that_was_never_sent_is_missed() -> None:
    left = Left()
    left.sent.pop()
    assert len(left.audit()) == 1
    assert "did not send 1 records" in left.audit()[0]


def test_a_record_that_the_log_does_not_give_is_seen() -> None:
    left = Left()
    left.sent.add(("signals", b"strange"))
    assert left.audit() == ["sent 1 records that its log does not give, one to signals"]


def test_a_lost_state_and_one_of_another_time_are_seen() -> None:
    left = Left(until=12)
    left.facts = {key: fact for key, fact in left.facts.items() if not key.startswith(b"k0|")}
    left.facts[b"k1|10"] = left.facts[b"k1|10"][:-1] + b"!"
    assert left.audit() == ["has lost session k0 at record 11", "holds another state of session k1 at record 11"]


def test_a_batch_that_was_cut_off_before_its_record_is_no_fault() -> None:
    left = Left(until=12)
    fold = PartitionFold(ToyLogic(), left.recovered)
    left.facts |= dict(fold.apply(LOG[12:16]).facts)
    assert left.audit() == []


def test_a_state_beyond_the_record_has_to_be_the_logs_too() -> None:
    left = Left(until=12)
    key, fact = PartitionFold(ToyLogic(), left.recovered).apply(LOG[12:16]).facts[0]
    left.facts[key] = fact[:-1] + b"!"
    assert len(left.audit()) == 1
    assert "beyond its record that the log does not give" in left.audit()[0]
