"""Everything on this machine: `traceflow up`.

Order of the start: broker and database, migrations, topics, the local project, then the services; each step begins when
the one before can work. Order of the stop: gateway (it answers what it has taken in), stages, sinks, database, broker.
A service that is ended hard loses nothing either, the order only spares them retries.
"""

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from deploy.runtime import archive, jars, java, postgres
from deploy.runtime import kafka as broker
from deploy.runtime.instance import Instance, write_private
from deploy.runtime.output import Prefixed
from deploy.runtime.ports import is_free
from deploy.runtime.program import RuntimeFailure
from deploy.runtime.restart import RestartPolicy
from deploy.runtime.services import Service, child_of, services_of
from deploy.runtime.supervisor import Child, Probe, Supervisor, end_by_signal, pids
from schemas import topics
from schemas.connections import DatabaseSettings, KafkaSettings, LogSettings
from schemas.environment import read_settings

_SERVERS_DEADLINE_S = 120.0
_SERVICES_DEADLINE_S = 120.0


@dataclass(frozen=True, slots=True)
class UpOptions:
    """What `traceflow up` was asked for."""

    instance: Instance
    gateway_port: int
    """0 takes a free one."""
    workers: Mapping[str, int]
    partitions: int | None
    """None keeps what the topics have, or the default for new ones."""
    accept_loss: bool
    """Let the sinks go on where the log lost something."""
    ready_file: Path | None


@dataclass(frozen=True, slots=True)
class Servers:
    """Broker and database: ours where there is a child, existing ones where there is none."""

    bootstrap: str
    database_url: str
    kafka: Child | None
    postgres: Child | None

    @property
    def children(self) -> list[Child]:
        """Return ours."""
        return [child for child in (self.kafka, self.postgres) if child is not None]


def up(options: UpOptions, environ: Mapping[str, str], *, announce: Callable[[Mapping[str, Any]], None]) -> None:
    """Run everything until a signal asks for the end; `announce` gets the state once everything accepts work.

    Raises:
        RuntimeFailure: it cannot be started, or a process cannot run with its settings.
    """
    output = Prefixed()
    options.instance.make()
    with options.instance.locked(), _terminated_as_interrupt():
        if options.ready_file is not None:
            options.ready_file.unlink(missing_ok=True)
        ports = options.instance.ports(_port_names(options))
        if options.gateway_port:
            ports["gateway"] = options.gateway_port
            if not is_free(options.gateway_port):
                raise RuntimeFailure(
                    f"port {options.gateway_port} is in use: choose another with --gateway-port (0 takes a free one)"
                )

        def report(line: str) -> None:
            output.write("traceflow", line)

        servers = _prepare_servers(options.instance, environ, ports, report=report)
        asyncio.run(_Run(options, environ, ports, servers, output, announce).run())


def _port_names(options: UpOptions) -> list[str]:
    services = [f"{service.name}-admin" for service in services_of(options.workers)]
    return ["kafka", "kafka-controller", "postgres", "gateway", *services]


@contextlib.contextmanager
def _terminated_as_interrupt() -> Iterator[None]:
    """Let SIGTERM end the preparation as Ctrl-C does, so that a download or initdb ends with us."""

    def interrupt(_number: int, _frame: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _prepare_servers(
    instance: Instance, environ: Mapping[str, str], ports: Mapping[str, int], *, report: Callable[[str], None]
) -> Servers:
    bootstrap, url = environ.get("TRACEFLOW_KAFKA_BOOTSTRAP"), environ.get("TRACEFLOW_DATABASE_URL")
    kafka_child = postgres_child = None
    if not bootstrap:
        runtime, classpath = java.find_java(environ), tuple(jars.classpath(environ, report=report))
        kafka = broker.KafkaServer(
            directory=instance.path / "kafka",
            port=ports["kafka"],
            controller_port=ports["kafka-controller"],
            java=runtime,
            jars=classpath,
            flags=archive.flags_to_use(runtime, classpath, environ),
        )
        kafka.prepare()
        bootstrap = kafka.bootstrap
        kafka_child = Child(kafka.program(environ), probe=_kafka_probe(bootstrap))
    if not url:
        server = _postgres_server(instance, environ, ports["postgres"], report=report)
        server.prepare()
        url = server.url
        postgres_child = Child(server.program(environ), probe=_postgres_probe(url))
    return Servers(bootstrap, url, kafka_child, postgres_child)


def _postgres_server(
    instance: Instance, environ: Mapping[str, str], port: int, *, report: Callable[[str], None]
) -> postgres.PostgresServer:
    account = postgres.server_account()
    place = postgres.database_place(instance.path, account)
    link = instance.path / "postgres"
    if place != link:
        if not link.is_symlink():
            link.symlink_to(place)
        report(f"the database files lie in {place}, because the server's user may not enter {instance.path}")
    return postgres.PostgresServer(
        directory=place,
        port=port,
        password_file=instance.path / "postgres.password",
        binaries=postgres.usable_binaries(postgres.find_binaries(environ), account),
        account=account,
    )


def _kafka_probe(bootstrap: str) -> Probe:
    async def probe() -> str | None:
        answered = await asyncio.to_thread(broker.answers, bootstrap, timeout_s=1.0)
        return None if answered else f"no answer from {bootstrap}"

    return probe


def _postgres_probe(url: str) -> Probe:
    async def probe() -> str | None:
        return await asyncio.to_thread(postgres.try_database, url)

    return probe


class _Run:
    """One run of everything: start, serve, stop."""

    def __init__(
        self,
        options: UpOptions,
        environ: Mapping[str, str],
        ports: Mapping[str, int],
        servers: Servers,
        output: Prefixed,
        announce: Callable[[Mapping[str, Any]], None],
    ) -> None:
        self._options = options
        self._environ = dict(environ)
        self._ports = ports
        self._servers = servers
        self._output = output
        self._announce = announce
        self._services: list[tuple[Service, Child]] = []
        self._state: dict[str, Any] = {}

    async def run(self) -> None:
        """Start, wait for a signal or a failure, stop."""
        stop = asyncio.Event()
        self._supervisor = Supervisor(write=self._output.write, on_restart=self._write_state, policy=RestartPolicy())
        end_by_signal(asyncio.get_running_loop(), stop, at_once=self._supervisor.kill)
        asked = asyncio.create_task(stop.wait())
        serving = asyncio.create_task(self._serve())
        try:
            await asyncio.wait([asked, serving], return_when=asyncio.FIRST_COMPLETED)
        finally:
            serving.cancel()
            self._options.instance.clear_state(environ=self._environ)
            if self._options.ready_file is not None:
                self._options.ready_file.unlink(missing_ok=True)
            await self._stop()
            asked.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await serving

    async def _serve(self) -> None:
        started = time.monotonic()
        await self._supervisor.start(self._servers.children, deadline_s=_SERVERS_DEADLINE_S)
        self._say(f"broker and database accept work after {time.monotonic() - started:.1f} s")
        self._environ["TRACEFLOW_KAFKA_BOOTSTRAP"] = self._servers.bootstrap
        self._environ["TRACEFLOW_DATABASE_URL"] = self._servers.database_url
        self._environ["TRACEFLOW_PARTITIONS"] = str(await asyncio.to_thread(self._prepare_topics))
        project_id, key = await asyncio.to_thread(self._prepare_database)
        await asyncio.to_thread(self._compare_offsets)
        self._environ["TRACEFLOW_GATEWAY_PORT"] = str(self._ports["gateway"])
        if self._options.workers["gateway"] > 1:
            self._environ["TRACEFLOW_GATEWAY_REUSE_PORT"] = "true"
        self._services = [
            (service, child_of(service, self._environ, admin_port=self._ports[f"{service.name}-admin"]))
            for service in services_of(self._options.workers)
        ]
        await self._supervisor.start([child for _, child in self._services], deadline_s=_SERVICES_DEADLINE_S)
        self._state = {
            "gateway": f"http://127.0.0.1:{self._ports['gateway']}",
            "database_url": self._servers.database_url,
            "kafka_bootstrap": self._servers.bootstrap,
            "project_id": project_id,
            "project_key": key,
        }
        self._say(f"everything accepts work after {time.monotonic() - started:.1f} s")
        self._announce(self._state)
        # last: who waits for the file finds all that was said
        self._write_state()
        await self._supervisor.until_failure()

    def _prepare_database(self) -> tuple[str, str]:
        from adapters.migrations import migrate

        applied = migrate(self._servers.database_url)
        if applied:
            self._say(f"applied {len(applied)} migrations, up to {applied[-1].name}")
        return local_project(self._options.instance, self._servers.database_url)

    def _prepare_topics(self) -> int:
        from adapters.kafka_admin import Layout, admin_client, check_topics, create_topics, partitions_of

        settings = read_settings(LogSettings, self._environ)
        kafka = read_settings(KafkaSettings, self._environ, group="KAFKA")
        admin = admin_client(kafka)
        existing = partitions_of(admin, topics.EVENTS.full_name(settings.topic_prefix))
        wanted = self._options.partitions or existing or settings.partitions
        if existing is not None and existing != wanted:
            raise RuntimeFailure(
                f"the topics here have {existing} partitions and keep them: leave --partitions out, "
                "or choose another data directory"
            )
        layout = Layout(prefix=settings.topic_prefix, partitions=wanted)
        created = create_topics(admin, topics.ALL, layout)
        if created:
            self._say(f"created {len(created)} topics of {wanted} partitions")
        for difference in check_topics(admin, topics.ALL, layout):
            self._say(f"differs from its declaration: {difference}")
        return wanted

    def _compare_offsets(self) -> None:
        """Compare where the sinks stand with what the log has, while nobody adds to it.

        Raises:
            RuntimeFailure: the log lost something, and nobody said that this is accepted.
        """
        from deploy.offsets.run import offsets

        kafka = read_settings(KafkaSettings, self._environ, group="KAFKA")
        database = read_settings(DatabaseSettings, self._environ, group="DATABASE")
        with offsets(kafka, read_settings(LogSettings, self._environ), database) as found:
            losses = found.losses()
            for loss in losses:
                self._say(str(loss))
            if losses and not self._options.accept_loss:
                raise RuntimeFailure(
                    f"the log has lost what the sinks stand at, in {len(losses)} places that are named above; to go on "
                    "with what is left, start once with --accept-loss"
                )
            found.accept(losses)

    async def _stop(self) -> None:
        by_role = {role: [c for s, c in self._services if s.role in role] for role in _STOP_ORDER}
        if self._supervisor.children:
            self._say("stopping")
        for role in _STOP_ORDER:
            await self._supervisor.stop(by_role[role])
        for server in (self._servers.postgres, self._servers.kafka):
            if server is not None:
                await self._supervisor.stop([server])

    def _write_state(self) -> None:
        if not self._state:
            return
        ready = {**self._state, "processes": pids(self._supervisor.children)}
        extra = {
            "pid": os.getpid(),
            "topic_prefix": read_settings(LogSettings, self._environ).topic_prefix,
            "partitions": int(self._environ["TRACEFLOW_PARTITIONS"]),
            "admin_ports": {service.name: self._ports[f"{service.name}-admin"] for service, _ in self._services},
        }
        self._options.instance.write_state({**ready, **extra}, environ=self._environ)
        if self._options.ready_file is not None:
            write_private(self._options.ready_file, orjson.dumps(ready, option=orjson.OPT_INDENT_2) + b"\n")

    def _say(self, line: str) -> None:
        self._output.write("traceflow", line)


_STOP_ORDER: Sequence[tuple[str, ...]] = (("gateway",), ("digest", "analyze"), ("sink",))


def local_project(instance: Instance, database_url: str) -> tuple[str, str]:
    """Return id and key of the local project, making both at the first start or where the database has lost them."""
    from adapters.postgres import connect
    from adapters.projects import create_project, list_projects

    id_file, key_file = instance.path / "project.id", instance.path / "project.key"
    database = DatabaseSettings.model_validate({"url": database_url})
    with connect(database, application_name="traceflow up") as connection:
        if id_file.exists() and key_file.exists():
            project_id, key = id_file.read_text().strip(), key_file.read_text().strip()
            known = next((project for project in list_projects(connection) if project.id == project_id), None)
            if known is not None and any(key.startswith(prefix) for prefix in known.key_prefixes):
                return project_id, key
        made = create_project(connection, name="local")
    write_private(id_file, f"{made.id}\n".encode())
    write_private(key_file, f"{made.key}\n".encode())
    return made.id, made.key
