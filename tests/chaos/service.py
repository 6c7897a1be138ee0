"""A service of the system, which can be struck at a step of its work: the product's own, but that it takes orders.

`python -m tests.chaos.service FOLDER gateway|digest|analyze|sink [--plant NAME]`, with settings as usual; FOLDER has
the orders. Of several gateways only one keeps its spool (`faults.SPOOLED`).
"""

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from types import ModuleType

from tests.chaos.faults import SPOOLED
from tests.chaos.orders import AtSteps, client_id
from tests.chaos.plants import PLANTS
from tests.chaos.replacing import replace

SPOOL_VARIABLE = "TRACEFLOW_GATEWAY_SPOOL"


def main(arguments: Sequence[str]) -> int:
    """Run until a signal comes, or a step that is struck."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("role", choices=("gateway", "digest", "analyze", "sink"))
    parser.add_argument("--plant", choices=list(PLANTS))
    asked = parser.parse_args(arguments)
    if asked.plant:
        from tests.chaos.planted import plant

        plant(asked.plant)
    return _main_of(asked.role, AtSteps(asked.folder))()


def _main_of(role: str, on_step: AtSteps) -> Callable[[], int]:
    """Load a service, and return its entry."""
    if role == "gateway":
        import ingest_gateway.__main__ as gateway

        _strike_within(gateway, on_step)
        return lambda: gateway.main(_spooling(os.environ))
    if role == "sink":
        import sinks.__main__ as sink

        _strike_within(sink, on_step)
        return lambda: sink.main((), os.environ)
    # Faust's own variable, read as its settings are made
    os.environ["BROKER_CLIENT_ID"] = client_id(role, os.getpid())
    import stream_processors.__main__ as stage

    _strike_within(stage, on_step)
    return lambda: stage.main((role,), os.environ)


def _strike_within(product: ModuleType, on_step: AtSteps) -> None:
    replace(product, "run", partial(product.run, on_step=on_step))


def _spooling(environ: "os._Environ[str]") -> dict[str, str]:
    """Return the settings of a gateway, which has a spool or none."""
    settings = dict(environ)
    if Path(settings[SPOOL_VARIABLE]).name != SPOOLED:
        del settings[SPOOL_VARIABLE]
    return settings


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
