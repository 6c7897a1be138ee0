"""deploy/docs/sinks.md says what the code does: sinks, settings, metrics."""

from pathlib import Path

from prometheus_client import CollectorRegistry

from sinks.app import SINKS
from sinks.metrics import declare_metrics
from sinks.settings import SinkSettings

DOCS = (Path(__file__).parents[2] / "deploy" / "docs" / "sinks.md").read_text()


def table(heading: str) -> list[list[str]]:
    """Return the cells of the table under a heading, without its head."""
    section = DOCS.partition(f"## {heading}\n")[2].partition("\n## ")[0]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in section.splitlines() if line[:1] == "|"]
    return rows[2:]


def test_every_sink_is_documented_with_its_topic() -> None:
    documented = {(row[0], row[1]) for row in table("What each writes")}
    assert documented == {(f"`{name}`", f"`{build().topic.name}`") for name, build in SINKS.items()}


def test_every_setting_is_documented_with_its_default_and_reason() -> None:
    assert table("Settings") == [
        [f"`TRACEFLOW_SINK_{name.upper()}`", f"`{field.default}`", field.description]
        for name, field in SinkSettings.model_fields.items()
    ]


def test_every_metric_is_documented() -> None:
    registry = CollectorRegistry()
    declare_metrics(registry)
    assert table("Metrics") == [
        [f"`{f.name}{'_total' if f.type == 'counter' else ''}`", f.type, f.documentation] for f in registry.collect()
    ]
