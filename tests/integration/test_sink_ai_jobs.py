import uuid
from collections.abc import Iterator
from typing import Any

import pytest

from schemas.messages import AiJob
from tests.integration.sink_bench import (
    OTHER_PROJECT,
    PROJECT,
    SinkBench,
    add_project,
    copied_database,
    emptied,
    execute,
    query,
)


@pytest.fixture(scope="module")
def module_database(postgres_server: str, database_template: str) -> Iterator[str]:
    with copied_database(postgres_server, database_template) as url:
        yield url


@pytest.fixture
def bench(module_database: str) -> Iterator[SinkBench]:
    bench = SinkBench(emptied(module_database), "ai_jobs")
    yield bench
    bench.close()


def job(number: int, **fields: Any) -> AiJob:
    values: dict[str, Any] = {
        "id": str(uuid.UUID(int=number, version=4)),
        "project_id": PROJECT,
        "session_id": "s1",
        "task_type": "root_cause",
        "priority": 2,
        "input_data": {"pages": ["/a"]},
    }
    return AiJob(**(values | fields))


QUEUE = "SELECT session_id, project_id::text, task_type, priority, status, attempts, input_data FROM traceflow_ai_queue"


def test_a_job_waits_in_the_queue(bench: SinkBench) -> None:
    assert bench.write([bench.message(job(1))]).inserted == 1
    assert query(bench.url, QUEUE) == [("s1", PROJECT, "root_cause", 2, "pending", 0, {"pages": ["/a"]})]


def test_a_job_that_comes_again_does_not_begin_anew(bench: SinkBench) -> None:
    bench.write([bench.message(job(1))])
    execute(bench.url, "UPDATE traceflow_ai_queue SET status = 'completed'")
    written = bench.write([bench.message(job(1)), bench.message(job(2)), bench.message(job(2))])
    assert (written.inserted, written.duplicates) == (1, 2)
    assert query(bench.url, "SELECT status FROM traceflow_ai_queue ORDER BY 1") == [("completed",), ("pending",)]


def test_a_job_about_another_projects_session_is_parked(bench: SinkBench) -> None:
    add_project(bench.url, OTHER_PROJECT)
    bench.write([bench.message(job(1))])
    bench.write([bench.message(job(2, project_id=OTHER_PROJECT))])
    assert bench.reasons() == [("session_id_taken", 1, -1)]


@pytest.mark.parametrize("fields", [{"id": "x"}, {"priority": 11}, {"priority": "high"}, {"task_type": ""}])
def test_what_is_no_job_is_parked_alone(bench: SinkBench, fields: dict[str, Any]) -> None:
    assert bench.write([bench.message(job(1, **fields)), bench.message(job(2))]).inserted == 1
    assert bench.reasons() == [("record_malformed", 0, -1)]


def test_a_job_that_postgres_refuses_is_parked_alone(bench: SinkBench) -> None:
    written = bench.write([bench.message(job(n, input_data={"a": "\x00"} if n == 2 else {})) for n in range(5)])
    assert (written.inserted, written.parked) == (4, 1)
    assert bench.reasons() == [("row_refused", 2, -1)]
