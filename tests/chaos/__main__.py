"""`make chaos SEED=… MINUTES=…`: a run, its tables, and exit code 1 if anything is not as promised."""

import argparse
import sys
import time

from rich.console import Console
from rich.table import Table

from tests.chaos.plants import PLANTS
from tests.chaos.run import Outcome, log_file, long_plan, planted_plan, run, short_plan

_COLUMNS = ("accepted", "rejected", "in log", "stored", "duplicates", "parked")


def show(outcome: Outcome, console: Console) -> None:
    """Print what struck, what was compared, and what was found."""
    seed = outcome.plan.seed
    faults = Table(title=f"seed {seed}: faults survived", title_justify="left")
    for name in ("victim", "fault", "struck", "without effect"):
        faults.add_column(name)
    for role, fault, struck, missed in outcome.faults.counts():
        faults.add_row(role, fault, str(struck), str(missed or ""))
    faults.add_row("all", "", str(len(outcome.faults.struck)), str(len(outcome.faults.missed) or ""))
    console.print(faults)
    accounts = Table(title="events by project", title_justify="left")
    for name in ("project", *_COLUMNS):
        accounts.add_column(name)
    for each in outcome.verdict.accounts:
        numbers = (each.accepted, each.rejected, each.in_log, each.stored, each.duplicates, each.parked)
        accounts.add_row(each.project_id[:8], *map(str, numbers))
    console.print(accounts)
    compared = ", ".join(f"{count} {name}" for name, count in sorted(outcome.verdict.compared.items()))
    console.print(f"compared: {compared}; took {outcome.took_s.get('all', 0):.0f} s", soft_wrap=True)
    for line in outcome.lines:
        console.print(line, soft_wrap=True, markup=False)
    console.print(f"seed {seed}: {len(outcome.lines)} differences")


def main() -> int:
    """Carry out the run that is asked for."""
    parser = argparse.ArgumentParser(prog="make chaos")
    parser.add_argument("--seed", type=int, default=int(time.time()) % 100_000)
    parser.add_argument("--minutes", type=float, default=12.0)
    parser.add_argument("--short", action="store_true", help="The form of `make test`.")
    parser.add_argument("--plant", choices=list(PLANTS), help="Plant a fault that the run has to find.")
    asked = parser.parse_args()
    file = log_file(asked.seed)
    began = time.monotonic()

    def report(line: str) -> None:
        print(f"{time.monotonic() - began:6.1f} s  {line}", file=sys.stderr, flush=True)

    plan = short_plan(asked.seed) if asked.short else long_plan(asked.seed, minutes=asked.minutes)
    if asked.plant:
        plan = planted_plan(asked.seed, asked.plant)
    outcome = run(plan, report=report, fault_file=file)
    console = Console(width=140)
    show(outcome, console)
    said = file.with_suffix(".log")
    said.write_text(outcome.said)
    console.print(f"fault log: {file}; what the processes said: {said}")
    return 1 if outcome.lines else 0


if __name__ == "__main__":
    sys.exit(main())
