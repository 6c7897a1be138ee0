"""Settings of the analyze stage, and its logic made from them. Floor 3."""

from collections.abc import Mapping

from pydantic import Field

from schemas.environment import Settings, read_settings
from stream_processors.analyze.geo import open_database
from stream_processors.analyze.logic import DAY_MS, AnalyzeLogic
from stream_processors.analyze.place import nowhere


class AnalyzeSettings(Settings):
    """Settings in the group `STAGE`, so `TRACEFLOW_STAGE_SESSION_GAP_MS` and so on; the same for every worker.

    A worker with other values would write other facts for the same offsets.
    """

    session_gap_ms: int = Field(default=1_800_000, ge=1_000, le=DAY_MS)
    """Inactivity that closes a session whose project says nothing: 30 min, as web analytics have it."""
    residue_ms: int = Field(default=DAY_MS, ge=0, le=7 * DAY_MS)
    """How long a closed session stays known: beacons that were kept offline come within a day."""
    flush_grace_ms: int = Field(default=10_000, ge=0, le=600_000)
    """How long an SDK may hold back what it has seen: common ones flush within 2 to 5 s."""
    geo_database: str = ""
    """Path of a MaxMind-format file with cities; empty locates nothing."""


def assemble(environ: Mapping[str, str]) -> AnalyzeLogic:
    """Build the logic from the environment.

    Raises:
        SettingsError: naming the variable that is malformed, or the database that cannot be opened.
    """
    settings = read_settings(AnalyzeSettings, environ, group="STAGE")
    return AnalyzeLogic(
        gap_ms=settings.session_gap_ms,
        residue_ms=settings.residue_ms,
        grace_ms=settings.flush_grace_ms,
        locate=open_database(settings.geo_database) if settings.geo_database else nowhere,
    )
