"""The commands against a real broker and a real server."""

import gzip
import io
import json
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import psycopg
import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient
from confluent_kafka.admin._config import AlterConfigOpType, ConfigEntry, ConfigResource
from confluent_kafka.admin._resource import ResourceType

from deploy.command.application import run
from schemas import topics as declared
from schemas.messages import DeadLetter, dead_letter_headers
from schemas.migrations import load_migrations
from stream_processors.fold.facts import PartitionRecord, partition_record_key

Run = Callable[..., tuple[int, Any]]


@pytest.fixture
def command(kafka: str, topics: str, database: str, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run a command with --json; give its exit code and its answer, or the error's line."""
    monkeypatch.setenv("TRACEFLOW_KAFKA_BOOTSTRAP", kafka)
    monkeypatch.setenv("TRACEFLOW_DATABASE_URL", database)
    monkeypatch.setenv("TRACEFLOW_TOPIC_PREFIX", topics)
    monkeypatch.setenv("TRACEFLOW_PARTITIONS", "2")

    def call(*arguments: str) -> tuple[int, Any]:
        out, err = io.StringIO(), io.StringIO()
        with redirect_stdout(out), redirect_stderr(err):
            code = run([*arguments, "--json"])
        return code, json.loads(out.getvalue()) if out.getvalue() else err.getvalue()

    return call


def test_sql_answers_with_objects_by_column_name(command: Run) -> None:
    assert command("sql", "SELECT 1 AS a, 'x' AS b, NULL AS c UNION ALL SELECT 2, '50%', '{\"d\": 3}' ORDER BY a") == (
        0,
        [{"a": 1, "b": "x", "c": None}, {"a": 2, "b": "50%", "c": '{"d": 3}'}],
    )


@pytest.mark.parametrize(
    ("statement", "refusal"),
    [
        ("DELETE FROM traceflow_sessions", "cannot execute DELETE in a read-only transaction"),
        ("SELECT 1; COMMIT; DELETE FROM traceflow_sessions", "cannot insert multiple commands"),
        (
            "DO $$ BEGIN PERFORM set_config('default_transaction_read_only', 'off', false); COMMIT;"
            " DELETE FROM traceflow_sessions; END $$",
            "invalid transaction termination",
        ),
        ("DO $$ BEGIN SET TRANSACTION READ WRITE; END $$", "must be set before any query"),
        ("SELECT no_such_column FROM traceflow_events", "no_such_column"),
        ("SELECT pg_sleep(20)", "no answer within 1 s: ask for less, or wait longer by --timeout"),
    ],
)
def test_sql_changes_nothing_and_tells_in_one_line_why_not(command: Run, statement: str, refusal: str) -> None:
    code, told = command("sql", statement, "--timeout", "1")
    assert code == 1
    assert refusal in told
    assert told.count("\n") == 1


def retain(topics: str, kafka: str, *, days: int) -> None:
    """Let the broker keep the events longer, as an operator would."""
    entry = ConfigEntry("retention.ms", str(days * 86_400_000), incremental_operation=AlterConfigOpType.SET)
    resource = ConfigResource(ResourceType.TOPIC, f"{topics}events", incremental_configs=[entry])
    admin = AdminClient({"bootstrap.servers": kafka})
    for altered in admin.incremental_alter_configs([resource]).values():
        altered.result()


def test_topics_are_created_once_and_compared(
    command: Run, topics: str, kafka: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert command("topics") == (0, {"created": [], "differences": []})
    code, found = command("topics", "--check", "--partitions", "3")
    assert code == 1
    assert found["created"] == []
    assert found["differences"][0] == {
        "topic": f"{topics}events",
        "what": "partitions",
        "declared": "3",
        "actual": "2",
    }
    assert command("topics", "--partitions", "3")[0] == 1
    retain(topics, kafka, days=14)
    assert command("topics", "--check")[0] == 1
    code, found = command("topics")
    assert (code, [difference["what"] for difference in found["differences"]]) == (0, ["retention.ms"])
    monkeypatch.setenv("TRACEFLOW_TOPIC_PREFIX", f"{topics}other.")
    code, found = command("topics", "--check")
    assert (code, len(found["differences"])) == (1, len(declared.ALL))
    assert {difference["what"] for difference in found["differences"]} == {"missing"}


def test_migrations_are_told_and_not_applied_twice(command: Run) -> None:
    code, found = command("migrate", "--status")
    assert code == 0
    assert {migration["state"] for migration in found} == {"applied"}
    assert command("migrate", "--dry-run") == (0, [])
    assert command("migrate") == (0, [])


def test_what_is_not_as_it_should_be_is_named_with_exit_code_1_and_no_dry_run_passes_over_it(
    command: Run, database: str
) -> None:
    newest = load_migrations()[-1]
    with psycopg.connect(database) as connection:
        connection.execute("DELETE FROM traceflow_schema_migrations WHERE version = %s", (newest.version,))
    code, found = command("migrate", "--status")
    assert (code, found[-1]["name"], found[-1]["state"]) == (1, newest.name, "pending")
    code, found = command("migrate", "--dry-run")
    assert (code, [migration["name"] for migration in found]) == (0, [newest.name])
    with psycopg.connect(database) as connection:
        connection.execute("UPDATE traceflow_schema_migrations SET sha256 = 'other' WHERE version = 2")
    assert [migration["state"] for migration in command("migrate", "--status")[1][1:3]] == ["edited", "applied"]
    code, told = command("migrate", "--dry-run")
    assert (code, "0002_core.sql is not what was applied" in told) == (1, True)


def test_an_index_that_some_partitions_lack_is_not_up_to_date(command: Run, database: str) -> None:
    with psycopg.connect(database) as connection:
        connection.execute("CREATE INDEX idx_half ON ONLY public.traceflow_events (element_id)")
    assert command("migrate", "--status")[0] == 1
    assert command("migrate") == (0, [])
    assert command("migrate", "--status")[0] == 0


def test_a_project_is_made_changed_and_given_another_key(command: Run) -> None:
    code, made = command("projects", "create", "shop", "origins=https://shop.example")
    assert code == 0
    project_id = made["project_id"]
    assert command("projects", "set", project_id, "session_gap_ms=600000", "detectors.rage_click.min_clicks=4") == (
        0,
        {"project_id": project_id, "settings_version": 2},
    )
    assert command("projects", "set", project_id, "detectors.rage_click.min_clicks=")[0] == 0
    code, (listed,) = command("projects", "list")
    assert code == 0
    assert (listed["name"], listed["settings_version"], listed["settings"]) == (
        "shop",
        3,
        {"origins": ["https://shop.example"], "session_gap_ms": 600000},
    )
    assert made["project_key"].startswith(listed["key_prefixes"][0])
    code, rotated = command("projects", "rotate-key", project_id)
    assert (code, rotated["project_key"] == made["project_key"]) == (0, False)
    assert len(command("projects", "list")[1][0]["key_prefixes"]) == 1
    command("projects", "rotate-key", project_id, "--keep-old")
    assert len(command("projects", "list")[1][0]["key_prefixes"]) == 2


def test_a_project_that_is_none_is_told(command: Run) -> None:
    code, told = command("projects", "set", "3f0c0000-0000-0000-0000-000000000000", "session_gap_ms=600000")
    assert (code, told.count("\n")) == (1, 1)
    assert "`traceflow projects list` shows them" in told
    assert command("projects", "rotate-key", "nonsense")[0] == 1
    assert command("projects", "create", "shop", "session_gap=1")[0] == 2


def park(kafka: str, prefix: str, *, reason: str, at: int, value: bytes = b"{}") -> None:
    producer = Producer({"bootstrap.servers": kafka})
    letter = DeadLetter(reason=reason, stage="analyze", topic="events", partition=1, offset=7, at=at)
    headers: list[tuple[str, str | bytes | None]] = [*dead_letter_headers(letter), ("kind", b"events")]
    name = declared.DEAD_LETTERS.full_name(prefix)
    producer.produce(name, key=b"p/s", value=value, headers=headers, partition=1)
    assert producer.flush(10) == 0


def test_dead_letters_are_listed_filtered_and_shown(command: Run, kafka: str, topics: str) -> None:
    assert command("dead-letters", "list") == (0, [])
    park(kafka, topics, reason="engine_error", at=1_765_361_000_000)
    park(kafka, topics, reason="record_malformed", at=1_765_361_001_000, value=b"\xff")
    code, listed = command("dead-letters", "list")
    assert (code, [letter["reason"] for letter in listed]) == (0, ["engine_error", "record_malformed"])
    assert [letter["place"] for letter in command("dead-letters", "list", "--limit", "1")[1]] == ["1:1"]
    assert [x["place"] for x in command("dead-letters", "list", "--reason", "engine_error")[1]] == ["1:0"]
    code, shown = command("dead-letters", "show", "1:1")
    assert (code, shown["value"], shown["headers"]) == (0, "\\xff", {"kind": "events"})
    assert command("dead-letters", "show", "1:9")[0] == 1
    assert command("dead-letters", "show", "first")[0] == 2


def test_status_measures_every_stage_from_outside(command: Run, kafka: str, topics: str, database: str) -> None:
    producer = Producer({"bootstrap.servers": kafka})
    for _ in range(5):
        producer.produce(declared.EVENTS.full_name(topics), key=b"p/s", value=b"{}", partition=0)
    assert producer.flush(10) == 0
    park(kafka, topics, reason="engine_error", at=1)
    with psycopg.connect(database) as connection:
        connection.execute(
            "INSERT INTO traceflow_sink_offsets (sink, topic, part, next_offset) VALUES ('events', %s, 0, 3)",
            [declared.EVENTS.full_name(topics)],
        )
    code, found = command("status", "--interval", "0.1")
    assert code == 0
    stages = {stage["stage"]: stage for stage in found["stages"]}
    assert list(stages) == [
        "digest",
        "analyze",
        "sink-events",
        "sink-recordings",
        "sink-sessions",
        "sink-signals",
        "sink-ai_jobs",
    ]
    assert (stages["analyze"]["lag"], stages["analyze"]["dead_letters"]) == (5, 1)
    assert (stages["sink-events"]["lag"], stages["sink-events"]["dead_letters"]) == (2, 0)
    assert stages["digest"]["lag"] == 0
    record = PartitionRecord(offset=3)
    producer.produce(f"{topics}analyze_changelog", key=partition_record_key(3), value=record.pack(), partition=0)
    producer.produce(f"{topics}analyze_changelog", key=partition_record_key(1), value=None, partition=0)
    assert producer.flush(10) == 0
    assert {s["stage"]: s["lag"] for s in command("status", "--interval", "0.1")[1]["stages"]}["analyze"] == 1
    assert stages["digest"]["oldest_unprocessed_s"] is None
    assert 0 <= stages["sink-events"]["oldest_unprocessed_s"] < 60
    assert found["dead_letters"] == {"kept": 1, "waiting": 1, "by_reason": {"engine_error": 1}}
    assert found["newest_event_stored_s"] is None
    assert "sink-events: no worker runs, and 2 records wait" in found["ill"]
    assert "dead letters: 1 wait by a fault of ours: `traceflow dead-letters stats`" in found["ill"]
    # what was dealt with waits no more
    assert command("dead-letters", "drop", "--all")[0] == 0
    then = command("status", "--interval", "0.1")[1]
    assert then["dead_letters"] == {"kept": 1, "waiting": 0, "by_reason": {}}
    assert not [line for line in then["ill"] if "dead letters" in line]
    assert min(found["partitions_ahead_days"].values()) >= 7
    assert found["versions"]["schema_pending"] == []


def test_ticks_do_not_wait_for_a_sink(command: Run, kafka: str, topics: str) -> None:
    producer = Producer({"bootstrap.servers": kafka})
    for topic, kinds in ((declared.EVENTS, ("tick", "digest_tick", "digest")), (declared.RECORDINGS, ("tick",))):
        for kind in kinds:
            producer.produce(topic.full_name(topics), value=b"", partition=0, headers={"kind": kind})
    for kind in ("tick", "tick", "events"):
        producer.produce(declared.EVENTS.full_name(topics), value=b"{}", partition=1, headers={"kind": kind})
    assert producer.flush(10) == 0
    stages = {stage["stage"]: stage for stage in command("status", "--interval", "0.1")[1]["stages"]}
    assert (stages["sink-events"]["lag"], stages["sink-recordings"]["lag"]) == (1, 0)
    assert stages["sink-recordings"]["oldest_unprocessed_s"] is None
    assert (stages["analyze"]["lag"], stages["digest"]["lag"]) == (6, 1)


def test_status_tells_what_is_kept_and_who_has_to_prune_where_nobody_does(command: Run, database: str) -> None:
    assert [kept["days"] for kept in command("status", "--interval", "0.1")[1]["retention"]] == [None] * 3
    with psycopg.connect(database, autocommit=True) as connection:
        for days_ago in (16, 17, 20):
            connection.execute(
                "SELECT traceflow_parts.ensure_day('traceflow_events', traceflow_parts.today() - %s)", (days_ago,)
            )
        connection.execute(
            "INSERT INTO traceflow_sessions (session_id, started_at, ended_at) VALUES"
            " ('lives on', now() - interval '90 days', now()), ('old', now() - interval '41 days', NULL)"
        )
        connection.execute("UPDATE traceflow_retention SET events_days = 16, recordings_days = 15, sessions_days = 40")
        ((owner,),) = connection.execute("SELECT current_user::text")
    found = command("status", "--interval", "0.1")[1]
    assert [(kept["table"], kept["days"], kept["overdue_days"]) for kept in found["retention"]] == [
        ("traceflow_events", 16, 4),
        ("session_recording_chunks", 15, 0),
        ("traceflow_sessions", 40, 1),
    ]
    assert [line for line in found["ill"] if "beyond" in line] == [
        "traceflow_events: 4 days are there beyond the 16 that are kept: does a sink run as "
        f"{owner}, the tables' owner? If not, let {owner} run `traceflow partitions prune`"
    ]
    with psycopg.connect(database) as connection:
        connection.execute("UPDATE traceflow_retention SET counted_from = traceflow_parts.today() - 8")
    told = [line for line in command("status", "--interval", "0.1")[1]["ill"] if "clock" in line or "beyond" in line]
    assert [line.partition(" ")[0] for line in told] == ["retention:"]


def test_status_without_postgres_tells_what_kafka_alone_knows(
    command: Run, kafka: str, topics: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    producer = Producer({"bootstrap.servers": kafka})
    for _ in range(5):
        producer.produce(declared.EVENTS.full_name(topics), key=b"p/s", value=b"{}", partition=0)
    assert producer.flush(10) == 0
    park(kafka, topics, reason="engine_error", at=1)
    monkeypatch.setenv("TRACEFLOW_DATABASE_URL", "postgresql://nobody@127.0.0.1:1/nothing")
    code, found = command("status", "--interval", "0.1")
    assert code == 69
    stages = {stage["stage"]: stage for stage in found["stages"]}
    assert (stages["analyze"]["lag"], stages["digest"]["lag"], stages["sink-events"]["lag"]) == (5, 0, None)
    assert found["dead_letters"] == {"kept": 1, "waiting": None, "by_reason": None}
    assert "analyze: no worker runs, and 5 records wait" in found["ill"]
    assert found["ill"][0].startswith("Postgres cannot be reached: ")
    assert found["ill"][0].endswith(": where the sinks stand is unknown")


def store_chunk(database: str, seq: int, codec: str, events: str) -> None:
    columns = (codec, events, None) if codec == "json" else (codec, None, gzip.compress(events.encode()))
    with psycopg.connect(database) as connection:
        connection.execute(
            "INSERT INTO session_recordings (session_id) VALUES ('s') ON CONFLICT DO NOTHING"
            if seq == 0
            else "SELECT 1"
        )
        connection.execute(
            "INSERT INTO session_recording_chunks (session_id, window_id, seq, chunk_day, codec, events, payload,"
            " raw_size_bytes) VALUES ('s', 'w', %s, (now() AT TIME ZONE 'UTC')::date, %s, %s, %s, 1)",
            [seq, *columns],
        )


@pytest.mark.usefixtures("command")
def test_a_recording_is_exported_whole_whatever_its_codec(database: str, tmp_path: Path) -> None:
    store_chunk(database, 0, "json", '[{"type":4},{"type":2}]')
    store_chunk(database, 2, "json", "[]")
    store_chunk(database, 1, "gzip", '[{"type":3}]')
    output = tmp_path / "s.json"
    assert run(["recordings", "export", "s", "--output", str(output)]) == 0
    assert json.loads(output.read_bytes()) == [{"type": 4}, {"type": 2}, {"type": 3}]
    assert [path.name for path in tmp_path.iterdir()] == ["s.json"]


@pytest.mark.usefixtures("command")
def test_a_session_without_a_recording_is_told(capfd: pytest.CaptureFixture[str]) -> None:
    assert run(["recordings", "export", "none"]) == 1
    out, err = capfd.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert "session none has no recording" in err
