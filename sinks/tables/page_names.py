"""Tell which pages are one page, so that an issue of a product page is one issue and not one for each product.

What names a page is its host and path. Query, fragment, credentials and default ports do not, and parts of the path
that are ids are folded to `:id`: numbers, UUIDs, and long mixtures of letters and digits. A fragment that is a route
(`#/orders/7`, `#!/orders/7`) names the page of a single-page application and is treated as a path.
"""

import re
from urllib.parse import urlsplit

MAX_CHARACTERS = 2_048
FOLDED = ":id"

_DEFAULT_PORTS = {"http": 80, "https": 443}
_INLINE_SCHEMES = frozenset({"data", "blob"})
_UUID = re.compile(r"[0-9a-f]{8}-?(?:[0-9a-f]{4}-?){3}[0-9a-f]{12}", re.IGNORECASE)
_NUMBER = re.compile(r"[0-9]+(?:[-_.,][0-9]+)*")
_HEX = re.compile(r"(?=[a-f]*[0-9])[0-9a-f]{8,}", re.IGNORECASE)
_TOKEN = re.compile(r"(?=.*[0-9])(?=.*[A-Za-z])[A-Za-z0-9_=]{16,}")
"""Base64 or a random key; a readable slug (`iphone-15-pro-max`) has hyphens and stays."""


def page_name(url: str | None) -> str:
    """Return the page's name: empty for no page, a relative URL's path for one without a host."""
    if not url:
        return ""
    try:
        parts = urlsplit(url.strip())
        port = parts.port
    except ValueError:
        return url.strip()[:MAX_CHARACTERS]
    host = parts.hostname or ""
    if port is not None and port != _DEFAULT_PORTS.get(parts.scheme.lower()):
        host = f"{host}:{port}"
    scheme = parts.scheme.lower()
    if scheme and not host:
        return scheme + ":" + ("" if scheme in _INLINE_SCHEMES else parts.path[:MAX_CHARACTERS])
    origin = f"{scheme}://{host}" if host else ""
    route = parts.fragment.removeprefix("!")
    path = _folded(parts.path) + (f"/#{_folded(route.split('?')[0])}" if route.startswith("/") else "")
    return (origin + (path or "/"))[:MAX_CHARACTERS]


def _folded(path: str) -> str:
    segments = [FOLDED if _is_id(segment) else segment for segment in path.split("/") if segment]
    return "".join(f"/{segment}" for segment in segments)


def _is_id(segment: str) -> bool:
    return any(pattern.fullmatch(segment) for pattern in (_NUMBER, _UUID, _HEX, _TOKEN))
