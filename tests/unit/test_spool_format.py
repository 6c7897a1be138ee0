"""A segment of the spool, read back whatever has become of its bytes: damage costs the frames that it touched."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ingest_gateway.admission.records import Outgoing
from ingest_gateway.spool.format import (
    HEAD_BYTES,
    Damage,
    decode_request,
    encode_frame,
    encode_request,
    parse_name,
    scan,
    segment_name,
)

MARKER = bytes.fromhex("0123456789abcdef")
AT_MS = 1_764_057_600_000

PACE = settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])

payloads = st.lists(st.binary(max_size=60), min_size=1, max_size=8)


def segment(requests: list[bytes]) -> bytes:
    return b"".join(encode_frame(MARKER, number, AT_MS, payload) for number, payload in enumerate(requests, 7))


def ends(requests: list[bytes]) -> list[int]:
    sizes = [HEAD_BYTES + len(payload) for payload in requests]
    return [sum(sizes[: index + 1]) for index in range(len(sizes))]


def read(data: bytes) -> list[tuple[int, bytes]]:
    return [(frame.number, frame.payload) for frame in scan(data, MARKER).frames]


def test_a_request_comes_back_with_texts_as_texts_and_bytes_as_bytes() -> None:
    request = [
        Outgoing("events", b"p/s", b'{"v":1}', [("kind", "events")]),
        Outgoing("dead_letters", b"", b"\xff\x00", [("dl_reason", b"shape_wrong"), ("dl_detail", None)]),
    ]
    assert decode_request(encode_request(request)) == request


def test_a_segment_is_named_by_its_first_request_and_its_marker() -> None:
    assert segment_name(42, MARKER) == "00000000000000000042-0123456789abcdef.spool"
    assert parse_name(segment_name(42, MARKER)) == (42, MARKER)
    assert sorted(segment_name(n, MARKER) for n in (100, 9)) == [segment_name(n, MARKER) for n in (9, 100)]
    for other in ("lock", "damaged", "1-0123456789abcdef.spool", segment_name(1, MARKER) + ".tmp"):
        assert parse_name(other) is None


def test_an_untouched_segment_holds_all_of_its_requests_and_nothing_else() -> None:
    data = segment([b"a", b"", b"ccc"])
    found = scan(data, MARKER)
    assert read(data) == [(7, b"a"), (8, b""), (9, b"ccc")]
    assert ([frame.end for frame in found.frames], found.damages) == (ends([b"a", b"", b"ccc"]), [])
    assert {frame.at_ms for frame in found.frames} == {AT_MS}


def test_a_scan_from_the_middle_tells_places_in_the_whole_segment() -> None:
    data, start = segment([b"a", b"bb"]), ends([b"a", b"bb"])[0]
    (frame,) = scan(data[start:], MARKER, offset=start).frames
    assert (frame.number, frame.start, frame.end) == (8, start, len(data))
    assert scan(data[start:-1], MARKER, offset=start).damages == [Damage(start, len(data) - 1)]


@PACE
@given(payloads, st.data())
def test_cut_at_any_byte_it_holds_all_that_was_whole_before_the_cut(requests: list[bytes], data: st.DataObject) -> None:
    whole = segment(requests)
    cut = data.draw(st.integers(0, len(whole)))
    found = scan(whole[:cut], MARKER)
    kept = [end for end in ends(requests) if end <= cut]
    assert [frame.end for frame in found.frames] == kept
    left = kept[-1] if kept else 0
    assert found.damages == ([Damage(left, cut)] if left < cut else [])


@PACE
@given(payloads, st.data())
def test_a_bit_that_flipped_anywhere_costs_one_request_and_is_found(requests: list[bytes], data: st.DataObject) -> None:
    whole = bytearray(segment(requests))
    at = data.draw(st.integers(0, len(whole) - 1))
    whole[at] ^= 1 << data.draw(st.integers(0, 7))
    hit = next(index for index, end in enumerate(ends(requests)) if at < end)
    start = ends(requests)[hit] - HEAD_BYTES - len(requests[hit])
    found = scan(bytes(whole), MARKER)
    assert read(bytes(whole)) == [(7 + n, payload) for n, payload in enumerate(requests) if n != hit]
    assert found.damages == [Damage(start, ends(requests)[hit])]


@PACE
@given(payloads, st.data())
def test_bytes_that_are_gone_or_other_never_become_a_request_that_was_not_written(
    requests: list[bytes], data: st.DataObject
) -> None:
    whole = segment(requests)
    start = data.draw(st.integers(0, len(whole)))
    end = data.draw(st.integers(start, len(whole)))
    other = whole[:start] + data.draw(st.binary(max_size=40)) + whole[end:]
    written = {(7 + n, payload) for n, payload in enumerate(requests)}
    found = read(other)
    assert set(found) <= written
    untouched = [index for index, stop in enumerate(ends(requests)) if stop <= start]
    assert found[: len(untouched)] == [(7 + n, requests[n]) for n in untouched]


def test_a_client_that_sends_a_frame_of_its_own_is_not_believed_even_where_the_frame_around_it_is_damaged() -> None:
    forged = encode_frame(b"guessed!", 8, AT_MS, encode_request([Outgoing("events", b"other/s", b"{}", [])]))
    data = bytearray(segment([forged, b"next"]))
    data[HEAD_BYTES - 1] ^= 1
    assert read(bytes(data)) == [(8, b"next")]


@pytest.mark.parametrize("length", [0, 1, HEAD_BYTES - 1])
def test_a_file_without_a_whole_frame_holds_nothing(length: int) -> None:
    data = segment([b"a"])[:length]
    assert scan(data, MARKER).frames == []
    assert scan(data, MARKER).damages == ([Damage(0, length)] if length else [])
