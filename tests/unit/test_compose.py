"""The compose file cannot be run everywhere; its form can be held everywhere."""

from pathlib import Path
from typing import Any

import pytest

from deploy.runtime.jars import KAFKA_VERSION
from schemas import topics

yaml = pytest.importorskip("yaml", reason="PyYAML is not installed")
DEPLOY = Path(__file__).parents[2] / "deploy"


@pytest.fixture(scope="module")
def services() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"]
    return found


def test_every_service_of_the_system_runs(services: dict[str, Any]) -> None:
    assert set(services) == {"kafka", "postgres", "migrate", "prepare", "gateway", "digest", "analyze", "sink"}
    commands = {name: service["command"] for name, service in services.items() if "command" in service}
    assert commands == {
        "migrate": ["migrate"],
        "prepare": ["topics"],
        "gateway": ["gateway"],
        "digest": ["digest"],
        "analyze": ["analyze"],
        "sink": ["sink"],
    }


def test_whatever_a_service_waits_for_exists(services: dict[str, Any]) -> None:
    for service in services.values():
        assert set(service.get("depends_on", {})) <= set(services)


def test_the_broker_is_the_version_of_the_local_runtime_and_takes_the_largest_record(services: dict[str, Any]) -> None:
    assert services["kafka"]["image"] == f"apache/kafka:{KAFKA_VERSION}"
    assert int(services["kafka"]["environment"]["KAFKA_MESSAGE_MAX_BYTES"]) >= max(
        topic.max_message_bytes for topic in topics.ALL
    )
    assert services["kafka"]["environment"]["KAFKA_AUTO_CREATE_TOPICS_ENABLE"] == "false"


def test_the_gateway_is_reachable_from_outside_its_container(services: dict[str, Any]) -> None:
    environment = services["gateway"]["environment"]
    assert (environment["TRACEFLOW_GATEWAY_HOST"], environment["TRACEFLOW_GATEWAY_PORT"]) == ("0.0.0.0", "8100")  # noqa: S104
    assert "TRACEFLOW_KAFKA_BOOTSTRAP" in environment


def test_the_image_copies_every_package() -> None:
    copied = {line.split()[1] for line in (DEPLOY / "Dockerfile").read_text().splitlines() if line.startswith("COPY ")}
    packages = {path.parent.name for path in DEPLOY.parent.glob("*/__init__.py")}
    assert packages <= copied
