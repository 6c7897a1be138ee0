"""The services as child processes: how each is started on this machine, and when it can work."""

import asyncio
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import orjson

from deploy.runtime.program import Program, RuntimeFailure
from deploy.runtime.supervisor import Child, Probe

ROLES = ("gateway", "digest", "analyze", "sink")
_MODULES = {
    "gateway": ("ingest_gateway",),
    "digest": ("stream_processors", "digest"),
    "analyze": ("stream_processors", "analyze"),
    "sink": ("sinks",),
}
_STOP_DEADLINE_S = {"gateway": 25.0, "digest": 20.0, "analyze": 20.0, "sink": 20.0}
"""Each a little above what the service itself allows for its last work."""
MOST_WORKERS = 64
_PROBE_TIMEOUT_S = 2.0


@dataclass(frozen=True, slots=True)
class Service:
    """One process of a service."""

    role: str
    index: int

    @property
    def name(self) -> str:
        """Return the process's name: gateway, digest-0, analyze-1 …; further gateways share the first one's port."""
        return self.role if self.role == "gateway" and self.index == 0 else f"{self.role}-{self.index}"

    def program(self, environ: Mapping[str, str], *, admin_port: int) -> Program:
        """Describe the process."""
        own = {"TRACEFLOW_ADMIN_PORT": str(admin_port), "TRACEFLOW_ADMIN_HOST": "127.0.0.1", "PYTHONUNBUFFERED": "1"}
        if self.role == "gateway" and (spool := environ.get("TRACEFLOW_GATEWAY_SPOOL")):
            # no two processes may share one
            own["TRACEFLOW_GATEWAY_SPOOL"] = str(Path(spool, self.name))
        return Program(
            name=self.name,
            argv=tuple(command_of(self.role)),
            environ={**environ, **own},
            stop_deadline_s=_STOP_DEADLINE_S[self.role],
        )


def command_of(role: str, arguments: tuple[str, ...] = ()) -> list[str]:
    """Return the argument list of one service process, for `exec`."""
    # -P: a folder of the same name where the command is typed must not stand in for a package of ours
    return [sys.executable, "-P", "-m", *_MODULES[role], *arguments]


def parse_workers(text: str) -> dict[str, int]:
    """Read `analyze=2,sink=2`: how many processes of each service; one where nothing is said.

    Raises:
        RuntimeFailure: a service is unknown or a number is none from 1 to 64.
    """
    counts = dict.fromkeys(ROLES, 1)
    for part in filter(None, (part.strip() for part in text.split(","))):
        role, _, number = part.partition("=")
        if role not in ROLES:
            raise RuntimeFailure(f"--workers: {role!r} is none of {', '.join(ROLES)} (example: analyze=2,sink=2)")
        if not number.isdecimal() or not 1 <= int(number) <= MOST_WORKERS:
            raise RuntimeFailure(f"--workers: {part!r} needs a number from 1 to {MOST_WORKERS} (example: {role}=2)")
        counts[role] = int(number)
    return counts


def services_of(counts: Mapping[str, int]) -> list[Service]:
    """List the processes in the order of their start."""
    return [Service(role, index) for role in ROLES for index in range(counts[role])]


def child_of(service: Service, environ: Mapping[str, str], *, admin_port: int) -> Child:
    """Put a service under supervision: it can work once /readyz answers 200."""
    return Child(service.program(environ, admin_port=admin_port), probe=readiness(admin_port))


def readiness(port: int) -> Probe:
    """Ask /readyz of a local admin port; the answer is why not, or None."""

    async def probe() -> str | None:
        try:
            async with asyncio.timeout(_PROBE_TIMEOUT_S):
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
                try:
                    writer.write(b"GET /readyz HTTP/1.0\r\nHost: localhost\r\n\r\n")
                    answer = await reader.read(65_536)
                    answer += await reader.read()
                finally:
                    writer.close()
        except (OSError, TimeoutError) as error:
            return f"/readyz on port {port} does not answer ({type(error).__name__})"
        return _reason(answer)

    return probe


def _reason(answer: bytes) -> str | None:
    head, _, body = answer.partition(b"\r\n\r\n")
    if head.split(b" ")[1:2] == [b"200"]:
        return None
    try:
        return "; ".join(map(str, orjson.loads(body)["reasons"])) or "not ready"
    except (ValueError, KeyError, TypeError):
        return "not ready"
