import pytest

from sinks.contract.sqlstates import Action, action_for


@pytest.mark.parametrize(
    ("sqlstate", "constraint", "action"),
    [
        (None, None, Action.RETRY),  # "server closed the connection unexpectedly", refused, too many clients
        ("08006", None, Action.RETRY),
        ("25006", None, Action.RETRY),  # a failover to a standby
        ("25P03", None, Action.RETRY),
        ("40001", None, Action.RETRY),
        ("40P01", None, Action.RETRY),
        ("53100", None, Action.RETRY),
        ("53300", None, Action.RETRY),
        ("55P03", None, Action.RETRY),
        ("57014", None, Action.RETRY),
        ("57P01", None, Action.RETRY),
        ("57P03", None, Action.RETRY),
        ("58030", None, Action.RETRY),
        ("23505", "traceflow_events_20261125_pkey", Action.DEDUPLICATE),
        ("23514", None, Action.ADD_PARTITION),
        ("23514", "chunks_codec_check", Action.ISOLATE),
        ("23502", None, Action.ISOLATE),
        ("23503", "traceflow_sessions_project_id_fkey", Action.ISOLATE),
        ("22021", None, Action.ISOLATE),
        ("22P02", None, Action.ISOLATE),
        ("22003", None, Action.ISOLATE),
        ("54000", None, Action.ISOLATE),
        ("22P04", None, Action.HALT),  # columns missing or left over: the encoder
        ("21000", None, Action.HALT),  # one session twice in an upsert
        ("0A000", None, Action.HALT),  # COPY into a table with row-level security
        ("28P01", None, Action.HALT),
        ("3D000", None, Action.HALT),
        ("42P01", None, Action.HALT),
        ("42501", None, Action.HALT),
        ("54001", None, Action.HALT),
        ("XX000", None, Action.HALT),
    ],
)
def test_the_sqlstate_decides(sqlstate: str | None, constraint: str | None, action: Action) -> None:
    assert action_for(sqlstate, constraint=constraint) is action
