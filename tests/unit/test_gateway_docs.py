"""deploy/docs/gateway.md says what the code does: settings, metrics, statuses, limits, the interface document."""

import re
from pathlib import Path

import orjson

from ingest_gateway.admission.event_fields import (
    DEPTH_LIMIT,
    EVENT_TYPE_LIMIT,
    INT4_MAX,
    INT4_MIN,
    METADATA_LIMIT,
    RESERVED_EVENT_TYPES,
    TEXT_LIMITS,
)
from ingest_gateway.admission.events import CUSTOM_PROPERTIES_LIMIT, ID_LIMIT
from ingest_gateway.api.openapi import EVENT_REASONS, REQUEST_REASONS, openapi_document
from ingest_gateway.metrics import GatewayMetrics
from ingest_gateway.settings import GatewaySettings
from schemas.reasons import Blame, Reason

DOCS = (Path(__file__).parents[2] / "deploy" / "docs" / "gateway.md").read_text()


def table(heading: str) -> list[list[str]]:
    """Return the cells of the table under a heading, without its head."""
    section = DOCS.partition(f"## {heading}\n")[2].partition("\n## ")[0]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in section.splitlines() if line[:1] == "|"]
    return rows[2:]


def shown(default: object) -> str:
    text = str(default).lower() if isinstance(default, bool) else str(default)
    return f"`{text}`" if text else "empty"


def test_every_setting_is_documented_with_its_default_and_reason() -> None:
    assert table("Settings") == [
        [f"`TRACEFLOW_GATEWAY_{name.upper()}`", shown(field.default), field.description]
        for name, field in GatewaySettings.model_fields.items()
    ]


def test_every_metric_is_documented() -> None:
    declared = [family for family in GatewayMetrics().registry.collect() if family.name.startswith("traceflow_")]
    assert table("Metrics") == [
        [f"`{f.name}{'_total' if f.type == 'counter' else ''}`", f.type, f.documentation] for f in declared
    ]


def test_every_status_is_documented_with_its_reasons() -> None:
    documented = {int(status): set(re.findall(r"`(\w+)`", reasons)) for status, reasons in table("Statuses")}
    assert documented == {
        status: {reason.value for reason in REQUEST_REASONS if reason.status == status}
        for status in {reason.status for reason in REQUEST_REASONS}
    }


def test_every_reason_that_can_come_from_bad_input_is_in_its_table() -> None:
    shown_reasons = {row[2].strip("`") for row in table("Bad input")} - {""}
    by_load_alone = {Reason.RATE_LIMITED}
    theirs = {r.value for r in REQUEST_REASONS if r.blame is Blame.CLIENT and r not in by_load_alone}
    assert shown_reasons == theirs | {reason.value for reason in EVENT_REASONS}


def test_every_limit_is_documented() -> None:
    assert table("Sending events") == [[f"`{name}`", f"{limit:,}"] for name, limit in TEXT_LIMITS.items()]
    for sentence in (
        f"1 to {ID_LIMIT} bytes",
        f"between {INT4_MIN} and {INT4_MAX}",
        f"at most {METADATA_LIMIT:,} bytes and {DEPTH_LIMIT} levels",
        f"at most {CUSTOM_PROPERTIES_LIMIT:,} bytes",
        f"at most {EVENT_TYPE_LIMIT} bytes",
        *(f"`{kind}`" for kind in RESERVED_EVENT_TYPES),
    ):
        assert sentence in DOCS.replace("\n  ", " "), sentence


def test_the_interface_document_names_every_reason_and_refers_to_nothing_missing() -> None:
    raw = openapi_document(GatewaySettings(), version="1")
    document = orjson.loads(raw)
    schemas = document["components"]["schemas"]
    assert set(re.findall(r"#/components/schemas/(\w+)", raw.decode())) <= schemas.keys()
    assert schemas["Error"]["properties"]["error"]["enum"] == [reason.value for reason in REQUEST_REASONS]
    answers = document["paths"]["/v1/events"]["post"]["responses"]
    assert answers.keys() == {"202", *(str(reason.status) for reason in REQUEST_REASONS)}
