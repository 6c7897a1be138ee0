"""Days that rows fall into, and how far around today they may have a partition.

The gateway lets event times lie from 7 days before to 10 minutes after their arrival, so the days from 8 before to 7
after today are made ahead. A row of an older day comes from a log that was read late: its partition is made when it is
needed, within bounds, because a table with thousands of days would slow every query. A day that is kept no longer gets
no partition again: a row that comes so late is parked, and would be gone by the next prune.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, timedelta

from schemas.reasons import Reason
from sinks.contract.verdicts import Refusal

DAY_MS = 86_400_000
_EPOCH = date(1970, 1, 1)


NOT_KEPT = Refusal(Reason.DAY_NOT_KEPT, "its day is kept no longer: traceflow partitions list")
TOO_FAR = Refusal(Reason.ROW_REFUSED, "its day lies too far from today to have a partition")

ClosedDays = Mapping[int, Refusal]
"""Days that can have no partition, and why."""


def epoch_day(epoch_ms: int) -> int:
    """Return the UTC day of a time, counted from 1970-01-01."""
    return epoch_ms // DAY_MS


def date_day(day: date) -> int:
    """Return a date as a day counted from 1970-01-01."""
    return (day - _EPOCH).days


def day_date(day: int) -> date:
    """Return the date of a day counted from 1970-01-01.

    Raises:
        OverflowError: it lies outside the calendar.
    """
    return _EPOCH + timedelta(days=day)


@dataclass(frozen=True, slots=True)
class DayWindow:
    """How far around today partitions are made."""

    behind: int = 8
    ahead: int = 7
    oldest: int = 60
    """Days before today for which a late row still gets a partition: the log keeps 7 days, an outage adds some."""

    def refusal(self, day: int, *, today: int, kept_since: int | None) -> Refusal | None:
        """Return why the day may have no partition, None if it may; `kept_since` is None if all days are kept."""
        if kept_since is not None and day < kept_since:
            return NOT_KEPT
        return None if today - self.oldest <= day <= today + self.ahead else TOO_FAR
