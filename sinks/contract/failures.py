"""Translate what the driver raises into what it asks for and what is said about it."""

import psycopg

from schemas.reasons import Reason
from sinks.contract.sqlstates import Action, action_for
from sinks.contract.verdicts import Refusal


def action_of(error: psycopg.Error) -> Action:
    """Return what an error asks for, the driver's own errors included, which carry no SQLSTATE."""
    if error.sqlstate is None and not isinstance(error, psycopg.OperationalError):
        # DataError: the driver cannot encode a value. InterfaceError: the connection is closed. Others are bugs.
        if isinstance(error, psycopg.InterfaceError):
            return Action.RETRY
        return Action.ISOLATE if isinstance(error, psycopg.DataError) else Action.HALT
    return action_for(error.sqlstate, constraint=error.diag.constraint_name)


def refusal_of(error: psycopg.Error, *, index: int = -1) -> Refusal:
    """Return the refusal of a row that cannot be stored; the context says in which column."""
    message = summary(error)
    detail = f"{error.sqlstate} {message}" if error.sqlstate else message
    context = error.diag.context
    return Refusal(Reason.ROW_REFUSED, f"{detail}; {context}" if context else detail, index)


def summary(error: psycopg.Error) -> str:
    """Return what the server says in one line, without its context, which quotes what users typed."""
    return error.diag.message_primary or one_line(error)


def one_line(error: BaseException) -> str:
    """Return an error's message without line breaks."""
    return " ".join(str(error).split())
