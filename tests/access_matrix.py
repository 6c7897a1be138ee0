"""Who may do what with which rows, read from the catalog: each role, table and operation.

`tests/database_docs.py` writes it into deploy/docs/policies.md; `tests/integration/test_database_policies.py` tries it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from adapters.postgres import Connection, parse_queries

QUERIES = parse_queries((Path(__file__).parent / "data" / "access.sql").read_text())

ROLES = (
    "anon",
    "authenticated",
    "traceflow_analyst",
    "traceflow_recording_viewer",
    "traceflow_gateway",
    "traceflow_sink",
    "service_role",
)
OPERATIONS = ("SELECT", "INSERT", "UPDATE", "DELETE", "TRUNCATE")

OWN_PROJECTS = "own projects"
OWN_PROJECTS_AND_SESSIONS = "own projects and their sessions"
OWN_ROWS = "own rows"
AS_ADMIN = "all rows for admins"
AVAILABLE = "what is available"
ALL_ROWS = "all rows"
NO_ROWS = "no rows"
AS_BELOW = "as the tables below it"

_MINE = "ANY (( SELECT traceflow_my_projects() AS traceflow_my_projects)::uuid[])"
CONDITIONS = {
    f"(project_id = {_MINE})": OWN_PROJECTS,
    f"(id = {_MINE})": OWN_PROJECTS,
    "(issue_id IN ( SELECT traceflow_ux_issues.id FROM traceflow_ux_issues))": OWN_PROJECTS,
    (
        f"((project_id = {_MINE}) AND ((session_id IS NULL) OR (EXISTS ( SELECT FROM traceflow_sessions s"
        " WHERE (s.session_id = traceflow_ux_issues.session_id)))))"
    ): OWN_PROJECTS_AND_SESSIONS,
    "(user_id = ( SELECT auth.uid() AS uid))": OWN_ROWS,
    (
        "(EXISTS ( SELECT 1 FROM user_roles WHERE ((user_roles.user_id = ( SELECT auth.uid() AS uid))"
        " AND (user_roles.role = 'admin'::text))))"
    ): AS_ADMIN,
    "available": AVAILABLE,
    "true": ALL_ROWS,
}
"""Conditions of policies as PostgreSQL prints them, and what they are called."""


@dataclass(frozen=True, slots=True)
class Access:
    """What a role may do to a relation by one operation."""

    conditions: tuple[str, ...]
    """Which rows, by the names of `CONDITIONS`: those that meet any of them."""
    columns: tuple[str, ...]
    """The columns that the privilege is for."""
    excepted: tuple[str, ...] = ()
    """The others."""

    def text(self) -> str:
        """Return it in words."""
        rows = " or ".join(self.conditions)
        if not self.excepted:
            return rows
        if len(self.excepted) < len(self.columns):
            return f"{rows}; not {_names(self.excepted)}"
        return f"{rows}; only {_names(self.columns)}"


Matrix = dict[tuple[str, str, str], Access | None]
"""By role, relation and operation; None: refused."""


def read_matrix(connection: Connection) -> Matrix:
    """Read what the catalog allows.

    Raises:
        KeyError: a policy has a condition that has no name yet.
    """
    matrix: Matrix = {}
    for role, relation, is_view, operation, is_granted, granted, columns, is_unbound, conditions in connection.execute(
        QUERIES["matrix"], {"roles": list(ROLES)}
    ):
        if not (is_granted or granted):
            matrix[role, relation, operation] = None
            continue
        if is_view:
            names: Sequence[str] = (AS_BELOW,)
        elif is_unbound:
            names = (ALL_ROWS,)
        else:
            names = sorted({CONDITIONS[condition] for condition in conditions}) or (NO_ROWS,)
        if ALL_ROWS in names:
            names = (ALL_ROWS,)
        excepted = () if is_granted else tuple(name for name in columns if name not in granted)
        matrix[role, relation, operation] = Access(tuple(names), tuple(granted), excepted)
    return matrix


def _names(columns: Sequence[str]) -> str:
    return ", ".join(f"`{name}`" for name in columns)
