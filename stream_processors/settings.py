"""Settings of the stage runner, group `STAGE`; those of a stage's logic lie beside the logic."""

from pydantic import Field

from schemas.environment import Settings


class StageSettings(Settings):
    """How a digest or analyze worker runs."""

    group_session_s: float = Field(default=10.0, ge=6.0, le=300.0)
    """Silence after which the group gives a worker's partitions away: what a kill costs; Kafka's least is 6 s."""
    rebalance_s: float = Field(default=20.0, ge=6.0, le=600.0)
    """How long a join waits for the others: a batch in hand takes well under a second."""
    delivery_timeout_s: float = Field(default=30.0, ge=1.0, le=50.0)
    """How long a record may wait for its acknowledgement: a broker that restarts is back within this, and a worker that
    waits in vain starts anew before the watchdog's minute is over."""
    tick_ms: int = Field(default=1000, ge=50, le=60_000)
    """How often log time is shown: deadlines are settled to this precision."""
    batch_records: int = Field(default=1000, ge=1, le=10_000)
    """Records of a batch: bounded by records, not by runs, or a slow machine would live in rebalances."""
    batch_mb: int = Field(default=32, ge=1, le=512)
    """Bytes of a batch: eight of the largest recording chunks."""
    cache_mb: int = Field(default=512, ge=1)
    """Memory of decoded states, about; what does not fit is decoded anew when it is needed."""
    fetch_mb: int = Field(default=4, ge=1, le=64)
    """Of one partition and fetch: a chunk of the largest size has to fit."""
    start_timeout_s: float = Field(default=30.0, ge=1.0)
    """How long a worker waits for the broker at its start."""
