"""Gateways hear of every change of a project, once a transaction, and of nothing else."""

# ruff: noqa: S608 (statements are put together from this file's own constants)

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


CHANGES: list[tuple[str, list[str]]] = [
    (f"INSERT INTO traceflow_project_settings (project_id) VALUES ('{SHOP}')", [SHOP]),
    ("UPDATE traceflow_project_keys SET revoked_at = now()", [SHOP]),
    (f"UPDATE traceflow_project_keys SET project_id = '{BANK}'", [SHOP, BANK]),
    (f"UPDATE traceflow_projects SET name = 'x' WHERE id = '{SHOP}'", [SHOP]),
    (
        f"UPDATE traceflow_projects SET name = 'y' WHERE id = '{SHOP}';"
        f"INSERT INTO traceflow_project_settings (project_id) VALUES ('{SHOP}')",
        [SHOP],
    ),
    ("INSERT INTO traceflow_sessions (session_id) VALUES ('s-1')", []),
    ("UPDATE traceflow_subscriptions SET sessions_used = 9", []),
    ("UPDATE traceflow_subscriptions SET sessions_used = 10", [SHOP]),
    ("UPDATE traceflow_subscriptions SET sessions_used = 11", []),
    ("UPDATE traceflow_subscriptions SET sessions_limit = 100", [SHOP]),
    ("UPDATE traceflow_subscriptions SET status = 'past_due'", [SHOP]),
    (f"DELETE FROM traceflow_projects WHERE id = '{BANK}'", [BANK]),
]


def test_a_change_is_heard_once_by_the_projects_id_and_nothing_else_is(database: str) -> None:
    heard: dict[str, list[str]] = {changes: [] for changes, _ in CHANGES}
    with psycopg.connect(database, autocommit=True) as listener, psycopg.connect(database) as changer:
        listener.execute(ROWS.encode())
        listener.execute(f"LISTEN {NOTIFY_CHANNEL}".encode())
        for number, (changes, _) in enumerate(CHANGES):
            changer.execute(changes.encode())
            # what comes before it is all that these changes have to say
            changer.execute("SELECT pg_notify(%s, %s)", (NOTIFY_CHANNEL, f"end {number}"))
            changer.commit()
        transactions = iter(heard)
        payloads = heard[next(transactions)]
        for notification in listener.notifies(timeout=20):
            if not notification.payload.startswith("end "):
                payloads.append(notification.payload)
            elif (following := next(transactions, None)) is not None:
                payloads = heard[following]
            else:
                break
        else:
            pytest.fail("the end was not heard")
    assert heard == dict(CHANGES)
