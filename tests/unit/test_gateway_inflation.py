import gzip
import zlib
from collections.abc import Callable

import pytest
import zstandard

from ingest_gateway.admission.inflation import encoding_of, inflate, peek
from ingest_gateway.admission.refusal import Refusal
from schemas.reasons import Reason

BODY = b'{"session_id":"s","events":[' + b'{"event_type":"click"},' * 500 + b"{}]}"


def raw_deflate(data: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-15)
    return packer.compress(data) + packer.flush()


def zstd_without_size(data: bytes) -> bytes:
    packer = zstandard.ZstdCompressor(write_content_size=False).compressobj()
    return packer.compress(data) + packer.flush()


PACKERS: list[tuple[str, Callable[[bytes], bytes]]] = [
    ("gzip", gzip.compress),
    ("deflate", zlib.compress),
    ("deflate", raw_deflate),
    ("zstd", zstandard.ZstdCompressor().compress),
    ("zstd", zstd_without_size),
]
packed = pytest.mark.parametrize(("encoding", "pack"), PACKERS, ids=["gzip", "zlib", "raw", "zstd", "zstd-stream"])


def reason(call: Callable[[], object]) -> Reason:
    with pytest.raises(Refusal) as raised:
        call()
    return raised.value.reason


@packed
def test_a_body_of_exactly_the_limit_is_inflated(encoding: str, pack: Callable[[bytes], bytes]) -> None:
    assert inflate(pack(BODY), encoding, limit=len(BODY)) == BODY


@packed
def test_one_byte_more_is_too_large(encoding: str, pack: Callable[[bytes], bytes]) -> None:
    assert reason(lambda: inflate(pack(BODY), encoding, limit=len(BODY) - 1)) is Reason.BODY_INFLATED_TOO_LARGE


@packed
def test_a_bomb_is_refused_without_being_inflated(encoding: str, pack: Callable[[bytes], bytes]) -> None:
    assert reason(lambda: inflate(pack(b"0" * 50_000_000), encoding, limit=1_000)) is Reason.BODY_INFLATED_TOO_LARGE


@packed
@pytest.mark.parametrize("cut", [1, 9, 20])
def test_a_truncated_body_is_broken(encoding: str, pack: Callable[[bytes], bytes], cut: int) -> None:
    assert reason(lambda: inflate(pack(BODY)[:-cut], encoding, limit=1_000_000)) is Reason.ENCODING_BROKEN


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "zstd"])
@pytest.mark.parametrize("body", [BODY, b"\x1f\x8b garbage", b"x"])
def test_a_body_that_is_not_what_it_says_is_broken(encoding: str, body: bytes) -> None:
    assert reason(lambda: inflate(body, encoding, limit=1_000_000)) is Reason.ENCODING_BROKEN


def test_gzip_in_several_members_is_one_body() -> None:
    assert inflate(gzip.compress(b"[1,") + gzip.compress(b"2]"), "gzip", limit=5) == b"[1,2]"
    assert reason(lambda: inflate(gzip.compress(b"[1,") * 2, "gzip", limit=5)) is Reason.BODY_INFLATED_TOO_LARGE


def test_what_follows_a_compressed_body_breaks_it() -> None:
    assert reason(lambda: inflate(gzip.compress(BODY) + b"x", "gzip", limit=1_000_000)) is Reason.ENCODING_BROKEN
    zstd = zstandard.ZstdCompressor().compress(BODY)
    assert reason(lambda: inflate(zstd + b"x", "zstd", limit=1_000_000)) is Reason.ENCODING_BROKEN


@pytest.mark.parametrize(
    ("body", "declared", "encoding"),
    [
        (BODY, "", "identity"),
        (BODY, "identity", "identity"),
        (BODY, " GZIP ", "gzip"),
        (BODY, "x-gzip", "gzip"),
        (BODY, "gzip-js", "gzip"),
        (b"\x1f\x8b\x08", "", "gzip"),
        (b"\x1f\x8b\x08", "identity", "gzip"),
        (b"\x28\xb5\x2f\xfd", "", "zstd"),
        (b"\x28\xb5\x2f\xfd", "deflate", "deflate"),
        (b"", "", "identity"),
    ],
)
def test_the_encoding_is_what_is_declared_or_else_sniffed(body: bytes, declared: str, encoding: str) -> None:
    assert encoding_of(body, declared) == encoding


@pytest.mark.parametrize("declared", ["br", "gzip, gzip", "utf-8"])
def test_an_unknown_encoding_is_unsupported(declared: str) -> None:
    assert reason(lambda: encoding_of(BODY, declared)) is Reason.ENCODING_UNSUPPORTED


@packed
def test_a_peek_shows_the_start_of_any_body_even_of_a_truncated_one(
    encoding: str, pack: Callable[[bytes], bytes]
) -> None:
    assert peek(pack(BODY), encoding).startswith(BODY[:20])
    assert peek(pack(BODY * 100)[:-5], encoding).startswith(BODY[:20])


def test_a_peek_at_something_else_is_broken() -> None:
    for encoding in ("gzip", "deflate", "zstd"):
        assert reason(lambda encoding=encoding: peek(BODY, encoding)) is Reason.ENCODING_BROKEN  # type: ignore[misc]


def test_zstd_that_asks_for_a_huge_window_is_broken() -> None:
    parameters = zstandard.ZstdCompressionParameters(window_log=27, write_content_size=False)
    packer = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
    body = packer.compress(BODY) + packer.flush()
    assert reason(lambda: inflate(body, "zstd", limit=1_000_000)) is Reason.ENCODING_BROKEN
