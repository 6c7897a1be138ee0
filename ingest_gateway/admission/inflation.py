"""Inflate request bodies within bounds, and look at the start of a recording chunk without inflating it.

Theory. A few kilobytes can inflate to gigabytes, so no call here makes more than `limit` bytes. What is compressed is
told by the `encoding` query parameter or Content-Encoding, in this order, and else by the first bytes: posthog-js and
proxies send gzip without saying so. A declared encoding that the bytes contradict is `encoding_broken`: guessing there
would hide a broken proxy.
"""

import zstandard
from isal import isal_zlib

from ingest_gateway.admission.refusal import Refusal
from schemas.chunks import GZIP_MAGIC, MAX_ZSTD_WINDOW_BYTES, ZSTD_MAGIC
from schemas.reasons import Reason

IDENTITY, GZIP, DEFLATE, ZSTD = "identity", "gzip", "deflate", "zstd"
ENCODINGS = (GZIP, DEFLATE, ZSTD, IDENTITY)

_NAMES = {name: name for name in ENCODINGS} | {"x-gzip": GZIP, "gzip-js": GZIP, "": ""}
# the stub declares an instance where the module has a class
_IsalError: type[Exception] = isal_zlib.error  # type: ignore[assignment]
_WINDOW_BITS = {GZIP: 31, DEFLATE: 15}
_RAW_DEFLATE = -15
_PEEK_BYTES = 64
_READ_BYTES = 65_536
_PEEK_INPUT_BYTES = 65_536


def encoding_of(body: bytes, declared: str) -> str:
    """Return how a body is compressed, given what the request declares (empty if nothing).

    Raises:
        Refusal: `encoding_unsupported` if the declaration is unknown.
    """
    name = _NAMES.get(declared.strip().lower())
    if name is None:
        raise Refusal(Reason.ENCODING_UNSUPPORTED, f"the encoding is none of {', '.join(ENCODINGS)}")
    if name and name != IDENTITY:
        return name
    if body.startswith(GZIP_MAGIC):
        return GZIP
    return ZSTD if body.startswith(ZSTD_MAGIC) else IDENTITY


def inflate(body: bytes, encoding: str, *, limit: int) -> bytes:
    """Inflate a whole body of at most `limit` bytes.

    Raises:
        Refusal: `encoding_broken` if it is truncated or damaged, `body_inflated_too_large` beyond the limit.
    """
    if encoding == IDENTITY:
        return body
    return _inflate_zstd(body, limit) if encoding == ZSTD else _inflate_zlib(body, encoding, limit)


def peek(body: bytes, encoding: str) -> bytes:
    """Return the first bytes of a body without inflating more than a few.

    Raises:
        Refusal: `encoding_broken` if even its start is damaged.
    """
    if encoding == IDENTITY:
        return body[:_PEEK_BYTES]
    head = body[:_PEEK_INPUT_BYTES]
    try:
        if encoding == ZSTD:
            reader = zstandard.ZstdDecompressor(max_window_size=MAX_ZSTD_WINDOW_BYTES).stream_reader(head)
            start = reader.read(_PEEK_BYTES)
        else:
            start = isal_zlib.decompressobj(_window_bits(head, encoding)).decompress(head, _PEEK_BYTES)
    except (_IsalError, zstandard.ZstdError) as error:
        raise _broken(encoding) from error
    if not start:
        raise _broken(encoding)
    return bytes(start)


def _inflate_zlib(body: bytes, encoding: str, limit: int) -> bytes:
    parts: list[bytes] = []
    room = limit
    try:
        while body:
            member = isal_zlib.decompressobj(_window_bits(body, encoding))
            part = member.decompress(body, room + 1)
            room -= len(part)
            if room < 0:
                raise Refusal(Reason.BODY_INFLATED_TOO_LARGE, f"the body is larger than {limit} bytes once inflated")
            if not member.eof:
                raise _broken(encoding)
            parts.append(part)
            body = member.unused_data
    except _IsalError as error:
        raise _broken(encoding) from error
    return parts[0] if len(parts) == 1 else b"".join(parts)


def _window_bits(body: bytes, encoding: str) -> int:
    """Choose zlib's framing; "deflate" is sent both with zlib's header and, by old clients, without."""
    if encoding == GZIP:
        # the decoder waits for more where there is no gzip at all
        if not body.startswith(GZIP_MAGIC):
            raise _broken(encoding)
        return _WINDOW_BITS[GZIP]
    has_header = len(body) >= 2 and body[0] & 0x0F == 8 and int.from_bytes(body[:2], "big") % 31 == 0
    return _WINDOW_BITS[DEFLATE] if has_header else _RAW_DEFLATE


def _inflate_zstd(body: bytes, limit: int) -> bytes:
    decompressor = zstandard.ZstdDecompressor(max_window_size=MAX_ZSTD_WINDOW_BYTES)
    try:
        if zstandard.frame_content_size(body) < 0 and _longer_than(decompressor, body, limit):
            size = limit + 1
        else:
            size = zstandard.frame_content_size(body)
        if size > limit:
            raise Refusal(Reason.BODY_INFLATED_TOO_LARGE, f"the body is larger than {limit} bytes once inflated")
        return decompressor.decompress(body, max_output_size=limit, allow_extra_data=False)
    except zstandard.ZstdError as error:
        raise _broken(ZSTD) from error


def _longer_than(decompressor: zstandard.ZstdDecompressor, body: bytes, limit: int) -> bool:
    """Tell whether a frame that does not say its size exceeds the limit: `decompress` cannot tell that from damage."""
    reader = decompressor.stream_reader(body)
    seen = 0
    while seen <= limit and (part := reader.read(_READ_BYTES)):
        seen += len(part)
    return seen > limit


def _broken(encoding: str) -> Refusal:
    return Refusal(Reason.ENCODING_BROKEN, f"the body is not {encoding}, or is truncated or damaged")
