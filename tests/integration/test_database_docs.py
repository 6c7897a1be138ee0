"""deploy/docs: access and meanings are as a migrated database says; `python -m tests.database_docs` writes them."""

from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from adapters.postgres import Connection
from tests.access_matrix import ROLES
from tests.database_docs import PAGES, made
from tests.finding_docs import DOCS, ROOT


@pytest.fixture
def connection(postgres_server: str, database_template: str) -> Iterator[Connection]:
    with psycopg.connect(make_conninfo(postgres_server, dbname=database_template)) as opened:
        yield opened


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_part_is_as_the_database_has_it(connection: Connection, page: Path) -> None:
    text = page.read_text()
    assert text == made(text, connection), "python -m tests.database_docs"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_the_page_is_found_from_the_readme(page: Path) -> None:
    assert f"(deploy/docs/{page.name})" in (ROOT / "README.md").read_text()


def test_every_role_has_its_table() -> None:
    page = (DOCS / "policies.md").read_text()
    assert [role for role in ROLES if f"<!-- table: access {role} -->" not in page] == []
