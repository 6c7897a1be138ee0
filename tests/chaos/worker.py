"""A worker that is a fault, or has one planted: the product's own worker with one step of it replaced, in tests only.

`python -m tests.chaos.worker digest|analyze|sink [--kill STEP] [--second-owner] [--lossy] [--clock] [--plant NAME]`,
with the settings of a worker in the environment.
"""

import argparse
import os
import random
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from enum import Enum
from typing import Any

from confluent_kafka import KafkaError, Producer

import sinks.app
import stream_processors.runner.faust_app
import stream_processors.worker
from adapters import logs
from adapters.kafka_consumer import consumer_configuration
from sinks.app import SINKS
from stream_processors.kinds import KINDS
from tests.chaos.planted import plant
from tests.chaos.plants import PLANTS
from tests.chaos.replacing import replace

LOSS = 0.02
"""Share of the records that fail while later ones land."""

CLOCK_JUMPS_S = (0.0, 3_700.0, -7_200.0)
"""One after the other, each for some seconds."""
CLOCK_HOLDS_S = 4.0

BATCHES_BEFORE = 3
"""The step of the first batches passes: what begins after a takeover is not yet all."""


class KillAt:
    """Kills this process when a step comes for the nth time."""

    def __init__(self, step: str) -> None:
        self._step = step
        self._left = BATCHES_BEFORE

    def __call__(self, step: Enum) -> None:
        if step.name == self._step:
            self._left -= 1
            if not self._left:
                os.kill(os.getpid(), signal.SIGKILL)


class LossyProducer(Producer):
    """A producer of which now and then a record fails, and is not stored, while those after it are."""

    def __init__(self, *arguments: Any, **settings: Any) -> None:
        super().__init__(*arguments, **settings)
        self._failed: list[Callable[..., None]] = []

    def produce(self, *arguments: Any, **settings: Any) -> None:
        if random.random() < LOSS:
            self._failed.append(arguments[4])
        else:
            super().produce(*arguments, **settings)

    def poll(self, timeout: float = 0) -> int:
        failed, self._failed = self._failed, []
        for landed in failed:
            landed(KafkaError(KafkaError._MSG_TIMED_OUT, "lost on purpose"), None)
        return super().poll(timeout)


class SecondGroup(stream_processors.runner.faust_app.StageApp):
    """A stage in a group of its own: it owns every partition, whoever else does."""

    def __init__(self, name: str, **settings: Any) -> None:
        super().__init__(f"{name}-second", **settings)


def own_every_partition() -> None:
    """Let this process join a group of its own."""

    def second_group(*arguments: Any, group: str, **settings: Any) -> dict[str, object]:
        return consumer_configuration(*arguments, group=f"{group}-second", **settings)

    replace(stream_processors.runner.faust_app, "StageApp", SecondGroup)
    replace(sinks.app, "consumer_configuration", second_group)


def let_the_clock_jump() -> None:
    """Let wall time jump; clocks that only go forward, and the broker's, stay what they are."""
    real, real_ns, began = time.time, time.time_ns, time.monotonic()

    def jump_s() -> float:
        return CLOCK_JUMPS_S[int((time.monotonic() - began) / CLOCK_HOLDS_S) % len(CLOCK_JUMPS_S)]

    replace(time, "time", lambda: real() + jump_s())
    replace(time, "time_ns", lambda: real_ns() + int(jump_s() * 1e9))


def run_stage(name: str, on_step: Callable[[Enum], None]) -> int:
    """Be a worker of a stage."""
    environment = stream_processors.worker.Environment.read(os.environ)
    logs.configure(name, log_format=environment.log.log_format)
    logic = stream_processors.worker.build_logic(name, os.environ)
    try:
        stream_processors.worker.run(KINDS[name], environment, logic, on_step=on_step)
    except stream_processors.worker.CannotStart as error:
        return error.code
    return 0


def run_sinks(on_step: Callable[[Enum], None]) -> int:
    """Be a worker with all sinks."""
    environment = sinks.app.Environment.read(os.environ)
    logs.configure("sink", log_format=environment.log.log_format)
    stopping = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stopping.set())
    try:
        return sinks.app.run(list(SINKS), environment, stopping=stopping, on_step=on_step)
    except sinks.app.START_FAILURES as error:
        return sinks.app.start_failure(error)[0]


def main(arguments: Sequence[str]) -> int:
    """Become the worker that is asked for."""
    parser = argparse.ArgumentParser()
    parser.add_argument("role", choices=("digest", "analyze", "sink"))
    parser.add_argument("--kill")
    parser.add_argument("--second-owner", action="store_true")
    parser.add_argument("--lossy", action="store_true")
    parser.add_argument("--clock", action="store_true")
    parser.add_argument("--plant", choices=list(PLANTS))
    asked = parser.parse_args(arguments)
    if asked.second_owner:
        own_every_partition()
    if asked.lossy:
        replace(stream_processors.worker, "Producer", LossyProducer)
    if asked.clock:
        let_the_clock_jump()
    if asked.plant:
        plant(asked.plant)
    on_step: Callable[[Enum], None] = KillAt(asked.kill) if asked.kill else lambda _step: None
    return run_sinks(on_step) if asked.role == "sink" else run_stage(asked.role, on_step)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
