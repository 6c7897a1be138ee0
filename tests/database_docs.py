"""The pages of deploy/docs that are made from a migrated database: access from its catalog, meanings from its comments.

A page marks each part with `<!-- table: name -->`, and `tests/integration/test_database_docs.py` compares it with what
is made here. `python -m tests.database_docs` writes the pages anew, on a server of its own (or on that of
TRACEFLOW_TEST_DATABASE_URL).
"""

import secrets
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from textwrap import indent

import psycopg
from psycopg import sql
from psycopg.conninfo import make_conninfo

from adapters.migrations import migrate
from adapters.postgres import Connection, parse_queries
from tests import services
from tests.access_matrix import CONDITIONS, OPERATIONS, QUERIES, read_matrix
from tests.finding_docs import DOCS, MARKED, table

PAGES = (DOCS / "policies.md", DOCS / "dictionary.md")
QUESTIONS = DOCS / "questions.sql"

MEANINGS = parse_queries((Path(__file__).parent / "data" / "dictionary.sql").read_text())


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


def questions(_connection: Connection, _: str) -> str:
    """Return the questions of the day, each with its statement."""
    shown = []
    for query in parse_queries(QUESTIONS.read_text()).values():
        asked, _newline, statement = query.decode().partition("\n")
        shown.append(f"{asked.removeprefix('-- ')}\n\n{indent(statement, '    ')}\n\n")
    return "\n" + "".join(shown)


def relations(connection: Connection, kind: str) -> str:
    """Return what each table (or view) and its columns mean."""
    shown = []
    for name, meaning, columns in connection.execute(MEANINGS[kind]).fetchall():
        rows = [[f"`{column}`", type_, _cell(said)] for column, type_, said in columns]
        shown.append(f"### {name}\n\n{meaning}\n\n{table(['column', 'type', 'meaning'], rows)}\n")
    return "\n" + "".join(shown)


def functions(connection: Connection, kind: str) -> str:
    """Return what the functions (or those that triggers call) do."""
    rows = connection.execute(MEANINGS["functions"], {"is_trigger": kind == "triggers"}).fetchall()
    if kind == "triggers":
        return table(["function", "what it does"], [[f"`{name}`", _cell(said)] for name, _, said in rows])
    return table(["function", "returns", "meaning"], [[f"`{n}`", f"`{r}`", _cell(said)] for n, r, said in rows])


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


_PARTS: Mapping[str, Callable[[Connection, str], str]] = {
    "access": access,
    "conditions": conditions,
    "policies": policies,
    "questions": questions,
    "relations": relations,
    "functions": functions,
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
