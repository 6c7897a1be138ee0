"""Where an IP address is: the value, and the function that says so and is passed in."""

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Place:
    """Where an address is, as far as it is known."""

    country_code: str | None = None
    city: str | None = None
    coordinates: tuple[float, float] | None = None
    """Latitude and longitude, degrees."""


Locate = Callable[[str], Place | None]
"""Return the place of an IP address; None if it is unknown."""


def nowhere(_ip: str) -> Place | None:
    """Locate nothing: no database is configured."""
    return None
