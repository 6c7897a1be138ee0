import pytest

from ingest_gateway.admission.json_body import (
    REPAIR_MAX_BYTES,
    Decoded,
    NotJson,
    TooManyValues,
    bound_values,
    decode,
    holds_non_finite,
)


def value(body: bytes) -> object:
    return decode(body).value


def test_ordinary_json_is_decoded_and_finite() -> None:
    assert decode(b'{"a": [1, 2.5, "x", null, true]}') == Decoded({"a": [1, 2.5, "x", None, True]}, True, 32)


def test_a_nul_becomes_a_replacement_character_in_values_and_keys() -> None:
    assert value(b'{"a\\u0000": "b\\u0000c"}') == {"a\ufffd": "b\ufffdc"}


def test_a_backslash_before_u0000_is_text_and_stays() -> None:
    assert value(b'{"a": "\\\\u0000"}') == {"a": "\\u0000"}


@pytest.mark.parametrize("escape", [b"\\ud83d", b"\\uDE00", b"\\ud83d\\ud83d", b"\\ude00\\ud83d"])
def test_a_lone_surrogate_becomes_a_replacement_character(escape: bytes) -> None:
    lost = "\ufffd" * (len(escape) // 6)
    assert value(b'{"a": "x' + escape + b'y"}') == {"a": f"x{lost}y"}


def test_a_surrogate_pair_beside_a_lone_one_stays_a_character() -> None:
    assert value(b'["\\ud83d\\ude00", "\\ud83d"]') == ["\U0001f600", "\ufffd"]


def test_an_escaped_backslash_before_a_surrogate_is_no_surrogate() -> None:
    assert value(b'["\\\\ud83d", "\\ud83d"]') == ["\\ud83d", "\ufffd"]


def test_bytes_that_are_no_utf8_become_replacement_characters() -> None:
    assert value(b'{"a": "x\xffy"}') == {"a": "x\ufffdy"}


def test_a_byte_order_mark_is_passed_over() -> None:
    assert value(b'\xef\xbb\xbf{"a": 1}') == {"a": 1}


@pytest.mark.parametrize("number", [b"NaN", b"Infinity", b"-Infinity", b"1e999"])
def test_numbers_that_are_no_json_are_decoded_and_told(number: bytes) -> None:
    decoded = decode(b'{"a": ' + number + b', "b": 1}')
    assert not decoded.finite
    assert holds_non_finite(decoded.value)
    assert decoded.value["b"] == 1


def test_integers_beyond_64_bits_are_doubles_on_both_paths() -> None:
    assert value(b'{"a": 123456789012345678901234567890}') == {"a": 1.2345678901234568e29}
    assert value(b'{"n": NaN, "a": 123456789012345678901234567890}')["a"] == 1.2345678901234568e29  # type: ignore[index]
    assert value(b'{"n": NaN, "a": 18446744073709551615}')["a"] == (1 << 64) - 1  # type: ignore[index]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b'{"a": 1} x',
        b'{"a": "b\x00"}',
        b'{"a": "line\nbreak"}',
        b"\x1f\x8b\x08",
        b"[" * 2_000 + b"]" * 2_000,
        b"[" * 100_000,
    ],
)
def test_what_is_not_json_even_after_repair_is_refused(body: bytes) -> None:
    with pytest.raises(NotJson):
        decode(body)


def test_a_large_body_is_not_repaired() -> None:
    body = b'["\\ud83d' + b" " * REPAIR_MAX_BYTES + b'"]'
    with pytest.raises(NotJson):
        decode(body)
    assert decode(b'["' + b" " * REPAIR_MAX_BYTES + b'"]').finite


def test_finite_values_hold_nothing_non_finite() -> None:
    assert not holds_non_finite({"a": [1.5, {"b": [2, "NaN"]}]})
    assert holds_non_finite({"a": [1.5, {"b": [float("inf")]}]})


def test_values_are_bounded_before_they_are_parsed_and_only_where_they_could_matter() -> None:
    bound_values(b"[" + b"0," * 299_998 + b'"' + b"x" * 700_000 + b'"]')
    with pytest.raises(TooManyValues, match="more than 300000 JSON values"):
        bound_values(b"[" + b"0," * 300_000 + b'"' + b"x" * 700_000 + b'"]')
    bound_values(b"[" * 900_000)


def test_what_is_no_json_is_not_blamed_for_bytes_that_would_have_been_mended() -> None:
    with pytest.raises(NotJson, match="unexpected character, expected a JSON value: line 1 column 1"):
        decode(b"\x82\xa7session")
