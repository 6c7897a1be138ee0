"""`traceflow up` with a gateway that has a spool, and with a fault planted in a service if one is named.

`python -m tests.chaos.up --armed FILE [--plant FAULT] up …`
"""

import argparse
import sys

from deploy.command import main
from deploy.runtime import services
from tests.chaos.planted import FAULTS

if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--armed", required=True)
    parser.add_argument("--plant", choices=list(FAULTS))
    parser.add_argument("command", nargs=argparse.REMAINDER)
    asked = parser.parse_args()
    services._MODULES["gateway"] = ("tests.chaos.gateway", asked.armed)
    if asked.plant:
        role = FAULTS[asked.plant][0]
        services._MODULES[role] = ("tests.chaos.worker", role, "--plant", asked.plant)
    sys.argv[1:] = asked.command
    main()
