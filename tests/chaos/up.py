"""`traceflow up` with a fault planted in one of its services: `python -m tests.chaos.up FAULT up …`."""

import sys

from deploy.command import main
from deploy.runtime import services
from tests.chaos.planted import FAULTS

if __name__ == "__main__":
    name = sys.argv.pop(1)
    role = FAULTS[name][0]
    services._MODULES[role] = ("tests.chaos.worker", role, "--plant", name)
    main()
