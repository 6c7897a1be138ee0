"""Which Kafka and Postgres a command speaks to: those of the environment, else those of the runtime that runs here."""

from collections.abc import Mapping
from pathlib import Path

from deploy.command.failure import CommandFailure, Exit
from deploy.runtime.instance import find_running
from deploy.runtime.program import RuntimeFailure
from schemas.connections import DatabaseSettings, KafkaSettings, LogSettings
from schemas.environment import read_settings

_FROM_STATE = {
    "TRACEFLOW_KAFKA_BOOTSTRAP": "kafka_bootstrap",
    "TRACEFLOW_DATABASE_URL": "database_url",
    "TRACEFLOW_TOPIC_PREFIX": "topic_prefix",
    "TRACEFLOW_PARTITIONS": "partitions",
}


def environment(environ: Mapping[str, str], data: Path | None, *, needs: tuple[str, ...]) -> dict[str, str]:
    """Complete the environment by a running `traceflow up` where a variable that is needed is not set.

    A runtime that was named with --data counts before the environment.

    Raises:
        CommandFailure: a variable is missing and nothing runs that would tell it.
    """
    missing = [name for name in needs if not environ.get(name)]
    if not missing and data is None:
        return dict(environ)
    try:
        _, state = find_running(environ, data)
    except RuntimeFailure as error:
        if data is not None:
            raise
        raise CommandFailure(f"{error} (missing: {', '.join(missing)})", Exit.CONFIGURATION) from error
    told = {name: str(state[field]) for name, field in _FROM_STATE.items() if field in state}
    return {**environ, **told} if data is not None else {**told, **{k: v for k, v in environ.items() if v}}


def database(environ: Mapping[str, str], data: Path | None) -> DatabaseSettings:
    """Return how to reach Postgres."""
    reached = environment(environ, data, needs=("TRACEFLOW_DATABASE_URL",))
    return read_settings(DatabaseSettings, reached, group="DATABASE")


def kafka(environ: Mapping[str, str], data: Path | None) -> tuple[KafkaSettings, LogSettings]:
    """Return how to reach Kafka, and the names of the topics there."""
    reached = environment(environ, data, needs=("TRACEFLOW_KAFKA_BOOTSTRAP",))
    return read_settings(KafkaSettings, reached, group="KAFKA"), read_settings(LogSettings, reached)
