"""`traceflow up` with services that can be struck at a step of their work, and with a fault planted if one is named.

`python -m tests.chaos.up --orders DIRECTORY [--plant FAULT] up …`
"""

import argparse
import sys

from deploy.command import main
from deploy.runtime import services
from tests.chaos.plants import PLANTS

if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--orders", required=True)
    parser.add_argument("--plant", choices=list(PLANTS))
    parser.add_argument("command", nargs=argparse.REMAINDER)
    asked = parser.parse_args()
    for role in services.ROLES:
        planted = ("--plant", asked.plant) if asked.plant and PLANTS[asked.plant].role == role else ()
        services._MODULES[role] = ("tests.chaos.service", f"{asked.orders}/{role}", role, *planted)
    sys.argv[1:] = asked.command
    main()
