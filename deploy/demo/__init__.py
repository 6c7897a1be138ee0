"""The demo: real browser sessions, replayed over HTTP into a TraceFlow of its own, and what it found, read back by SQL.

- `elements_chain`, `posthog`, `build_data`: how the sessions in `data/` were made, once, from what posthog-js had sent.
- `recorded`: the sessions, shifted so that they end now; `replay`: sends them as an SDK would.
- `system`: `traceflow up` on a temporary directory, with sessions that close after seconds instead of half an hour.
- `report`: waits until everything is through, reads it back, compares; `show`: the tables; `progress`: meanwhile.
- `try_snippet.mjs`: the snippet of the README in a real browser, by hand.

Floor 3: may import everything; imports lazily where the command starts.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from deploy.demo.report import Result
    from deploy.load import Target
    from deploy.load.ledger import Ledger

Inspect = Callable[["Target", "Result"], None]


def run(*, as_json: bool, inspect: Inspect | None = None) -> int:
    """Run the whole demo and return its exit code; `inspect` sees the running system before it ends.

    Standard output gets the tables, or with `as_json` one object and nothing else; progress goes to standard error.
    """
    import os
    import time

    from rich.console import Console

    from deploy.demo.progress import progress
    from deploy.demo.report import Reader
    from deploy.demo.system import own_system

    began = time.monotonic()
    console = Console(stderr=True, highlight=False)
    with progress(console) as report:
        report("starting a broker, a database and the services")
        with own_system(os.environ, report=report) as system:
            target = system.target
            ledger = _replay(target, report)
            result = Reader(target, ledger).read(report=report)
            if inspect is not None:
                inspect(target, result)
            report("stopping everything")
    _print(result, as_json=as_json, seconds=time.monotonic() - began)
    if result.differences:
        console.print(f"traceflow demo: {result.differences[0]}", markup=False, soft_wrap=True)
    return 1 if result.differences else 0


def _replay(target: "Target", report: Callable[[str], None]) -> "Ledger":
    import asyncio
    import secrets
    import time

    from deploy.demo.recorded import load_sessions, requests_of
    from deploy.demo.replay import replay
    from deploy.load.ledger import Ledger
    from deploy.load.request import GatewayAddress

    suffix, now_ms = secrets.token_hex(2), time.time_ns() // 1_000_000
    sessions = [requests_of(session, suffix=suffix, ends_at_ms=now_ms) for session in load_sessions()]
    report(f"replaying {len(sessions)} browser sessions")
    ledger = Ledger(target.project_id)
    address = GatewayAddress.parse(target.gateway)
    asyncio.run(replay(sessions, address=address, key=target.project_key, ledger=ledger))
    return ledger


def _print(result: "Result", *, as_json: bool, seconds: float) -> None:
    from dataclasses import asdict

    if as_json:
        from deploy.command.answer import print_json

        print_json({"seconds": round(seconds, 1), **asdict(result)})
        return
    from rich.console import Console

    from deploy.demo.show import show

    console = Console(highlight=False)
    # a table is as wide as it needs where nobody looks
    show(result, console if console.is_terminal else Console(highlight=False, width=200), seconds=seconds)
