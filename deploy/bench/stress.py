"""A gateway under bad clients: what good ones notice, what it costs in memory, what the bad ones get.

Good clients send real requests at a modest pace all the time, half of them over connections that they keep, half over a
new one each. Before each case they are measured alone: figures of a shared machine are worth something only beside
those of the same minute. Bad clients are a process of their own (`mischief`).
"""

import subprocess
import sys
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import orjson
from pydantic import SecretStr

from adapters.postgres import connect
from adapters.projects import create_project
from deploy.bench.cpu import Resident, allow_many_files
from deploy.bench.hammer import Answered, Hammer
from deploy.bench.lab import Lab, Worker
from deploy.bench.outage import quantile, requests
from deploy.bench.report import Line, Result
from deploy.load.request import GatewayAddress, RequestHead
from deploy.runtime.ports import free_port
from schemas.connections import DatabaseSettings
from schemas.projects import ProjectSettings

PARTITIONS = 4
GOOD_CLIENTS = 4
"""Of each kind: with connections that are kept, and with new ones."""
PAUSE_S = 0.05
QUIET_S = 5.0
WARM_UP_S = 3.0
REST_S = 3.0
HOT_RATE = 2_000
"""Events a second that the limited project may send."""
MAX_ADDED_P99_MS = 100.0
"""What people do not notice; good clients' own timeouts are fifty times that."""
MAX_GROWTH_MB = 300.0
MAX_LEFT_MB = 100.0
"""What the allocator keeps of 10,000 connections, and uses again: 8 kB each."""


@dataclass(frozen=True, slots=True)
class Case:
    """One kind of bad client."""

    name: str
    seconds: float
    """Longer than the deadline that ends it, where there is one."""
    project: str = "other"
    what: str = ""


CASES = (
    Case("slow_headers", 25.0, what="500 connections, a byte of headers a second"),
    Case("slow_bodies", 25.0, what="500 connections, a byte of a body a second"),
    Case("idle", 15.0, what="10,000 connections, each idle after a request"),
    Case("hot_project", 10.0, "limited", f"32 connections without a pause, {HOT_RATE:,} events/s allowed"),
    Case("hot_project", 10.0, what="32 connections without a pause, no limit"),
    Case("hot_crowd", 10.0, what="1,000 connections without a pause, no limit"),
    Case("hot_session", 10.0, what="one session, 5,000 events/s"),
    Case("random_keys", 10.0, what="32 connections without a pause, a new key each request"),
    Case("bombs", 10.0, what="16 connections without a pause, 100 MB of blanks as gzip or zstd"),
)


@dataclass(frozen=True, slots=True)
class Stressed:
    """What was measured in one case."""

    quiet: Sequence[Answered]
    under: Sequence[Answered]
    resident_mb: Sequence[float]
    """Before, the highest meanwhile, a moment after."""
    outcomes: Mapping[str, int]
    seconds: float

    def lines(self, case: Case) -> list[Line]:
        """Return them beside their targets."""
        name = f"{case.name} ({case.what})"
        quiet, under = (sorted(a.took_s * 1e3 for a in part if a.status == 202) for part in (self.quiet, self.under))
        p99, quiet_p99 = quantile(under, 0.99), quantile(quiet, 0.99)
        others = Counter(answer.status for answer in self.under if answer.status != 202)
        before, highest, after = self.resident_mb
        got = ", ".join(f"{outcome}: {count:,}" for outcome, count in sorted(self.outcomes.items()))
        return [
            Line(
                name,
                p99,
                "ms p99",
                f"≤ quiet + {MAX_ADDED_P99_MS:.0f}",
                p99 <= quiet_p99 + MAX_ADDED_P99_MS,
                f"p50 {quantile(under, 0.5):.1f}; quiet p50 {quantile(quiet, 0.5):.1f}, p99 {quiet_p99:.1f} ms",
            ),
            Line(
                "  good requests not answered 202",
                sum(others.values()),
                "",
                "0",
                not others,
                f"of {len(self.under):,}; {dict(others) or ''}",
            ),
            Line(
                "  resident memory, most above before",
                highest - before,
                "MB",
                f"≤ {MAX_GROWTH_MB:.0f}",
                highest - before <= MAX_GROWTH_MB,
                f"{before:.0f} before, {highest:.0f} at most, {after:.0f} after",
            ),
            Line("  left of it", after - before, "MB", f"≤ {MAX_LEFT_MB:.0f}", after - before <= MAX_LEFT_MB),
            Line("  bad clients got", sum(self.outcomes.values()) / self.seconds, "1/s", note=got),
        ]


def run(lab: Lab) -> Result:
    """Take the cases one after the other against one gateway."""
    allow_many_files()
    port = free_port()
    keys = _projects(lab)
    lines: list[Line] = []
    with (
        lab.topics(partitions=PARTITIONS) as prefix,
        lab.process(
            ("ingest_gateway",), prefix=prefix, partitions=PARTITIONS, TRACEFLOW_GATEWAY_PORT=str(port)
        ) as gateway,
    ):
        address = GatewayAddress("127.0.0.1", port)
        wires = requests(RequestHead(f"127.0.0.1:{port}", keys["good"]))
        with Hammer(address, wires, clients=GOOD_CLIENTS):
            time.sleep(WARM_UP_S)
        for case in CASES:
            lines += _measure(gateway, address, wires, case, keys[case.project]).lines(case)
    context: dict[str, Any] = {"good_clients": 2 * GOOD_CLIENTS, "pause_s": PAUSE_S, "quiet_s": QUIET_S}
    return Result("stress", lines, context)


def _projects(lab: Lab) -> dict[str, str]:
    """Make the projects of good clients, of a bad one without a limit, and of one with; return their keys."""
    database = DatabaseSettings(url=SecretStr(lab.target.database_url))
    with connect(database, application_name="bench") as connection:
        return {
            name: create_project(connection, name=name, settings=settings).key
            for name, settings in (
                ("good", ProjectSettings()),
                ("other", ProjectSettings()),
                ("limited", ProjectSettings(events_per_second=HOT_RATE)),
            )
        }


def _measure(gateway: Worker, address: GatewayAddress, wires: Mapping[str, bytes], case: Case, key: str) -> Stressed:
    resident = Resident(gateway.pid)
    with ExitStack() as stack:
        hammers = [
            stack.enter_context(Hammer(address, wires, clients=GOOD_CLIENTS, pause_s=PAUSE_S, fresh=fresh))
            for fresh in (False, True)
        ]
        quiet_at = time.monotonic()
        time.sleep(QUIET_S)
        before_mb, bad_at = resident.now_mb(), time.monotonic()
        with resident:
            outcomes = _mischief(case, address.port, key)
        over_at = time.monotonic()
        time.sleep(REST_S)
    answers = [answer for hammer in hammers for answer in hammer.answers]
    return Stressed(
        quiet=[answer for answer in answers if quiet_at <= answer.sent_at < bad_at],
        under=[answer for answer in answers if bad_at <= answer.sent_at < over_at],
        resident_mb=(before_mb, resident.highest_mb, resident.now_mb()),
        outcomes=outcomes,
        seconds=over_at - bad_at,
    )


def _mischief(case: Case, port: int, key: str) -> dict[str, int]:
    arguments = (case.name, str(port), key, str(case.seconds))
    done = subprocess.run(
        # bad clients are on machines of their own, and must not take the gateway's core
        ["nice", "-n", "5", sys.executable, "-m", "deploy.bench.mischief", *arguments],
        check=True,
        stdout=subprocess.PIPE,
    )
    outcomes: dict[str, int] = orjson.loads(done.stdout)
    return outcomes
