"""The commands for who operates a deployment: `migrate`, `topics`, `forget`, `status`."""

import os
from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated, Any

import typer

from deploy.command.failure import Exit
from deploy.command.options import Data, Json


class Stage(StrEnum):
    """Stages with a state, which can be made anew from the log."""

    DIGEST = "digest"
    ANALYZE = "analyze"


def migrate(
    data: Data = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be applied, change nothing.")] = False,
    show_status: Annotated[bool, typer.Option("--status", help="Show each migration's state, change nothing.")] = False,
    as_json: Json = False,
) -> None:
    """Bring the database to the newest schema: forward only, safe to run twice, safe beside running services.

    --status and --dry-run change nothing and are content with an analyst's login. --status ends with exit code 1 unless
    the database is what this version of TraceFlow expects; --dry-run where it would refuse to migrate.
    """
    from adapters import migrations
    from deploy.command.answer import print_json, print_table
    from deploy.command.reach import database

    url = database(os.environ, data).url.get_secret_value()
    if show_status:
        found = migrations.status(url)
        if as_json:
            print_json(found)
        else:
            columns = ["version", "name", "state", "applied_at", "ms"]
            print_table(columns, [[getattr(row, column) for column in columns] for row in found])
        for row in found:
            if row.state != "applied":
                typer.echo(f"{row.name} {_STATES[row.state]}", err=True)
        unfinished = migrations.unfinished_indexes(url)
        for index in unfinished:
            typer.echo(
                f"{index} is not in every partition yet: being built, or for `traceflow migrate` to finish", err=True
            )
        if unfinished or any(row.state != "applied" for row in found):
            raise typer.Exit(Exit.NO)
        return
    applied = migrations.migrate(url, dry_run=dry_run)
    if as_json:
        print_json(applied)
        return
    for migration in applied:
        typer.echo(f"{'would apply' if dry_run else 'applied'} {migration.name}")
        for warning in migration.warnings:
            typer.echo(f"  {warning}")
    typer.echo("the database is up to date" if not (dry_run and applied) else f"{len(applied)} migrations are pending")


_STATES = {
    "pending": "is pending: `traceflow migrate`",
    "edited": "is not what was applied under its number: restore the file and put the change into a new one",
    "unknown": "was applied by a newer version of TraceFlow: update this one",
}


def topics_command(
    data: Data = None,
    replication: Annotated[
        int, typer.Option(help="Replicas of each partition; from 3 on two must have a record.", min=1)
    ] = 1,
    partitions: Annotated[
        int | None, typer.Option(help="Of each topic; default TRACEFLOW_PARTITIONS.", min=1, max=1000)
    ] = None,
    check: Annotated[bool, typer.Option("--check", help="Only compare, create nothing.")] = False,
    as_json: Json = False,
) -> None:
    """Create the topics that are missing, and report how existing ones differ from their declarations.

    Existing topics are never altered. What differs ends with exit code 1 under --check; without it only what no service
    could work with does (a topic that is missing, or has another number of partitions): retention is yours to tune.
    """
    from adapters.kafka_admin import Layout, admin_client, check_topics, create_topics
    from deploy.command.answer import print_json
    from deploy.command.reach import kafka
    from schemas import topics

    settings, log = kafka(os.environ, data)
    layout = Layout(prefix=log.topic_prefix, partitions=partitions or log.partitions, replication=replication)
    admin = admin_client(settings)
    created = [] if check else create_topics(admin, topics.ALL, layout)
    differences = check_topics(admin, topics.ALL, layout)
    if as_json:
        print_json({"created": created, "differences": differences})
    else:
        for name in created:
            typer.echo(f"created {name}: {layout.partitions} partitions, {layout.replication} replicas")
        for difference in differences:
            typer.echo(str(difference))
        if any(found.what == "partitions" for found in differences):
            typer.echo(
                "partitions stay as they were made: give every process that number by TRACEFLOW_PARTITIONS", err=True
            )
        if not differences:
            typer.echo(f"all {len(topics.ALL)} topics are as declared")
    if differences if check else [found for found in differences if found.what in ("missing", "partitions")]:
        raise typer.Exit(Exit.NO)


def forget(
    stage: Annotated[Stage, typer.Argument(show_default=False)],
    data: Data = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do it; without this, only say what would be done.")] = False,
) -> None:
    """Empty the changelog of a stage whose workers are stopped, so that it folds anew what is kept of its log.

    What it sends again has the ids that it had, and no second effect. Sessions that began before the kept log lose it.
    """
    from deploy.command.forget import forget_stage
    from deploy.command.reach import kafka

    settings, log = kafka(os.environ, data)
    if not yes:
        typer.echo(f"would empty {log.topic_prefix}{stage.value}_changelog; say --yes to do it")
        return
    typer.echo(f"emptied {forget_stage(stage.value, settings, log)}: start its workers again")


def status(
    data: Data = None,
    interval: Annotated[float, typer.Option(help="Seconds over which throughput is measured.", min=0.1, max=60)] = 2.0,
    check: Annotated[bool, typer.Option("--check", help="End with exit code 1 if anything is ill.")] = False,
    as_json: Json = False,
) -> None:
    """Show how each stage keeps up: lag, throughput, age of the oldest record that waits, dead letters; who is ill.

    Measured from outside: no process is asked. Without Postgres what Kafka knows is shown, with exit code 69. Where
    each event is, one by one: `traceflow accounts`.
    """
    from deploy.command import reach
    from deploy.command.answer import print_json
    from deploy.command.status import gather_status

    kafka, log = reach.kafka(os.environ, data)
    found = gather_status(kafka, log, reach.database(os.environ, data), interval_s=interval)
    if as_json:
        print_json(found)
    else:
        _tell_status(found)
    if found["unreachable"]:
        raise typer.Exit(Exit.UNAVAILABLE)
    if check and found["ill"]:
        raise typer.Exit(Exit.NO)


def _tell_status(found: Mapping[str, Any]) -> None:
    from deploy.command.answer import print_table
    from deploy.command.status import rows_for_people

    columns = ["stage", "lag", "in/s", "done/s", "oldest s", "dead letters", "workers", "lost"]
    print_table(columns, rows_for_people(found["stages"]))
    letters = found["dead_letters"]
    reasons = ", ".join(f"{reason} {n}" for reason, n in sorted((letters["by_reason"] or {}).items()))
    waiting = letters["waiting"]
    if waiting is None:
        waiting = "unknown" if found["unreachable"] else "too many to be counted"
    typer.echo(f"dead letters waiting: {waiting}{f' ({reasons})' if reasons else ''}, kept: {letters['kept']}")
    _tell_store(found)
    for line in found["ill"] or ["all is well"]:
        typer.echo(line)


def _tell_store(found: Mapping[str, Any]) -> None:
    """Print what the database says of itself; nothing where it cannot be asked."""
    versions = found["versions"]
    if found["unreachable"]:
        typer.echo(f"traceflow {versions['traceflow']}, message format {versions['message_format']}")
        return
    newest = found["newest_event_stored_s"]
    typer.echo("newest event stored: " + ("none of the last two days" if newest is None else f"{newest:.1f} s old"))
    for project in found["limited_projects"]:
        until = f", until {project['until']:%Y-%m-%d %H:%M} UTC at the latest" if project["until"] else ""
        typer.echo(
            f"plan used up: {project['name']} ({project['project_id']}), no {', no '.join(project['limited'])}{until}"
        )
    ahead = ", ".join(f"{table} {days}" for table, days in found["partitions_ahead_days"].items())
    typer.echo(f"partitions ahead, days: {ahead}")
    kept = ", ".join(f"{each['table']} {each['days'] or 'for ever'}" for each in found["retention"])
    typer.echo(f"kept, days: {kept or 'unknown'}")
    pending = f", {len(versions['schema_pending'])} migrations pending" if versions["schema_pending"] else ""
    typer.echo(
        f"traceflow {versions['traceflow']}, message format {versions['message_format']}, "
        f"schema {versions['schema']}{pending}, PostgreSQL {versions['postgres']}"
    )
