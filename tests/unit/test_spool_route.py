"""Which way a request goes: to the broker, to the disk, or to the door between."""

from dataclasses import replace

import pytest

from ingest_gateway.spool.route import MAX_DOOR_BYTES, MAX_DOOR_S, Route, Signs, SpoolLimits, next_route

QUIET = Signs(trouble=False, unread=False, unsettled=False, door_s=0, door_bytes=0)
LAST_ONES = replace(QUIET, unsettled=True)
BACKLOG = replace(LAST_ONES, unread=True)


@pytest.mark.parametrize("route", Route)
def test_trouble_leads_to_the_disk_from_everywhere(route: Route) -> None:
    for signs in (QUIET, LAST_ONES, BACKLOG):
        assert next_route(route, replace(signs, trouble=True)) is Route.SPOOL


@pytest.mark.parametrize("route", Route)
def test_nothing_on_disk_and_no_trouble_leads_to_the_broker(route: Route) -> None:
    assert next_route(route, QUIET) is Route.DIRECT


def test_while_there_is_something_to_read_what_comes_is_written_behind_it() -> None:
    assert next_route(Route.SPOOL, BACKLOG) is Route.SPOOL


def test_once_all_is_handed_over_what_comes_waits_for_the_last_of_it() -> None:
    assert next_route(Route.SPOOL, LAST_ONES) is Route.DOOR
    assert next_route(Route.DOOR, replace(LAST_ONES, door_s=MAX_DOOR_S)) is Route.DOOR


@pytest.mark.parametrize(
    "late", [replace(LAST_ONES, door_s=MAX_DOOR_S + 0.01), replace(LAST_ONES, door_bytes=MAX_DOOR_BYTES + 1)]
)
def test_nobody_waits_long_at_the_door_and_not_many_do(late: Signs) -> None:
    assert next_route(Route.DOOR, late) is Route.SPOOL


def test_a_small_spool_has_small_segments_because_they_are_removed_whole() -> None:
    assert SpoolLimits(1_000_000_000, 2.0, 0.8).segment_bytes == 8_000_000
    assert SpoolLimits(1_000_000, 2.0, 0.8).segment_bytes == 125_000
