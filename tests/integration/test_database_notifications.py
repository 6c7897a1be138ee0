"""Gateways hear of every change of a project, once a transaction, and of nothing else."""

# ruff: noqa: S608 (statements are put together from this file's own constants)

from collections.abc import Iterator

import psycopg
import pytest

from schemas.projects import NOTIFY_CHANNEL

SHOP = "11111111-1111-4111-8111-111111111111"
BANK = "11111111-1111-4111-8111-222222222222"
OWNER = "22222222-2222-4222-8222-222222222222"

ROWS = f"""
INSERT INTO auth.users (id) VALUES ('{OWNER}');
INSERT INTO traceflow_projects (id, name, owner_id) VALUES ('{SHOP}', 'Shop', '{OWNER}'), ('{BANK}', 'Bank', NULL);
INSERT INTO traceflow_project_keys (project_id, key_hash, key_prefix) VALUES ('{SHOP}', sha256('k'), 'tfk_k');
INSERT INTO traceflow_subscriptions (user_id, sessions_limit, sessions_used) VALUES ('{OWNER}', 10, 8);
"""


@pytest.fixture
def listener(database: str) -> Iterator["psycopg.Connection[tuple[object, ...]]"]:
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute(ROWS.encode())
        connection.execute(f"LISTEN {NOTIFY_CHANNEL}".encode())
        yield connection


@pytest.mark.parametrize(
    ("changes", "heard"),
    [
        (f"INSERT INTO traceflow_project_settings (project_id) VALUES ('{SHOP}')", [SHOP]),
        ("UPDATE traceflow_project_keys SET revoked_at = now()", [SHOP]),
        (f"UPDATE traceflow_project_keys SET project_id = '{BANK}'", [SHOP, BANK]),
        (f"UPDATE traceflow_projects SET name = 'x' WHERE id = '{BANK}'", [BANK]),
        (f"DELETE FROM traceflow_projects WHERE id = '{BANK}'", [BANK]),
        (
            f"UPDATE traceflow_projects SET name = 'x' WHERE id = '{SHOP}';"
            f"INSERT INTO traceflow_project_settings (project_id) VALUES ('{SHOP}')",
            [SHOP],
        ),
        ("UPDATE traceflow_subscriptions SET sessions_used = 9", []),
        ("UPDATE traceflow_subscriptions SET sessions_used = 10", [SHOP]),
        ("UPDATE traceflow_subscriptions SET status = 'past_due'", [SHOP]),
        ("INSERT INTO traceflow_sessions (session_id) VALUES ('s-1')", []),
    ],
)
def test_a_change_is_heard_by_the_projects_id(
    database: str, listener: "psycopg.Connection[tuple[object, ...]]", changes: str, heard: list[str]
) -> None:
    with psycopg.connect(database) as connection:
        connection.execute(changes.encode())
        # the last one: what comes before it is all there is
        connection.execute(f"NOTIFY {NOTIFY_CHANNEL}, 'end'".encode())
    payloads: list[str] = []
    for notification in listener.notifies(timeout=20):
        if notification.payload == "end":
            break
        payloads.append(notification.payload)
    else:
        pytest.fail("the end was not heard")
    assert payloads == heard
