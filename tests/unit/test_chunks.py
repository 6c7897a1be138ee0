"""Opening a chunk: compression, bounds, JSON that browsers write."""

import gzip
import zlib
from collections.abc import Callable

import orjson
import pytest
import zstandard

from schemas.chunks import MAX_VALUES, ChunkRefused, Inflater, parse_json
from schemas.reasons import Reason

PLAIN = b'[{"type":4,"timestamp":1,"data":{"href":"https://a/"}}]'


def raw_deflate(data: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-15)
    return packer.compress(data) + packer.flush()


PACKERS: dict[str, Callable[[bytes], bytes]] = {
    "identity": bytes,
    "gzip": gzip.compress,
    "deflate": zlib.compress,
    "zstd": zstandard.compress,
}


def reason_of(data: bytes, *, encoding: str = "", budget: int = 10_000) -> Reason:
    with pytest.raises(ChunkRefused) as refused:
        Inflater(budget).inflate(data, encoding=encoding)
    return refused.value.reason


@pytest.mark.parametrize("encoding", PACKERS)
def test_each_encoding_is_inflated(encoding: str) -> None:
    assert Inflater().inflate(PACKERS[encoding](PLAIN), encoding=encoding) == PLAIN


@pytest.mark.parametrize("declared", PACKERS)
@pytest.mark.parametrize("real", PACKERS)
def test_the_bytes_decide_where_the_declared_encoding_lies(declared: str, real: str) -> None:
    assert Inflater().inflate(PACKERS[real](PLAIN), encoding=declared) == PLAIN


def test_deflate_without_its_header_is_inflated_where_it_is_declared() -> None:
    assert Inflater().inflate(raw_deflate(PLAIN), encoding="deflate") == PLAIN


def test_members_of_a_gzip_file_follow_each_other() -> None:
    assert Inflater().inflate(gzip.compress(b"[1,") + gzip.compress(b"2]"), encoding="gzip") == b"[1,2]"


def test_bytes_after_the_last_member_are_passed_over() -> None:
    assert Inflater().inflate(gzip.compress(PLAIN) + b"\0\0\0", encoding="gzip") == PLAIN


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
def test_truncated_data_is_malformed(encoding: str) -> None:
    assert reason_of(PACKERS[encoding](PLAIN * 50)[:-9], encoding=encoding) is Reason.CHUNK_MALFORMED


def test_damaged_data_is_malformed() -> None:
    packed = bytearray(gzip.compress(PLAIN * 50))
    packed[20:30] = b"\xff" * 10
    assert reason_of(bytes(packed), encoding="gzip") is Reason.CHUNK_MALFORMED
    assert reason_of(b"\x28\xb5\x2f\xfdnonsense", encoding="zstd") is Reason.CHUNK_MALFORMED
    assert reason_of(b"neither nor", encoding="deflate") is Reason.CHUNK_MALFORMED


@pytest.mark.parametrize("encoding", PACKERS)
def test_the_budget_is_exact(encoding: str) -> None:
    packed = PACKERS[encoding](b" " * 5_000)
    assert len(Inflater(5_000).inflate(packed, encoding=encoding)) == 5_000
    assert reason_of(packed, encoding=encoding, budget=4_999) is Reason.CHUNK_TOO_LARGE


def test_everything_within_a_chunk_is_paid_from_one_budget() -> None:
    inflater = Inflater(10_000)
    inflater.inflate(gzip.compress(b" " * 6_000))
    with pytest.raises(ChunkRefused, match="chunk_too_large"):
        inflater.inflate(gzip.compress(b" " * 6_000))


def test_a_bomb_is_not_inflated_beyond_its_budget() -> None:
    bomb = gzip.compress(b"\0" * 50_000_000)
    assert reason_of(bomb, encoding="gzip", budget=1_000_000) is Reason.CHUNK_TOO_LARGE


@pytest.mark.parametrize(
    ("raw", "value"),
    [
        (rb'["\ud83d"]', ["\ufffd"]),
        (rb'["\ude00 \ud83d"]', ["\ufffd \ufffd"]),
        (rb'["\ud83d\ude00\ud83d"]', ["\U0001f600\ufffd"]),
        (rb'["\ud83d\ud83d\ude00"]', ["\ufffd\U0001f600"]),
        (rb'["\\ud83d \ud83d"]', ["\\ud83d \ufffd"]),
        (rb'["\u0041\ud83d\n"]', ["A\ufffd\n"]),
        (b'["\xed\xa0\xbd"]', ["\ufffd\ufffd\ufffd"]),
        (b'["caf\xe9"]', ["caf\ufffd"]),
        (b"\xef\xbb\xbf[1]", [1]),
    ],
)
def test_what_is_no_unicode_becomes_the_replacement_character(raw: bytes, value: object) -> None:
    assert parse_json(raw) == value


@pytest.mark.parametrize("raw", [b"", b"[", b"[NaN]", b"[1,]", b"\xff\xfe", b"[" * 2_000 + b"]" * 2_000])
def test_what_is_no_json_or_nested_too_deeply_is_malformed(raw: bytes) -> None:
    with pytest.raises(ChunkRefused) as refused:
        parse_json(raw)
    assert refused.value.reason is Reason.CHUNK_MALFORMED


def test_many_small_values_are_too_large_however_few_bytes_they_take() -> None:
    with pytest.raises(ChunkRefused) as refused:
        parse_json(b"[" + b"[]," * MAX_VALUES + b"[]]")
    assert refused.value.reason is Reason.CHUNK_TOO_LARGE


def test_one_large_text_is_no_many_values() -> None:
    assert parse_json(orjson.dumps(["x" * 10_000_000]))[0][:3] == "xxx"
