"""One chaos run: start everything, send, strike, let it settle, judge."""

import os
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from adapters.postgres import read_queries
from adapters.projects import create_project
from deploy.load.drive import Shape
from tests.chaos.ended import Ended
from tests.chaos.faults import Card, Fault, draw_schedule, process_names, short_deck, whole_deck
from tests.chaos.inject import Injector
from tests.chaos.lab import Lab, open_lab
from tests.chaos.load import ChaosLedger, LogPoison, Sender, send_everything
from tests.chaos.strikes import FaultLog, carry_out
from tests.chaos.verdict import PREFIX, Judge, Verdict

PROJECTS = 3
KNOWN_DEADLINE_S = 30.0
TAIL_S = 4.0
"""The load goes on so long after the last fault began."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What a run does: nothing else decides about it but chance in the machine."""

    seed: int
    seconds: float
    """Of faults; start and settling come on top."""
    gap_s: float
    deck: Sequence[Card]
    workers: Mapping[str, int]
    rate: float = 240.0
    """Events a second, all projects together."""
    sessions: int = 60
    partitions: int = 12
    plant: str | None = None


WORKERS: Mapping[str, int] = {"gateway": 2, "digest": 2, "analyze": 3, "sink": 2}
BROKER_AWAY_S = 60.0
FAULTS = 130
"""Of ten minutes; some strike without effect, and a hundred have to be survived."""


def long_plan(seed: int, *, minutes: float) -> Plan:
    """Return the plan of `make chaos`: every kind of fault for every kind of victim, several times over."""
    return Plan(
        seed=seed,
        seconds=minutes * 60,
        gap_s=min(8.0, max(4.0, minutes * 60 / FAULTS)),
        deck=whole_deck(WORKERS, broker_away_s=BROKER_AWAY_S),
        workers=WORKERS,
    )


SHORT_WORKERS: Mapping[str, int] = {"gateway": 2, "digest": 1, "analyze": 2, "sink": 2}


def short_plan(seed: int) -> Plan:
    """Return the plan of two minutes that `make test` carries out."""
    deck = short_deck(SHORT_WORKERS)
    return Plan(
        seed=seed, seconds=3.0 * (len(deck) + 1), gap_s=3.0, deck=deck, workers=SHORT_WORKERS, partitions=8, sessions=40
    )


def planted_plan(seed: int, plant: str) -> Plan:
    """Return a plan that finds a planted fault: what it does not survive, again and again."""
    return Plan(
        seed=seed,
        seconds=60.0,
        gap_s=4.0,
        deck=DECKS_OF_PLANTED[plant],
        workers=SHORT_WORKERS,
        partitions=8,
        plant=plant,
    )


_SINKS, _ANALYZE = process_names("sink", 2), process_names("analyze", 2)
DECKS_OF_PLANTED: Mapping[str, Sequence[Card]] = {
    "commit-before-write": [Card(Fault.KILLED, "sink", _SINKS)],
    "skipped-fence": [
        Card(Fault.SECOND_OWNER, "sink", ("sink",), (12.0, 14.0)),
        Card(Fault.OUTLIVED, "sink", _SINKS, (13.0, 15.0)),
    ],
    "lost-seek": [
        Card(Fault.KILLED, "analyze", _ANALYZE),
        Card(Fault.JOINS, "analyze", ("analyze",), (8.0, 10.0)),
        Card(Fault.OUTLIVED, "analyze", _ANALYZE, (13.0, 15.0)),
    ],
    "early-tombstone": [Card(Fault.KILLED, "analyze", _ANALYZE)],
    "one-flight": [Card(Fault.KILLED, "analyze", _ANALYZE)],
}


@dataclass(slots=True)
class Outcome:
    """What a run did and found."""

    plan: Plan
    faults: FaultLog
    verdict: Verdict = field(default_factory=Verdict)
    ends: list[Ended] = field(default_factory=list)
    """Processes that ended as none may."""
    took_s: dict[str, float] = field(default_factory=dict)
    said: str = ""
    """What all processes said."""

    @property
    def lines(self) -> list[str]:
        """Return each thing that is not as promised."""
        return [*(end.line for end in self.ends), *self.verdict.lines]


def run(plan: Plan, *, report: Callable[[str], None], fault_file: Path | None = None) -> Outcome:
    """Carry a plan out.

    Raises:
        RuntimeFailure: the system could not be started.
    """
    outcome = Outcome(plan, FaultLog(fault_file))
    began = time.monotonic()
    with open_lab(workers=plan.workers, partitions=plan.partitions, report=report, plant=plan.plant) as lab:
        senders, poison = _projects(lab), LogPoison(lab.kafka, PREFIX)
        _watch_offsets(lab)
        outcome.took_s["start"] = time.monotonic() - began
        _strike(lab, plan, senders, poison, outcome, report=report)
        if lab.is_up():
            report("settling")
            judge = Judge(lab.kafka, lab.database_url, [s.ledger for s in senders], poison, lab.environ)
            outcome.verdict = judge.judge()
            if left := lab.spool.left():
                outcome.verdict.lines.append(f"gateway: {left} segments of its spool are left")
        outcome.ends += outcome.faults.ends
        if not lab.is_up():
            outcome.ends.append(lab.ended())
        outcome.took_s["all"] = time.monotonic() - began
        outcome.said = lab.said()
    return outcome


def _strike(
    lab: Lab,
    plan: Plan,
    senders: Sequence[Sender],
    poison: LogPoison,
    outcome: Outcome,
    *,
    report: Callable[[str], None],
) -> None:
    """Send and let the faults strike, and return when each request has its outcome."""
    shape = Shape(rate=plan.rate, seconds=plan.seconds + TAIL_S, sessions=plan.sessions)
    load = threading.Thread(
        target=send_everything,
        args=(senders, shape),
        kwargs={"gateway": lab.system.target.gateway, "seed": plan.seed, "poison": poison},
        name="load",
        daemon=True,  # its clients would wait on for a system that has ended
    )
    load.start()
    strikes = draw_schedule(plan.seed, plan.deck, seconds=plan.seconds, gap_s=plan.gap_s)
    report(f"seed {plan.seed}: {len(strikes)} faults within {plan.seconds:.0f} s")
    carry_out(strikes, Injector(lab), outcome.faults, go_on=lab.is_up)
    lab.end_beside()
    while load.is_alive() and lab.is_up():
        load.join(1.0)


def _projects(lab: Lab) -> list[Sender]:
    """Make the projects, and wait until the gateway knows their keys."""
    target = lab.system.target
    made = [(target.project_id, target.project_key)]
    with lab.connect() as connection:
        for number in range(1, PROJECTS):
            project = create_project(connection, name=f"chaos {number}")
            made.append((project.id, project.key))
    for _, key in made:
        ends_at = time.monotonic() + KNOWN_DEADLINE_S
        while not _knows(target.gateway, key):
            if time.monotonic() > ends_at:
                raise TimeoutError("the gateway does not know a new project's key")
            time.sleep(0.2)
    return [Sender(key, ChaosLedger(project_id)) for project_id, key in made]


def _knows(gateway: str, key: str) -> bool:
    """Tell whether the gateway takes a key: without one nothing else of a request is looked at."""
    request = urllib.request.Request(  # noqa: S310 # ours
        f"{gateway}/v1/events", data=b"{}", headers={"Authorization": f"Bearer {key}"}
    )
    try:
        with urllib.request.urlopen(request, timeout=5):  # noqa: S310
            return True
    except urllib.error.HTTPError as error:
        return error.code == 400


def _watch_offsets(lab: Lab) -> None:
    queries = read_queries("tests.chaos", "faults.sql")
    with lab.connect() as connection:
        for name in ("make_regressions", "watch_offsets", "begin_watch"):
            connection.execute(queries[name])


def log_file(seed: int) -> Path:
    """Return where a run keeps its fault log."""
    directory = Path(os.environ.get("TRACEFLOW_DATA_DIR") or ".traceflow") / "chaos"
    directory.mkdir(parents=True, exist_ok=True)
    file = directory / f"{seed}.jsonl"
    file.unlink(missing_ok=True)
    return file
