"""Texts of a recording as they may be kept and sent: bounded, without NUL, long ones as a fingerprint."""

import zlib
from typing import Final

FINGERPRINT: Final = "\x01"
"""Marks, in a text that is kept, where its beginning ends and the fingerprint of the whole begins."""


def clean(text: str, *, limit: int) -> str:
    """Return a text for the wire."""
    return text.partition(FINGERPRINT)[0].replace("\0", "\ufffd")[:limit]


def shorten(text: str, *, keep: int) -> str:
    """Return the beginning of a text and a fingerprint of the whole: enough to say whether it is the same again."""
    return f"{text[:keep]}{FINGERPRINT}{checksum(text)}"


def checksum(text: str) -> str:
    """Return a fingerprint of a text."""
    return f"{zlib.crc32(text.encode()):08x}"
