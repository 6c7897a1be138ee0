"""Fingerprints of error messages: the same mistake in the code gives the same fingerprint, whatever the data.

What varies from user to user is replaced: URLs, hexadecimal and other numbers. Quoted names stay, for they tell
mistakes apart (`reading 'total'`). Prefixes that browsers add (`Uncaught`, `Uncaught (in promise)`) are dropped, so
that an error told by an SDK and by the console is one.
"""

import re
from functools import lru_cache
from hashlib import blake2b

MAX_MESSAGE = 500
"""Longer messages carry data; what tells mistakes apart comes first."""

_PREFIX = re.compile(r"^(?:uncaught(?: \(in promise\))?:? *|unhandled(?: promise)? rejection:? *)+", re.IGNORECASE)
_VARIABLE = re.compile(
    r"""(?P<url>\b[a-z][a-z0-9+.-]*://[^\s'"<>)\]]+)"""
    r"""|(?P<number>\b(?:0x)?(?=[0-9a-f-]*[0-9])[0-9a-f][0-9a-f-]{5,}\b|\d+(?:\.\d+)?)""",
    re.IGNORECASE,
)


def normalise(message: str) -> str:
    """Return the message without what varies."""
    text = _PREFIX.sub("", message[:MAX_MESSAGE].strip())
    text = _VARIABLE.sub(lambda match: f"<{match.lastgroup}>", text)
    return " ".join(text.split())


@lru_cache(maxsize=4096)
def fingerprint(message: str) -> str:
    """Return 12 hex digits that stand for the normalised message."""
    return blake2b(normalise(message).encode("utf-8", "replace"), digest_size=6).hexdigest()
