"""The pages of deploy/docs that are made from a migrated database: access from its catalog, meanings from its comments.

A page marks each part with `<!-- table: name -->`, and `tests/integration/test_database_docs.py` compares it with what
is made here. `python -m tests.database_docs` writes the pages anew, on a server of its own (or on that of
TRACEFLOW_TEST_DATABASE_URL).
"""

import secrets
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

import psycopg
from psycopg import sql
from psycopg.conninfo import make_conninfo

from adapters.migrations import migrate
from adapters.postgres import Connection
from tests import services
from tests.access_matrix import CONDITIONS, OPERATIONS, QUERIES, read_matrix
from tests.finding_docs import DOCS, MARKED, table

PAGES = (DOCS / "policies.md",)


def made(page: str, connection: Connection) -> str:
    """Return a page with its parts as the database has it."""
    return MARKED.sub(lambda mark: f"{mark[1]}{_PARTS[mark[2]](connection, mark[3] or '')}{mark[5]}", page)


def access(connection: Connection, role: str) -> str:
    """Return what a role may do: only what it may do anything with."""
    matrix = read_matrix(connection)
    rows = []
    for relation in dict.fromkeys(relation for _, relation, _ in matrix):
        cells = [matrix[role, relation, operation] for operation in OPERATIONS]
        if any(cells):
            rows.append([f"`{relation}`", *(cell.text() if cell else "" for cell in cells)])
    return table(["", *(f"`{operation}`" for operation in OPERATIONS)], rows)


def conditions(_connection: Connection, _: str) -> str:
    """Return what each name of a condition stands for."""
    rows: dict[str, str] = {}
    for condition, name in CONDITIONS.items():
        rows[name] = f"{rows[name]}, `{condition}`" if name in rows else f"`{condition}`"
    return table(["rows", "condition"], [[name, shown] for name, shown in rows.items()])


def policies(connection: Connection, _: str) -> str:
    """Return every policy by its name."""
    found = connection.execute(QUERIES["policies"])
    return table(
        ["table", "policy", "for", "to"],
        [[f"`{relation}`", policy, f"`{operation}`", f"`{to}`"] for relation, policy, operation, to, _ in found],
    )


_PARTS: Mapping[str, Callable[[Connection, str], str]] = {
    "access": access,
    "conditions": conditions,
    "policies": policies,
}


@contextmanager
def migrated_database() -> Iterator[Connection]:
    """Give a connection to a fresh, migrated database."""
    with ExitStack() as stack:
        server = stack.enter_context(services.postgres_server(stack.enter_context(services.directory_of_run())))
        name = sql.Identifier(f"docs_{secrets.token_hex(4)}")
        administering = stack.enter_context(psycopg.connect(server, autocommit=True))
        administering.execute(sql.SQL("CREATE DATABASE {}").format(name))
        stack.callback(administering.execute, sql.SQL("DROP DATABASE {} WITH (FORCE)").format(name))
        database = make_conninfo(server, dbname=name.as_string().strip('"'))
        migrate(database)
        yield stack.enter_context(psycopg.connect(database))


if __name__ == "__main__":
    with migrated_database() as opened:
        for path in PAGES:
            path.write_text(made(path.read_text(), opened))
