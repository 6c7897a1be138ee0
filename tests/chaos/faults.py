"""Which fault strikes when, and whom: a pure function of a seed.

A deck holds each kind of fault once for each kind of victim. It is shuffled and dealt at random moments, then shuffled
anew, so every kind comes before any comes again. Faults overlap, except that a server has one fault at a time: what is
not there cannot be locked.
"""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum


class Fault(StrEnum):
    """A kind of fault, in the words of the table that a run prints."""

    KILLED = "killed"
    FROZEN = "frozen for a moment"
    OUTLIVED = "frozen for longer than its session"
    FROZEN_WRITING = "frozen in the middle of a write until another owns its partitions"
    KILLED_WRITING = "killed in the middle of a write"
    JOINS = "joins and leaves"
    SECOND_OWNER = "owns every partition beside its owner"
    RECORD_FAILS = "a record of a flight fails while the next one lands"
    CLOCK_JUMPS = "has a clock that jumps by hours"
    KILLED_SPOOLING = "killed while its spool takes what the broker cannot"
    KILLED_REPLAYING = "killed while it hands its spool over"
    KILLED_FULL = "killed with a full spool"
    BROKER_KILLED = "killed and started again"
    BROKER_AWAY = "stopped for a while"
    BROKER_HANGS = "hangs"
    DATABASE_CRASHES = "immediate shutdown, started again"
    DATABASE_AWAY = "away for a while"
    CONNECTIONS_ENDED = "all connections ended"
    PARTITION_LOCKED = "a partition of events locked"
    OFFSETS_LOCKED = "the offsets of a partition locked"
    READ_ONLY = "read-only"
    DISK_FULL = "disk full"


BROKER, DATABASE = "broker", "database"
_OF_BROKER = frozenset(
    (
        *(Fault.BROKER_KILLED, Fault.BROKER_AWAY, Fault.BROKER_HANGS),
        # what a spool is for begins with a broker that is away
        *(Fault.KILLED_SPOOLING, Fault.KILLED_REPLAYING, Fault.KILLED_FULL),
    )
)
_OF_DATABASE = frozenset(
    (
        *(Fault.DATABASE_CRASHES, Fault.DATABASE_AWAY, Fault.CONNECTIONS_ENDED, Fault.PARTITION_LOCKED),
        *(Fault.OFFSETS_LOCKED, Fault.READ_ONLY, Fault.DISK_FULL),
    )
)

STAGE_STEPS = ("CUT", "EFFECTS_SENT", "FACTS_SENT", "RECORDS_SENT")
"""Of `stream_processors.runner.stage.Step`."""
SINK_STEPS = ("OFFSETS_MOVED", "ROWS_STORED", "LETTERS_WRITTEN", "COMMITTED")
"""Of `sinks.commit.writer.Step`."""
SPOOLING_STEPS = ("CREATED", "WRITTEN", "SYNCED", "HANDED")
REPLAYING_STEPS = ("ACKED", "REMOVED")
"""Of `ingest_gateway.spool.files.SpoolStep`."""

SPOOLED = "gateway-1"
"""The gateway that has a spool; those beside it have none."""


@dataclass(frozen=True, slots=True)
class Card:
    """A fault that may strike."""

    fault: Fault
    role: str
    """Of the victim: a service, the broker or the database."""
    victims: tuple[str, ...]
    """One of them is drawn: processes of `traceflow up`, or the steps at which one of its processes is struck."""
    lasts_s: tuple[float, float] = (0.0, 0.0)
    """Least and most; what waits for a step of its victim ends when it has had its effect."""

    @property
    def place(self) -> str:
        """Return what has one fault at a time."""
        if self.fault in _OF_BROKER:
            return BROKER
        return DATABASE if self.fault in _OF_DATABASE else f"{self.fault} {self.role}"


@dataclass(frozen=True, slots=True)
class Strike:
    """A fault of a schedule."""

    at_s: float
    """Since the schedule began."""
    fault: Fault
    role: str
    victim: str
    lasts_s: float


def draw_schedule(seed: int, deck: Sequence[Card], *, seconds: float, gap_s: float) -> list[Strike]:
    """Deal the deck at moments that are `gap_s` apart on average, in order of time."""
    draw = random.Random(seed)
    strikes: list[Strike] = []
    waiting: list[Card] = []
    free_at: dict[str, float] = {}
    at_s = gap_s * draw.uniform(0.5, 1.5)
    while at_s < seconds:
        waiting = waiting or draw.sample(deck, len(deck))
        card = next((card for card in waiting if free_at.get(card.place, 0.0) <= at_s), None)
        if card is not None:
            waiting.remove(card)
            strike = Strike(
                round(at_s, 2), card.fault, card.role, draw.choice(card.victims), round(draw.uniform(*card.lasts_s), 2)
            )
            free_at[card.place] = at_s + strike.lasts_s
            strikes.append(strike)
        at_s += gap_s * draw.uniform(0.5, 1.5)
    return strikes


def short_deck(workers: Mapping[str, int]) -> list[Card]:
    """Return the faults that fit into a minute: each service and server struck once, and each kind of second owner."""
    names = {role: process_names(role, count) for role, count in workers.items()}
    return [
        *(Card(Fault.KILLED, role, victims) for role, victims in names.items()),
        Card(Fault.OUTLIVED, "analyze", names["analyze"], (13.0, 14.0)),
        Card(Fault.FROZEN_WRITING, "sink", ("ROWS_STORED",), (1.0, 1.0)),
        Card(Fault.KILLED_WRITING, "analyze", ("FACTS_SENT",), (1.0, 1.0)),
        Card(Fault.SECOND_OWNER, "sink", ("sink",), (12.0, 14.0)),
        Card(Fault.BROKER_KILLED, BROKER, (BROKER,), (0.5, 1.0)),
        Card(Fault.KILLED_REPLAYING, "gateway", ("ACKED",), (6.0, 7.0)),
        Card(Fault.DATABASE_CRASHES, DATABASE, (DATABASE,), (0.1, 1.0)),
        Card(Fault.CONNECTIONS_ENDED, DATABASE, (DATABASE,)),
        Card(Fault.OFFSETS_LOCKED, DATABASE, (DATABASE,), (4.0, 6.0)),
        Card(Fault.READ_ONLY, DATABASE, (DATABASE,), (3.0, 5.0)),
    ]


def whole_deck(workers: Mapping[str, int], *, broker_away_s: float) -> list[Card]:
    """Return every kind of fault for every kind of victim; `workers` counts the processes of each service."""
    names = {role: process_names(role, count) for role, count in workers.items()}
    deck = []
    for role, victims in names.items():
        deck += [
            Card(Fault.KILLED, role, victims),
            Card(Fault.FROZEN, role, victims, (1.0, 4.0)),
            Card(Fault.OUTLIVED, role, victims, (13.0, 17.0)),
        ]
    for role in ("digest", "analyze", "sink"):
        steps = SINK_STEPS if role == "sink" else STAGE_STEPS
        deck += [
            Card(Fault.FROZEN_WRITING, role, steps, (1.0, 1.0)),
            Card(Fault.KILLED_WRITING, role, steps, (1.0, 1.0)),
            Card(Fault.JOINS, role, (role,), (6.0, 14.0)),
            Card(Fault.SECOND_OWNER, role, (role,), (12.0, 18.0)),
            Card(Fault.CLOCK_JUMPS, role, (role,), (12.0, 18.0)),
        ]
    deck += [Card(Fault.RECORD_FAILS, role, (role,), (18.0, 24.0)) for role in ("digest", "analyze")]
    deck += [
        Card(Fault.BROKER_KILLED, BROKER, (BROKER,), (0.5, 2.0)),
        Card(Fault.BROKER_AWAY, BROKER, (BROKER,), (broker_away_s, broker_away_s)),
        Card(Fault.BROKER_HANGS, BROKER, (BROKER,), (3.0, 12.0)),
        Card(Fault.KILLED_SPOOLING, "gateway", SPOOLING_STEPS, (8.0, 14.0)),
        Card(Fault.KILLED_REPLAYING, "gateway", REPLAYING_STEPS, (8.0, 14.0)),
        Card(Fault.KILLED_FULL, "gateway", (SPOOLED,), (20.0, 30.0)),
        Card(Fault.DATABASE_CRASHES, DATABASE, (DATABASE,), (0.1, 1.0)),
        Card(Fault.DATABASE_AWAY, DATABASE, (DATABASE,), (5.0, 15.0)),
        Card(Fault.CONNECTIONS_ENDED, DATABASE, (DATABASE,)),
        Card(Fault.PARTITION_LOCKED, DATABASE, (DATABASE,), (4.0, 14.0)),
        Card(Fault.OFFSETS_LOCKED, DATABASE, (DATABASE,), (4.0, 14.0)),
        Card(Fault.READ_ONLY, DATABASE, (DATABASE,), (3.0, 10.0)),
        Card(Fault.DISK_FULL, DATABASE, ("traceflow_sessions", "traceflow_events"), (3.0, 10.0)),
    ]
    return deck


def process_names(role: str, count: int) -> tuple[str, ...]:
    """Return the names that `traceflow up` gives the processes of a service."""
    first = (role,) if role == "gateway" else ()
    return (*first, *(f"{role}-{index}" for index in range(len(first), count)))
