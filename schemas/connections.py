"""Settings of the two things that every service connects to: Kafka and Postgres."""

from typing import Literal

from pydantic import Field, SecretStr

from schemas.environment import Settings


class KafkaSettings(Settings):
    """How to reach Kafka: group `KAFKA`, so `TRACEFLOW_KAFKA_BOOTSTRAP` and so on."""

    bootstrap: str = Field(min_length=1, description="host:port list of the brokers")
    security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = "PLAINTEXT"
    sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] | None = None
    sasl_username: str | None = None
    sasl_password: SecretStr | None = None
    ssl_ca_location: str | None = Field(default=None, description="path of the CA certificate, PEM")

    def librdkafka(self) -> dict[str, str]:
        """Translate into librdkafka's configuration names."""
        conf = {"bootstrap.servers": self.bootstrap, "security.protocol": self.security_protocol}
        if self.sasl_mechanism:
            conf["sasl.mechanism"] = self.sasl_mechanism
            conf["sasl.username"] = self.sasl_username or ""
            conf["sasl.password"] = self.sasl_password.get_secret_value() if self.sasl_password else ""
        if self.ssl_ca_location:
            conf["ssl.ca.location"] = self.ssl_ca_location
        return conf


class LogSettings(Settings):
    """Names and shape of the log that all services share: no group, so `TRACEFLOW_TOPIC_PREFIX` and so on."""

    topic_prefix: str = Field(default="traceflow.", pattern=r"^[A-Za-z0-9._-]{0,100}$")
    partitions: int = Field(default=12, ge=1, le=1000, description="the same for every topic: co-partitioned")
    admin_port: int = Field(default=0, ge=0, le=65535, description="metrics and health; 0 serves none")
    admin_host: str = Field(default="127.0.0.1", description="0.0.0.0 where probes come from outside")
    log_format: Literal["text", "json"] = "text"
    dead_letter_memory_s: int = Field(
        default=3_600,
        ge=0,
        le=86_400,
        description="how long what was parked by our fault counts against the limit, whoever starts; 0: each anew",
    )


class DatabaseSettings(Settings):
    """How to reach Postgres: group `DATABASE`, so `TRACEFLOW_DATABASE_URL`."""

    url: SecretStr = Field(description="postgresql://user:password@host:port/database?sslmode=…")
