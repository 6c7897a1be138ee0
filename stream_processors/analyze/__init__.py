"""The analyze stage's logic: from events and digests to findings, session snapshots and AI jobs.

- `logic`: the `SessionLogic` that the stage runner folds with; `state`: what is kept of a session, and its bytes;
- `records`: what is read of a record; `intake`: from that to signals (`normalise` for structured events);
- `dedupe`: what was seen;
- `detectors`: one module a finding; `config`: their thresholds per project; `findings`: verdicts with ids and owners;
- `session`: who, where, when, which pages (`user_agent`, `place`), and the snapshot made of it;
- `score`, `jobs`: how badly a session went, and which AI jobs it deserves;
- `geo` (floor 2): places from a MaxMind file; `wiring` (floor 3): settings, and all of it put together.

Everything but `geo` and `wiring` is pure (floor 1): it imports `schemas`, orjson, msgspec and ua-parser, reads no
clock, does no I/O, and is a function of the log alone.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from stream_processors.analyze.logic import AnalyzeLogic


def build_logic(environ: Mapping[str, str]) -> "AnalyzeLogic":
    """Build the logic of the stage from the environment.

    Raises:
        SettingsError: naming the variable that is malformed, or the database that cannot be opened.
    """
    # imported here, so that commands that only read `config` start without ua-parser's 0.2 s
    from stream_processors.analyze.wiring import assemble

    return assemble(environ)
