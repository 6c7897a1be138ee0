import pytest

from schemas.connections import DatabaseSettings, KafkaSettings, LogSettings
from schemas.environment import SettingsError, masked, read_settings


def test_settings_come_from_the_environment_that_is_passed_in() -> None:
    kafka = read_settings(KafkaSettings, {"TRACEFLOW_KAFKA_BOOTSTRAP": "a:1", "OTHER": "x"}, group="KAFKA")
    assert kafka.librdkafka() == {"bootstrap.servers": "a:1", "security.protocol": "PLAINTEXT"}


def test_an_empty_variable_counts_as_unset() -> None:
    assert read_settings(LogSettings, {"TRACEFLOW_PARTITIONS": ""}).partitions == 12


def test_a_missing_variable_is_named() -> None:
    with pytest.raises(SettingsError, match="TRACEFLOW_KAFKA_BOOTSTRAP: field required"):
        read_settings(KafkaSettings, {}, group="KAFKA")


def test_every_malformed_variable_is_named_without_its_value() -> None:
    environ = {"TRACEFLOW_PARTITIONS": "many", "TRACEFLOW_ADMIN_PORT": "70000"}
    with pytest.raises(SettingsError) as raised:
        read_settings(LogSettings, environ)
    assert "TRACEFLOW_PARTITIONS" in str(raised.value)
    assert "TRACEFLOW_ADMIN_PORT" in str(raised.value)
    assert "many" not in str(raised.value)


def test_secrets_are_masked() -> None:
    settings = read_settings(
        DatabaseSettings, {"TRACEFLOW_DATABASE_URL": "postgresql://u:secret@h/d"}, group="DATABASE"
    )
    assert masked(settings) == {"url": "***"}
    assert "secret" not in repr(settings)


def test_sasl_reaches_librdkafka_under_its_own_names() -> None:
    environ = {
        "TRACEFLOW_KAFKA_BOOTSTRAP": "a:1",
        "TRACEFLOW_KAFKA_SECURITY_PROTOCOL": "SASL_SSL",
        "TRACEFLOW_KAFKA_SASL_MECHANISM": "SCRAM-SHA-512",
        "TRACEFLOW_KAFKA_SASL_USERNAME": "u",
        "TRACEFLOW_KAFKA_SASL_PASSWORD": "p",
        "TRACEFLOW_KAFKA_SSL_CA_LOCATION": "/ca.pem",
    }
    assert read_settings(KafkaSettings, environ, group="KAFKA").librdkafka() == {
        "bootstrap.servers": "a:1",
        "security.protocol": "SASL_SSL",
        "sasl.mechanism": "SCRAM-SHA-512",
        "sasl.username": "u",
        "sasl.password": "p",
        "ssl.ca.location": "/ca.pem",
    }
