"""What is remembered between chunks: order, gaps, several windows, bounds, bytes."""

import orjson
import pytest

from schemas.signals import Change, ChangeKind, NotJudged, PageView
from stream_processors.digest import document as documents
from stream_processors.digest import windows
from stream_processors.digest.packing import pack, unpack
from stream_processors.digest.windows import Arrival, Session, Window, decode_session, encode_session
from stream_processors.fold.logic import NewerStateFormat
from tests.digest_page import (
    T0,
    URL,
    Reader,
    changes,
    clicks,
    document,
    el,
    event,
    mutation,
    page,
    press,
    snapshot,
    text,
)

BUTTON = el(7, "button", text(8, "Pay"), id="pay")


# Order


@pytest.mark.parametrize(
    ("seqs", "arrivals"),
    [
        ([0, 1, 2], "in_order in_order in_order"),
        ([0, 0, 1, 1, 0], "in_order duplicate in_order duplicate duplicate"),
        ([0, 2, 1, 1, 3], "in_order after_gap late duplicate in_order"),
        ([5, 6, 0, 5, 4], "after_gap in_order late duplicate late"),
        ([0, 9, 5, 4, 6, 5], "in_order after_gap late late late duplicate"),
    ],
)
def test_where_a_chunk_stands(seqs: list[int], arrivals: str) -> None:
    window = Window("w")
    assert [window.arrive(seq) for seq in seqs] == [Arrival(name) for name in arrivals.split()]


def test_gaps_beyond_the_bound_are_forgotten_oldest_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(windows, "MAX_GAPS", 2)
    window = Window("w")
    for seq in (1, 3, 5):
        window.arrive(seq)
    assert window.gaps == [[2, 2], [4, 4]]
    assert window.arrive(0) is Arrival.DUPLICATE


def test_a_chunk_seen_before_says_nothing_and_changes_nothing() -> None:
    reader = Reader()
    reader.read(page(BUTTON))
    chunk = [mutation(500, adds=[(6, None, el(20, "p"))]), *press(1_000, 7)]
    first = reader.digest(chunk)
    assert reader.session is not None
    before = reader.logic.encode(reader.session)
    again = reader.digest(chunk, seq=1)
    assert first["event_count"] == 4
    assert (again["event_count"], again["signals"]) == (0, [])
    assert "first" not in again
    assert reader.logic.encode(reader.session) == before


def test_after_a_gap_nothing_is_known_until_the_next_full_snapshot() -> None:
    reader = Reader()
    reader.read(page(BUTTON))
    (after,) = clicks(reader.read(press(1_000, 7), seq=2))
    assert (after.not_judged, after.element) == (NotJudged.UNKNOWN_NODE, None)
    (known,) = clicks(reader.read([snapshot(2_000, document(BUTTON)), *press(3_000, 7)]))
    assert known.not_judged is None


def test_a_click_that_is_open_at_a_gap_may_have_been_answered_in_it() -> None:
    reader = Reader()
    reader.read([*page(BUTTON), *press(1_000, 7)])
    assert changes(reader.read([event(4, 9_000, {"href": URL})], seq=2)) == [
        Change(T0 + 1_090, ChangeKind.GAP, window="w")
    ]


def test_no_click_is_open_at_a_gap_much_later() -> None:
    reader = Reader()
    reader.read([*page(BUTTON), *press(1_000, 7), event(4, 9_000, {"href": URL})])
    assert changes(reader.read([event(4, 9_500, {"href": URL})], seq=2)) == []


def test_a_late_chunk_is_read_alone_and_leaves_nothing_behind() -> None:
    reader = Reader()
    reader.read(page(BUTTON))
    reader.read(page(BUTTON, t=9_000, href="/b"), seq=2)
    assert reader.session is not None
    before = reader.session.windows["w"].tree()
    late = reader.digest([mutation(500, removes=[(6, 7)]), *press(1_000, 7)], seq=1)
    assert late["event_count"] == 4
    (click,) = [signal for signal in late["signals"] if signal["k"] == "click"]
    assert click["not_judged"] == "unknown_node"
    after = reader.session.windows["w"].tree()
    assert before is not None
    assert after is not None
    assert after.rows == before.rows


def test_a_late_chunk_with_its_own_snapshot_is_judged_by_it() -> None:
    reader = Reader()
    reader.read(press(5_000, 7), seq=1)
    late = reader.read([*page(BUTTON), *press(1_000, 7)], seq=0)
    assert [c.not_judged for c in clicks(late)] == [None]
    assert [s.url for s in late if isinstance(s, PageView)] == [URL]


# Windows


def test_windows_of_a_session_have_documents_and_pointers_of_their_own() -> None:
    reader = Reader()
    reader.read(page(BUTTON))
    reader.read(page(el(7, "canvas"), t=10_000), window="v")
    (here,) = clicks(reader.read(press(20_000, 7)))
    (there,) = clicks(reader.read(press(30_000, 7), window="v"))
    assert (here.window, here.not_judged) == ("w", None)
    assert (there.window, there.not_judged) == ("v", NotJudged.CANVAS)


def test_the_least_recently_used_window_is_forgotten_beyond_the_bound() -> None:
    session = Session(1)
    for n in range(windows.MAX_WINDOWS):
        session.window(f"w{n}")
    session.window("w0")
    session.window("new")
    assert next(iter(session.windows)) == "w2"
    assert list(session.windows)[-2:] == ["w0", "new"]


def test_only_the_most_recently_used_windows_keep_their_document() -> None:
    reader = Reader()
    for n in range(windows.MAX_DOCUMENTS + 2):
        reader.read(page(BUTTON), window=f"w{n}")
    assert reader.session is not None
    kept = [window.id for window in reader.session.windows.values() if window.document is not None]
    assert kept == [f"w{n}" for n in range(2, windows.MAX_DOCUMENTS + 2)]


def test_documents_of_a_session_share_a_budget_of_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    reader = Reader()
    reader.read(page(BUTTON), window="a")
    assert reader.session is not None
    document_ = reader.session.windows["a"].document
    assert document_ is not None
    monkeypatch.setattr(windows, "MAX_SESSION_BYTES", document_.size() * 2)
    reader.read(page(BUTTON), window="b")
    reader.read(page(BUTTON), window="c")
    assert [window.document is not None for window in reader.session.windows.values()] == [False, True, True]


def test_a_document_larger_than_the_bound_is_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(windows, "MAX_DOCUMENT_BYTES", 100)
    reader = Reader()
    reader.read(page(BUTTON, *(el(20 + n, "p", title=str(n * 7919)) for n in range(50))))
    assert [c.not_judged for c in clicks(reader.read(press(1_000, 7)))] == [NotJudged.UNKNOWN_NODE]


# Bytes


def test_chunks_without_mutations_add_no_bytes_to_a_document() -> None:
    reader = Reader()
    reader.read(page(BUTTON))
    reader.read(press(1_000, 7))
    assert reader.session is not None
    document_ = reader.session.windows["w"].document
    assert document_ is not None
    assert document_.deltas == []


def test_a_new_base_is_made_when_the_deltas_outgrow_the_old_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(documents, "MIN_BASE_BYTES", 1)
    reader = Reader()
    reader.read(page(BUTTON))
    sizes = []
    for n in range(40):
        reader.read([mutation(100 + n, attributes=[(7, {f"data-{n}": "x" * 30})])])
        assert reader.session is not None
        document_ = reader.session.windows["w"].document
        assert document_ is not None
        deltas = sum(map(len, document_.deltas))
        assert deltas <= documents.REBASE_FACTOR * len(document_.base)
        sizes.append(deltas)
    assert 0 in sizes[1:]


def test_a_document_stays_bytes_until_it_is_needed() -> None:
    reader = Reader()
    reader.read(page(BUTTON))
    assert reader.session is not None
    again = decode_session(encode_session(reader.session))
    assert again.nodes() == 0
    tree = again.windows["w"].tree()
    assert tree is not None
    assert again.nodes() == len(tree.rows) == 8


def test_a_state_of_a_newer_version_is_refused() -> None:
    head = pack([4, 0, []])
    with pytest.raises(NewerStateFormat):
        decode_session(len(head).to_bytes(4, "little") + head)


def test_a_state_that_told_of_opened_windows_is_read() -> None:
    session = Session(7)
    session.window("w")
    data = encode_session(session)
    _, *rest = unpack(data[4:])
    head = pack([2, rest[0], [T0], rest[1]])
    assert encode_session(decode_session(len(head).to_bytes(4, "little") + head)) == data


def test_states_are_json_that_any_process_reads() -> None:
    reader = Reader()
    reader.read([*page(BUTTON), *press(1_000, 7), mutation(1_100, adds=[(7, None, el(20, "b"))])])
    assert reader.session is not None
    window = reader.session.windows["w"]
    stored = orjson.dumps(window.dump())
    assert orjson.dumps(Window.load(orjson.loads(stored)).dump()) == stored
