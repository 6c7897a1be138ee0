"""Docs that cannot drift: every row of the reference is compared with the code."""

import re
from pathlib import Path

from schemas import topics
from schemas.reasons import Reason

DOCS = Path(__file__).parents[2] / "deploy" / "docs"
REFERENCE = (DOCS / "reference.md").read_text()


def rows(heading: str) -> dict[str, list[str]]:
    """Return the cells of the table under a heading, by the code word in the first."""
    section = REFERENCE.partition(f"## {heading}\n")[2].partition("\n## ")[0]
    cells = [re.split(r"(?<!\\)\|", line.strip("|")) for line in section.splitlines() if line.startswith("| `")]
    return {row[0].strip(" `"): [cell.strip().replace("\\|", "|") for cell in row[1:]] for row in cells}


def test_every_topic_is_documented_as_it_is_declared() -> None:
    assert rows("Topics") == {
        topic.name: [
            topic.key,
            topic.value,
            ", ".join(topic.producers),
            ", ".join(topic.consumers),
            topic.cleanup,
            "by key" if topic.retention_ms < 0 else f"{topic.retention_ms // topics.DAY_MS} days",
        ]
        for topic in topics.ALL
    }


def test_every_reason_is_documented_as_it_is_declared() -> None:
    assert rows("Reason codes") == {
        reason.value: [reason.blame.value, str(reason.status or ""), reason.describe] for reason in Reason
    }
