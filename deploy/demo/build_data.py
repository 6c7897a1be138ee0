"""Make the demo's data from recorded sessions: `python -m deploy.demo.build_data FOLDER`, once.

FOLDER holds `<session>/posthog/requests.jsonl.gz`: every HTTP request of posthog-js during that session, one a line:
method, path, body as base64. The result lies beside this script and is what the demo reads.
"""

import gzip
import sys
from pathlib import Path

import orjson

from deploy.demo.posthog import convert_session

DATA = Path(__file__).parent / "data" / "sessions.jsonl.gz"


def main(folder: Path) -> None:
    """Convert every session of the folder."""
    sources = sorted(folder.glob("*/posthog/requests.jsonl.gz"))
    if not sources:
        raise SystemExit(f"{folder} holds no <session>/posthog/requests.jsonl.gz")
    sessions = []
    for source in sources:
        lines = gzip.decompress(source.read_bytes()).splitlines()
        sessions.append(convert_session(source.parent.parent.name, map(orjson.loads, lines)))
    # without its own time in the header the same input gives the same file
    DATA.write_bytes(gzip.compress(b"".join(orjson.dumps(s) + b"\n" for s in sessions), 9, mtime=0))
    print(f"{len(sessions)} sessions, {DATA.stat().st_size} bytes: {DATA}")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        raise SystemExit(f"usage: python -m deploy.demo.build_data FOLDER\n\n{__doc__}")
    main(Path(sys.argv[1]))
