"""`traceflow status`: how each stage keeps up, measured from outside, without asking the processes."""

import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing, nullcontext
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from typing import Any

import psycopg
from confluent_kafka import Consumer, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient

from adapters.dead_letter_marks import Marks
from adapters.dead_letter_reader import LetterFilter
from adapters.kafka_admin import admin_client, list_group
from adapters.kafka_consumer import committed_offsets, describe_topic, watermarks
from adapters.migrations import status as migration_status
from adapters.postgres import Connection, connect, read_queries
from adapters.retention import Calendar
from deploy.command.failure import one_line
from deploy.command.lag import Sample, StageReport, ailments, report, waiting_from
from deploy.command.parked import scan
from deploy.command.positions import fold_positions
from deploy.redrive.plan import Letter
from schemas import topics
from schemas.connections import DatabaseSettings, KafkaSettings, LogSettings
from schemas.messages import FORMAT, KIND_HEADER, Kind
from schemas.reasons import Blame, Reason
from schemas.topics import Topic

_TIMEOUT_S = 15.0
_FIRST_RECORDS_S = 5.0
"""How long the first waiting records of a stage are read for; what is not there by then has no age."""
MOST_LETTERS_COUNTED = 20_000
"""Dead letters are read, and so counted, up to this many; reading more would make `status` slow."""
MOST_DAYS_OVERDUE = 1
"""The sinks let go of a day within an hour; one that a query of hours reads goes after it."""
QUESTIONS_AT_ONCE = 4
"""Questions that look into every day: with fewer at once the locks run out, for sinks too."""
FEWEST_DAYS_AHEAD = 2
"""The sinks make partitions a week ahead; with fewer they have not for days, and soon rows find none."""


@dataclass(frozen=True, slots=True)
class Stage:
    """A stage and what it reads; sinks keep their positions in Postgres, the others in their changelog."""

    name: str
    topic: Topic
    sink: str | None = None
    passes_over: frozenset[bytes] = frozenset()
    """Kinds of records of which it makes nothing: it moves its position over them now and then, in no hurry."""


_OF_NO_ROW = frozenset(kind.encode() for kind in Kind if kind not in (Kind.EVENTS, Kind.CHUNK))

STAGES = (
    Stage("digest", topics.RECORDINGS),
    Stage("analyze", topics.EVENTS),
    *(
        Stage(f"sink-{topic.name}", topic, sink=topic.name, passes_over=_OF_NO_ROW)
        for topic in (topics.EVENTS, topics.RECORDINGS, topics.SESSIONS, topics.SIGNALS, topics.AI_JOBS)
    ),
)


def gather_status(
    kafka: KafkaSettings, log: LogSettings, database: DatabaseSettings, *, interval_s: float
) -> dict[str, Any]:
    """Measure for `interval_s` and return the whole report; without Postgres, what Kafka alone knows.

    `unreachable` says why Postgres could not be asked, and is None if it was.

    Raises:
        KafkaException, psycopg.Error: Kafka cannot be reached, or Postgres no longer.
        DatabaseRefused: Postgres does not let us in.
        MigrationError: the database's history cannot be read.
    """
    admin = admin_client(kafka)
    quiet = {"enable.auto.commit": False, "enable.partition.eof": True, "log_level": 0}
    consumer = Consumer(kafka.librdkafka() | {"group.id": f"{log.topic_prefix}status"} | quiet)
    connection, unreachable = _try_database(database)
    try:
        with connection or nullcontext():
            queries = read_queries("deploy.command", "status.sql")
            measure = _Measure(kafka, admin, consumer, connection, queries, log.topic_prefix)
            before = measure.samples()
            time.sleep(interval_s)
            after = measure.samples()
            letters, waiting = _dead_letters(consumer, kafka, log.topic_prefix, connection)
            by_stage = None if waiting is None else Counter(letter.place.id.stage for letter in waiting)
            stages = [measure.report(stage, before[stage.name], after[stage.name], by_stage) for stage in STAGES]
            store = _ask_store(connection, queries, database) if connection else _Store()
    finally:
        consumer.close()
    return {
        "ill": [
            *([f"{unreachable}: where the sinks stand is unknown"] if unreachable else []),
            *(f"{stage.stage}: {what}" for stage in stages for what in ailments(stage)),
            *_ailments_of_store(waiting or (), store),
        ],
        "unreachable": unreachable,
        "newest_event_stored_s": store.newest_event_s,
        "stages": [asdict(stage) for stage in stages],
        "dead_letters": letters,
        "partitions_ahead_days": store.days_ahead,
        "limited_projects": store.limited_projects,
        "retention": [asdict(kept) for kept in store.retention],
        "versions": {
            "traceflow": version("traceflow"),
            "message_format": FORMAT,
            "schema": store.schema,
            "schema_pending": store.schema_pending,
            "postgres": store.server,
        },
    }


def _try_database(database: DatabaseSettings) -> tuple[Connection | None, str | None]:
    """Return a connection, or why there is none."""
    try:
        return connect(database, application_name="traceflow status"), None
    except psycopg.OperationalError as error:
        return None, f"Postgres cannot be reached: {one_line(error)}"


@dataclass(frozen=True, slots=True)
class Kept:
    """For how long a table is kept, and whether that is so."""

    table: str
    days: int | None
    """None: for ever."""
    overdue_days: int | None
    """How many days more are there."""
    owner: str
    """Who may prune."""


@dataclass(frozen=True, slots=True)
class Locks:
    """Whether the server's table of locks is large enough for the days that there are."""

    a_question: int
    """How many one takes that names no time: each day's table and indexes."""
    a_connection: int
    """max_locks_per_transaction: how many there is room for, times `connections`."""
    connections: int

    def ailment(self) -> str | None:
        """Say that too few such questions can be asked at once, None if enough can."""
        wanted = QUESTIONS_AT_ONCE * self.a_question
        if wanted <= self.a_connection * self.connections:
            return None
        return (
            f"database: a question that names no time takes {self.a_question} locks, and there are "
            f"{self.a_connection * self.connections}: set max_locks_per_transaction to at least "
            f"{-(-wanted // self.connections)} (now {self.a_connection}) and restart it, or keep fewer days"
        )


@dataclass(frozen=True, slots=True)
class _Store:
    """What the database says of itself; nothing where it cannot be asked."""

    days_ahead: Mapping[str, int] = field(default_factory=dict)
    retention: Sequence[Kept] = ()
    clock_leap: str | None = None
    locks: Locks | None = None
    newest_event_s: float | None = None
    schema: int | None = None
    schema_pending: Sequence[str] = ()
    limited_projects: Sequence[Mapping[str, Any]] = ()
    """Whose owner's plan is used up."""
    server: str | None = None


def _ask_store(connection: Connection, queries: Mapping[str, bytes], database: DatabaseSettings) -> _Store:
    newest = connection.execute(queries["newest_event"]).fetchone()
    server = connection.execute(queries["server_version"]).fetchone()
    migrations = migration_status(database.url.get_secret_value())
    applied = [migration.version for migration in migrations if migration.state in ("applied", "edited", "unknown")]
    pending = [migration.name for migration in migrations if migration.state == "pending"]
    return _Store(
        # the table came with a migration
        retention=() if pending else [Kept(*row) for row in connection.execute(queries["retention"])],
        clock_leap=None if pending else _clock_leap(connection, queries),
        locks=Locks(*row) if (row := connection.execute(queries["locks"]).fetchone()) else None,
        days_ahead={str(table): int(days) for table, days in connection.execute(queries["days_ahead"])},
        newest_event_s=float(newest[0]) if newest and newest[0] is not None else None,
        schema=max(applied, default=0),
        schema_pending=pending,
        # a database that is behind may not have what this asks
        limited_projects=() if pending else _limited_projects(connection, queries),
        server=str(server[0]) if server else None,
    )


def _clock_leap(connection: Connection, queries: Mapping[str, bytes]) -> str | None:
    row = connection.execute(queries["clock_leap"]).fetchone()
    return Calendar(*row).leap() if row else None


def _limited_projects(connection: Connection, queries: Mapping[str, bytes]) -> list[dict[str, Any]]:
    columns = ("project_id", "name", "limited", "until")
    return [dict(zip(columns, row, strict=True)) for row in connection.execute(queries["limited_projects"])]


def _ailments_of_store(waiting: Iterable[Letter], store: _Store) -> list[str]:
    """Return what is wrong beside the stages."""
    ours = {reason.value for reason in Reason if reason.blame is Blame.OURS}
    found = []
    if parked := sum(letter.reason in ours for letter in waiting):
        found.append(f"dead letters: {parked} wait by a fault of ours: `traceflow dead-letters stats`")
    for table, days in store.days_ahead.items():
        if days < FEWEST_DAYS_AHEAD:
            found.append(f"{table}: partitions reach only {days} days ahead: does a sink run, and may it make them?")
    found += [
        f"{kept.table}: {kept.overdue_days} days are there beyond the {kept.days} that are kept: does a sink run as "
        f"{kept.owner}, the tables' owner? If not, let {kept.owner} run `traceflow partitions prune`"
        for kept in store.retention
        if (kept.overdue_days or 0) > MOST_DAYS_OVERDUE and store.clock_leap is None
    ]
    if store.clock_leap is not None:
        found.append(f"retention: {store.clock_leap}")
    if store.locks is not None and (ailment := store.locks.ailment()) is not None:
        found.append(ailment)
    if pending := store.schema_pending:
        found.append(f"database: {len(pending)} migrations are pending: `traceflow migrate`")
    return found


class _Measure:
    """Reads positions of stages, each sample of all of them at about the same moment."""

    def __init__(
        self,
        kafka: KafkaSettings,
        admin: AdminClient,
        consumer: Consumer,
        connection: Connection | None,
        queries: Mapping[str, bytes],
        prefix: str,
    ) -> None:
        self._kafka = kafka
        self._admin = admin
        self._consumer = consumer
        self._connection = connection
        self._queries = queries
        self._prefix = prefix
        seen = admin.list_topics(timeout=_TIMEOUT_S).topics
        self._partitions = {
            stage.topic.name: sorted(seen[name].partitions) if (name := stage.topic.full_name(prefix)) in seen else []
            for stage in STAGES
        }

    def samples(self) -> dict[str, Sample]:
        """Take one sample of each stage."""
        return {stage.name: self._sample(stage) for stage in STAGES}

    def _sample(self, stage: Stage) -> Sample:
        name = stage.topic.full_name(self._prefix)
        positions = self._sink_positions(stage, name) if stage.sink else self._stage_positions(stage, name)
        marks = {p: watermarks(self._consumer, name, p) for p in self._partitions[stage.topic.name]}
        return Sample(
            at_s=time.monotonic(),
            begins={p: low for p, (low, _) in marks.items()},
            ends={p: high for p, (_, high) in marks.items()},
            positions=positions,
        )

    def _sink_positions(self, stage: Stage, name: str) -> dict[int, int] | None:
        if self._connection is None:
            return None
        rows = self._connection.execute(self._queries["sink_positions"], {"topic": name})
        return {int(part): int(offset) for sink, part, offset in rows if sink == stage.sink}

    def _stage_positions(self, stage: Stage, name: str) -> dict[int, int]:
        partitions = self._partitions[stage.topic.name]
        changelog = f"{self._prefix}{stage.name}_changelog"
        told = fold_positions(self._consumer, changelog=changelog, partitions=partitions)
        group = {"group.id": self._prefix + stage.name, "enable.auto.commit": False, "log_level": 0}
        with closing(Consumer(self._kafka.librdkafka() | group)) as consumer:
            return committed_offsets(consumer, name, partitions) | told

    def report(self, stage: Stage, before: Sample, after: Sample, letters: Mapping[str, int] | None) -> StageReport:
        """Compare two samples of a stage."""
        times, passed_over = self._first_waiting(stage, waiting_from(after), after.ends)
        return report(
            stage.name,
            stage.topic.full_name(self._prefix),
            before=before,
            after=after,
            waiting_since_ms=times,
            now_ms=int(time.time() * 1000),
            workers=self._members(stage),
            dead_letters=letters.get(stage.name, 0) if letters is not None else None,
            passed_over=passed_over,
        )

    def _first_waiting(
        self, stage: Stage, offsets: Mapping[int, int], ends: Mapping[int, int]
    ) -> tuple[list[int], int]:
        """Return the time of the first record of each partition that waits, and how many before them do not.

        What is not read in `_FIRST_RECORDS_S` counts as waiting.
        """
        name = stage.topic.full_name(self._prefix)
        times: dict[int, int] = {}
        passed: dict[int, int] = {}
        if not offsets:
            return [], 0
        self._consumer.assign([TopicPartition(name, p, offset) for p, offset in offsets.items()])
        looked_at: set[int] = set()
        ends_at = time.monotonic() + _FIRST_RECORDS_S
        while len(looked_at) < len(offsets) and time.monotonic() < ends_at:
            message = self._consumer.poll(0.5)
            if message is None or message.error() or (partition := message.partition()) is None:
                continue
            if partition in looked_at:
                continue  # read ahead before the pause
            following = (message.offset() or 0) + 1
            if dict(message.headers() or ()).get(KIND_HEADER) in stage.passes_over:
                passed[partition] = min(following, ends[partition]) - offsets[partition]
                if following < ends[partition]:
                    continue
            else:
                times[partition] = message.timestamp()[1]
            looked_at.add(partition)
            self._consumer.pause([TopicPartition(name, partition)])
        # the pause would outlive the assignment
        self._consumer.resume([TopicPartition(name, p) for p in looked_at])
        self._consumer.unassign()
        return list(times.values()), sum(passed.values())

    def _members(self, stage: Stage) -> int | None:
        try:
            group = list_group(self._admin, self._prefix + stage.name, timeout_s=_TIMEOUT_S)
        except KafkaException:
            return None
        return len(group.members) if group else 0


def _dead_letters(
    consumer: Consumer, kafka: KafkaSettings, prefix: str, connection: Connection | None
) -> tuple[dict[str, Any], Sequence[Letter] | None]:
    """Return the numbers, and the letters that nothing was done about; None if unknown, or too many to be read."""
    name = topics.DEAD_LETTERS.full_name(prefix)
    metadata = consumer.list_topics(name, timeout=_TIMEOUT_S).topics[name]
    bounds = [watermarks(consumer, name, p) for p in metadata.partitions] if metadata.error is None else []
    kept = sum(high - low for low, high in bounds)
    if kept > MOST_LETTERS_COUNTED or (kept and connection is None):
        return {"kept": kept, "waiting": None, "by_reason": None}, None
    waiting: list[Letter] = []
    if kept and connection is not None:
        marks = Marks(describe_topic(kafka, name).topic_id).read(connection)
        letters = scan(kafka, prefix=prefix, wanted=LetterFilter()).letters
        waiting = [letter for about, letter in letters.items() if about not in marks]
    by_reason = dict(Counter(letter.reason for letter in waiting))
    return {"kept": kept, "waiting": len(waiting), "by_reason": by_reason}, waiting


def rows_for_people(stages: Sequence[Mapping[str, Any]]) -> list[list[Any]]:
    """Return the table's rows of a report."""
    return [
        [
            stage["stage"],
            "unknown" if stage["lag"] is None else stage["lag"],
            stage["incoming_per_s"],
            stage["processed_per_s"],
            "" if stage["oldest_unprocessed_s"] is None else f"{stage['oldest_unprocessed_s']:.1f}",
            stage["dead_letters"],
            stage["workers"],
            stage["lost"] or "",
        ]
        for stage in stages
    ]
