"""Every error as one line that says what to do, and an exit code that a script can tell apart."""

import sys
from enum import IntEnum


class Exit(IntEnum):
    """Exit codes of every command; the numbers beyond 2 are those of sysexits.h."""

    DONE = 0
    NO = 1
    """The answer is no: not found, differs, refused, failed."""
    USAGE = 2
    UNAVAILABLE = 69
    """Kafka or Postgres cannot be reached."""
    CONFIGURATION = 78
    """A setting is missing or wrong."""
    INTERRUPTED = 130


EXIT_HELP = (
    "Exit codes: 0 done, 1 no (not found, differs, refused), 2 wrong usage, 69 Kafka or Postgres unreachable, "
    "78 missing or wrong setting."
)


class CommandFailure(Exception):
    """The command ends here; the message is one line that says what to do."""

    def __init__(self, message: str, code: Exit = Exit.NO) -> None:
        super().__init__(message)
        self.code = code


def explain(error: Exception) -> tuple[str, Exit] | None:
    """Return line and exit code of an expected error; None for a bug, which keeps its traceback."""
    from adapters.migrations import MigrationError
    from adapters.postgres import DatabaseRefused
    from deploy.runtime.program import RuntimeFailure
    from deploy.runtime.supervisor import ConfigurationRefused
    from schemas.environment import SettingsError

    if isinstance(error, CommandFailure):
        return str(error), error.code
    if isinstance(error, ConfigurationRefused | SettingsError | DatabaseRefused):
        return one_line(error), Exit.CONFIGURATION
    if isinstance(error, RuntimeFailure | MigrationError):
        return one_line(error), Exit.NO
    if isinstance(error, TimeoutError | ConnectionError):
        return f"no answer: {one_line(error)}", Exit.UNAVAILABLE
    if isinstance(error, OSError):
        return one_line(error), Exit.NO
    return _explain_driver(error)


def _explain_driver(error: Exception) -> tuple[str, Exit] | None:
    # an error of a driver can only come from a driver that was imported
    if "psycopg" in sys.modules:
        import psycopg

        if isinstance(error, psycopg.OperationalError) and "session is read-only" in str(error):
            told = "this takes a login that may write, on a server that is no replica: see TRACEFLOW_DATABASE_URL"
            return told, Exit.CONFIGURATION
        if isinstance(error, psycopg.OperationalError) and error.sqlstate is None:
            return f"Postgres cannot be reached: {one_line(error)}", Exit.UNAVAILABLE
        if isinstance(error, psycopg.Error):
            return f"Postgres refuses: {one_line(error)}", Exit.NO
    if "confluent_kafka" in sys.modules:
        from confluent_kafka import KafkaException

        from adapters.kafka_consumer import TopicMissing

        if isinstance(error, TopicMissing):
            return str(error), Exit.CONFIGURATION
        if isinstance(error, KafkaException):
            return _explain_kafka(error), Exit.UNAVAILABLE
    return None


def _explain_kafka(error: Exception) -> str:
    from confluent_kafka import KafkaError

    reason = error.args[0] if error.args else error
    if not isinstance(reason, KafkaError):
        return f"Kafka: {reason}"
    away = (KafkaError._TRANSPORT, KafkaError._ALL_BROKERS_DOWN, KafkaError._RESOLVE, KafkaError._TIMED_OUT)
    hint = ": does a broker run where TRACEFLOW_KAFKA_BOOTSTRAP, or `traceflow up`, says?"
    return f"Kafka: {reason.str()}{hint if reason.code() in away else ''}"


def one_line(error: BaseException) -> str:
    """Return an error's message without line breaks."""
    return " ".join(str(error).split()) or type(error).__name__
