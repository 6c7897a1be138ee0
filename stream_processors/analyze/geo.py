"""Where an IP address is, from a MaxMind-format file (GeoLite2-City or any other with its fields). Floor 2."""

from functools import lru_cache
from typing import Any

import maxminddb

from schemas.environment import SettingsError
from stream_processors.analyze.place import Locate, Place

CACHE_SIZE = 4096
"""Addresses of a busy site's minutes; a look-up costs 10 us."""


def open_database(path: str) -> Locate:
    """Open the file and return its look-up.

    Raises:
        SettingsError: the file is missing or no MaxMind database.
    """
    try:
        reader = maxminddb.open_database(path)
    except (OSError, maxminddb.InvalidDatabaseError) as error:
        raise SettingsError(f"TRACEFLOW_STAGE_GEO_DATABASE: cannot open {path}: {error}") from error

    @lru_cache(maxsize=CACHE_SIZE)
    def locate(ip: str) -> Place | None:
        try:
            entry = reader.get(ip)
        except ValueError:
            return None
        return _place(entry) if isinstance(entry, dict) else None

    return locate


def _place(entry: dict[str, Any]) -> Place:
    country = entry.get("country") or entry.get("registered_country") or {}
    location = entry.get("location") or {}
    names = (entry.get("city") or {}).get("names") or {}
    lat, lng = location.get("latitude"), location.get("longitude")
    return Place(
        country_code=country.get("iso_code"),
        city=names.get("en"),
        coordinates=None if lat is None or lng is None else (lat, lng),
    )
