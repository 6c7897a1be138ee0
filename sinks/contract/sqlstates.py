"""Whose fault a database error is, and so what to do with the batch.

Theory. A batch that fails is one of five things, told apart by SQLSTATE alone:
- the world's: the connection, a failover, a deadlock, a full disk. Nothing is wrong with the batch: roll back, wait,
  and write the same batch again.
- a duplicate: a row is there already, as after a client's retry. Write the batch again through the staging table.
- a missing day: no partition takes the row. It is ours to create, not the row's fault.
- one row's: a value that Postgres refuses. Write the batch again so that the row can be found and parked.
- ours: a missing table or right, a bug. No retry helps and parking would empty a topic: stop, with one clear line.
"""

from enum import Enum


class Action(Enum):
    """What a database error asks for."""

    RETRY = "retry"
    DEDUPLICATE = "deduplicate"
    ADD_PARTITION = "add_partition"
    ISOLATE = "isolate"
    HALT = "halt"


_RETRY_CLASSES = frozenset(
    {
        "08",  # connection
        "40",  # serialization failure, deadlock
        "53",  # disk full, out of memory, too many connections
        "58",  # the server's own I/O
    }
)
_RETRY_CODES = frozenset(
    {
        "25006",  # read-only transaction: a failover left us on a standby
        "25P03",  # idle in transaction for too long: this process was frozen
        "55006",  # object in use
        "55P03",  # lock timeout
        "57014",  # statement timeout
        "57P01",  # terminated by an administrator, or by a new owner of the partitions
        "57P02",  # server crash
        "57P03",  # starting up
        "57P05",  # idle session timeout
    }
)
_ISOLATE_CODES = frozenset(
    {
        "23502",  # not null
        "23503",  # foreign key: the project is gone
        "23514",  # check
        "54000",  # an index row too large
    }
)
_BUG_CODES = frozenset(
    {
        "22P04",  # wrong number of columns in COPY: the encoder, not the row
    }
)


def action_for(sqlstate: str | None, *, constraint: str | None = None) -> Action:
    """Return what an error asks for; `constraint` is the name that its diagnostics give, None if they give none.

    No SQLSTATE means that the connection broke, or was never made.
    """
    if sqlstate is None or sqlstate[:2] in _RETRY_CLASSES or sqlstate in _RETRY_CODES:
        return Action.RETRY
    if sqlstate == "23505":
        return Action.DEDUPLICATE
    if sqlstate == "23514" and constraint is None:
        return Action.ADD_PARTITION
    if sqlstate in _ISOLATE_CODES or (sqlstate.startswith("22") and sqlstate not in _BUG_CODES):
        return Action.ISOLATE
    return Action.HALT
