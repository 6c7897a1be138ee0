"""Kafka's jars: resolved from Maven Central once, checked, and remembered outside the clone.

`mvn` resolves where it is installed (it honours the mirrors, proxies and credentials of ~/.m2/settings.xml), else
`jgo`, which is pure Python. Both keep the jars in the local Maven repository; the cache holds their paths and sizes. A
jar is checked against the SHA-1 that was published with it, or where none was kept by the checksums inside the archive;
at each later start by existence and size.
"""

import hashlib
import os
import shutil
import ssl
import subprocess
import sys
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from xml.etree import ElementTree

import orjson

from deploy.runtime.program import RuntimeFailure

KAFKA_VERSION = "4.3.1"
POM = Path(__file__).with_name("kafka-pom.xml")
_RESOLVE_DEADLINE_S = 900

Report = Callable[[str], None]

_JGO = """
import sys, jgo
endpoint, url = sys.argv[1:]
for artifact in jgo.resolve(endpoint, repositories={"central": url} if url else None):
    print(artifact.resolve())
"""


def cache_directory(environ: Mapping[str, str]) -> Path:
    """Return where downloads are remembered: TRACEFLOW_CACHE_DIR, else the user's cache directory."""
    if environ.get("TRACEFLOW_CACHE_DIR"):
        return Path(environ["TRACEFLOW_CACHE_DIR"])
    base = environ.get("XDG_CACHE_HOME") or str(Path(environ.get("HOME") or Path.home()) / ".cache")
    return Path(base) / "traceflow"


def classpath(environ: Mapping[str, str], *, report: Report) -> list[Path]:
    """Return the checked jars of the broker, resolving them if they are not there yet.

    Raises:
        RuntimeFailure: they cannot be resolved, or one is damaged.
    """
    listing = cache_directory(environ) / f"kafka-{KAFKA_VERSION}" / "classpath.json"
    known = _read_listing(listing)
    if known is not None:
        return known
    mvn = shutil.which("mvn", path=environ.get("PATH"))
    report(f"resolving Apache Kafka {KAFKA_VERSION} with {'mvn' if mvn else 'jgo'} (about 60 MB, once)")
    jars = _resolve_with_mvn(mvn, listing.parent, environ) if mvn else _resolve_with_jgo(environ)
    if not any(jar.name == f"kafka_2.13-{KAFKA_VERSION}.jar" for jar in jars):
        raise RuntimeFailure(f"the resolved class path holds no kafka_2.13-{KAFKA_VERSION}.jar: see {POM}")
    for jar in jars:
        check_jar(jar)
    _write_listing(listing, jars)
    report(f"{len(jars)} jars checked")
    return jars


def check_jar(jar: Path) -> None:
    """Compare a jar with its published SHA-1, or without one with the checksums inside it.

    Raises:
        RuntimeFailure: the jar is missing or damaged.
    """
    published = jar.with_name(jar.name + ".sha1")
    try:
        if published.exists():
            expected = published.read_text().split()[0].lower()
            # Maven's own checksum against damage in transit, not against forgery
            intact = hashlib.sha1(jar.read_bytes(), usedforsecurity=False).hexdigest() == expected
        else:
            with zipfile.ZipFile(jar) as archive:
                intact = archive.testzip() is None
    except (OSError, zipfile.BadZipFile, IndexError) as error:
        raise RuntimeFailure(f"{jar} is missing or damaged ({error}): delete its folder and try again") from error
    if not intact:
        raise RuntimeFailure(f"{jar} does not have its checksum: delete its folder and try again")


def _read_listing(listing: Path) -> list[Path] | None:
    try:
        entries = orjson.loads(listing.read_bytes())
        jars = [(Path(entry["path"]), entry["bytes"]) for entry in entries]
        return [jar for jar, _ in jars] if jars and all(jar.stat().st_size == size for jar, size in jars) else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _write_listing(listing: Path, jars: list[Path]) -> None:
    listing.parent.mkdir(parents=True, exist_ok=True)
    entries = [{"path": str(jar), "bytes": jar.stat().st_size} for jar in jars]
    draft = listing.with_name(f"{listing.name}.{os.getpid()}")
    draft.write_bytes(orjson.dumps(entries, option=orjson.OPT_INDENT_2))
    draft.replace(listing)


def _resolve_with_mvn(mvn: str, scratch: Path, environ: Mapping[str, str]) -> list[Path]:
    scratch.mkdir(parents=True, exist_ok=True)
    output = scratch / f"classpath.{os.getpid()}.txt"
    goal = ["dependency:build-classpath", "-DincludeScope=runtime", f"-Dmdep.outputFile={output}"]
    command = [mvn, "-q", "-B", "-Dstyle.color=never", "-f", str(POM), *goal]
    try:
        done = subprocess.run(
            command, env=dict(environ), capture_output=True, text=True, timeout=_RESOLVE_DEADLINE_S, check=False
        )
        if done.returncode != 0:
            raise RuntimeFailure(f"mvn cannot resolve Kafka's jars: {_first_error(done.stdout + done.stderr)}")
        return [Path(part) for part in output.read_text().strip().split(os.pathsep)]
    except (OSError, subprocess.TimeoutExpired) as error:
        raise RuntimeFailure(f"mvn cannot resolve Kafka's jars: {error}") from error
    finally:
        output.unlink(missing_ok=True)


def _first_error(output: str) -> str:
    lines = [line.removeprefix("[ERROR] ") for line in output.splitlines() if "ERROR" in line]
    return (lines or output.splitlines() or ["no output"])[0][:400]


def _resolve_with_jgo(environ: Mapping[str, str]) -> list[Path]:
    slf4j = ElementTree.parse(POM).findtext(".//{*}slf4j.version")  # noqa: S314 # our own file
    return resolve(f"org.apache.kafka:kafka_2.13:{KAFKA_VERSION}+org.slf4j:slf4j-simple:{slf4j}", environ)


def resolve(endpoint: str, environ: Mapping[str, str]) -> list[Path]:
    """Return the jars of an endpoint (`group:artifact:version`, several joined by `+`) without Maven.

    Raises:
        RuntimeFailure: one cannot be had.
    """
    url = environ.get("TRACEFLOW_MAVEN_URL") or mirror(Path(environ.get("HOME") or Path.home()) / ".m2/settings.xml")
    command = [sys.executable, "-c", _JGO, endpoint, url or ""]
    try:
        done = subprocess.run(
            command,
            env=dict(environ) | _machine_certificates(environ),
            capture_output=True,
            text=True,
            timeout=_RESOLVE_DEADLINE_S,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise RuntimeFailure(f"jgo cannot resolve {endpoint}: {error}") from error
    if done.returncode != 0:
        said = (done.stderr.strip().splitlines() or ["no output"])[-1][:400]
        raise RuntimeFailure(
            f"jgo cannot resolve {endpoint} ({said}): check the network, or set TRACEFLOW_MAVEN_URL to a mirror"
        )
    return [Path(line) for line in done.stdout.splitlines()]


def _machine_certificates(environ: Mapping[str, str]) -> dict[str, str]:
    """Let `requests` trust what the machine trusts (a company's proxy), not only the list that it brings along."""
    if environ.get("REQUESTS_CA_BUNDLE") or environ.get("CURL_CA_BUNDLE"):
        return {}
    known = ssl.get_default_verify_paths()
    for file in (
        environ.get("SSL_CERT_FILE"),
        known.cafile,
        known.openssl_cafile,
        "/etc/ssl/certs/ca-certificates.crt",
    ):
        if file and Path(file).exists():
            return {"REQUESTS_CA_BUNDLE": file}
    return {}


def mirror(settings: Path) -> str | None:
    """Return the URL of the mirror of Maven Central in a Maven settings file; None if it names none."""
    try:
        root = ElementTree.parse(settings).getroot()  # noqa: S314 # the user's own file
    except (OSError, ElementTree.ParseError):
        return None
    for entry in root.iterfind(".//{*}mirrors/{*}mirror"):
        if (entry.findtext("{*}mirrorOf") or "").split(",")[0].strip() in ("*", "central", "external:*"):
            return (entry.findtext("{*}url") or "").strip() or None
    return None
