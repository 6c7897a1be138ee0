"""The Faust app of a stage: which of Faust's settings are used, and why. Measured on the exact versions pinned."""

import os
import ssl
import tempfile
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import faust
from faust.types import TP

from schemas.connections import KafkaSettings, LogSettings
from stream_processors.kinds import StageKind
from stream_processors.runner.changelog_store import ChangelogStore, ChangelogTable
from stream_processors.runner.failstop import fail_stop
from stream_processors.runner.runs import RunScheduler
from stream_processors.runner.stage import Stage
from stream_processors.settings import StageSettings

FAUST_SERVICES = ("stream_processors.runner.changelog_store", "stream_processors.runner.faust_app")
"""Loggers under which Faust tells the life of its services, by the names of our modules."""

REQUEST_TIMEOUT_S = 30.0
"""Of the consumer's requests; has to be longer than the group's session."""

METADATA_AGE_S = 5.0
"""How old what the consumer knows of its topics may get. A broker that comes back answers for a moment as if it had no
topics; a group whose leader asks just then gives every member nothing, and gives anew once the leader sees the topics:
with the client's default of five minutes the whole stage stood still for that long (seen in a crash test)."""


class StageApp(faust.App):
    """A Faust app that cannot hang at its end, and hands out nothing of a partition before its recovery."""

    before_stop: Callable[[], Awaitable[None]] | None = None
    """Finishes what has begun."""

    async def on_stop(self) -> None:
        """Stop; a stop in the middle of a join would hang for a minute while the group counts on this member."""
        timer = threading.Timer(float(self.conf.broker_session_timeout), fail_stop, ("stop_takes_too_long",))
        timer.daemon = True
        timer.start()
        if self.before_stop is not None:
            await self.before_stop()
        # before the tables: what waits for those to subscribe would subscribe without them once they have ended, and a
        # member without the changelog's topic makes the group spread log and changelog apart
        await self.topics.stop()
        await super().on_stop()

    async def _on_partitions_assigned(self, assigned: set[TP], generation_id: int = 0) -> None:
        """Pause what is assigned before anything else can run.

        Faust pauses it too, but a turn of the loop after it has let its fetcher have it, and it trusts that the flow is
        suspended meanwhile. It is not where the assignment before was empty, nor where a recovery of the generation
        before ends between the revocation and this: what was fetched of a changelog by then would be read before its
        recovery knows from where and up to where. (With that turn made longer, on a real broker, it ended the process:
        Faust knows nobody yet who takes it.)
        """
        self.consumer.pause_partitions(assigned)
        await super()._on_partitions_assigned(assigned, generation_id)


def build_app(
    kind: StageKind, *, kafka: KafkaSettings, log: LogSettings, settings: StageSettings
) -> tuple[StageApp, ChangelogStore, Any]:
    """Make the app, the store of its changelog, and the channel of its input topic."""
    app = StageApp(
        kind.group(log.topic_prefix),
        broker=[f"kafka://{address.strip()}" for address in kafka.bootstrap.split(",")],
        broker_credentials=credentials(kafka),
        # topics are made by `traceflow topics`, never by a worker
        topic_partitions=log.partitions,
        topic_allow_declare=False,
        topic_disable_leader=True,
        # raw bytes in and out: what cannot be decoded is the logic's to park
        key_serializer="raw",
        value_serializer="raw",
        Table=ChangelogTable,
        ConsumerScheduler=RunScheduler,
        # recovery reads the changelog; a standby's copy would be thrown away at the hand-over
        store="memory://",
        table_standby_replicas=0,
        datadir=_data_directory(kind.name),
        # in runs, each of up to 8 MB
        stream_buffer_maxsize=16,
        stream_wait_empty=False,
        consumer_auto_offset_reset="earliest",
        consumer_max_fetch_size=settings.fetch_mb << 20,
        consumer_metadata_max_age_ms=int(METADATA_AGE_S * 1000),
        broker_session_timeout=settings.group_session_s,
        broker_heartbeat_interval=settings.group_session_s / 10,
        broker_rebalance_timeout=max(settings.rebalance_s, settings.group_session_s),
        broker_request_timeout=max(REQUEST_TIMEOUT_S, settings.group_session_s * 1.5),
        web_enabled=False,
        autodiscover=False,
    )
    # acks off: positions are the stage's own
    source = app.topic(
        kind.source.full_name(log.topic_prefix), key_type=bytes, value_type=bytes, value_serializer="raw", acks=False
    )
    changelog = app.topic(
        kind.changelog.full_name(log.topic_prefix),
        key_type=bytes,
        value_type=bytes,
        key_serializer="raw",
        value_serializer="raw",
        acks=False,
    )
    table = app.Table(
        f"{kind.name}-facts",
        key_type=bytes,
        value_type=bytes,
        partitions=log.partitions,
        changelog_topic=changelog,
    )
    store: Any = table.data
    return app, store, source


def connect(app: StageApp, stage: Stage, *, source: Any, beat: Callable[[], Awaitable[None]]) -> None:
    """Let the app call the stage: for what it delivers, when partitions move, and at the end; and beat beside."""

    async def process(stream: Any) -> None:
        await stage.run(stream)

    async def on_revoked(_app: Any, /, *_args: Any, **_kwargs: Any) -> None:
        await stage.revoked()

    async def on_assigned(_app: Any, /, *_args: Any, **_kwargs: Any) -> None:
        await stage.assigned()

    app.agent(source, name="stage", concurrency=1)(process)
    app.on_partitions_revoked.connect(on_revoked)
    app.on_partitions_assigned.connect(on_assigned)
    app.before_stop = stage.stop
    app.task(beat)


def _data_directory(name: str) -> str:
    """Return a directory that Faust insists on; a memory store leaves nothing in it."""
    directory = Path(tempfile.gettempdir()) / f"traceflow-faust-{os.getuid()}-{name}"
    directory.mkdir(mode=0o700, exist_ok=True)
    return str(directory)


def credentials(kafka: KafkaSettings) -> Any:
    """Return the settings of the connection in Faust's form; None for one that is plain. Certificates are verified."""
    encrypted = kafka.security_protocol.endswith("SSL")
    context = ssl.create_default_context(cafile=kafka.ssl_ca_location) if encrypted else None
    if kafka.sasl_mechanism:
        return faust.SASLCredentials(
            username=kafka.sasl_username,
            password=kafka.sasl_password.get_secret_value() if kafka.sasl_password else None,
            mechanism=kafka.sasl_mechanism,
            ssl_context=context,
        )
    return faust.SSLCredentials(context=context) if context else None
