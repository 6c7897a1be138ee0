"""Functions and triggers of the database. Each test works in a transaction that is rolled back."""

import math
import random
from collections.abc import Iterator
from pathlib import Path

import orjson
import psycopg
import pytest
from psycopg import errors
from psycopg.conninfo import make_conninfo
from psycopg.types.json import Jsonb

Connection = psycopg.Connection[tuple[object, ...]]

SCORES = Path(__file__).parents[1] / "data" / "frustration_scores.json"

PROJECT = "11111111-1111-4111-8111-111111111111"
OWNER = "22222222-2222-4222-8222-222222222222"
WEIGHTS = {
    "error": 5,
    "rage_click": 4,
    "error_click": 4,
    "form_abandonment": 3,
    "dead_click": 2,
    "slow_load": 1,
    "quick_back": 1,
    "thrashed_cursor": 1,
}


@pytest.fixture
def connection(postgres_server: str, database_template: str) -> Iterator[Connection]:
    """Give a transaction in the migrated database, with one project."""
    with psycopg.connect(make_conninfo(postgres_server, dbname=database_template)) as opened:
        opened.execute("INSERT INTO auth.users (id) VALUES (%s)", (OWNER,))
        opened.execute("INSERT INTO traceflow_projects (id, name, owner_id) VALUES (%s, 'Shop', %s)", (PROJECT, OWNER))
        yield opened
        opened.rollback()


def one(connection: Connection, query: str, *parameters: object) -> tuple[object, ...]:
    row = connection.execute(query.encode(), parameters).fetchone()
    assert row is not None
    return row


def score(counts: dict[str, int]) -> int:
    """Say the rule in Python."""
    return round(100 * (1 - math.exp(-sum(WEIGHTS[kind] * n for kind, n in counts.items()) / 10)))


# Score


def test_the_score_equals_pythons_for_every_sum_until_it_saturates(connection: Connection) -> None:
    rows = connection.execute(
        "SELECT n, traceflow_frustration_score(jsonb_build_object('slow_load', n)) FROM generate_series(0, 400) AS n"
    ).fetchall()
    assert rows == [(n, score({"slow_load": n})) for n in range(401)]


def test_the_score_equals_pythons_for_mixed_counts(connection: Connection) -> None:
    rng = random.Random(7)
    counts = [{kind: rng.choice((0, 0, 1, 2, 5)) for kind in rng.sample(list(WEIGHTS), 3)} for _ in range(300)]
    rows = connection.execute(
        "SELECT traceflow_frustration_score(c) FROM unnest(%s::jsonb[]) WITH ORDINALITY AS t(c, n) ORDER BY n",
        ([Jsonb(c) for c in counts],),
    ).fetchall()
    assert [row[0] for row in rows] == [score(c) for c in counts]


def test_no_sum_lies_so_near_a_half_that_the_rounding_rule_could_matter() -> None:
    distances = [abs(100 * (1 - math.exp(-total / 10)) % 1 - 0.5) for total in range(400)]
    assert min(distances) > 4e-4


def test_the_score_is_the_one_of_the_table_that_python_shares(connection: Connection) -> None:
    table = orjson.loads(SCORES.read_bytes())
    found = [one(connection, "SELECT traceflow_frustration_score(%s)", Jsonb(row["counts"])) for row in table]
    assert found == [(row["score"],) for row in table]


@pytest.mark.parametrize(
    ("counts", "expected"),
    [(None, 0), ("{}", 0), ('{"error": -3}', 0), ('{"error": null}', 0), ('{"error": 2000000000}', 100)],
)
def test_the_score_of_odd_counts(connection: Connection, counts: str | None, expected: int) -> None:
    assert one(connection, "SELECT traceflow_frustration_score(%s::jsonb)", counts) == (expected,)


def test_the_weight_of_a_kind_is_the_one_in_the_score(connection: Connection) -> None:
    for kind, weight in WEIGHTS.items():
        assert one(
            connection,
            "SELECT traceflow_finding_weight(%s), traceflow_frustration_score(%s)",
            kind,
            Jsonb({kind: 3}),
        ) == (weight, score({kind: 3}))
    assert one(connection, "SELECT traceflow_finding_weight('click')") == (None,)


def test_counts_are_added_key_by_key(connection: Connection) -> None:
    added = "SELECT traceflow_add_counts(%s::jsonb, %s::jsonb)"
    assert one(connection, added, '{"error": 1, "dead_click": 2}', '{"error": 4, "rage_click": 1}') == (
        {"error": 5, "dead_click": 2, "rage_click": 1},
    )
    assert one(connection, added, '{"error": 1}', "{}") == ({"error": 1},)
    assert one(connection, added, None, '{"error": 2}') == ({"error": 2},)
    assert one(connection, added, None, None) == ({},)


# Counters of a plain INSERT


def insert_event(connection: Connection, event_type: str) -> None:
    connection.execute("INSERT INTO traceflow_events (session_id, event_type) VALUES ('s-1', %s)", (event_type,))


def test_a_plain_insert_keeps_the_sessions_counters_and_score(connection: Connection) -> None:
    connection.execute("INSERT INTO traceflow_sessions (session_id, project_id) VALUES ('s-1', %s)", (PROJECT,))
    for event_type in ("pageview", "click", "rage_click", "error", "error", "dead_click", "slow_load"):
        insert_event(connection, event_type)
    counts = {"rage_click": 1, "error": 2, "dead_click": 1, "slow_load": 1}
    assert one(
        connection,
        "SELECT event_count, rage_click_count, dead_click_count, error_count, finding_counts, frustration_score"
        " FROM traceflow_sessions",
    ) == (7, 1, 1, 2, counts, score(counts))


def test_a_plain_insert_takes_the_sessions_project(connection: Connection) -> None:
    connection.execute("INSERT INTO traceflow_sessions (session_id, project_id) VALUES ('s-1', %s)", (PROJECT,))
    insert_event(connection, "click")
    assert one(connection, "SELECT project_id::text FROM traceflow_events") == (PROJECT,)


def test_a_plain_insert_without_a_session_is_refused_as_by_a_foreign_key(connection: Connection) -> None:
    with pytest.raises(errors.ForeignKeyViolation, match="session 's-1' of the event does not exist"):
        insert_event(connection, "click")


def test_a_sink_counts_for_itself(connection: Connection) -> None:
    connection.execute("INSERT INTO traceflow_sessions (session_id) VALUES ('s-1')")
    connection.execute("SET LOCAL traceflow.sink = 'on'")
    insert_event(connection, "error")
    assert one(connection, "SELECT event_count, error_count, finding_counts FROM traceflow_sessions") == (0, 0, {})


# Settings


def add_settings(connection: Connection, settings: dict[str, object]) -> object:
    return one(
        connection,
        "INSERT INTO traceflow_project_settings (project_id, settings) VALUES (%s, %s) RETURNING version",
        PROJECT,
        Jsonb(settings),
    )[0]


def test_versions_of_settings_are_numbered(connection: Connection) -> None:
    assert [add_settings(connection, {"events_per_second": n}) for n in (1, 2, 3)] == [1, 2, 3]


@pytest.mark.parametrize(
    "change", ["UPDATE traceflow_project_settings SET settings = '{}'", "DELETE FROM traceflow_project_settings"]
)
def test_a_version_of_settings_is_immutable(connection: Connection, change: str) -> None:
    add_settings(connection, {})
    with pytest.raises(errors.RestrictViolation, match=f"settings version 1 of project {PROJECT} is immutable"):
        connection.execute(change.encode())


def test_settings_keys_and_members_go_with_their_project(connection: Connection) -> None:
    add_settings(connection, {})
    connection.execute(
        "INSERT INTO traceflow_project_keys (project_id, key_hash, key_prefix) VALUES (%s, sha256('k'), 'tfk_k')",
        (PROJECT,),
    )
    connection.execute("INSERT INTO traceflow_project_members VALUES (%s, %s)", (PROJECT, OWNER))
    connection.execute("DELETE FROM traceflow_projects")
    assert one(
        connection,
        "SELECT (SELECT count(*) FROM traceflow_project_settings), (SELECT count(*) FROM traceflow_project_keys),"
        " (SELECT count(*) FROM traceflow_project_members)",
    ) == (0, 0, 0)


# Audit log


def test_changes_that_people_make_are_in_the_audit_log_with_who_made_them(connection: Connection) -> None:
    connection.execute("DELETE FROM traceflow_audit_logs")
    connection.execute("SELECT set_config('request.jwt.claims', %s, true)", (orjson.dumps({"sub": OWNER}).decode(),))
    connection.execute(
        "INSERT INTO traceflow_project_keys (project_id, key_hash, key_prefix) VALUES (%s, sha256('k'), 'tfk_k')",
        (PROJECT,),
    )
    connection.execute("UPDATE traceflow_projects SET name = 'Store'")
    connection.execute("SET LOCAL ROLE service_role")
    connection.execute("INSERT INTO traceflow_subscriptions (user_id) VALUES (%s)", (OWNER,))
    connection.execute("UPDATE traceflow_subscriptions SET sessions_used = 5")
    connection.execute("UPDATE traceflow_subscriptions SET plan = 'pro'")
    connection.execute("RESET ROLE")
    rows = connection.execute(
        "SELECT actor_id::text, actor_role = session_user, target_table, action, project_id::text,"
        " CASE action WHEN 'update' THEN details END FROM traceflow_audit_logs ORDER BY ctid"
    ).fetchall()
    assert rows == [
        (OWNER, True, "traceflow_project_keys", "insert", PROJECT, None),
        (OWNER, True, "traceflow_projects", "update", PROJECT, {"name": {"old": "Shop", "new": "Store"}}),
        (OWNER, False, "traceflow_subscriptions", "insert", None, None),
        (OWNER, False, "traceflow_subscriptions", "update", None, {"plan": {"old": "free", "new": "pro"}}),
    ]


def test_the_hash_of_a_key_is_not_in_the_audit_log(connection: Connection) -> None:
    connection.execute(
        "INSERT INTO traceflow_project_keys (project_id, key_hash, key_prefix) VALUES (%s, sha256('k'), 'tfk_k')",
        (PROJECT,),
    )
    connection.execute("UPDATE traceflow_project_keys SET key_hash = sha256('l'), name = 'site'")
    rows = connection.execute(
        "SELECT details FROM traceflow_audit_logs WHERE target_table = 'traceflow_project_keys' ORDER BY ctid"
    ).fetchall()
    assert ["key_hash" in details for (details,) in rows if isinstance(details, dict)] == [False, False]
    assert rows[1] == ({"name": {"old": None, "new": "site"}},)


def test_the_status_of_an_issue_is_audited_unless_a_sink_opens_it_again(connection: Connection) -> None:
    connection.execute("INSERT INTO traceflow_ux_issues (project_id, issue_type) VALUES (%s, 'error')", (PROJECT,))
    connection.execute("UPDATE traceflow_ux_issues SET status = 'resolved'")
    connection.execute("UPDATE traceflow_ux_issues SET occurrence_count = 2")
    connection.execute("SET LOCAL traceflow.sink = 'on'")
    connection.execute("UPDATE traceflow_ux_issues SET status = 'open'")
    rows = connection.execute(
        "SELECT details FROM traceflow_audit_logs WHERE target_table = 'traceflow_ux_issues'"
    ).fetchall()
    assert rows == [({"status": {"old": "open", "new": "resolved"}},)]


# UX issues


def test_an_issue_is_one_row_also_where_page_and_element_are_unknown(connection: Connection) -> None:
    insert = "INSERT INTO traceflow_ux_issues (project_id, issue_type, fingerprint) VALUES (%s, 'error', %s)"
    connection.execute(insert.encode(), (PROJECT, "a"))
    connection.execute(insert.encode(), (PROJECT, "b"))
    with pytest.raises(errors.UniqueViolation):
        connection.execute(insert.encode(), (PROJECT, "a"))


def test_an_issue_takes_the_longest_page_and_selector(connection: Connection) -> None:
    rng = random.Random(1)
    url, selector = ("".join(chr(rng.randrange(0x4E00, 0x9FA5)) for _ in range(2000)) for _ in range(2))
    connection.execute(
        "INSERT INTO traceflow_ux_issues (project_id, issue_type, page_url, element_selector)"
        " VALUES (%s, 'dead_click', %s, %s)",
        (PROJECT, url, selector),
    )


def test_an_issue_outlives_its_first_session(connection: Connection) -> None:
    connection.execute("INSERT INTO traceflow_sessions (session_id) VALUES ('s-1')")
    connection.execute("INSERT INTO traceflow_ux_issues (session_id, issue_type) VALUES ('s-1', 'error')")
    connection.execute("DELETE FROM traceflow_sessions")
    assert one(connection, "SELECT session_id, issue_type FROM traceflow_ux_issues") == (None, "error")
