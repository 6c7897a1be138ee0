"""Send recorded sessions over HTTP as their SDK would: several visitors at once, each session's requests in order.

Waiting is left out: what took half a minute in the browser is sent as fast as it is acknowledged.
"""

import asyncio
from collections.abc import Sequence

from deploy.load.delivery import Client, RetryPolicy, Tally
from deploy.load.ledger import Ledger
from deploy.load.request import GatewayAddress, SessionRequest

VISITORS_AT_ONCE = 8
"""So many that the system has something to do at once, so few that no session waits long between two requests."""

IMPATIENT = RetryPolicy(give_up_s=30.0)


async def replay(
    sessions: Sequence[Sequence[SessionRequest]],
    *,
    address: GatewayAddress,
    key: str,
    ledger: Ledger,
    policy: RetryPolicy = IMPATIENT,
) -> Tally:
    """Send every session; the ledger knows afterwards what was acknowledged."""
    tally = Tally()
    waiting = iter(sessions)

    async def visit() -> None:
        client = Client(address, key, ledger=ledger, tally=tally, policy=policy)
        for requests in waiting:
            for request in requests:
                await client.deliver(request)
        client.close()

    async with asyncio.TaskGroup() as group:
        for _ in range(min(VISITORS_AT_ONCE, len(sessions))):
            group.create_task(visit())
    return tally
