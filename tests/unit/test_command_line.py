import io
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import NoReturn

import pytest
from confluent_kafka import KafkaError, KafkaException
from psycopg import OperationalError

from deploy.command.application import build, run
from deploy.command.failure import CommandFailure, Exit, explain
from deploy.command.operate import Stage
from deploy.runtime.program import RuntimeFailure
from schemas.environment import SettingsError
from stream_processors.kinds import KINDS

COMMANDS = [
    ["up"],
    ["gateway"],
    ["digest"],
    ["analyze"],
    ["sink"],
    ["demo"],
    ["load"],
    ["migrate"],
    ["topics"],
    ["forget"],
    ["status"],
    ["accounts"],
    ["erase"],
    ["sql"],
    ["detect"],
    ["replay"],
    ["projects", "create"],
    ["projects", "list"],
    ["projects", "rotate-key"],
    ["projects", "set"],
    ["projects", "owner"],
    ["projects", "members"],
    ["projects", "member"],
    ["users", "list"],
    ["users", "add"],
    ["users", "role"],
    ["users", "feature"],
    ["users", "remove"],
    ["plans", "list"],
    ["plans", "set"],
    ["subscriptions", "list"],
    ["subscriptions", "usage"],
    ["subscriptions", "set"],
    ["subscriptions", "cancel"],
    ["dead-letters", "list"],
    ["dead-letters", "show"],
    ["dead-letters", "stats"],
    ["dead-letters", "redrive"],
    ["dead-letters", "drop"],
    ["offsets", "list"],
    ["offsets", "accept-loss"],
    ["recordings", "export"],
    ["partitions", "list"],
    ["partitions", "ensure"],
    ["partitions", "keep"],
    ["partitions", "prune"],
]


def outcome(*arguments: str) -> tuple[int, str, str]:
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        code = run(arguments)
    return code, out.getvalue(), err.getvalue()


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_every_command_teaches_by_an_example_and_tells_its_exit_codes(command: list[str]) -> None:
    code, out, _ = outcome(*command, "--help")
    assert code == 0
    assert f"\n    traceflow {' '.join(command)}" in out or f"traceflow {' '.join(command)}\n" in out
    assert "Exit codes: 0 done" in out


def test_the_list_above_is_all_commands() -> None:
    app = build()
    plain = [[command.name or getattr(command.callback, "__name__", "")] for command in app.registered_commands]
    grouped = [
        [str(group.name), str(command.name)]
        for group in app.registered_groups
        if group.typer_instance is not None
        for command in group.typer_instance.registered_commands
    ]
    assert sorted(plain + grouped) == sorted(COMMANDS)


def test_help_imports_no_driver_and_so_answers_at_once() -> None:
    script = (
        "import sys; from deploy.command.application import run; run(['--help'])\n"
        "print(sorted(m for m in sys.modules if m in "
        "('confluent_kafka','psycopg','pydantic','rich.console','faust','aiokafka','falcon','orjson')))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_a_wrong_option_is_usage_and_names_itself() -> None:
    code, out, err = outcome("topics", "--replication", "many")
    assert (code, out) == (2, "")
    assert "--replication" in err


def test_an_unknown_command_is_usage() -> None:
    assert outcome("fly")[0] == 2


def test_nothing_to_speak_to_is_one_line_that_says_what_to_do(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("TRACEFLOW_DATABASE_URL", "TRACEFLOW_KAFKA_BOOTSTRAP", "TRACEFLOW_DATA_DIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TRACEFLOW_CACHE_DIR", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    assert outcome("sql", "SELECT 1", "--json") == (
        78,
        "",
        "traceflow: no `traceflow up` runs: start one, or set TRACEFLOW_DATABASE_URL "
        "(missing: TRACEFLOW_DATABASE_URL)\n",
    )


def test_a_server_that_is_away_is_told_apart_from_a_wrong_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRACEFLOW_DATABASE_URL", "postgresql://u:secret@127.0.0.1:1/d")
    code, out, err = outcome("sql", "SELECT 1", "--json")
    assert (code, out) == (69, "")
    assert err.startswith("traceflow: Postgres cannot be reached: ")
    assert "secret" not in err
    assert err.count("\n") == 1


def test_a_kafka_that_is_away_is_one_line_too_however_often_its_driver_tries(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def unanswered(*_arguments: object, **_settings: object) -> NoReturn:
        time.sleep(0.2)  # the driver has told on its own threads that nobody answers
        raise KafkaException(KafkaError(KafkaError._TRANSPORT))

    monkeypatch.setenv("TRACEFLOW_KAFKA_BOOTSTRAP", "127.0.0.1:1")
    monkeypatch.setattr("adapters.kafka_admin.check_topics", unanswered)
    assert run(["topics", "--check"]) == 69
    assert capfd.readouterr().err == (
        "traceflow: Kafka: Local: Broker transport failure: "
        "does a broker run where TRACEFLOW_KAFKA_BOOTSTRAP, or `traceflow up`, says?\n"
    )


def test_a_url_that_cannot_be_read_is_a_wrong_setting_and_is_not_quoted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRACEFLOW_DATABASE_URL", "postgresql//u:secret@h/d")
    for command in (["sql", "SELECT 1"], ["migrate"]):
        code, _, err = outcome(*command)
        assert code == 78
        assert err.startswith("traceflow: TRACEFLOW_DATABASE_URL cannot be read: ")
        assert "secret" not in err


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["dead-letters", "list", "--reason", "engine_eror"], "--reason 'engine_eror' is unknown: did you mean engine"),
        (["dead-letters", "redrive", "--stage", "sink"], "--stage 'sink' is unknown: "),
        (["dead-letters", "list", "--state", "open"], "known are waiting, sending, redriven, dropped"),
        (["dead-letters", "stats", "--project", "shop"], "shop is no project's id: `traceflow projects list`"),
        (["dead-letters", "stats", "--since", "2999-01-01"], "--since 2999-01-01 is still to come"),
        (["accounts", "--project", "shop"], "shop is no project's id"),
        (["accounts", "--from", "2999-01-01"], "--from 2999-01-01 is still to come"),
        (["replay", "--check", "--project", "shop"], "shop is no project's id"),
        (["forget", "sink"], "'sink' is not one of 'digest', 'analyze'"),
        (["sql", " "], "no statement"),
        (["projects", "create", " "], "a project needs a name"),
        (["projects", "create", "x", "origins=shop.example"], "origins: no page is of 'shop.example'"),
        (
            ["projects", "create", "x", "origin=https://shop.example"],
            "origin: there is no such setting; there are origins,",
        ),
    ],
)
def test_what_there_cannot_be_is_usage_and_never_an_empty_answer(
    monkeypatch: pytest.MonkeyPatch, arguments: list[str], told: str
) -> None:
    monkeypatch.setenv("TRACEFLOW_DATABASE_URL", "postgresql://u@127.0.0.1:1/d")
    monkeypatch.setenv("TRACEFLOW_KAFKA_BOOTSTRAP", "127.0.0.1:1")
    code, out, err = outcome(*arguments)
    assert (code, out) == (2, "")
    assert told in err


def test_every_stage_that_can_be_forgotten_can_be_named() -> None:
    assert {stage.value for stage in Stage} == set(KINDS)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (CommandFailure("no such thing"), Exit.NO),
        (CommandFailure("wrong", Exit.USAGE), Exit.USAGE),
        (RuntimeFailure("in use"), Exit.NO),
        (SettingsError("TRACEFLOW_X: missing"), Exit.CONFIGURATION),
        (TimeoutError("slow"), Exit.UNAVAILABLE),
        (PermissionError("no"), Exit.NO),
        (OperationalError("connection failed: session is read-only"), Exit.CONFIGURATION),
    ],
)
def test_expected_errors_have_their_exit_code(error: Exception, code: Exit) -> None:
    told = explain(error)
    assert told is not None
    assert told[1] is code


def test_a_bug_keeps_its_traceback() -> None:
    assert explain(KeyError("x")) is None


def test_workers_are_checked_before_anything_starts(tmp_path: Path) -> None:
    code, _, err = outcome("up", "--data", str(tmp_path / "d"), "--workers", "sinks=2")
    assert code == 2
    assert "--workers: 'sinks' is none of gateway, digest, analyze, sink" in err
    assert not (tmp_path / "d").exists()


@pytest.mark.parametrize(
    ("arguments", "spool"), [([], None), (["--spool", "here"], str(Path("here").absolute())), (["--spool", "/d"], "/d")]
)
def test_the_gateway_is_given_its_spool_as_a_setting(
    monkeypatch: pytest.MonkeyPatch, arguments: list[str], spool: str | None
) -> None:
    given: list[Mapping[str, str]] = []
    monkeypatch.setattr("os.execve", lambda _program, _arguments, environ: given.append(environ))
    assert outcome("gateway", *arguments)[0] == 0
    assert [environ.get("TRACEFLOW_GATEWAY_SPOOL") for environ in given] == [spool]
