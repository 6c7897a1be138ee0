"""A database as Supabase hands it out: no superuser; roles, schema auth, publication and privileges are there."""

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import make_conninfo

from adapters.migrations import Applied, migrate
from adapters.postgres import Connection
from schemas.migrations import load_migrations
from tests import services
from tests.access_matrix import ROLES, read_matrix
from tests.integration.test_database_policies import PERSONAS, ROWS, VIEWS, Trial

# As Supabase's own start does it, with {tenant} for its role `postgres`. auth and the publication belong to others, and
# what the customer makes in public is everyone's unless it is taken back.
SUPABASE = """
CREATE SCHEMA auth AUTHORIZATION supabase_auth_admin;
CREATE TABLE auth.users (id UUID PRIMARY KEY, email TEXT, aud TEXT);
ALTER TABLE auth.users ENABLE ROW LEVEL SECURITY;
CREATE FUNCTION auth.uid() RETURNS UUID LANGUAGE sql STABLE AS $$ SELECT coalesce(
  nullif(current_setting('request.jwt.claim.sub', true), ''),
  (nullif(current_setting('request.jwt.claims', true), '')::jsonb ->> 'sub'))::uuid /* Supabase's own */ $$;
ALTER TABLE auth.users OWNER TO supabase_auth_admin;
ALTER FUNCTION auth.uid() OWNER TO supabase_auth_admin;
GRANT USAGE ON SCHEMA auth TO {tenant}, anon, authenticated, service_role;
GRANT ALL ON auth.users TO {tenant};
CREATE SCHEMA extensions;
GRANT USAGE ON SCHEMA extensions TO {tenant}, anon, authenticated, service_role;
DO $$ BEGIN
  IF EXISTS (SELECT FROM pg_available_extensions WHERE name = 'pgcrypto') THEN
    CREATE EXTENSION pgcrypto SCHEMA extensions;
  END IF;
END $$;
CREATE PUBLICATION supabase_realtime;
GRANT CREATE ON DATABASE {database} TO {tenant};
GRANT ALL ON SCHEMA public TO {tenant};
GRANT USAGE ON SCHEMA public TO anon, authenticated, service_role;
ALTER DEFAULT PRIVILEGES FOR ROLE {tenant}, supabase_admin IN SCHEMA public
  GRANT ALL ON TABLES TO {tenant}, anon, authenticated, service_role;
ALTER DEFAULT PRIVILEGES FOR ROLE {tenant}, supabase_admin IN SCHEMA public
  GRANT ALL ON FUNCTIONS TO {tenant}, anon, authenticated, service_role;
ALTER DEFAULT PRIVILEGES FOR ROLE {tenant}, supabase_admin IN SCHEMA public
  GRANT ALL ON SEQUENCES TO {tenant}, anon, authenticated, service_role;
"""

# Roles of the server; those of the request have little time.
ROLES_OF_SUPABASE = """
CREATE ROLE supabase_admin SUPERUSER;
CREATE ROLE supabase_auth_admin NOINHERIT CREATEROLE;
ALTER ROLE anon SET statement_timeout = '3s';
ALTER ROLE authenticated SET statement_timeout = '8s';
"""

# What a customer may have made before, under names that the contract uses too.
CUSTOMERS_OWN = """
CREATE TYPE public.app_role AS ENUM ('admin', 'moderator', 'user');
CREATE TABLE public.user_roles (
  id UUID PRIMARY KEY DEFAULT gen_random_uuid(), user_id UUID NOT NULL REFERENCES auth.users(id), role app_role NOT NULL
);
GRANT SELECT, REFERENCES, TRIGGER ON public.user_roles TO {tenant};
CREATE FUNCTION public.update_updated_at_column() RETURNS TRIGGER LANGUAGE plpgsql AS $$
BEGIN NEW.updated_at = now(); RETURN NEW; END; $$;
"""


@dataclass(frozen=True, slots=True, repr=False)
class Hosted:
    """A database of a hoster: its superuser's URL, and that of the role that its customer has."""

    superuser: str
    tenant: str
    tenant_role: str


@pytest.fixture(scope="module")
def postgres_server() -> Iterator[str]:
    """Give a server of this module's own: it changes roles, which all databases of a server share."""
    with services.directory_of_run() as directory, services.postgres_server(directory) as url:
        yield url


@pytest.fixture(scope="module")
def database_template(postgres_server: str) -> str:
    """Let a migration make the server's roles."""
    with psycopg.connect(postgres_server, autocommit=True) as server:
        server.execute("CREATE DATABASE made_before")
    migrate(make_conninfo(postgres_server, dbname="made_before"))
    with psycopg.connect(postgres_server) as server:
        server.execute(ROLES_OF_SUPABASE.encode())
    return "made_before"


@pytest.fixture
def hosted(postgres_server: str, database_template: str) -> Iterator[Hosted]:
    """Give a database like Supabase's, with tables of its customer's own."""
    with hosted_database(postgres_server, SUPABASE + CUSTOMERS_OWN) as hosted:
        assert database_template
        yield hosted


@pytest.fixture
def untouched(postgres_server: str, database_template: str) -> Iterator[Hosted]:
    """Give a database like Supabase's, just handed out."""
    with hosted_database(postgres_server, SUPABASE) as hosted:
        assert database_template
        yield hosted


@contextmanager
def hosted_database(postgres_server: str, statements: str) -> Iterator[Hosted]:
    name, role, password = f"hosted_{secrets.token_hex(4)}", f"tenant_{secrets.token_hex(4)}", secrets.token_hex(8)
    tenant = sql.Identifier(role)
    with psycopg.connect(postgres_server, autocommit=True) as server:
        server.execute(
            sql.SQL("CREATE ROLE {} LOGIN NOSUPERUSER CREATEROLE BYPASSRLS PASSWORD {}").format(tenant, password)
        )
        server.execute("ALTER ROLE traceflow_sink NOBYPASSRLS")
        if server.info.server_version >= 160000:
            # what it has of a role that it made itself
            server.execute(sql.SQL("GRANT traceflow_sink TO {} WITH ADMIN OPTION").format(tenant))
        server.execute(sql.SQL("CREATE DATABASE {} TEMPLATE template0 ENCODING 'UTF8'").format(sql.Identifier(name)))
        try:
            superuser = make_conninfo(postgres_server, dbname=name)
            with psycopg.connect(superuser) as connection:
                connection.execute(sql.SQL(statements).format(tenant=tenant, database=sql.Identifier(name)))
            yield Hosted(superuser, make_conninfo(superuser, user=role, password=password), role)
        finally:
            server.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))
            server.execute("ALTER ROLE traceflow_sink BYPASSRLS")
            server.execute(sql.SQL("DROP ROLE {}").format(tenant))


def give_publication(hosted: Hosted) -> None:
    """Let the customer own the publication, as Supabase does."""
    with psycopg.connect(hosted.superuser) as connection:
        role = sql.Identifier(hosted.tenant_role)
        connection.execute(sql.SQL("ALTER PUBLICATION supabase_realtime OWNER TO {}").format(role))


def warnings(applied: list[Applied]) -> list[str]:
    return [warning for done in applied for warning in done.warnings]


def test_everything_is_applied_without_a_superuser_and_nothing_of_others_is_touched(hosted: Hosted) -> None:
    give_publication(hosted)
    applied = migrate(hosted.tenant)
    assert [done.version for done in applied] == [file.version for file in load_migrations()]
    assert [w for w in warnings(applied) if not w.startswith("extension")] == []
    assert migrate(hosted.tenant) == []
    with psycopg.connect(hosted.superuser) as connection:
        source = connection.execute("SELECT prosrc FROM pg_proc WHERE oid = 'auth.uid()'::regprocedure").fetchone()
        columns = connection.execute(
            "SELECT array_agg(attname ORDER BY attnum) FROM pg_attribute"
            " WHERE attrelid = 'auth.users'::regclass AND attnum > 0"
        ).fetchone()
        roles = connection.execute(
            "SELECT relrowsecurity, (SELECT count(*) FROM pg_trigger WHERE tgrelid = c.oid AND NOT tgisinternal)"
            " FROM pg_class c WHERE oid = 'public.user_roles'::regclass"
        ).fetchone()
    assert source is not None
    assert "Supabase's own" in str(source[0])
    assert columns == (["id", "email", "aud"],)
    assert roles == (False, 0)


def test_realtime_publishes_the_tables_as_themselves(hosted: Hosted) -> None:
    give_publication(hosted)
    migrate(hosted.tenant)
    with psycopg.connect(hosted.superuser) as connection:
        tables = connection.execute(
            "SELECT array_agg(tablename::text ORDER BY tablename) FROM pg_publication_tables"
            " WHERE pubname = 'supabase_realtime'"
        ).fetchone()
    assert tables == (["traceflow_events", "traceflow_sessions", "traceflow_ux_issues"],)


def test_a_publication_of_another_owner_is_left_alone_and_the_operator_told_what_to_run(hosted: Hosted) -> None:
    told = [warning for warning in warnings(migrate(hosted.tenant)) if "publication" in warning]
    assert [warning.partition("its owner runs: ")[2] for warning in told] == [
        "ALTER PUBLICATION supabase_realtime SET (publish_via_partition_root = true)",
        "ALTER PUBLICATION supabase_realtime ADD TABLE public.traceflow_sessions",
        "ALTER PUBLICATION supabase_realtime ADD TABLE public.traceflow_events",
        "ALTER PUBLICATION supabase_realtime ADD TABLE public.traceflow_ux_issues",
    ]


def test_what_default_privileges_give_to_everyone_is_taken_back(hosted: Hosted) -> None:
    migrate(hosted.tenant)
    with psycopg.connect(hosted.superuser) as connection:
        granted = connection.execute(
            "SELECT relname::text, privilege_type FROM pg_class, aclexplode(relacl) JOIN pg_roles r ON r.oid = grantee"
            " WHERE relnamespace = 'public'::regnamespace AND rolname = 'anon' AND relname <> 'user_roles'"
        ).fetchall()
        admin = connection.execute("SELECT has_function_privilege('anon', 'is_traceflow_admin(uuid)', 'EXECUTE')")
        assert admin.fetchone() == (False,)
        without = connection.execute(
            "SELECT array_agg(oid::regclass::text) FROM pg_class"
            " WHERE relkind IN ('r', 'p') AND NOT relrowsecurity AND relowner = %s::regrole",
            (hosted.tenant_role,),
        ).fetchone()
    assert granted == [("traceflow_plans", "SELECT")]
    assert without == (None,)


def test_the_sinks_role_may_copy(hosted: Hosted) -> None:
    """On PostgreSQL 15 as a member of the owner; from 16 on the customer may give BYPASSRLS, having it."""
    migrate(hosted.tenant)
    with psycopg.connect(hosted.superuser) as connection:
        connection.execute("SET LOCAL ROLE traceflow_sink")
        connection.execute("SET LOCAL traceflow.sink = 'on'")
        with connection.cursor().copy("COPY traceflow_events (session_id, event_type) FROM STDIN") as copy:
            copy.write_row(("s-1", "click"))
        assert connection.execute("SELECT count(*) FROM traceflow_events").fetchone() == (1,)
        made = connection.execute("SELECT traceflow_parts.ensure_day('traceflow_events', '2020-01-01')").fetchone()
    assert made == (True,)


def test_default_privileges_give_nobody_more_than_the_documented_matrix(
    untouched: Hosted, postgres_server: str, database_template: str
) -> None:
    """On PostgreSQL 15 the sinks' role is a member of the owner there, and may what the owner may."""
    migrate(untouched.tenant)
    with (
        psycopg.connect(postgres_server, dbname=database_template) as plain,
        psycopg.connect(untouched.superuser) as there,
    ):
        documented, found = read_matrix(plain), read_matrix(there)
        differing = {cell for cell in documented.keys() | found.keys() if documented.get(cell) != found.get(cell)}
        assert differing - {c for c in differing if c[0] == "traceflow_sink" and is_member_of_owner(there)} == set()
        assert callable_functions(there) == callable_functions(plain)


def is_member_of_owner(connection: Connection) -> bool:
    row = connection.execute(
        "SELECT pg_has_role('traceflow_sink', relowner, 'USAGE') FROM pg_class WHERE oid = 'traceflow_events'::regclass"
    ).fetchone()
    return row == (True,)


def callable_functions(connection: Connection) -> set[tuple[str, str]]:
    """Return who may call what; a function of a trigger cannot be called."""
    roles = [role for role in ROLES if role != "traceflow_sink"]
    rows = connection.execute(
        "SELECT role, p.oid::regprocedure::text FROM pg_proc AS p, unnest(%s::text[]) AS role"
        " WHERE p.pronamespace IN ('public'::regnamespace, 'traceflow_parts'::regnamespace)"
        " AND p.prorettype <> 'trigger'::regtype AND has_function_privilege(role, p.oid, 'EXECUTE')"
        " AND NOT EXISTS (SELECT FROM pg_depend WHERE objid = p.oid AND deptype = 'e')",
        (roles,),
    )
    return {(str(role), str(function)) for role, function in rows}


@pytest.mark.parametrize("name", [name for name, persona in PERSONAS.items() if persona.role != "traceflow_sink"])
def test_the_server_lets_through_what_the_matrix_says_there_too(untouched_trial: Trial, name: str) -> None:
    persona = PERSONAS[name]
    cells = [(relation, op) for role, relation, op in untouched_trial.matrix if role == persona.role]
    tried = [(relation, op) for relation, op in cells if relation not in VIEWS or op == "SELECT"]
    expected = {cell: untouched_trial.expected(persona, *cell) for cell in tried}
    untouched_trial.become(persona)
    found = {cell: untouched_trial.found(persona, *cell) for cell in tried}
    assert {cell: found[cell] for cell in tried if found[cell] != expected[cell]} == {}


@pytest.fixture(scope="module")
def tried_database(postgres_server: str, database_template: str) -> Iterator[str]:
    with hosted_database(postgres_server, SUPABASE) as hosted:
        assert database_template
        migrate(hosted.tenant)
        yield hosted.superuser


@pytest.fixture
def untouched_trial(tried_database: str) -> Iterator[Trial]:
    with psycopg.connect(tried_database) as connection:
        connection.execute("SET LOCAL session_replication_role = replica")
        connection.execute(ROWS.encode())
        yield Trial(connection)
        connection.rollback()
