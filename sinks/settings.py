"""The sinks' settings: group `SINK`, so `TRACEFLOW_SINK_BATCH_ROWS` and so on; each gives its default's reason."""

from pydantic import Field

from schemas.environment import Settings
from sinks.commit.batching import BatchLimits
from sinks.contract.days import DayWindow


class SinkSettings(Settings):
    """What an operator may set; the same for all sinks of a process."""

    batch_rows: int = Field(
        default=5_000, ge=1, le=100_000, description="COPY's throughput is flat from 2,000 to 10,000 rows a transaction"
    )
    batch_bytes: int = Field(default=4_000_000, ge=1_000, le=256_000_000, description="bounds the memory of a batch")
    batch_ms: int = Field(default=500, ge=0, le=60_000, description="how long a stream without a pause may wait")
    statement_timeout_ms: int = Field(
        default=60_000, ge=1_000, description="a statement takes 0.1 s; beyond this something is stuck"
    )
    lock_timeout_ms: int = Field(default=10_000, ge=100, description="then the batch rolls back and is tried again")
    idle_transaction_timeout_ms: int = Field(
        default=30_000, ge=1_000, description="a frozen process may hold its rows this long; dead letters need 15 s"
    )
    oldest_day: int = Field(
        default=60, ge=8, le=3_650, description="days before today for which a row read late still gets a partition"
    )

    role: str = Field(
        default="",
        pattern=r"^[A-Za-z0-9_]{0,63}$",
        description="acted as after login, such as traceflow_sink: its rights, no more",
    )

    def limits(self) -> BatchLimits:
        """Return the size of a batch."""
        return BatchLimits(rows=self.batch_rows, size_bytes=self.batch_bytes, age_ms=self.batch_ms)

    def window(self) -> DayWindow:
        """Return how far partitions reach."""
        return DayWindow(oldest=self.oldest_day)

    def session(self) -> dict[str, str]:
        """Return the settings of a database session."""
        role = {"role": self.role} if self.role else {}
        return role | {
            "traceflow.sink": "on",  # the counting trigger of plain inserts stays out: the sinks count themselves
            "timezone": "UTC",
            "statement_timeout": str(self.statement_timeout_ms),
            "lock_timeout": str(self.lock_timeout_ms),
            "idle_in_transaction_session_timeout": str(self.idle_transaction_timeout_ms),
        }
