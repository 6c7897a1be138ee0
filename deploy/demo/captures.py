"""The demo's sessions as files hold them that were captured in a browser: for what runs without a gateway."""

from deploy.command.captured import Captured, Recorded, Request
from deploy.demo.recorded import RecordedSession, shifted


def captured_of(session: RecordedSession, *, starts_at_ms: int) -> list[Captured]:
    """Return a session's recording and what was told besides, shifted so that it begins at `starts_at_ms`."""
    captured: list[Captured] = []
    for request in session.requests:
        events = [shifted(event, starts_at_ms) for event in request["events"]]
        if "seq" in request:
            window = request["window_id"]
            captured += [Recorded(session.name, window, event["timestamp"], event) for event in events]
        else:
            captured.append(Request(session.name, {"visitor_id": session.visitor_id, "events": events}))
    return captured
