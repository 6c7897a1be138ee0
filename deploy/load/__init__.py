"""Synthetic sessions, and the client's side of every promise: who was told what, and whether Postgres bears it out.

- `shop`, `visit`: what a synthetic person sees and does; `template`, `generator`: the same as requests, at little CPU.
- `request`, `connection`, `delivery`: how an SDK sends: in order, the same bytes again, until the outcome is known.
- `ledger`: the outcomes; `verification`: each acknowledged event and chunk exactly once, counters as their rows say.
- `drive`, `report`: a steady rate, and what it measured.

For `traceflow load`, the demo, the crash tests and the benchmarks. Floor 3: may import everything; imports lazily where
the command starts.
"""

from typing import NamedTuple


class Target(NamedTuple):
    """A running TraceFlow, as `traceflow up` describes it in its ready file."""

    gateway: str
    """`http://host:port`"""
    project_id: str
    project_key: str
    database_url: str
    kafka_bootstrap: str


def run(
    target: Target,
    *,
    rate: float,
    seconds: float,
    sessions: int,
    seed: int,
    verify: bool = False,
    as_json: bool = False,
) -> int:
    """Send a load, report it, and with `verify` wait for its rows and compare; return the exit code."""
    from dataclasses import asdict

    import orjson

    from deploy.load.drive import Shape, send_load
    from deploy.load.report import show
    from deploy.load.verification import verify as compare

    ledger, report = send_load(target, Shape(rate, seconds, sessions), seed=seed)
    differences = compare(target.database_url, ledger, deadline_s=VERIFY_DEADLINE_S).lines() if verify else []
    if as_json:
        print(orjson.dumps({**asdict(report), "differences": differences if verify else None}).decode(), flush=True)
    else:
        show(report)
        for line in differences:
            print(line)
        if verify and not differences:
            print("every acknowledged event and chunk is a row exactly once, and every counter is what its rows say")
    return 1 if differences or report.refused_requests else 0


VERIFY_DEADLINE_S = 120.0
"""For a backlog that the load has built up."""
