"""The gateway's limit: an ASGI app that reads the body, produces it as it is, and answers after the broker has it.

`python -m deploy.bench.bare_asgi PORT`, with the gateway's own producer and server, without key, validation or ids.
"""

import gc
import os
import sys
from typing import Any

import uvicorn
from prometheus_client import CollectorRegistry

from adapters.kafka_producer import AckingProducer, Record, producer_config
from adapters.metrics_server import serve_admin
from schemas import topics
from schemas.connections import KafkaSettings, LogSettings
from schemas.environment import read_settings


class BareApp:
    """The app."""

    def __init__(self, kafka: KafkaSettings, topic: str) -> None:
        self._kafka = kafka
        self._topic = topic
        self._producer: AckingProducer | None = None

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            return
        body = b""
        while True:
            message = await receive()
            body += message["body"]
            if not message.get("more_body"):
                break
        if self._producer is None:
            self._producer = AckingProducer(producer_config(self._kafka))
        await self._producer.send([Record(self._topic, b"project/session", body, [])])
        await send({"type": "http.response.start", "status": 202, "headers": [(b"content-length", b"2")]})
        await send({"type": "http.response.body", "body": b"{}"})


def main(port: int) -> None:
    """Serve until a signal comes."""
    log = read_settings(LogSettings, os.environ)
    serve_admin(log, registry=CollectorRegistry(), ready=lambda: [])
    # as the gateway does
    gc.freeze()
    gc.set_threshold(20_000, 50, 100)
    sys.setswitchinterval(0.0005)
    app = BareApp(read_settings(KafkaSettings, os.environ, group="KAFKA"), topics.EVENTS.full_name(log.topic_prefix))
    uvicorn.run(app, port=port, loop="uvloop", http="httptools", lifespan="off", access_log=False, log_level="error")


if __name__ == "__main__":
    main(int(sys.argv[1]))
