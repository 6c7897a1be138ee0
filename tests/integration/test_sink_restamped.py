"""An event is stored once though its time is believed in one try and not in another, whichever comes first."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import orjson
import pytest

from adapters.kafka_consumer import ConsumedRecord
from ingest_gateway.admission.events import admit
from ingest_gateway.admission.json_body import decode
from tests.integration.sink_bench import (
    NOW_MS,
    PROJECT,
    SinkBench,
    assert_counters_equal_rows,
    copied_database,
    emptied,
    event,
    query,
)

MINUTE_MS, DAY_MS = 60_000, 86_400_000
OWN_ID = "0190163d-8694-739b-aea5-966c26f8ad92"


class Tries(NamedTuple):
    """When an event happened by its client's clock, and when its request arrived, twice."""

    sent_ms: int
    arrivals: tuple[int, int]

    def restamped(self, arrival: int) -> bool:
        return not arrival - 7 * DAY_MS <= self.sent_ms <= arrival + 10 * MINUTE_MS


BORDERS = {
    "a future that comes true": Tries(NOW_MS, (NOW_MS - 11 * MINUTE_MS, NOW_MS)),
    "a far future that comes true": Tries(NOW_MS, (NOW_MS - 8 * DAY_MS + MINUTE_MS, NOW_MS)),
    "an event that grows too old": Tries(NOW_MS - 7 * DAY_MS, (NOW_MS, NOW_MS + MINUTE_MS)),
    "one that is tried again 8 days later": Tries(NOW_MS - 15 * DAY_MS, (NOW_MS - 8 * DAY_MS, NOW_MS)),
}


@pytest.fixture(scope="module")
def module_database(postgres_server: str, database_template: str) -> Iterator[str]:
    with copied_database(postgres_server, database_template) as url:
        yield url


@pytest.fixture
def bench(module_database: str) -> Iterator[SinkBench]:
    bench = SinkBench(emptied(module_database), "events")
    yield bench
    bench.close()


def arrived(bench: SinkBench, *events: dict[str, Any], at_ms: int, session: str = "s1") -> ConsumedRecord:
    """Make the record that the gateway makes of a request at a time."""
    body = decode(orjson.dumps({"session_id": session, "events": events}))
    (normalised,) = admit(body, project_id=PROJECT, received_at=at_ms, max_events=10).sessions
    return bench.events([dict(each) for each in normalised.events], session=session)


def stored(bench: SinkBench) -> list[tuple[str, int]]:
    """Return type and time of each row."""
    rows = "SELECT event_type, (extract(epoch FROM timestamp) * 1000)::bigint FROM traceflow_events ORDER BY 2, 1"
    return [(str(event_type), int(ms)) for event_type, ms in query(bench.url, rows)]


@pytest.mark.parametrize("batches", ["one batch", "a batch each", "with care"])
@pytest.mark.parametrize("own_id", [OWN_ID, None], ids=["own id", "derived id"])
@pytest.mark.parametrize("believed_first", [False, True], ids=["restamped first", "believed first"])
@pytest.mark.parametrize("border", BORDERS)
def test_the_first_try_is_stored_and_no_other(
    bench: SinkBench, border: str, believed_first: bool, own_id: str | None, batches: str
) -> None:
    tries = BORDERS[border]
    arrivals = sorted(tries.arrivals, key=tries.restamped, reverse=not believed_first)
    assert {tries.restamped(arrival) for arrival in arrivals} == {True, False}
    sent = {"event_type": "error", "timestamp": tries.sent_ms, "error_message": "boom", "id": own_id}
    # logged in this order: a spool and a second gateway turn that of the arrivals round
    records = [arrived(bench, sent, at_ms=arrival) for arrival in (*arrivals, *arrivals)]
    if batches == "with care":
        bench.write([bench.events([event(1)])])
        bench.write([bench.events([event(1)])])
    written = [bench.write(records)] if batches == "one batch" else [bench.write([record]) for record in records]
    assert (sum(each.inserted for each in written), sum(each.duplicates for each in written)) == (1, 3)
    if not believed_first:
        assert {each.careful for each in written} == {batches == "with care"}
    first = arrivals[0] if tries.restamped(arrivals[0]) else tries.sent_ms
    assert [row for row in stored(bench) if row[0] == "error"] == [("error", first)]
    assert_counters_equal_rows(bench.url)


def test_only_sessions_whose_events_may_come_again_leave_the_fast_way(bench: SinkBench) -> None:
    ahead = {"event_type": "click", "timestamp": NOW_MS + 11 * MINUTE_MS}
    first = [arrived(bench, ahead, at_ms=NOW_MS), arrived(bench, {"event_type": "click"}, at_ms=NOW_MS, session="s2")]
    bench.write(first)
    marked = "SELECT session_id, has_restamped FROM traceflow_sessions ORDER BY session_id"
    assert query(bench.url, marked) == [("s1", True), ("s2", False)]
    both = [bench.events([event(1), event(2)]), bench.events([event(3)], session="s2")]
    written = bench.write(both)
    assert (written.inserted, written.duplicates, written.careful) == (3, 0, False)
    # presumed to be new, s2's turns out to be there: the batch is written again, with care
    again = bench.write([bench.events([event(1)]), bench.events([event(3)], session="s2")])
    assert (again.inserted, again.duplicates, again.careful) == (0, 2, True)
    assert query(bench.url, marked) == [("s1", True), ("s2", False)]
    assert_counters_equal_rows(bench.url)


def test_rows_of_a_marked_session_that_have_one_id_and_two_times_of_their_own_stay_two(bench: SinkBench) -> None:
    bench.write([arrived(bench, {"event_type": "click", "timestamp": NOW_MS + 11 * MINUTE_MS}, at_ms=NOW_MS)])
    written = bench.write([bench.events([event(1), event(1, timestamp=NOW_MS - 7)])])
    assert (written.inserted, written.duplicates) == (2, 0)
    assert_counters_equal_rows(bench.url)


def test_an_id_that_another_session_holds_under_another_time_is_no_try_of_a_marked_sessions_event(
    bench: SinkBench,
) -> None:
    bench.write([arrived(bench, {"event_type": "click", "timestamp": NOW_MS + 11 * MINUTE_MS}, at_ms=NOW_MS)])
    bench.write([bench.events([event(1)], session="s2")])
    bench.write([bench.events([event(1, timestamp=NOW_MS - 7), event(2)])])
    assert (len(stored(bench)), bench.reasons()) == (4, [])
    assert_counters_equal_rows(bench.url)
