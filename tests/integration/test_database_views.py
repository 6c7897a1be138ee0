"""Views and the data dictionary. Each test works in a transaction that is rolled back."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import psycopg
import pytest
from psycopg.conninfo import make_conninfo
from psycopg.types.json import Jsonb

Connection = psycopg.Connection[tuple[object, ...]]

PROJECT = "11111111-1111-4111-8111-111111111111"
START = datetime.now(UTC).replace(microsecond=0) - timedelta(hours=1)


@pytest.fixture
def connection(postgres_server: str, database_template: str) -> Iterator[Connection]:
    """Give a transaction in the migrated database, with one project."""
    with psycopg.connect(make_conninfo(postgres_server, dbname=database_template)) as opened:
        opened.execute("INSERT INTO traceflow_projects (id, name) VALUES (%s, 'Shop')", (PROJECT,))
        yield opened
        opened.rollback()


def one(connection: Connection, query: str, *parameters: object) -> tuple[object, ...]:
    row = connection.execute(query.encode(), parameters).fetchone()
    assert row is not None
    return row


def insert_chunk(connection: Connection, window: str, seq: int, body: str, *, codec: str = "json") -> None:
    connection.execute(
        "INSERT INTO session_recording_chunks (session_id, window_id, seq, chunk_day, codec, events, payload,"
        " raw_size_bytes) VALUES ('s-1', %s, %s, %s, %s, %s::json, %s, %s)",
        (
            window,
            seq,
            START.date(),
            codec,
            body if codec == "json" else None,
            None if codec == "json" else body.encode(),
            len(body),
        ),
    )


def recorded_events(connection: Connection) -> object:
    return one(connection, "SELECT events FROM session_recordings_full WHERE session_id = 's-1'")[0]


def test_a_recording_is_read_whole_in_order_of_window_and_sequence(connection: Connection) -> None:
    connection.execute("INSERT INTO session_recordings (session_id) VALUES ('s-1')")
    insert_chunk(connection, "b", 0, '[{"n": 5}]')
    insert_chunk(connection, "a", 10, ' [ {"n": 4, "text": "] [ä€"} ]\n')
    insert_chunk(connection, "a", 2, "[]")
    insert_chunk(connection, "a", 9, '[{"n": 3}]')
    insert_chunk(connection, "a", 0, '[{"n": 1},{"n": 2}]')
    assert recorded_events(connection) == [{"n": 1}, {"n": 2}, {"n": 3}, {"n": 4, "text": "] [ä€"}, {"n": 5}]


def test_a_recording_without_chunks_is_empty(connection: Connection) -> None:
    connection.execute("INSERT INTO session_recordings (session_id) VALUES ('s-1')")
    assert recorded_events(connection) == []


def test_a_materialised_recording_is_read_as_it_is(connection: Connection) -> None:
    connection.execute("INSERT INTO session_recordings (session_id, events) VALUES ('s-1', '[{\"n\": 1}]')")
    insert_chunk(connection, "a", 0, '[{"n": 2}]')
    assert recorded_events(connection) == [{"n": 1}]


def test_a_recording_with_a_compressed_chunk_cannot_be_read_by_sql(connection: Connection) -> None:
    connection.execute("INSERT INTO session_recordings (session_id) VALUES ('s-1')")
    insert_chunk(connection, "a", 0, '[{"n": 1}]')
    insert_chunk(connection, "a", 1, "…", codec="zstd")
    assert recorded_events(connection) is None


def test_the_overview_names_the_kind_with_the_largest_share_of_the_score(connection: Connection) -> None:
    counts = {"dead_click": 3, "rage_click": 1, "slow_load": 5}
    connection.execute(
        "INSERT INTO traceflow_sessions (session_id, started_at, finding_counts, frustration_score)"
        " VALUES ('s-1', %s, %s, 78), ('s-2', %s, '{}', 0)",
        (START, Jsonb(counts), START),
    )
    rows = connection.execute(
        "SELECT session_id, frustration_score, top_finding, top_finding_count, finding_count"
        " FROM traceflow_session_overview ORDER BY frustration_score DESC"
    ).fetchall()
    assert rows == [("s-1", 78, "dead_click", 3, 9), ("s-2", 0, None, None, 0)]


def test_the_timeline_shows_events_and_findings_in_order(connection: Connection) -> None:
    connection.execute("INSERT INTO traceflow_sessions (session_id, started_at) VALUES ('s-1', %s)", (START,))
    for seconds, event_type, selector in ((1, "rage_click", "#buy"), (0, "pageview", None), (1, "click", "#buy")):
        connection.execute(
            'INSERT INTO traceflow_events (session_id, event_type, "timestamp", element_selector, element_tag)'
            " VALUES ('s-1', %s, %s, %s, 'body')",
            (event_type, START + timedelta(seconds=seconds), selector),
        )
    rows = connection.execute(
        "SELECT since_start, is_finding, event_type, element FROM traceflow_session_timeline WHERE session_id = 's-1'"
    ).fetchall()
    assert rows == [
        (timedelta(0), False, "pageview", "body"),
        (timedelta(seconds=1), False, "click", "#buy"),
        (timedelta(seconds=1), True, "rage_click", "#buy"),
    ]


def test_painful_elements_add_up_their_issues_and_count_each_session_once(connection: Connection) -> None:
    for issue_type, occurrences, sessions in (("rage_click", 3, ("s-1", "s-2")), ("dead_click", 5, ("s-2", "s-3"))):
        (issue,) = one(
            connection,
            "INSERT INTO traceflow_ux_issues (project_id, issue_type, page_url, element_selector, occurrence_count)"
            " VALUES (%s, %s, '/cart', '#buy', %s) RETURNING id",
            PROJECT,
            issue_type,
            occurrences,
        )
        for session in sessions:
            connection.execute(
                "INSERT INTO traceflow_ux_issue_sessions (issue_id, session_id) VALUES (%s, %s)", (issue, session)
            )
    connection.execute("INSERT INTO traceflow_ux_issues (project_id, issue_type) VALUES (%s, 'slow_load')", (PROJECT,))
    assert connection.execute(
        "SELECT page_url, element_selector, occurrences, rage_clicks, dead_clicks, affected_sessions, pain, open_issues"
        " FROM traceflow_painful_elements"
    ).fetchall() == [("/cart", "#buy", 8, 3, 5, 3, 3 * 4 + 5 * 2, 2)]


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("https://shop.example/cart?step=2#top", "/cart"),
        ("https://shop.example", "/"),
        ("https://shop.example?from=mail", "/"),
        ("http://user@shop.example:8080/a/b", "/a/b"),
        ("https://app.example/#/orders/7?tab=1", "/#/orders/7"),
        ("https://app.example/#!/orders", "/#/orders"),
        ("//cdn.example/x", "/x"),
        ("/relative/path?q", "/relative/path"),
        ("", "/"),
        (None, None),
    ],
)
def test_the_path_of_a_page(connection: Connection, url: str | None, path: str | None) -> None:
    assert one(connection, "SELECT traceflow_page_path(%s)", url) == (path,)


@pytest.mark.parametrize(
    ("pages", "steps", "reached"),
    [
        (["/a", "/b"], ["/a", "/b"], 2),
        (["/a", "/x", "/b"], ["/a", "/b"], 2),
        (["/b", "/a"], ["/a", "/b"], 1),
        (["/b", "/a", "/b"], ["/a", "/b"], 2),
        (["/a"], ["/a", "/a"], 1),
        (["/a/1", "/a/2"], ["/a/%", "/a/%"], 2),
        (["/x"], ["/a"], 0),
        ([], ["/a"], 0),
        (["/a"], [], 0),
    ],
)
def test_steps_are_reached_in_order_with_other_pages_between(
    connection: Connection, pages: list[str], steps: list[str], reached: int
) -> None:
    assert one(connection, "SELECT traceflow_steps_reached(%s::text[], %s::text[])", pages, steps) == (reached,)


def add_session(
    connection: Connection, session: str, *, pages: str = "[]", is_bot: bool = False, hours: int = 0
) -> None:
    connection.execute(
        "INSERT INTO traceflow_sessions (session_id, project_id, started_at, pages_visited, is_bot)"
        " VALUES (%s, %s, %s, %s, %s)",
        (session, PROJECT, START - timedelta(hours=hours), pages, is_bot),
    )


def add_page_view(connection: Connection, session: str, url: str, *, seconds: int) -> None:
    connection.execute(
        'INSERT INTO traceflow_events (session_id, event_type, "timestamp", page_url) VALUES (%s, %s, %s, %s)',
        (session, "pageview", START + timedelta(seconds=seconds), url),
    )


def test_a_funnel_takes_page_views_and_of_sessions_without_any_the_pages_of_the_recording(
    connection: Connection,
) -> None:
    add_session(connection, "both", pages='["/cart", "/"]')
    add_page_view(connection, "both", "https://shop.example/", seconds=1)
    add_page_view(connection, "both", "https://shop.example/cart?a", seconds=2)
    add_session(connection, "recorded", pages='["https://shop.example/", "https://shop.example/cart"]')
    add_session(connection, "other way round", pages='["https://shop.example/cart", "https://shop.example/"]')
    add_session(connection, "bot", pages='["/", "/cart"]', is_bot=True)
    add_session(connection, "long ago", pages='["/", "/cart"]', hours=24 * 9)
    assert connection.execute("SELECT * FROM traceflow_funnel('{/,/cart,/thanks}')").fetchall() == [
        (1, "/", 3, Decimal("1.000"), None),
        (2, "/cart", 2, Decimal("0.667"), Decimal("0.667")),
        (3, "/thanks", 0, Decimal("0.000"), Decimal("0.000")),
    ]
    everything = "SELECT sessions FROM traceflow_funnel('{/}', since => '-infinity', project => %s)"
    assert one(connection, everything, PROJECT) == (4,)
    assert one(connection, everything, "99999999-9999-4999-8999-999999999999") == (0,)
    assert connection.execute("SELECT * FROM traceflow_funnel('{}')").fetchall() == []


def test_a_click_is_answered_by_what_comes_before_the_next_click_and_within_ten_seconds(connection: Connection) -> None:
    add_session(connection, "s-1")
    happened = (
        (0, "click", None),
        (400, "scroll", None),
        (700, "dom_change", None),
        (2000, "click", None),
        (2100, "click", "dblclick"),
        (2500, "click", None),
        (2501, "network", None),
        (20_000, "click", None),
        (30_001, "custom", None),
        (40_000, "click", None),
        (40_000, "pageview", None),
    )
    for ms, event_type, name in happened:
        connection.execute(
            'INSERT INTO traceflow_events (session_id, event_type, event_name, "timestamp") VALUES (%s, %s, %s, %s)',
            ("s-1", event_type, name, START + timedelta(milliseconds=ms)),
        )
    for seconds, evidence in ((50, {"response_ms": 3100}), (51, {"vital": "LCP"})):
        connection.execute(
            'INSERT INTO traceflow_events (session_id, event_type, "timestamp", metadata) VALUES (%s, %s, %s, %s)',
            ("s-1", "slow_load", START + timedelta(seconds=seconds), Jsonb(evidence)),
        )
    assert connection.execute(
        'SELECT source, response, response_ms FROM traceflow_click_responses ORDER BY "timestamp"'
    ).fetchall() == [
        ("event", "dom_change", 700),
        ("event", None, None),
        ("event", "network", 1),
        ("event", None, None),
        ("event", "pageview", 0),
        ("recording", "change", 3100),
    ]


def test_an_abandoned_form_without_names_of_fields_has_no_row(connection: Connection) -> None:
    add_session(connection, "s-1")
    for metadata in (
        {},
        {"field_names": None},
        {"field_names": "mail"},
        {"field_names": ["mail", "card"], "fields": 2},
    ):
        connection.execute(
            "INSERT INTO traceflow_events (session_id, event_type, metadata) VALUES ('s-1', 'form_abandonment', %s)",
            (Jsonb(metadata),),
        )
    assert connection.execute("SELECT field, fields_touched FROM traceflow_abandoned_fields").fetchall() == [
        ("mail", 2),
        ("card", 2),
    ]


def test_an_error_group_whose_events_are_pruned_still_counts(connection: Connection) -> None:
    connection.execute(
        "INSERT INTO traceflow_ux_issues (project_id, issue_type, fingerprint, occurrence_count)"
        " VALUES (%s, 'error', 'a1', 3)",
        (PROJECT,),
    )
    assert connection.execute(
        "SELECT fingerprint, error_message, occurrences, affected_users, last_session_id FROM traceflow_error_groups"
    ).fetchall() == [("a1", None, 3, 0, None)]


# The data dictionary


def test_every_table_view_and_column_says_what_it_is(connection: Connection) -> None:
    silent = connection.execute(
        "SELECT c.relname FROM pg_class c WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p', 'v')"
        " AND obj_description(c.oid, 'pg_class') IS NULL"
        " UNION ALL SELECT c.relname || '.' || a.attname FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid"
        " WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p', 'v') AND attnum > 0"
        " AND NOT attisdropped AND col_description(c.oid, a.attnum) IS NULL"
        " UNION ALL SELECT proname || '()' FROM pg_proc p WHERE pronamespace IN"
        " ('public'::regnamespace, 'traceflow_parts'::regnamespace) AND obj_description(p.oid, 'pg_proc') IS NULL"
        " AND NOT EXISTS (SELECT FROM pg_depend WHERE objid = p.oid AND deptype = 'e')"
    ).fetchall()
    assert silent == []
