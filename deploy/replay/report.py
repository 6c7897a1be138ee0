"""What a replay is about, and what it found."""

from collections import Counter
from dataclasses import dataclass, field

from deploy.replay.tables import Difference


@dataclass(slots=True)
class Report:
    """What was compared."""

    compared: Counter[str] = field(default_factory=Counter)
    """Rows by table."""
    written: Counter[str] = field(default_factory=Counter)
    """Lost rows that are there now, by table."""
    began_before: int = 0
    """Sessions that are not judged because they began before the log that was read, or may have."""
    parked: int = 0
    """Rows that are not judged because a sink parked them."""
    erased: int = 0
    """Rows that are missing because their session was erased: they are not judged."""
    differences: list[Difference] = field(default_factory=list)
    """Those that are left."""


@dataclass(frozen=True, slots=True)
class Meant:
    """Which rows a replay is about; None is all of them."""

    project_id: str | None = None
    session_id: str | None = None

    def holds(self, project_id: str, session_id: str) -> bool:
        """Tell whether a session is meant."""
        return self.project_id in (None, project_id) and self.session_id in (None, session_id)
