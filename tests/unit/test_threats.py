"""deploy/docs/threats.md names a test for each line, and these tests hold what no other one does."""

import ast
import re
import ssl
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from schemas.connections import DatabaseSettings, KafkaSettings
from schemas.environment import read_settings
from stream_processors.runner.faust_app import credentials

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "deploy" / "docs" / "threats.md").read_text()
PACKAGES = ("schemas", "adapters", "ingest_gateway", "stream_processors", "sinks", "deploy")
RUNS_WHAT_IT_READS = {"pickle", "marshal", "shelve", "dill", "yaml", "jsonpickle", "code", "codeop"}
OF_A_PERSON = {"ip", "ip_address", "address", "client", "visitor", "visitor_id", "user_agent", "key", "keys"}


def sources() -> Iterator[tuple[Path, ast.Module]]:
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            yield path, ast.parse(path.read_text())


def calls(tree: ast.Module) -> Iterator[ast.Call]:
    return (node for node in ast.walk(tree) if isinstance(node, ast.Call))


def lines_of(section: str) -> list[list[str]]:
    text = PAGE.partition(f"## {section}\n")[2].partition("\n## ")[0]
    rows = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in text.splitlines() if line[:1] == "|"]
    return rows[2:]


def test_each_line_of_the_page_names_tests_that_exist() -> None:
    written = "".join(path.read_text() for path in (ROOT / "tests").rglob("test_*.py"))
    for section in ("Who sends", "Who reads", "Who administers"):
        lines = lines_of(section)
        assert len(lines) > 4
        for line in lines:
            named = re.findall(r"`(test_\w+)`", line[-1])
            assert named, line
            assert [name for name in named if f"def {name}(" not in written] == []


def test_each_figure_of_the_reliability_page_names_tests_that_exist() -> None:
    text = (ROOT / "deploy" / "docs" / "reliability.md").read_text().partition("In numbers")[2].partition("\n## ")[0]
    written = "".join(path.read_text() for path in (ROOT / "tests").rglob("test_*.py"))
    rows = [line for line in text.splitlines() if line.startswith("| ")][1:]
    assert len(rows) > 9
    for row in rows:
        named = re.findall(r"`(test_\w+)`", row)
        assert named, row
        assert [name for name in named if f"def {name}(" not in written] == []


def test_no_statement_is_put_together_from_text() -> None:
    """What is executed is a constant, a named query of a file, or composed by psycopg.sql, which quotes."""
    for path, tree in sources():
        for call in calls(tree):
            if not (isinstance(call.func, ast.Attribute) and call.func.attr in {"execute", "executemany", "copy"}):
                continue
            statement = call.args[0] if call.args else ast.Constant("")
            assert not isinstance(statement, ast.JoinedStr | ast.BinOp), f"{path}:{call.lineno}"
            made = ast.unparse(statement.func) if isinstance(statement, ast.Call) else ""
            assert not made.endswith(".format") or made.startswith("sql.SQL("), f"{path}:{call.lineno}"


def test_nothing_that_came_from_outside_can_be_run() -> None:
    for path, tree in sources():
        for node in ast.walk(tree):
            names = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                names = [node.module or ""]
            elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                assert node.func.id not in {"eval", "exec", "compile", "__import__"}, f"{path}:{node.lineno}"
            assert not {name.partition(".")[0] for name in names} & RUNS_WHAT_IT_READS, path
        shells = [call for call in calls(tree) if any(k.arg == "shell" for k in call.keywords)]
        assert shells == [], path


def test_no_log_line_names_an_address_or_a_visitor() -> None:
    for path, tree in sources():
        for call in calls(tree):
            if ast.unparse(call.func) in {
                f"log.{level}" for level in ("debug", "info", "warning", "error", "exception")
            }:
                assert not {keyword.arg for keyword in call.keywords} & OF_A_PERSON, f"{path}:{call.lineno}"


def test_no_key_is_compared() -> None:
    """A key is found by its hash: the time that a look-up takes says nothing about the bytes of a key."""
    for path in (ROOT / "ingest_gateway").rglob("*.py"), [ROOT / "adapters" / "project_snapshot.py"]:
        for source in path:
            for node in ast.walk(ast.parse(source.read_text())):
                if isinstance(node, ast.Compare) and any(isinstance(op, ast.Eq | ast.NotEq) for op in node.ops):
                    sides = {ast.unparse(side) for side in (node.left, *node.comparators)}
                    assert not sides & {"key", "project_key", "key_hash"}, f"{source}:{node.lineno}"


def test_every_package_is_locked_with_its_hash() -> None:
    packages = tomllib.loads((ROOT / "uv.lock").read_text())["package"]
    assert len(packages) > 30
    for package in packages:
        if "editable" in package["source"]:
            continue
        files = [*package.get("wheels", ()), *([package["sdist"]] if "sdist" in package else ())]
        assert files, package["name"]
        assert all(file["hash"].startswith("sha256:") for file in files), package["name"]


def test_every_setting_of_a_connection_is_documented() -> None:
    documented = {row[0].strip("`") for row in lines_of("Connections")}
    settings = {f"TRACEFLOW_KAFKA_{name.upper()}" for name in KafkaSettings.model_fields if name != "bootstrap"}
    assert documented == settings | {f"TRACEFLOW_DATABASE_{name.upper()}" for name in DatabaseSettings.model_fields}


@pytest.mark.parametrize(
    ("protocol", "mechanism"), [("SSL", ""), ("SASL_SSL", "SCRAM-SHA-512"), ("SASL_PLAINTEXT", "PLAIN")]
)
def test_the_stages_connect_to_kafka_as_every_other_process_does(protocol: str, mechanism: str) -> None:
    environ = {
        "TRACEFLOW_KAFKA_BOOTSTRAP": "a:1",
        "TRACEFLOW_KAFKA_SECURITY_PROTOCOL": protocol,
        "TRACEFLOW_KAFKA_SASL_MECHANISM": mechanism,
        "TRACEFLOW_KAFKA_SASL_USERNAME": "u",
        "TRACEFLOW_KAFKA_SASL_PASSWORD": "p",
    }
    found = credentials(read_settings(KafkaSettings, environ, group="KAFKA"))
    assert found.protocol.value == protocol
    context = found.ssl_context if mechanism else found.context
    verified = context is not None and context.verify_mode is ssl.CERT_REQUIRED and context.check_hostname
    assert verified == protocol.endswith("SSL")
