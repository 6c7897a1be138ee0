"""Settings of the stage runner, group `STAGE`; those of a stage's logic lie beside the logic."""

from pydantic import Field

from schemas.environment import Settings


class StageSettings(Settings):
    """How a digest or analyze worker runs."""

    group_session_s: float = Field(
        default=10.0,
        ge=6.0,
        le=300.0,
        description="silence after which a worker's partitions are given away: what a kill costs; Kafka's least is 6",
    )
    rebalance_s: float = Field(
        default=20.0, ge=6.0, le=600.0, description="how long a join waits for the others, who finish what they folded"
    )
    delivery_timeout_s: float = Field(
        default=30.0,
        ge=1.0,
        le=50.0,
        description="how long an acknowledgement may take: a broker that restarts is back; shorter than the watchdog",
    )
    tick_ms: int = Field(
        default=1000,
        ge=50,
        le=60_000,
        description="how often log time is shown: deadlines are settled to this precision",
    )
    batch_records: int = Field(
        default=1000, ge=1, le=10_000, description="records folded ahead: a rebalance waits until they are written"
    )
    batch_mb: int = Field(default=32, ge=1, le=512, description="the same in bytes: eight of the largest chunks")
    cache_mb: int = Field(
        default=512, ge=1, description="decoded states, about; what does not fit is decoded anew when it is needed"
    )
    fetch_mb: int = Field(
        default=4, ge=1, le=64, description="of one partition and fetch: a chunk of the largest size has to fit"
    )
    start_timeout_s: float = Field(
        default=30.0, ge=1.0, description="how long a worker waits for the broker at its start"
    )
