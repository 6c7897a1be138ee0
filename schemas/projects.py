"""Projects and their settings: one immutable version a change; a session keeps the version of its first record."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from schemas.messages import RecordSettings

NOTIFY_CHANNEL = "traceflow_projects"

IngestRoute = Literal["events", "recordings"]
"""What a request sends."""


class ProjectSettings(BaseModel):
    """A version of a project's settings as `traceflow_project_settings.settings` holds it; each has a default."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    origins: Annotated[tuple[str, ...], Field(max_length=100)] = ()
    """Page origins that may send (`https://shop.example`, `https://*.shop.example`); empty allows every one."""
    events_per_second: Annotated[int, Field(ge=0)] = 0
    """Rate limit of one gateway process; 0 is none. A recording chunk counts as 10 events."""
    ip_policy: Literal["keep", "truncate", "drop"] = "keep"
    """truncate keeps /24 of IPv4 and /48 of IPv6."""
    privacy_signal: Literal["ignore", "anonymise", "drop"] = "ignore"
    """What `Sec-GPC: 1` or `DNT: 1` does: nothing; drop IP and visitor; or refuse silently (202, accepted 0)."""
    recording_codec: Literal["json", "gzip", "zstd"] = "json"
    """json is readable by SQL; gzip and zstd store six times smaller bytes."""
    session_gap_ms: Annotated[int, Field(ge=1_000, le=86_400_000)] | None = None
    """Inactivity that closes a session; None takes the deployment's default of 30 min."""
    detectors: dict[str, Any] = Field(default_factory=dict)
    """Thresholds by detector; validated by `traceflow projects set` against the detectors' own configuration."""


class Project(BaseModel):
    """A project as the gateway knows it."""

    model_config = ConfigDict(frozen=True)

    id: str
    settings_version: int
    settings: ProjectSettings
    quota_limited: frozenset[IngestRoute] = frozenset()
    """For what the owner's plan is used up: it is refused politely. Without sessions left that is everything."""


def record_settings(version: int, settings: ProjectSettings) -> RecordSettings:
    """Return what travels with each record: the version, and what differs from the defaults."""
    out: RecordSettings = {"version": version}
    if settings.session_gap_ms is not None:
        out["session_gap_ms"] = settings.session_gap_ms
    if settings.detectors:
        out["detectors"] = settings.detectors
    return out
