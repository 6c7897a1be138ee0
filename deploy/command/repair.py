"""Put dead letters back or mark them, for `traceflow dead-letters`."""

import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg
from confluent_kafka import KafkaException

from adapters import logs
from adapters.dead_letter_marks import LetterId, LetterPlace, Mark, Marks, MarkState
from adapters.kafka_consumer import TopicMissing, describe_topic
from adapters.postgres import Connection, DatabaseRefused, connect
from deploy.command import reach
from deploy.command.failure import CommandFailure, Exit, one_line
from deploy.redrive.plan import Letter, Plan, make_plan
from deploy.redrive.run import LogStep, NotAcknowledged, Outcome, Redrive
from schemas import topics
from schemas.connections import KafkaSettings
from sinks.app import SINKS, Environment
from sinks.commit.writer import Abandoned, Step
from sinks.contract.verdicts import SinkHalted

_NEEDS = ("TRACEFLOW_KAFKA_BOOTSTRAP", "TRACEFLOW_DATABASE_URL")
_GO_ON = "nothing was lost or done twice: run the same command again, it goes on from there"

Json = dict[str, Any]


def environment(environ: Mapping[str, str], data: Path | None) -> Environment:
    """Return the settings with which the sinks' code writes: those of the sinks."""
    return Environment.read(reach.environment(environ, data, needs=_NEEDS))


def known_marks(environ: Mapping[str, str], data: Path | None) -> dict[LetterId, Mark] | None:
    """Return what was done about letters; None, and a line that says why, if Postgres cannot tell: they can be read."""
    try:
        settings = environment(environ, data)
        with _connected(settings) as connection:
            return _marks(settings.kafka, settings.log.topic_prefix).read(connection)
    except (CommandFailure, DatabaseRefused, psycopg.Error) as error:
        sys.stderr.write(f"traceflow: what was done about them is unknown: {one_line(error)}\n")
        return None


def redrive(
    settings: Environment,
    letters: Sequence[Letter],
    *,
    dry_run: bool,
    on_step: Callable[[LogStep | Step], None] = lambda _step: None,
) -> Json:
    """Put letters back and return what became of them.

    Raises:
        CommandFailure: Kafka or Postgres cannot take them now, or a person has to act.
    """
    logs.configure("redrive", log_format=settings.log.log_format)
    with _connected(settings) as connection:
        marks = _marks(settings.kafka, settings.log.topic_prefix)
        plan = make_plan(letters, marks.read(connection), sinks=SINKS.keys())
        if dry_run:
            begun = len(marks.sending(connection))
            return _answer(plan, Outcome(), begun=begun, lines=_planned(plan, begun))
        run = Redrive(settings, connection, marks, on_step)
        try:
            outcome = run.run(plan)
        except (NotAcknowledged, Abandoned, KafkaException, TimeoutError) as error:
            raise CommandFailure(f"{_so_far(run.outcome)}{one_line(error)}; {_GO_ON}", Exit.UNAVAILABLE) from error
        except SinkHalted as error:
            raise CommandFailure(f"{_so_far(run.outcome)}{one_line(error)}") from error
    return _answer(plan, outcome, begun=0, lines=_done(plan, outcome))


def drop(settings: Environment, letters: Sequence[Letter], *, undo: bool, dry_run: bool) -> Json:
    """Mark letters as dealt with, or take that back, and return how many."""
    with _connected(settings) as connection:
        marks = _marks(settings.kafka, settings.log.topic_prefix)
        known = marks.read(connection)
        places = [letter.place for letter in letters if _is_meant(known.get(letter.place.id), undo=undo)]
        verb = "taken back" if undo else "dropped"
        if dry_run:
            return {verb.replace(" ", "_"): len(places), "lines": [f"would be {verb}: {len(places)}"]}
        count = marks.take_back(connection, places) if undo else _drop(marks, connection, places)
    return {verb.replace(" ", "_"): count, "lines": [f"{verb}: {count}"]}


def _is_meant(mark: Mark | None, *, undo: bool) -> bool:
    return mark is not None and mark.state is MarkState.DROPPED if undo else mark is None


def _drop(marks: Marks, connection: Connection, places: Sequence[LetterPlace]) -> int:
    with connection.transaction(), connection.cursor() as cursor:
        return sum(marks.mark(cursor, place, MarkState.DROPPED) for place in places)


def _connected(settings: Environment) -> closing[Connection]:
    return closing(connect(settings.database, application_name="traceflow dead-letters"))


def _marks(kafka: KafkaSettings, prefix: str) -> Marks:
    try:
        return Marks(describe_topic(kafka, topics.DEAD_LETTERS.full_name(prefix)).topic_id)
    except TopicMissing as error:
        raise CommandFailure(str(error)) from error


def _answer(plan: Plan, outcome: Outcome, *, begun: int, lines: list[str]) -> Json:
    return {
        "planned": plan.counts(),
        "begun_before": begun,
        "redriven": dict(outcome.redriven),
        "refused": [
            {"place": f"{r.place.partition}:{r.place.offset}", "stage": r.place.id.stage, "reason": r.reason}
            | {"detail": r.detail}
            for r in outcome.refused
        ],
        "lost": [f"{place.partition}:{place.offset}" for place in outcome.lost],
        "impossible": {why: len(places) for why, places in plan.impossible.items()},
        "lines": lines,
    }


def _planned(plan: Plan, begun: int) -> list[str]:
    lines = [f"would go back to {stage}: {count}" for stage, count in plan.counts().items()]
    if begun:
        lines.append(f"begun by a former run, and to be finished: {begun}")
    return [*lines, *_impossible(plan)] or ["nothing waits"]


def _done(plan: Plan, outcome: Outcome) -> list[str]:
    lines = [f"redriven to {stage}: {count}" for stage, count in sorted(outcome.redriven.items())]
    lines += [
        f"refused again by {refused.place.id.stage}, waits on: {refused.place.partition}:{refused.place.offset} "
        f"{refused.reason} {refused.detail}"
        for refused in outcome.refused
    ]
    if outcome.lost:
        lines.append(f"taken by retention before they could be read: {len(outcome.lost)}")
    return [*lines, *_impossible(plan)] or ["nothing waits"]


def _impossible(plan: Plan) -> list[str]:
    return [f"cannot go back: {len(places)} ({why})" for why, places in sorted(plan.impossible.items())]


def _so_far(outcome: Outcome) -> str:
    done = sum(outcome.redriven.values())
    return f"stopped after {done}: " if done else ""
