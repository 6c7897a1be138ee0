"""Every alert asks for metrics that are exported, and has a page whose commands exist."""

import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import typer.main
from prometheus_client import CollectorRegistry

from deploy.command.application import build
from ingest_gateway.metrics import GatewayMetrics
from schemas.reasons import Blame, Reason
from sinks.metrics import declare_metrics as declare_sink_metrics
from stream_processors.metrics import declare_metrics as declare_stage_metrics

yaml = pytest.importorskip("yaml", reason="PyYAML is not installed")
DEPLOY = Path(__file__).parents[2] / "deploy"
PAGES = sorted((DEPLOY / "docs" / "runbook").glob("*.md"))
RULES: list[dict[str, Any]] = [
    rule
    for group in yaml.safe_load((DEPLOY / "alerts" / "traceflow.yml").read_text())["groups"]
    for rule in group["rules"]
]
NAMES = [rule["alert"] for rule in RULES]

OF_PROMETHEUS = {"up": {"job", "instance"}}
OF_THE_PROCESS = {"process_start_time_seconds": set[str]()}
JOBS = {f"traceflow-{service}" for service in ("gateway", "digest", "analyze", "sink")}


def exported() -> dict[str, set[str]]:
    """Return each sample's name with its labels."""
    registries = [CollectorRegistry(), CollectorRegistry()]
    declare_sink_metrics(registries[0])
    declare_stage_metrics(registries[1])
    found: dict[str, set[str]] = {}
    for registry in (*registries, GatewayMetrics().registry):
        for collector in registry._collector_to_names:
            labels = set(getattr(collector, "_labelnames", ()))
            found |= dict.fromkeys(registry._collector_to_names[collector], labels)
    return found | OF_PROMETHEUS | OF_THE_PROCESS


def metrics_of(expression: str) -> set[str]:
    return set(re.findall(r"\b(?:traceflow_\w+|process_\w+|up)\b(?=[\s{\[)]|$)", expression))


@pytest.mark.parametrize("rule", RULES, ids=NAMES)
def test_an_alert_asks_for_metrics_that_are_exported_by_labels_that_they_have(rule: dict[str, Any]) -> None:
    known, expression = exported(), rule["expr"]
    metrics = metrics_of(expression)
    assert metrics
    assert metrics <= set(known)
    for metric, selectors in re.findall(r"(\w+)\{([^}]*)\}", expression):
        assert set(re.findall(r"(\w+)(?:=~|!~|=|!=)", selectors)) <= known[metric] | {"job", "instance"}
    grouped = {label.strip() for by in re.findall(r"by \(([^)]*)\)", expression) for label in by.split(",")}
    assert grouped <= {"job"}.union(*(known[metric] for metric in metrics))
    assert expression.count("(") == expression.count(")")
    assert set(re.findall(r'job="([^"]+)"', expression)) <= JOBS


@pytest.mark.parametrize("rule", RULES, ids=NAMES)
def test_an_alert_says_who_gets_up_what_is_wrong_and_where_to_read_on(rule: dict[str, Any]) -> None:
    assert rule["labels"]["severity"] in {"page", "ticket"}
    assert rule["annotations"]["summary"].endswith(".")
    assert rule["annotations"]["runbook"] == f"deploy/docs/runbook/{rule['alert']}.md"


def test_each_alert_has_a_page_and_each_page_an_alert() -> None:
    assert len(set(NAMES)) == len(NAMES)
    assert [page.stem for page in PAGES] == sorted(NAMES)


def test_the_dashboard_shows_metrics_that_are_exported_by_labels_that_they_have() -> None:
    board = json.loads((DEPLOY / "dashboards" / "traceflow.json").read_text())
    known = exported()
    expressions = [target["expr"] for panel in board["panels"] for target in panel.get("targets", ())]
    assert len(expressions) > 10
    for expression in expressions:
        metrics = metrics_of(expression)
        assert metrics
        assert metrics <= set(known), expression
        grouped = {label.strip() for by in re.findall(r"by \(([^)]*)\)", expression) for label in by.split(",")}
        assert grouped <= {"job", "le"}.union(*(known[metric] for metric in metrics)), expression
    assert len({panel["id"] for panel in board["panels"]}) == len(board["panels"])


def test_the_alert_about_our_fault_names_every_reason_of_ours() -> None:
    (rule,) = (rule for rule in RULES if rule["alert"] == "TraceflowParkedByOurFault")
    # a request that failed is no record: nothing is parked
    ours = {reason.value for reason in Reason if reason.blame is Blame.OURS} - {Reason.INTERNAL_ERROR.value}
    for named in re.findall(r'reason=~"([^"]*)"', rule["expr"]):
        assert set(named.split("|")) == ours


def test_no_metric_has_a_label_that_clients_can_fill() -> None:
    labels = set[str]().union(*exported().values())
    assert not labels & {
        "project",
        "project_id",
        "session",
        "session_id",
        "visitor",
        "visitor_id",
        "ip",
        "key",
        "origin",
    }


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_page_says_what_it_means_how_to_see_it_and_what_to_do(page: Path) -> None:
    headings = [line for line in page.read_text().splitlines() if line.startswith("#")]
    assert headings == [f"# {page.stem}", "## What it means", "## How to see it", "## What to do"]


def commands_of(text: str) -> list[list[str]]:
    """Return the words of each command of ours that stands in code."""
    quoted = re.findall(r"`(traceflow [a-z][^`]*)`", text)
    blocks = [line.strip().partition("  #")[0] for line in text.splitlines() if line.startswith("    traceflow ")]
    return [shlex.split(command.replace("…", ""))[1:] for command in (*quoted, *blocks)]


DOCUMENTS = [*PAGES, DEPLOY / "docs" / "reliability.md", DEPLOY / "docs" / "threats.md", DEPLOY.parent / "README.md"]


@pytest.mark.parametrize("page", DOCUMENTS, ids=lambda page: page.stem)
def test_each_command_that_a_page_names_exists_with_its_options(page: Path) -> None:
    root: Any = typer.main.get_command(build())
    found = commands_of(page.read_text())
    assert found
    for words in found:
        command = root.commands[words[0]]
        if hasattr(command, "commands") and len(words) > 1:
            command = command.commands[words[1]]
        options = {name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts)}
        used = {word.partition("=")[0] for word in words if word.startswith("--")}
        assert used <= options | {"--help"}, words


@pytest.mark.parametrize("page", DOCUMENTS, ids=lambda page: page.stem)
def test_what_a_page_links_to_is_there(page: Path) -> None:
    for target in re.findall(r"\]\((?!https?:|#)([^)#]+)(?:#[^)]*)?\)", page.read_text()):
        assert (page.parent / target).exists(), target


def test_settings_and_metrics_that_a_page_names_exist() -> None:
    known = exported()
    documented = "".join(
        (DEPLOY / "docs" / name).read_text() for name in ("gateway.md", "sinks.md", "stages.md", "threats.md")
    )
    for page in PAGES:
        text = page.read_text()
        assert set(re.findall(r"\btraceflow_(?:gateway|sink|stage)_\w+\b", text)) <= {*known, "traceflow_sink"}
        for setting in re.findall(r"\bTRACEFLOW_[A-Z_]+\b", text):
            assert setting in documented, setting
