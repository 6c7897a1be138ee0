"""`traceflow detect`: every form of a capture gives the same findings, and what is wrong with a file is one line."""

import base64
import gzip
import io
import json
import subprocess
import sys
import zlib
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import pytest

from deploy.command.application import run
from tests.browser_sessions import SESSIONS, chunks_of, findings_of

T0 = 1_765_000_000_000
PAGE = "https://shop.example/cart"
RAGE: list[dict[str, Any]] = [
    {"event_type": "pageview", "timestamp": T0, "page_url": PAGE},
    *(
        {
            "event_type": "click",
            "timestamp": T0 + 5_000 + 300 * n,
            "page_url": PAGE,
            "x_position": 40,
            "y_position": 50,
            "element_tag": "button",
            "element_id": "buy",
            "element_text": "Buy",
        }
        for n in range(4)
    ),
]
FOUND = {
    "session": "first",
    "kind": "rage_click",
    "timestamp": T0 + 5_000,
    "x": 40,
    "y": 50,
    "element": {"tag": "button", "id": "buy", "class": None, "text": "Buy", "selector": None},
    "page_url": PAGE,
    "severity": "medium",
    "error_message": None,
    "evidence": {"clicks": 4, "span_ms": 900, "effective_clicks": 0},
}
RECORDING = SESSIONS / "rrweb" / "touch-rage" / "rrweb.jsonl.gz"


def outcome(*arguments: object) -> tuple[int, str, str]:
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        code = run(["detect", *map(str, arguments)])
    return code, out.getvalue(), err.getvalue()


def found(*arguments: object) -> list[dict[str, Any]]:
    code, out, err = outcome(*arguments)
    assert (code, err) == (0, "")
    return [json.loads(line) for line in out.splitlines()]


def written(path: Path, *lines: Any) -> Path:
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def recorded() -> list[Any]:
    with gzip.open(RECORDING) as lines:
        return [json.loads(line) for line in lines]


@pytest.fixture(scope="module")
def expected() -> list[dict[str, Any]]:
    return found("--session", "touch-rage", RECORDING)


def test_the_findings_are_those_of_both_stages(expected: list[dict[str, Any]]) -> None:
    both = findings_of("touch-rage", chunks_of("rrweb", "touch-rage"))
    assert [(f["kind"], f["timestamp"], f["x"], f["y"]) for f in expected] == [(f.kind, f.t, f.x, f.y) for f in both]
    assert {f["kind"] for f in expected} == {"dead_click", "rage_click"}
    assert {f["element"]["selector"] for f in expected} == {"#dead", "#dis"}
    assert {f["session"] for f in expected} == {"touch-rage"}


def packed(event: Any) -> str:
    return zlib.compress(json.dumps(event | {"v": "v1"}).encode()).decode("latin-1")


def captured(events: list[Any], window: str) -> dict[str, Any]:
    return {"event": "$snapshot", "properties": {"$window_id": window, "$snapshot_data": events}}


def as_request(body: Any) -> dict[str, Any]:
    sent = gzip.compress(json.dumps(body).encode())
    return {"method": "POST", "path": "/s/", "received": 1, "body_b64": base64.b64encode(sent).decode()}


def test_every_form_of_a_recording_gives_the_same_findings(expected: list[dict[str, Any]], tmp_path: Path) -> None:
    events = recorded()
    half = len(events) // 2
    posthog = [captured(events[:half], "w"), {"event": "$pageview", "properties": {}}, captured(events[half:], "w")]
    forms: dict[str, list[Any]] = {
        "array": [events],
        "lines": events,
        "chunks": [events[:half], events[half:]],
        "packed": [packed(event) for event in events],
        "posthog": [posthog],
        "batch": [{"api_key": "k", "batch": posthog}],
        "requests": [as_request(posthog[:1]), {"method": "GET", "body_b64": ""}, as_request(posthog[1:])],
    }
    for name, lines in forms.items():
        assert found("--session", "touch-rage", written(tmp_path / name, *lines)) == expected, name
    laid_out = tmp_path / "laid-out.json"
    laid_out.write_text(json.dumps(events, indent=1))
    assert found("--session", "touch-rage", laid_out) == expected


def test_a_lone_surrogate_in_a_recorded_text_costs_nothing(expected: list[dict[str, Any]], tmp_path: Path) -> None:
    events = recorded()
    title = {"type": 5, "timestamp": events[0]["timestamp"], "data": {"tag": "note", "payload": "\ud83d"}}
    assert found("--session", "touch-rage", written(tmp_path / "f", *events, title)) == expected


def test_every_form_of_told_events_gives_the_same_findings(tmp_path: Path) -> None:
    envelope = {"session_id": "first", "visitor_id": "v", "sent_at": T0 + 9_000, "events": RAGE}
    parts = [{"session_id": "first", "events": RAGE[:3]}, {"session_id": "first", "events": RAGE[3:]}]
    late = {"session_id": "first", "sent_at": T0 + 3_600_000, "events": RAGE}
    forms: dict[str, list[Any]] = {"body": [envelope], "bodies": parts, "late": [late], "events": RAGE, "array": [RAGE]}
    for name, lines in forms.items():
        assert found("--session", "first", written(tmp_path / name, *lines)) == [FOUND], name


def test_a_told_error_belongs_to_the_recorded_click_before_it(expected: list[dict[str, Any]], tmp_path: Path) -> None:
    click = expected[0]
    error = {"event_type": "error", "timestamp": click["timestamp"] + 300, "error_message": "x is undefined"}
    both = found("--session", "touch-rage", written(tmp_path / "told", error), RECORDING)
    new = [finding for finding in both if finding["error_message"]]
    assert [(f["kind"], f["timestamp"], f["x"], f["error_message"]) for f in new] == [
        ("error_click", click["timestamp"], click["x"], "x is undefined"),
        ("error", click["timestamp"] + 300, None, "x is undefined"),
    ]


def test_files_are_windows_of_one_session() -> None:
    directory = SESSIONS / "rrweb" / "links-tabs"
    files = sorted(directory.glob("*.jsonl.gz"))
    assert len(files) > 1
    both = findings_of("links-tabs", chunks_of("rrweb", "links-tabs"))
    assert [(f["kind"], f["timestamp"]) for f in found("--session", "links-tabs", *files)] == [
        (f.kind, f.t) for f in both
    ]


def test_a_session_is_named_by_the_option_else_by_itself_else_by_the_file(tmp_path: Path) -> None:
    named = written(tmp_path / "named.jsonl", {"session_id": "own", "events": RAGE})
    each = written(tmp_path / "each.json", *({**event, "session_id": "each"} for event in RAGE))
    nameless = tmp_path / "first.visit.jsonl.gz"
    nameless.write_bytes(gzip.compress(json.dumps(RAGE).encode()))
    assert {f["session"] for f in found("--session", "given", named)} == {"given"}
    assert {f["session"] for f in found("--session", "given", each)} == {"given"}
    assert {f["session"] for f in found(named, each)} == {"own", "each"}
    assert {f["session"] for f in found(nameless)} == {"first.visit"}
    code, out, err = outcome(nameless, named)
    assert (code, out) == (2, "")
    assert err == f"traceflow: {nameless}, item 1: of which session? Several FILEs need --session NAME\n"


def test_thresholds_are_those_of_the_project(tmp_path: Path) -> None:
    events = written(tmp_path / "events", *RAGE)
    settings = written(tmp_path / "settings", {"detectors": {"rage_click": {"min_clicks": 5}}})
    assert found("--session", "first", "--project-settings", settings, events) == []
    wrong = written(tmp_path / "wrong", {"detectors": {"rage_click": {"min_click": 5}}})
    code, out, err = outcome("--project-settings", wrong, events)
    assert (code, out) == (2, "")
    assert "wrong: rage_click.min_click: no such threshold" in err


def test_the_table_is_for_people(tmp_path: Path) -> None:
    code, out, _ = outcome("--session", "first", "--table", written(tmp_path / "events", *RAGE))
    assert code == 0
    assert "rage_click" in out
    assert "clicks 4, span_ms 900, effective_clicks 0" in out


def test_standard_input_is_a_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(json.dumps(RAGE).encode())))
    assert found("--session", "first", "-") == [FOUND]


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "holds no event"),
        (b"[]", "holds no event"),
        (b"{", ": not JSON: "),
        (b'{"type": 4, "timestamp": 1, "data": {}}\n{"type": 3,\n', "line 2: not JSON: "),
        (b'[{"hello": 1}]', "item 1: neither an rrweb event, nor an event of /v1/events, nor one of posthog-js"),
        (b'[{"type": 4, "timestamp": 1, "data": {}}, 7]', "item 2: neither an rrweb event, nor"),
        (b'["packed?"]', "item 1: a text that is no rrweb event packed by packFn"),
        (b'{"body_b64": "!"}', ": a body that is no JSON: "),
        (gzip.compress(b"[1, 2, 3]")[:-9], "damaged gzip: "),
    ],
)
def test_a_file_of_another_kind_is_one_line_and_exit_code_1(content: bytes, told: str, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(content)
    code, out, err = outcome(file)
    assert (code, out) == (1, "")
    assert err.startswith(f"traceflow: {file}")
    assert told in err
    assert err.count("\n") == 1


def test_a_missing_file_is_one_line(tmp_path: Path) -> None:
    assert outcome(tmp_path / "none") == (1, "", f"traceflow: {tmp_path / 'none'}: No such file or directory\n")


def test_a_bad_event_is_told_and_costs_no_good_one(tmp_path: Path) -> None:
    file = written(tmp_path / "events", {"session_id": "first", "events": [*RAGE, {"event_type": "dead_click"}, 5]})
    code, out, err = outcome(file)
    assert code == 0
    assert [json.loads(line) for line in out.splitlines()] == [FOUND]
    assert [line.split(":")[:4] for line in err.splitlines()] == [
        ["traceflow", " left out", f" {file}, event 6", " event_type_reserved"],
        ["traceflow", " left out", f" {file}, event 7", " event_shape_wrong"],
    ]


def test_it_needs_no_driver() -> None:
    script = (
        f"import sys; from deploy.command.application import run; run(['detect', {str(RECORDING)!r}])\n"
        "print(sorted(m for m in sys.modules if m in ('confluent_kafka', 'psycopg', 'faust', 'aiokafka', 'falcon')))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
