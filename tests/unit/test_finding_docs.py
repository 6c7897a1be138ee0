"""deploy/docs: the findings, the score and the accuracy are what the code says, number by number.

Every number stands in a table that is made from the code (`tests/finding_docs.py`), or in an example; none in between.
`python -m tests.finding_docs` writes the tables anew.
"""

import re
from dataclasses import fields
from pathlib import Path

import pytest

from schemas.signals import NotJudged
from stream_processors.analyze.config import DetectorConfig
from stream_processors.analyze.detectors.verdict import FindingKind
from stream_processors.analyze.score import WEIGHTS
from tests.finding_docs import DOCS, PAGES, ROOT, cells, evidence_of, made

DETECTORS = "stream_processors.analyze.detectors"
JUDGED_BY = {kind.value: (kind.value,) for kind in FindingKind} | {"slow_load": ("slow_load", "slow_response")}
"""Modules by finding."""

FINDINGS = DOCS / "findings"


def section(page: str, heading: str) -> str:
    text = (FINDINGS / f"{page}.md").read_text()
    assert f"\n## {heading}\n" in text
    return text.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]


def names(body: str) -> list[str]:
    return [row[0].strip("`") for row in cells(body)]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_table_is_as_the_code_makes_it(page: Path) -> None:
    text = page.read_text()
    assert text == made(text), "python -m tests.finding_docs"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_no_number_stands_outside_of_a_table_or_an_example(page: Path) -> None:
    text = re.sub(r"<!-- table: .*?<!-- end -->", "", page.read_text(), flags=re.DOTALL)
    prose = [line for line in text.splitlines() if not line.startswith("    ")]
    examples = re.compile(r"`\{.*?\}`")
    assert [line for line in prose if re.search(r"\d", examples.sub("", line))] == []


def test_every_finding_has_a_page_and_is_in_the_index() -> None:
    index = (FINDINGS / "README.md").read_text().partition("\n## ")[0]
    assert sorted(re.findall(r"^\| \[`(\w+)`\]\(\1\.md\)", index, re.MULTILINE)) == sorted(FindingKind)
    assert {path.stem for path in FINDINGS.glob("*.md")} == {*FindingKind, "README", "thresholds"}
    assert set(WEIGHTS) == set(FindingKind)


@pytest.mark.parametrize("kind", FindingKind)
def test_every_page_says_what_is_not_judged_and_its_limits(kind: FindingKind) -> None:
    assert "**Rule" in (FINDINGS / f"{kind}.md").read_text()
    for heading in ("Thresholds", "Fixed numbers", "Not judged", "Known limits"):
        assert section(kind, heading).strip()


@pytest.mark.parametrize("kind", FindingKind)
def test_every_name_in_the_evidence_is_explained(kind: FindingKind) -> None:
    evidence = [name for module in JUDGED_BY[kind] for name in evidence_of(f"{DETECTORS}.{module}")]
    assert names(section(kind, "Evidence")) == list(dict.fromkeys(evidence))


def test_every_threshold_is_explained_on_one_page() -> None:
    explained = {}
    for page in FINDINGS.glob("*.md"):
        for part, body in re.findall(r"<!-- table: thresholds (\w+) -->\n(.*?)<!-- end", page.read_text(), re.DOTALL):
            assert part not in explained
            explained[part] = cells(body)
    assert set(explained) == {field.name for field in fields(DetectorConfig)}
    assert [row for rows in explained.values() for row in rows if not row[-1]] == []


def test_every_part_of_the_configuration_is_listed() -> None:
    listed = section("thresholds", "What can be set").partition("\nOf ")[0]
    assert names(listed) == [field.name for field in fields(DetectorConfig)]


def test_every_reason_why_a_click_is_not_judged_is_explained() -> None:
    assert names(section("dead_click", "Not judged")) == [reason.value for reason in NotJudged]


def test_the_pages_are_found_from_the_readme() -> None:
    readme = (ROOT / "README.md").read_text()
    for page in ("deploy/docs/findings/README.md", "deploy/docs/score.md", "deploy/docs/accuracy.md"):
        assert f"({page})" in readme
