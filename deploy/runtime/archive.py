"""Kafka's classes as the JVM wants them in memory: halves the CPU of a broker's start (4.3 to 2.2 s, measured).

A first broker is run once, at installation, and writes the archive when it ends; later ones map it. The archive belongs
to one runtime and one class path, which its name holds; a JVM passes over an archive that does not fit.
"""

import hashlib
import os
import subprocess
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

from deploy.runtime import jars, kafka
from deploy.runtime.java import Java
from deploy.runtime.ports import free_port
from deploy.runtime.program import RuntimeFailure

_START_DEADLINE_S = 120
_WRITE_DEADLINE_S = 120
_ONE_STEP_AOT = 25
"""From this version on (JEP 514) the archive is an AOT cache, which needs no base archive in the runtime."""


def archive_path(java: Java, classpath: tuple[Path, ...], environ: Mapping[str, str]) -> Path:
    """Return where the archive of this runtime and class path lies, whether or not it is there."""
    parts = [str(java.path.resolve()), str(java.path.resolve().stat().st_mtime_ns), *map(str, classpath)]
    name = hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]
    return jars.cache_directory(environ) / f"kafka-{jars.KAFKA_VERSION}" / f"classes-{java.version}-{name}.archive"


def flags_to_use(java: Java, classpath: tuple[Path, ...], environ: Mapping[str, str]) -> tuple[str, ...]:
    """Return the options that let a JVM map the archive; none if there is none."""
    path = archive_path(java, classpath, environ)
    if not path.exists():
        return ()
    if java.version >= _ONE_STEP_AOT:
        return (f"-XX:AOTCache={path}", "-Xlog:aot=off", "-Xlog:cds=off")
    return (f"-XX:SharedArchiveFile={path}", "-Xlog:cds=off")


def make_archive(
    java: Java, classpath: tuple[Path, ...], environ: Mapping[str, str], *, report: Callable[[str], None]
) -> None:
    """Run a broker once and keep the archive that it writes; without one everything works, only slower."""
    path = archive_path(java, classpath, environ)
    if path.exists():
        return
    report("archiving Kafka's classes for quicker starts (once)")
    draft = path.with_name(f"{path.name}.{os.getpid()}")
    option = "AOTCacheOutput" if java.version >= _ONE_STEP_AOT else "ArchiveClassesAtExit"
    try:
        _run_once(java, classpath, environ, (f"-XX:{option}={draft}", "-Xlog:disable"))
        draft.replace(path)
    except (RuntimeFailure, OSError, subprocess.SubprocessError) as error:
        report(f"no archive of Kafka's classes ({error}): the broker starts without")
    finally:
        draft.unlink(missing_ok=True)


def _run_once(java: Java, classpath: tuple[Path, ...], environ: Mapping[str, str], flags: tuple[str, ...]) -> None:
    with tempfile.TemporaryDirectory(prefix="traceflow-archive-") as folder:
        port = free_port()
        controller_port = free_port(taken=frozenset({port}))
        server = kafka.KafkaServer(Path(folder), port, controller_port, java, classpath)
        server.prepare()
        # the JVM writes on its way out
        program = replace(replace(server, flags=flags).program(environ), stop_deadline_s=_WRITE_DEADLINE_S)
        process = program.start(subprocess.DEVNULL)
        try:
            kafka.wait_until_ready(server.bootstrap, deadline_s=_START_DEADLINE_S, alive=lambda: process.poll() is None)
        finally:
            program.stop(process)
