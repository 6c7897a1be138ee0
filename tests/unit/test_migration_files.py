import re
from hashlib import sha256
from pathlib import Path
from typing import get_args, get_type_hints

import pytest

from adapters.migrations import LOCK_TIMEOUT, PAUSE_S, RETRY_FOR_S, MigrationStatus
from schemas.migrations import Migration, MigrationFilesError, in_order, load_migrations
from tests.servers import SUPPORTED

FILES = load_migrations()
UPGRADES = (Path(__file__).parents[2] / "deploy/docs/upgrades.md").read_text()


def code(migration: Migration) -> str:
    """Return the SQL without comments and quoted texts, which may say anything."""
    without_comments = re.sub(r"--.*", "", migration.sql)
    return re.sub(r"'(?:[^']|'')*'", "''", without_comments)


def test_files_are_ordered_by_number_and_hashed_by_content() -> None:
    assert in_order({"0002_b.sql": b"SELECT 2", "0001_a.sql": b"SELECT 1"}) == (
        Migration(1, "0001_a.sql", "SELECT 1", sha256(b"SELECT 1").hexdigest()),
        Migration(2, "0002_b.sql", "SELECT 2", sha256(b"SELECT 2").hexdigest()),
    )


@pytest.mark.parametrize(
    ("names", "wrong"),
    [
        (["0001_a.sql", "0001_b.sql"], "0001_b.sql"),
        (["1_a.sql"], "1_a.sql"),
        (["0001-a.sql"], "0001-a.sql"),
        (["0001_A.sql"], "0001_A.sql"),
    ],
)
def test_a_double_or_a_malformed_name_is_refused_by_name(names: list[str], wrong: str) -> None:
    with pytest.raises(MigrationFilesError, match=re.escape(wrong)):
        in_order(dict.fromkeys(names, b""))


def test_a_number_may_be_left_out() -> None:
    assert [file.version for file in in_order({"0003_c.sql": b"", "0001_a.sql": b""})] == [1, 3]


def test_the_package_holds_its_files() -> None:
    assert FILES[0].name == "0001_compatibility.sql"
    assert len(FILES) >= 11


@pytest.mark.parametrize("migration", FILES, ids=lambda migration: migration.name)
def test_a_file_leaves_its_transaction_to_the_runner(migration: Migration) -> None:
    statements = re.findall(r"^\s*(COMMIT|ROLLBACK|BEGIN|START TRANSACTION|VACUUM)\s*;", code(migration), re.MULTILINE)
    assert statements == []
    assert "CONCURRENTLY" not in code(migration)
    assert not re.search(r"^\\", migration.sql, re.MULTILINE), "psql's own commands do not run elsewhere"


@pytest.mark.parametrize("migration", FILES, ids=lambda migration: migration.name)
def test_what_a_file_makes_has_its_schema_in_its_name(migration: Migration) -> None:
    made = re.findall(
        r"CREATE (?:OR REPLACE )?(?:TABLE|VIEW|FUNCTION) (?:IF NOT EXISTS )?(\S+)|"
        r"CREATE (?:UNIQUE )?INDEX \w+ ON (\S+)",
        code(migration),
    )
    names = [table or index for table, index in made]
    assert [name for name in names if not re.match(r"(public|auth|traceflow_parts)\.", name)] == []


@pytest.mark.parametrize("migration", FILES, ids=lambda migration: migration.name)
def test_a_function_with_its_owners_rights_fixes_where_it_looks_names_up(migration: Migration) -> None:
    heads = re.findall(r"CREATE (?:OR REPLACE )?FUNCTION .*?\$[a-z]*\$", migration.sql, re.DOTALL)
    definers = [head for head in heads if "SECURITY DEFINER" in head]
    assert [head for head in definers if "SET search_path" not in head] == []


def test_the_page_for_who_upgrades_has_the_times_and_the_states_of_the_code() -> None:
    text = " ".join(UPGRADES.split())
    for said in (
        f"waits for a lock at most {LOCK_TIMEOUT.removesuffix('ms')} ms",
        f"pauses {PAUSE_S[0]:.0f} to {PAUSE_S[1]:.0f} s, and tries again, for {RETRY_FOR_S:.0f} s",
        f"PostgreSQL {', '.join(map(str, [*SUPPORTED][:-1]))} or {[*SUPPORTED][-1]}",
    ):
        assert said in text
    states = re.findall(r"^\| `(\w+)` \|", UPGRADES, re.MULTILINE)
    assert states == list(get_args(get_type_hints(MigrationStatus)["state"]))
