import uuid

import pytest

from schemas import ids

SEED = ids.event_seed(project_id="p", session_id="s", events=b'[{"event_type":"click"}]')


def test_event_id_is_a_uuid_of_version_8_that_begins_with_its_time() -> None:
    made = uuid.UUID(ids.EventIds(seed=SEED, count=1).make(0, 1_765_361_000_000))
    assert made.version == 8
    assert made.variant == uuid.RFC_4122
    assert made.int >> 80 == 1_765_361_000_000


def test_event_id_is_this_one_for_ever() -> None:
    assert ids.EventIds(seed=SEED, count=4).make(3, 1_765_361_000_000) == "019b07b7-1e40-8da5-9af0-c78a57139d09"


def test_a_repeated_request_gives_the_same_ids() -> None:
    again = ids.event_seed(project_id="p", session_id="s", events=b'[{"event_type":"click"}]')
    assert ids.EventIds(seed=again, count=8).make(7, 5) == ids.EventIds(seed=SEED, count=8).make(7, 5)


def test_the_border_between_project_session_and_events_is_part_of_the_seed() -> None:
    seeds = {
        ids.event_seed(project_id=p, session_id=s, events=e)
        for p, s, e in [("ab", "c", b"d"), ("a", "bc", b"d"), ("a", "b", b"cd"), ("", "abc", b"d")]
    }
    assert len(seeds) == 4


def test_events_of_one_request_at_one_time_differ() -> None:
    made = {ids.EventIds(seed=SEED, count=1000).make(i, 0) for i in range(1000)}
    assert len(made) == 1000


def test_ids_sort_by_time() -> None:
    made = [ids.EventIds(seed=SEED, count=1000).make(i, t) for i, t in enumerate((1, 2, 1_765_361_000_000))]
    assert made == sorted(made)


def test_a_session_key_splits_at_its_first_slash() -> None:
    assert ids.parse_session_key(ids.session_key("p", "a/b")) == ("p", "a/b")


@pytest.mark.parametrize("key", [b"", b"p", b"/s", b"p/", b"\xff/s"])
def test_a_key_without_project_or_session_is_refused(key: bytes) -> None:
    with pytest.raises(ValueError, match=r"codec|not a session key"):
        ids.parse_session_key(key)


@pytest.mark.parametrize("trigger", [str(n) for n in range(50)] + ["\u00e9/\U0001f600", ""])
def test_the_id_of_a_finding_is_the_uuid5_of_its_names(trigger: str) -> None:
    made = ids.finding_id(project_id="p", session_id="s", kind="dead_click", trigger=trigger)
    namespace = uuid.UUID("6f0d3c0e-6a4c-5b8e-9d53-7d3c5f7a1b02")
    assert made == str(uuid.uuid5(namespace, f"p/s|dead_click|{trigger}"))


def test_findings_differ_by_project_session_kind_and_trigger() -> None:
    made = {
        ids.finding_id(project_id=p, session_id=s, kind=k, trigger=t)
        for p in "ab"
        for s in "cd"
        for k in ("rage_click", "dead_click")
        for t in ("1", "2")
    }
    assert len(made) == 16
