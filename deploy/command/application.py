"""The command line: which commands there are, how each is taught, and how each ends."""

import logging
import os
import sys
from collections.abc import Sequence
from typing import Annotated

import typer

from deploy.command import (
    accounts,
    ask,
    detect,
    erase,
    letters,
    manage,
    offsets,
    operate,
    partitions,
    plans,
    replay,
    serve,
    subscriptions,
    users,
)
from deploy.command.failure import Exit, explain
from deploy.command.options import group, teach


def build() -> typer.Typer:
    """Build the command line."""
    app = group("Session intelligence: browser events and rrweb recordings in, frustration findings in plain SQL out.")
    app.callback(invoke_without_command=True)(_root)
    _add_running(app)
    _add_operating(app)
    app.add_typer(_projects(), name="projects", short_help="Projects, keys, settings, owners, members.")
    app.add_typer(_users(), name="users", short_help="Who owns projects, or sees them.")
    app.add_typer(_plans(), name="plans", short_help="What can be subscribed to.")
    app.add_typer(_subscriptions(), name="subscriptions", short_help="Who has which plan, and what is used of it.")
    app.add_typer(_dead_letters(), name="dead-letters", short_help="What could not be processed, and why.")
    app.add_typer(_offsets(), name="offsets", short_help="Where the sinks stand in the log.")
    app.add_typer(_recordings(), name="recordings", short_help="Take recordings out.")
    app.add_typer(_partitions(), name="partitions", short_help="Days of events and recordings.")
    return app


def _add_running(app: typer.Typer) -> None:
    up = teach("traceflow up", "traceflow up --gateway-port 0 --workers analyze=2,sink=2")
    app.command(short_help="Run everything on this machine.", epilog=up)(serve.up)
    settings = (
        "Settings come from TRACEFLOW_* variables: a missing or wrong one is named, with exit code 78. Exit code 75 "
        "says: start it again, it goes on from where it stood."
    )
    for command, about in ((serve.gateway, "gateway"), (serve.digest, "digest"), (serve.analyze, "analyze")):
        example = f"TRACEFLOW_KAFKA_BOOTSTRAP=broker:9092 traceflow {about}"
        app.command(short_help=f"Run one {about} process.", epilog=teach(example, more=settings))(command)
    sink = teach("traceflow sink", "traceflow sink events recordings", more=settings)
    app.command(short_help="Run one sink process.", epilog=sink)(serve.sink)
    demo = teach("traceflow demo", "traceflow demo --json", more="Exit code 1 says: a number does not add up.")
    app.command(short_help="Show it on real browser sessions.", epilog=demo)(serve.demo)
    load = teach(
        "traceflow load --rate 2000 --seconds 60 --verify", more="Exit code 1 says: refused, or not as promised."
    )
    app.command(short_help="Send synthetic sessions to a running `up`.", epilog=load)(serve.load)


def _add_operating(app: typer.Typer) -> None:
    migrate = teach(
        "traceflow migrate",
        "traceflow migrate --dry-run",
        "traceflow migrate --status --json",
        more="Exit code 1 says: not up to date (--status), or refused.",
    )
    app.command(short_help="Bring the database up to date.", epilog=migrate)(operate.migrate)
    topics = teach(
        "traceflow topics --replication 3", "traceflow topics --check", more="Exit code 1 says: they differ."
    )
    app.command("topics", short_help="Create and check the topics.", epilog=topics)(operate.topics_command)
    forget = teach("traceflow forget analyze", "traceflow forget digest --yes")
    app.command(short_help="Let a stage begin anew.", epilog=forget)(operate.forget)
    status = teach("traceflow status", "traceflow status --check > /dev/null || mail -s ill ops@shop.example")
    app.command(short_help="How each stage keeps up.", epilog=status)(operate.status)
    account = teach(
        "traceflow accounts --from 1d",
        "traceflow accounts --json",
        more="Exit code 1 says: an event is nowhere, or there twice.",
    )
    app.command(short_help="Count where every event is.", epilog=account)(accounts.accounts)
    detection = teach(
        "traceflow detect --session first rrweb.jsonl.gz",
        "traceflow detect --table first.json",
        "traceflow recordings export first | traceflow detect --session first -",
        more="Exit code 1 says: a file cannot be read. What is left out of a file is told on standard error.",
    )
    app.command(short_help="Find in captured sessions, offline.", epilog=detection)(detect.detect)
    again = teach(
        "traceflow replay --check",
        "traceflow replay --from 2h --dry-run",
        "traceflow replay --from 2026-11-30T12:00 --project 3f0c…",
        more="Exit code 1 says: a row is missing or was changed, and was left so.",
    )
    app.command(short_help="Fold the log again; compare, or write what is missing.", epilog=again)(replay.replay)
    gone = teach(
        "traceflow erase --project 3f0c… --visitor ada@shop.example --dry-run",
        "traceflow erase --project 3f0c… --session first --yes",
        more="Ended anywhere, it may be run again. Exit code 1 says: rows are left.",
    )
    app.command(short_help="Remove a visitor or session for good.", epilog=gone)(erase.erase)
    sql = teach('traceflow sql "SELECT count(*) FROM traceflow_events" --json', "traceflow sql - < question.sql")
    app.command("sql", short_help="Ask the database, read-only.", epilog=sql)(ask.sql_command)


def _projects() -> typer.Typer:
    projects = group("Make projects and their keys, change their settings, say who pays and who sees them.")
    create = teach("traceflow projects create shop origins=https://shop.example")
    projects.command("create", short_help="Make a project and its key.", epilog=create)(manage.projects_create)
    listing = teach("traceflow projects list --json")
    projects.command("list", short_help="Show all projects.", epilog=listing)(manage.projects_list)
    rotate = teach("traceflow projects rotate-key 3f0c… --keep-old")
    projects.command("rotate-key", short_help="Make another key.", epilog=rotate)(manage.projects_rotate_key)
    change = teach(
        "traceflow projects set 3f0c… session_gap_ms=600000 origins=https://a.example,https://b.example",
        "traceflow projects set 3f0c… detectors.rage_click.min_clicks=4",
        "traceflow projects set 3f0c… session_gap_ms=      (back to the default)",
    )
    projects.command("set", short_help="Change settings.", epilog=change)(manage.projects_set)
    owner = teach("traceflow projects owner 3f0c… ann@shop.example", "traceflow projects owner 3f0c… --nobody")
    projects.command("owner", short_help="Say who pays.", epilog=owner)(manage.projects_owner)
    members = teach("traceflow projects members 3f0c…")
    projects.command("members", short_help="Show who sees it.", epilog=members)(manage.projects_members)
    member = teach(
        "traceflow projects member 3f0c… bob@shop.example --role viewer",
        "traceflow projects member 3f0c… bob@shop.example --remove",
    )
    projects.command("member", short_help="Say who sees it.", epilog=member)(manage.projects_member)
    return projects


def _users() -> typer.Typer:
    people = group(
        "Users: their roles in the installation, and features of their own. On Supabase they are made there."
    )
    listing = teach("traceflow users list")
    people.command("list", short_help="Show all users.", epilog=listing)(users.users_list)
    add = teach("traceflow users add ann@shop.example --role admin")
    people.command("add", short_help="Make a user.", epilog=add)(users.users_add)
    role = teach("traceflow users role ann@shop.example admin", "traceflow users role ann@shop.example admin --take")
    people.command("role", short_help="Give or take a role.", epilog=role)(users.users_role)
    feature = teach(
        "traceflow users feature ann@shop.example ai_analysis on --limit 100 --days 30",
        "traceflow users feature ann@shop.example ai_analysis plan",
    )
    people.command("feature", short_help="Give or take a feature.", epilog=feature)(users.users_feature)
    remove = teach(
        "traceflow users remove ann@shop.example --yes", more="Exit code 1 says: nothing was changed, and why."
    )
    people.command("remove", short_help="Remove a user.", epilog=remove)(users.users_remove)
    return people


def _plans() -> typer.Typer:
    offered = group("Plans: what a subscription of each allows.")
    listing = teach("traceflow plans list")
    offered.command("list", short_help="Show all plans.", epilog=listing)(plans.plans_list)
    change = teach(
        "traceflow plans set starter sessions_limit=20000 features=session_replay,heatmaps --apply",
        "traceflow plans set enterprise recordings_limit=      (no limit)",
    )
    offered.command("set", short_help="Make or change one.", epilog=change)(plans.plans_set)
    return offered


def _subscriptions() -> typer.Typer:
    held = group("Subscriptions: who has which plan, and what is used of it. A user without one has no limits.")
    listing = teach("traceflow subscriptions list")
    held.command("list", short_help="Show all, with their use.", epilog=listing)(subscriptions.subscriptions_list)
    usage = teach("traceflow subscriptions usage ann@shop.example")
    held.command("usage", short_help="Show one user's.", epilog=usage)(subscriptions.subscriptions_usage)
    change = teach(
        "traceflow subscriptions set ann@shop.example --plan starter --trial-days 14",
        "traceflow subscriptions set ann@shop.example --sessions 50000 --recordings unlimited",
    )
    held.command("set", short_help="Give or change one.", epilog=change)(subscriptions.subscriptions_set)
    cancel = teach(
        "traceflow subscriptions cancel ann@shop.example", "traceflow subscriptions cancel ann@shop.example --at-once"
    )
    held.command("cancel", short_help="Let it end.", epilog=cancel)(subscriptions.subscriptions_cancel)
    return held


def _dead_letters() -> typer.Typer:
    parked = group("Look at what could not be processed, and why; put it back, or mark it as dealt with.")
    listing = teach("traceflow dead-letters list --reason engine_error --since 2h --state waiting")
    parked.command("list", short_help="List them.", epilog=listing)(letters.dead_letters_list)
    show = teach("traceflow dead-letters show 3:120")
    parked.command("show", short_help="Show one.", epilog=show)(letters.dead_letters_show)
    stats = teach("traceflow dead-letters stats", "traceflow dead-letters stats --since 1d --json")
    parked.command("stats", short_help="Count them.", epilog=stats)(letters.dead_letters_stats)
    redrive = teach(
        "traceflow dead-letters redrive --stage analyze --reason engine_error --dry-run",
        "traceflow dead-letters redrive 3:120 3:121",
        more="Exit code 1 says: a sink refused some again.",
    )
    parked.command("redrive", short_help="Put them back, once.", epilog=redrive)(letters.dead_letters_redrive)
    drop = teach("traceflow dead-letters drop --stage gateway --until 1d", "traceflow dead-letters drop 3:120 --undo")
    parked.command("drop", short_help="Mark them as dealt with.", epilog=drop)(letters.dead_letters_drop)
    return parked


def _offsets() -> typer.Typer:
    places = group("Look at where the sinks stand in the log, and let them go on where it lost something.")
    listing = teach("traceflow offsets list", more="Exit code 1 says: the log has lost something.")
    places.command("list", short_help="Show them.", epilog=listing)(offsets.offsets_list)
    accepting = teach(
        "traceflow offsets accept-loss",
        "traceflow offsets accept-loss --yes",
        more="Exit code 1 says: something is lost, and nothing was changed.",
    )
    places.command("accept-loss", short_help="Go on with what is left.", epilog=accepting)(offsets.offsets_accept_loss)
    return places


def _recordings() -> typer.Typer:
    recordings = group("Take session recordings out.")
    export = teach("traceflow recordings export first --output first.json")
    recordings.command("export", short_help="Write one as a JSON array.", epilog=export)(ask.recordings_export)
    return recordings


def _partitions() -> typer.Typer:
    days = group("The days of events and recordings in Postgres: look at them, make them, say how long they stay.")
    listing = teach("traceflow partitions list")
    days.command("list", short_help="Show them.", epilog=listing)(partitions.partitions_list)
    ensure = teach("traceflow partitions ensure --ahead 14")
    days.command("ensure", short_help="Make those that are missing.", epilog=ensure)(partitions.partitions_ensure)
    keep = teach(
        "traceflow partitions keep --events 90 --recordings 30 --sessions 400",
        "traceflow partitions keep --recordings forever",
        "traceflow partitions keep --json",
    )
    days.command("keep", short_help="Say how long they stay.", epilog=keep)(partitions.partitions_keep)
    prune = teach(
        "traceflow partitions prune --dry-run",
        "traceflow partitions prune --keep-events 365",
        more="Exit code 1 says: a long transaction still reads one; prune again.",
    )
    days.command("prune", short_help="Drop old ones.", epilog=prune)(partitions.partitions_prune)
    return days


def run(arguments: Sequence[str]) -> int:
    """Run a command line and return its exit code; an expected error is one line on standard error."""
    # without a handler Python prints what librdkafka says at each attempt, 40 lines a second while a broker is away
    logging.getLogger("librdkafka").addHandler(logging.NullHandler())
    try:
        build()(list(arguments), prog_name="traceflow")
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else Exit.USAGE
    except KeyboardInterrupt:
        return Exit.INTERRUPTED
    except BrokenPipeError:
        # the reader of our output has seen enough; keep the interpreter's own flush at exit quiet
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return Exit.DONE
    except Exception as error:
        told = explain(error)
        if told is None:
            raise
        sys.stderr.write(f"traceflow: {told[0]}\n")
        return told[1]
    return Exit.DONE


def _root(
    context: typer.Context, version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False
) -> None:
    if version:
        from importlib.metadata import version as version_of

        typer.echo(version_of("traceflow"))
        raise typer.Exit
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())
