import pytest

from ingest_gateway.__main__ import main
from ingest_gateway.limits.backpressure import BackpressureLimits
from ingest_gateway.settings import GatewaySettings
from schemas.environment import SettingsError, read_settings


def read(**environ: str) -> GatewaySettings:
    return read_settings(
        GatewaySettings,
        {f"TRACEFLOW_GATEWAY_{name.upper()}": value for name, value in environ.items()},
        group="GATEWAY",
    )


def test_trusted_proxies_are_networks_by_comma() -> None:
    trust = read(trusted_proxies="10.0.0.0/8, 192.0.2.1", client_ip_header="CF-Connecting-IP").proxy_trust()
    assert ([str(n) for n in trust.networks], trust.header) == (["10.0.0.0/8", "192.0.2.1/32"], "cf-connecting-ip")
    assert read().proxy_trust().networks == ()


@pytest.mark.parametrize("value", ["10.0.0.0/33", "proxy.example", "10.0.0.1/8"])
def test_a_trusted_proxy_that_is_no_network_is_named(value: str) -> None:
    with pytest.raises(SettingsError, match="TRACEFLOW_GATEWAY_TRUSTED_PROXIES"):
        read(trusted_proxies=value)


def test_a_chunk_cannot_be_allowed_to_be_larger_than_its_topic_takes() -> None:
    with pytest.raises(SettingsError, match="TRACEFLOW_GATEWAY_MAX_CHUNK_BYTES"):
        read(max_chunk_bytes="4000001")


def test_backpressure_follows_the_settings() -> None:
    limits = read(max_queue_fill="0.5", max_unacked_s="3", probe_interval_s="2").backpressure()
    assert limits == BackpressureLimits(0.5, 3.0, 2.0)


def test_wrong_settings_end_the_process_with_one_line_that_names_them(capsys: pytest.CaptureFixture[str]) -> None:
    assert main({"TRACEFLOW_KAFKA_BOOTSTRAP": "a:1", "TRACEFLOW_GATEWAY_PORT": "x"}) == 78
    error = capsys.readouterr().err
    assert error.startswith("gateway: TRACEFLOW_GATEWAY_PORT: ")
    assert error.count("\n") == 1
