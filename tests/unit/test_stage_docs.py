"""deploy/docs/stages.md says what the code does: stages, settings, metrics, and the lines with which a worker ends."""

import re
from pathlib import Path

from prometheus_client import CollectorRegistry

from stream_processors.analyze.wiring import AnalyzeSettings
from stream_processors.kinds import KINDS
from stream_processors.metrics import declare_metrics
from stream_processors.runner.failstop import WHAT_TO_DO
from stream_processors.settings import StageSettings

ROOT = Path(__file__).parents[2]
DOCS = (ROOT / "deploy" / "docs" / "stages.md").read_text()


def table(heading: str) -> list[list[str]]:
    """Return the cells of the tables under a heading, without their heads."""
    section = DOCS.partition(f"# {heading}\n")[2].partition("\n## ")[0]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in section.splitlines() if line[:1] == "|"]
    return [row for row in rows if row[0][:1] == "`"]


def test_every_stage_is_documented_with_its_topics() -> None:
    documented = [(row[0], row[1], row[3]) for row in table("The stages")]
    assert documented == [(f"`{k.name}`", f"`{k.source.name}`", f"`{k.changelog.name}`") for k in KINDS.values()]


def test_every_setting_is_documented_with_its_default_and_reason() -> None:
    runner = [
        [f"`TRACEFLOW_STAGE_{name.upper()}`", f"`{field.default}`", field.description]
        for name, field in StageSettings.model_fields.items()
    ]
    logic = [
        [f"`TRACEFLOW_STAGE_{name.upper()}`", f"`{field.default}`"]
        for name, field in AnalyzeSettings.model_fields.items()
    ]
    documented = table("Settings")
    assert documented[: len(runner)] == runner
    assert [row[:2] for row in documented[len(runner) :]] == logic


def test_every_metric_is_documented() -> None:
    registry = CollectorRegistry()
    declare_metrics(registry)
    assert table("Metrics") == [
        [f"`{f.name}{'_total' if f.type == 'counter' else ''}`", f.type, f.documentation] for f in registry.collect()
    ]


def test_every_line_with_which_a_worker_ends_is_documented() -> None:
    code = "".join(path.read_text() for path in (ROOT / "stream_processors").rglob("*.py"))
    ended_by = set(re.findall(r'fail_stop(?:\(|, \()\s*"(\w+)"', code)) | {"cannot_start"}
    assert {row[0].strip("`") for row in table("When it stops") if len(row) == 4} == ended_by


def test_every_line_that_asks_for_a_person_says_what_to_do() -> None:
    documented = {row[0].strip("`"): row[3] for row in table("When it stops") if row[1] == "78"}
    del documented["cannot_start"]
    assert documented == WHAT_TO_DO
    code = "".join(path.read_text() for path in (ROOT / "stream_processors").rglob("*.py"))
    halting = set(re.findall(r'fail_stop\(\s*"(\w+)", code=HALT', code)) | {"stage_failed"}
    assert halting == set(WHAT_TO_DO)
