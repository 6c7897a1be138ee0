import http.client
from collections.abc import Iterator

import pytest
from prometheus_client import CollectorRegistry, Counter

from adapters.metrics_server import AdminServer, serve_admin
from schemas.connections import LogSettings


@pytest.fixture
def reasons() -> list[str]:
    return []


@pytest.fixture
def server(reasons: list[str]) -> Iterator[AdminServer]:
    registry = CollectorRegistry()
    Counter("rows", "Rows stored.", registry=registry).inc(3)
    running = AdminServer(host="127.0.0.1", port=0, registry=registry, ready=lambda: reasons)
    yield running
    running.close()


def get(server: AdminServer, path: str) -> tuple[int, str]:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=5)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        return response.status, response.read().decode()
    finally:
        connection.close()


def test_metrics_are_those_of_the_registry(server: AdminServer) -> None:
    status, body = get(server, "/metrics")
    assert status == 200
    assert "rows_total 3.0" in body


def test_health_depends_on_nothing(server: AdminServer, reasons: list[str]) -> None:
    reasons.append("kafka is away")
    assert get(server, "/healthz") == (200, "ok\n")


def test_readiness_tells_its_reasons_as_they_come_and_go(server: AdminServer, reasons: list[str]) -> None:
    assert get(server, "/readyz") == (200, '{"ready":true,"reasons":[]}\n')
    reasons.append("kafka is away")
    assert get(server, "/readyz") == (503, '{"ready":false,"reasons":["kafka is away"]}\n')


def test_another_path_is_told_the_paths(server: AdminServer) -> None:
    assert get(server, "/") == (404, "/metrics, /healthz or /readyz\n")


def test_port_0_serves_nothing() -> None:
    assert serve_admin(LogSettings(), registry=CollectorRegistry(), ready=list) is None
