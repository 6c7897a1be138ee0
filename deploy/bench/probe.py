"""How long an event takes from its request to its row, while a background load runs."""

import time
import urllib.request
import uuid
from concurrent.futures import ThreadPoolExecutor

import orjson
import psycopg

from deploy.load import Target
from deploy.load.drive import Shape, send_load

_PAUSE_S = 0.1
_POLL_S = 0.002
_DEADLINE_S = 30.0
_IS_STORED = "SELECT EXISTS (SELECT FROM traceflow_events WHERE id = %s AND timestamp > now() - interval '1 h')"


def probe_rows(target: Target, *, requests: int, background_rate: float) -> list[float]:
    """Send single events one after the other and return each one's seconds from request to row; 0 is no background."""
    waits: list[float] = []
    seconds = requests * (_PAUSE_S + 0.1)
    with ThreadPoolExecutor(1) as pool, psycopg.connect(target.database_url, autocommit=True) as connection:
        background = None
        if background_rate:
            background = pool.submit(send_load, target, Shape(background_rate, seconds, 200), seed=6)
        for number in range(requests):
            event_id = str(uuid.uuid4())
            began = time.monotonic()
            _send(target, f"probe-{number}", event_id)
            while not _is_stored(connection, event_id):
                if time.monotonic() - began > _DEADLINE_S:
                    raise TimeoutError(f"event {event_id} is acknowledged and no row after {_DEADLINE_S:.0f} s")
                time.sleep(_POLL_S)
            waits.append(time.monotonic() - began)
            time.sleep(_PAUSE_S)
        if background is not None:
            background.result()
    return waits


def _send(target: Target, session_id: str, event_id: str) -> None:
    body = orjson.dumps({"session_id": session_id, "events": [{"event_type": "custom", "id": event_id}]})
    request = urllib.request.Request(  # noqa: S310 # ours
        f"{target.gateway}/v1/events", data=body, headers={"Authorization": f"Bearer {target.project_key}"}
    )
    with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310 # ours
        answer.read()


def _is_stored(connection: "psycopg.Connection[tuple[bool]]", event_id: str) -> bool:
    row = connection.execute(_IS_STORED, (event_id,)).fetchone()
    return bool(row and row[0])
