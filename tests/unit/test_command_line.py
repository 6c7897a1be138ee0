import io
import subprocess
import sys
from collections.abc import Mapping
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import pytest

from deploy.command.application import build, run
from deploy.command.failure import CommandFailure, Exit, explain
from deploy.runtime.program import RuntimeFailure
from schemas.environment import SettingsError

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


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (CommandFailure("no such thing"), Exit.NO),
        (CommandFailure("wrong", Exit.USAGE), Exit.USAGE),
        (RuntimeFailure("in use"), Exit.NO),
        (SettingsError("TRACEFLOW_X: missing"), Exit.CONFIGURATION),
        (TimeoutError("slow"), Exit.UNAVAILABLE),
        (PermissionError("no"), Exit.NO),
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
    assert code == 1
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
