"""The documented matrix of roles, tables and operations, tried for real: each cell lets through what it says, no more.

Each row of the data belongs to a project or a user, its tag. A persona is a database role with the JWT claims that the
API layer sets. Triggers and foreign keys are off meanwhile: what is tried is access alone.
"""

# ruff: noqa: S608 (statements are put together from the catalog and this file's own constants)

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

import orjson
import psycopg
import pytest
from psycopg import errors, sql
from psycopg.conninfo import make_conninfo

from adapters.postgres import Connection
from tests.access_matrix import (
    ALL_ROWS,
    AS_ADMIN,
    AS_BELOW,
    AVAILABLE,
    NO_ROWS,
    OWN_PROJECTS,
    OWN_PROJECTS_AND_SESSIONS,
    OWN_ROWS,
    QUERIES,
    ROLES,
    Access,
    Matrix,
    read_matrix,
)

SHOP = "11111111-1111-4111-8111-111111111111"
BANK = "11111111-1111-4111-8111-222222222222"
SHOPKEEPER = "22222222-2222-4222-8222-111111111111"
BANKER = "22222222-2222-4222-8222-222222222222"
ADMIN = "22222222-2222-4222-8222-333333333333"

ROWS = f"""
CREATE TEMPORARY TABLE tags ON COMMIT DROP AS
  SELECT project::uuid, usr::uuid, coalesce(project, '-') || '/' || n AS session
  FROM (VALUES ('{SHOP}', '{SHOPKEEPER}', 1), ('{BANK}', '{BANKER}', 2), (NULL, '{ADMIN}', 3)) AS t(project, usr, many),
       generate_series(1, many) AS n;
INSERT INTO auth.users (id) SELECT DISTINCT usr FROM tags;
INSERT INTO traceflow_projects (id, name) VALUES ('{SHOP}', 'Shop'), ('{BANK}', 'Bank');
INSERT INTO traceflow_project_members (project_id, user_id) VALUES ('{SHOP}', '{SHOPKEEPER}'), ('{BANK}', '{BANKER}');
INSERT INTO user_roles (user_id, role) VALUES ('{ADMIN}', 'admin'), ('{SHOPKEEPER}', 'user'), ('{BANKER}', 'user');
INSERT INTO traceflow_project_keys (project_id, key_hash, key_prefix)
  SELECT project, sha256(session::bytea), 'tfk' FROM tags WHERE project IS NOT NULL;
INSERT INTO traceflow_project_settings (project_id, version) VALUES ('{SHOP}', 1), ('{BANK}', 1);
INSERT INTO traceflow_sessions (session_id, project_id) SELECT session, project FROM tags;
INSERT INTO traceflow_events (session_id, project_id, event_type, page_url, metadata)
  SELECT session, project, kind, 'https://shop.example/a', '{{"field_names": ["mail"], "response_ms": 3000}}'
  FROM tags, unnest(ARRAY['click', 'form_abandonment', 'slow_load']) AS kind;
INSERT INTO traceflow_event_hour_counts (project_id, hour, event_type, sink, part, events)
  SELECT project, date_trunc('hour', now(), 'UTC'), session, 'events', 0, 1 FROM tags;
INSERT INTO session_recordings (session_id, project_id) SELECT session, project FROM tags;
INSERT INTO session_recording_chunks (session_id, project_id, seq, chunk_day, codec, events, raw_size_bytes)
  SELECT session, project, 0, (now() AT TIME ZONE 'UTC')::date, 'json', '[]', 2 FROM tags;
INSERT INTO traceflow_ux_issues (project_id, session_id, issue_type, element_selector)
  SELECT project, session, 'error', session FROM tags;
INSERT INTO traceflow_ux_issue_findings (finding_id, issue_id, project_id, session_id, detected_at)
  SELECT gen_random_uuid(), id, project_id, session_id, now() FROM traceflow_ux_issues;
INSERT INTO traceflow_ux_issue_sessions (issue_id, session_id) SELECT id, session_id FROM traceflow_ux_issues;
INSERT INTO traceflow_ux_issue_visitors (issue_id, visitor_id) SELECT id, session_id FROM traceflow_ux_issues;
INSERT INTO traceflow_ai_queue (project_id, session_id, task_type) SELECT project, session, 'root_cause' FROM tags;
INSERT INTO traceflow_subscriptions (user_id) SELECT usr FROM tags;
INSERT INTO traceflow_user_features (user_id, feature_id) SELECT usr, session FROM tags;
INSERT INTO neurorouter_logs (project_id, task_type, model_selected, provider) SELECT project, 't', 'm', 'p' FROM tags;
INSERT INTO neurorouter_routes (task_type, model, provider) VALUES ('t', 'm', 'p');
INSERT INTO traceflow_audit_logs (project_id, actor_role, action) SELECT project, 'r', 'insert' FROM tags;
INSERT INTO traceflow_sink_offsets (sink, topic, part, next_offset) VALUES ('events', 't', 0, 0);
INSERT INTO traceflow_dead_letter_marks (topic_id, stage, topic, part, record_offset, event_index, state, letter_part,
  letter_offset) VALUES ('i', 's', 't', 0, 0, -1, 'dropped', 0, 0);
INSERT INTO traceflow_erasures (id_hash, project_id, kind, erased_at)
  SELECT sha256(session::bytea), project, 'session', now() FROM tags WHERE project IS NOT NULL;
UPDATE traceflow_plans SET available = false WHERE plan = 'starter';
"""

TAGS = {
    "traceflow_projects": "id",
    "traceflow_subscriptions": "user_id",
    "traceflow_user_features": "user_id",
    "user_roles": "user_id",
    "traceflow_ux_issue_sessions": "nullif(split_part(session_id, '/', 1), '-')",
    "traceflow_ux_issue_visitors": "nullif(split_part(visitor_id, '/', 1), '-')",
    "traceflow_plans": "available",
    "neurorouter_routes": "NULL",
    "traceflow_sink_offsets": "NULL",
    "traceflow_dead_letter_marks": "NULL",
    "traceflow_schema_migrations": "NULL",
    "traceflow_retention": "NULL",
}
"""How a row says whose it is, where that is not by project_id."""

VIEWS = {
    "session_recordings_full": "session_recordings",
    "traceflow_session_overview": "traceflow_sessions",
    "traceflow_session_timeline": "traceflow_events",
    "traceflow_painful_elements": "traceflow_ux_issues",
    "traceflow_frustration_by": "traceflow_sessions",
    "traceflow_error_groups": "traceflow_ux_issues",
    "traceflow_abandoned_fields": "traceflow_events",
    "traceflow_click_responses": "traceflow_events",
    "traceflow_event_hours": "traceflow_event_hour_counts",
    "traceflow_traffic_by_hour": "traceflow_event_hour_counts",
    "traceflow_traffic_by_day": "traceflow_event_hour_counts",
}
"""The table whose policies decide what a view shows."""


@dataclass(frozen=True, slots=True)
class Persona:
    """Someone who asks."""

    role: str
    user: str | None = None
    project: str | None = None

    def may(self, condition: str, tag: str | None) -> bool:
        """Say whether a condition of the matrix lets a row through."""
        return {
            OWN_PROJECTS: tag is not None and tag == self.project,
            OWN_PROJECTS_AND_SESSIONS: tag is not None and tag == self.project,
            OWN_ROWS: tag is not None and tag == self.user,
            AS_ADMIN: self.user == ADMIN,
            AVAILABLE: tag == "true",
            ALL_ROWS: True,
            NO_ROWS: False,
        }[condition]


PERSONAS = {
    "someone without a login": Persona("anon"),
    "someone without a login who claims to be the admin": Persona("anon", ADMIN),
    "a user without claims": Persona("authenticated"),
    "the member of one project": Persona("authenticated", SHOPKEEPER, SHOP),
    "the member of the other project": Persona("authenticated", BANKER, BANK),
    "the admin": Persona("authenticated", ADMIN),
    "an analyst": Persona("traceflow_analyst"),
    "an analyst who claims to be the admin": Persona("traceflow_analyst", ADMIN),
    "an analyst who claims to be a member": Persona("traceflow_analyst", SHOPKEEPER, SHOP),
    "a viewer of recordings": Persona("traceflow_recording_viewer"),
    "a gateway": Persona("traceflow_gateway"),
    "a sink": Persona("traceflow_sink"),
    "the service": Persona("service_role"),
}

Tags = Counter[str | None]


class Trial:
    """The data, the matrix, and one persona after the other who tries it."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.matrix: Matrix = read_matrix(connection)
        self.relations = sorted({relation for _, relation, _ in self.matrix})
        self.tags = {relation: self._run(self._select(relation)) for relation in self.relations}
        self._samples = {relation: self._sample(relation) for relation in self.relations if relation not in VIEWS}

    def become(self, persona: Persona) -> None:
        claims = {"role": persona.role} | ({"sub": persona.user} if persona.user else {})
        self.connection.execute("SELECT set_config('request.jwt.claims', %s, true)", (orjson.dumps(claims).decode(),))
        self.connection.execute(sql.SQL("SET LOCAL ROLE {}").format(sql.Identifier(persona.role)))

    def expected(self, persona: Persona, relation: str, operation: str) -> "Tags | None":
        """Say which rows the matrix lets through; None: it refuses."""
        access = self.matrix[persona.role, relation, operation]
        if access is not None and access.conditions == (AS_BELOW,):
            access = self.matrix[persona.role, VIEWS[relation], operation]
        if access is None:
            return None
        tags = self.tags[relation]
        return Counter({t: n for t, n in tags.items() if any(_may(persona, access, t))})

    def found(self, persona: Persona, relation: str, operation: str) -> "Tags | None":
        """Try it; None: the server refuses."""
        access = self.matrix[persona.role, relation, operation]
        try:
            if operation == "SELECT":
                return self._run(self._select(relation))
            if operation == "INSERT":
                return self._insert(relation, access)
            column = next((c for c in access.columns if c != "id"), "id") if access else "id"
            if operation == "UPDATE":
                return self._run(f"UPDATE {relation} SET {column} = {column} RETURNING ({_tag(relation)})::text")
            if operation == "DELETE":
                return self._run(f"DELETE FROM {relation} RETURNING ({_tag(relation)})::text")
            return self._truncate(relation)
        except (errors.InsufficientPrivilege, errors.UndefinedColumn):
            return None

    def refused(self, statement: str, parameters: Sequence[str] = ()) -> bool:
        """Say whether the server refuses a statement."""
        try:
            self._run(statement, parameters)
        except errors.InsufficientPrivilege:
            return True
        return False

    def _run(self, statement: str, parameters: Sequence[str] = ()) -> Tags:
        with self.connection.transaction(force_rollback=True):
            cursor = self.connection.execute(statement.encode(), parameters or None)
            return Counter(row[0] for row in cursor) if cursor.description else Counter()

    @staticmethod
    def _select(relation: str) -> str:
        return f"SELECT ({_tag(relation)})::text FROM {relation}"

    def _sample(self, relation: str) -> Mapping[str | None, str]:
        """Return a row of each tag as JSON."""
        rows = self.connection.execute(f"SELECT ({_tag(relation)})::text, to_jsonb(t)::text FROM {relation} t".encode())
        return dict(rows.fetchall())

    def _insert(self, relation: str, access: Access | None) -> "Tags | None":
        """Insert a copy of a row of each tag: whether it is let through is told before whether it is there already."""
        columns = ", ".join(access.columns) if access else "*"
        head = f"INSERT INTO {relation} ({columns})" if access else f"INSERT INTO {relation}"
        done = Counter[str | None]()
        for tag, row in self._samples[relation].items():
            statement = f"{head} SELECT {columns} FROM jsonb_populate_record(NULL::{relation}, %s)"
            try:
                self._run(statement, (row,))
            except errors.InsufficientPrivilege:
                continue
            except errors.UniqueViolation:
                pass
            done[tag] = self.tags[relation][tag]
        return done or (None if access is None else done)

    def _truncate(self, relation: str) -> Tags:
        with suppress(errors.FeatureNotSupported):  # another table refers to it: told after the privilege
            self._run(f"TRUNCATE {relation}")
        return self.tags[relation]


def _tag(relation: str) -> str:
    return TAGS.get(relation, "project_id")


def _may(persona: Persona, access: Access, tag: str | None) -> Iterator[bool]:
    return (persona.may(condition, tag) for condition in access.conditions)


@pytest.fixture
def trial(postgres_server: str, database_template: str) -> Iterator[Trial]:
    with psycopg.connect(make_conninfo(postgres_server, dbname=database_template)) as connection:
        connection.execute("SET LOCAL session_replication_role = replica")
        connection.execute(ROWS.encode())
        yield Trial(connection)
        connection.rollback()


@pytest.mark.parametrize("name", PERSONAS)
def test_the_server_lets_through_what_the_matrix_says_and_no_more(trial: Trial, name: str) -> None:
    persona = PERSONAS[name]
    cells = [(relation, op) for role, relation, op in trial.matrix if role == persona.role]
    expected = {cell: trial.expected(persona, *cell) for cell in cells if not _is_change_of_view(*cell)}
    trial.become(persona)
    found = {cell: trial.found(persona, *cell) for cell in expected}
    assert {cell: found[cell] for cell in cells if cell in found and found[cell] != expected[cell]} == {}


def _is_change_of_view(relation: str, operation: str) -> bool:
    return relation in VIEWS and operation != "SELECT"


def test_no_role_has_the_right_to_change_through_a_view(trial: Trial) -> None:
    granted = [cell for cell, access in trial.matrix.items() if _is_change_of_view(*cell[1:]) and access is not None]
    assert granted == []


def test_columns_that_are_excepted_are_refused(trial: Trial) -> None:
    for (role, relation, operation), access in trial.matrix.items():
        for column in access.excepted if access else ():
            trial.become(Persona(role, SHOPKEEPER, SHOP))
            statement = {
                "SELECT": f"SELECT {column} FROM {relation}",
                "INSERT": f"INSERT INTO {relation} ({column}) VALUES (NULL)",
                "UPDATE": f"UPDATE {relation} SET {column} = NULL",
            }[operation]
            assert trial.refused(statement), (role, operation, relation, column)


def test_every_row_of_every_table_is_somebodys_so_that_both_directions_are_tried(trial: Trial) -> None:
    assert [relation for relation, tags in trial.tags.items() if not tags] == []
    by_project = [r for r in trial.relations if _tag(r) == "project_id" or r in ("traceflow_projects", *VIEWS)]
    assert [r for r in by_project if not {SHOP, BANK} <= set(trial.tags[r])] == []


def test_every_view_asks_with_the_rights_of_who_reads_it(trial: Trial) -> None:
    views = trial.connection.execute(
        "SELECT relname::text, coalesce(reloptions @> '{security_invoker=true}', false) FROM pg_class"
        " WHERE relnamespace = 'public'::regnamespace AND relkind IN ('v', 'm')"
    ).fetchall()
    assert {str(name): invoker for name, invoker in views} == dict.fromkeys(VIEWS, True)


def test_no_partition_can_be_reached_but_through_its_parent(trial: Trial) -> None:
    leaves = trial.connection.execute(QUERIES["leaves"], {"roles": list(ROLES)}).fetchall()
    assert len(leaves) > 32
    assert [leaf for leaf, is_secured, reached_by in leaves if not is_secured or reached_by] == []


def test_functions_with_their_owners_rights_answer_about_the_caller_only(trial: Trial) -> None:
    """One that could be asked about others would pass by the policies. is_traceflow_admin is the contract's.

    Those about plans take a user and are for the sinks, who count, and for the service, to whom no policies apply.
    """
    functions: dict[str, list[str]] = dict(
        trial.connection.execute(QUERIES["definers"], {"roles": list(ROLES)}).fetchall()
    )
    assert functions == {
        "block_traceflow_session(uuid,text)": ["traceflow_sink", "service_role"],
        "block_traceflow_visitor(uuid,text)": ["service_role"],
        "find_traceflow_erased(bytea[])": ["traceflow_sink", "service_role"],
        "is_traceflow_admin(uuid)": ["authenticated", "service_role"],
        "remove_traceflow_sessions(uuid,text[],bytea)": ["traceflow_sink", "service_role"],
        "traceflow_my_projects()": list(ROLES),
        "traceflow_parts.ensure_day(regclass,date)": ["traceflow_sink", "service_role"],
        "traceflow_parts.follow_clock()": ["traceflow_sink", "service_role"],
        "traceflow_my_entitlements()": ["authenticated"],
        "traceflow_my_feature(text)": ["authenticated"],
        "traceflow_has_feature(uuid,text)": ["service_role"],
        "traceflow_use_feature(uuid,text,integer)": ["service_role"],
        "traceflow_use_ai_credits(uuid,integer)": ["service_role"],
        "traceflow_use_plan(uuid,integer,integer,integer)": [],
        "traceflow_count_usage(uuid[],integer[],integer[])": ["traceflow_sink"],
    }
    for user, projects in ((SHOPKEEPER, [SHOP]), (BANKER, [BANK]), (ADMIN, []), (None, [])):
        trial.become(Persona("authenticated", user))
        (found,) = trial.connection.execute("SELECT traceflow_my_projects()::text[]").fetchall()[0]
        assert found == projects


@pytest.mark.parametrize("name", ["the member of one project", "an analyst", "a viewer of recordings"])
def test_no_condition_is_asked_once_a_row(trial: Trial, name: str) -> None:
    """A subquery of a policy is an InitPlan, or a hashed set: both are made once a statement."""
    persona = PERSONAS[name]
    trial.become(persona)
    readable = [r for r in trial.relations if r not in VIEWS and trial.matrix[persona.role, r, "SELECT"] is not None]
    for relation in readable:
        plan = trial.connection.execute(f"EXPLAIN SELECT ({_tag(relation)}) FROM {relation}".encode()).fetchall()
        slow = [str(line) for (line,) in plan if "SubPlan" in str(line) and "hashed SubPlan" not in str(line)]
        assert [line for line in slow if not line.strip().startswith("SubPlan")] == [], relation


def test_a_member_cannot_learn_which_sessions_another_project_has(trial: Trial) -> None:
    trial.become(PERSONAS["the member of one project"])
    insert = f"INSERT INTO traceflow_ux_issues (project_id, issue_type, session_id) VALUES ('{SHOP}', 'error', %s)"
    assert not trial.refused(insert, (f"{SHOP}/1",))
    assert trial.refused(insert, (f"{BANK}/1",))
    assert trial.refused(insert, ("no such session",))
    assert trial.refused("UPDATE traceflow_ux_issues SET session_id = %s", (f"{BANK}/1",))
