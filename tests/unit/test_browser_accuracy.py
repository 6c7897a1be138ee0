"""Both stages over 52 labelled browser sessions: what they find, against what people saw.

The floors hold today's figures, rounded down. What is missed or wrong is known, with its cause:

- confirm 1, wrongly dead: a native dialog came up, of which a recording tells nothing;
- links-tabs 2, wrongly dead: a window opened that is not recorded and, in a headless browser, took no focus;
- links-tabs 5, missed: a link answered with 204 shows no more than one that downloads, so links are not judged;
- rage-slow-gaps 1 (posthog), missed: the busy machine made one pause of 1,065 ms, a burst allows 1,000;
- errors 2 (posthog), missed: a rejection that neither the console nor an `$exception` of posthog-js tells.

Neither right nor wrong by the labels, but not what is meant: async-button 4 answers after 4 s and is dead, not slow,
because the place had changed before, as one does that moves by itself; rage-on-slow 1 (posthog) answers only after the
longest wait, its next click is slow.

Plain rrweb records no console: error clicks are known there from structured errors alone.
"""

import pytest

from tests.browser_score import Found, Score, score
from tests.browser_sessions import chunks_of, digest, findings_of, found_in, log_of, truths

PASSES = ("rrweb", "rrweb-pack", "posthog")


@pytest.fixture(scope="module")
def found() -> dict[str, list[Found]]:
    return {sdk: list(found_in(sdk)) for sdk in PASSES}


@pytest.fixture(scope="module")
def scores(found: dict[str, list[Found]]) -> dict[str, dict[str, Score]]:
    return {sdk: score(found[sdk], truths(sdk)) for sdk in PASSES}


@pytest.mark.parametrize("sdk", PASSES)
def test_dead_clicks_are_found_and_few_others(scores: dict[str, dict[str, Score]], sdk: str) -> None:
    result = scores[sdk]["dead_click"]
    assert (result.precision >= 0.97, result.recall >= 0.98) == (True, True), result
    assert result.duplicate <= 2


@pytest.mark.parametrize("sdk", ["rrweb", "posthog"])
def test_what_is_missed_or_wrong_is_known(scores: dict[str, dict[str, Score]], sdk: str) -> None:
    result = scores[sdk]["dead_click"]
    assert result.missed == ["links-tabs: 5 server answers 204, page stays"]
    assert result.wrong == ["confirm: 1 native confirm box", "links-tabs: 2 new window opens"]


def test_a_click_that_is_hammered_until_it_answers_is_slow(found: dict[str, list[Found]]) -> None:
    for sdk in ("rrweb", "posthog"):
        assert [f.session for f in found[sdk] if f.kind == "slow_load"] == ["rage-on-slow"]


@pytest.mark.parametrize("sdk", PASSES)
def test_nobody_shakes_the_mouse_in_these_sessions(found: dict[str, list[Found]], sdk: str) -> None:
    assert [f for f in found[sdk] if f.kind == "thrashed_cursor"] == []


@pytest.mark.parametrize("sdk", PASSES)
def test_every_burst_of_rage_is_found_and_none_else(scores: dict[str, dict[str, Score]], sdk: str) -> None:
    result = scores[sdk]["rage_click"]
    # on the busy machine that recorded posthog-js, one user paused for 1,065 ms within a burst
    expected_missed = ["rage-slow-gaps: 1 annoyed clicking at about 1.4 per second"] if sdk == "posthog" else []
    assert (result.wrong, result.missed) == ([], expected_missed)


@pytest.mark.parametrize("sdk", PASSES)
def test_abandoned_forms_and_steps_back_are_found_exactly(scores: dict[str, dict[str, Score]], sdk: str) -> None:
    for kind in ("form_abandonment", "quick_back"):
        assert (scores[sdk][kind].missed, scores[sdk][kind].wrong) == ([], []), kind


def test_errors_in_the_recorded_console_belong_to_their_clicks(scores: dict[str, dict[str, Score]]) -> None:
    result = scores["posthog"]["error_click"]
    # this rejection is told by nothing that posthog-js sent: no line of the console, no `$exception`
    assert result.missed == ["errors: 2 fetch 404 then JSON parse rejection, nothing shown"]
    assert result.wrong == []


def test_errors_that_an_sdk_tells_belong_to_their_clicks_and_count_once() -> None:
    """The `$exception` events of posthog-js in this session, as structured errors beside its recording."""
    truth = next(truth for truth in truths("posthog") if truth["session"] == "errors")
    messages = {
        19: "TypeError: Cannot read properties of undefined (reading 'total')",
        9: "TypeError: Cannot read properties of null (reading 'foo')",
    }
    first, third = (next(a["t"] for a in truth["actions"] if a["i"] == i) for i in (1, 3))
    told = [(first + 19, messages[19]), (third + 9, messages[9])]
    chunks = chunks_of("posthog", "errors")
    found = findings_of("errors", chunks, errors=told)
    result = score(found, [truth])["error_click"]
    assert (result.right, result.duplicate, result.wrong) == (2, 0, [])
    # the console of the recording has the same two errors, with "Uncaught TypeError: " before them
    assert sorted(f.t for f in found if f.kind == "error") == [t for t, _ in told]


def test_the_sdk_that_recorded_makes_next_to_no_difference(scores: dict[str, dict[str, Score]]) -> None:
    plain, posthog = scores["rrweb"], scores["posthog"]
    assert abs(plain["dead_click"].right - posthog["dead_click"].right) <= 2
    assert abs(len(plain["dead_click"].wrong) - len(posthog["dead_click"].wrong)) <= 2
    assert abs(plain["rage_click"].right - posthog["rage_click"].right) <= 1


@pytest.mark.parametrize("flush_ms", [1, 500, 5_000, 1_000_000])
def test_how_often_the_sdk_flushes_makes_no_difference(found: dict[str, list[Found]], flush_ms: int) -> None:
    for session in ("touch-rage", "disabled", "toast-late", "ticker-rage", "form-ajax", "inputs", "select-text"):
        expected = [f for f in found["rrweb"] if f.session == session]
        chunks = chunks_of("rrweb", session, flush_ms=flush_ms)
        assert sorted(findings_of(session, chunks), key=repr) == sorted(expected, key=repr), session


@pytest.mark.parametrize("sdk", PASSES)
def test_states_and_digests_depend_on_the_log_alone(sdk: str) -> None:
    for truth in truths(sdk):
        session = truth["session"]
        records = log_of(session, chunks_of(sdk, session))
        at_once = digest(records)
        # every state is encoded, forgotten and decoded again after every record
        one_by_one = digest(records, cuts=range(len(records)), cache_weight=0)
        assert one_by_one == at_once, session
        assert digest(records, cuts=range(0, len(records), 7)) == at_once, session
