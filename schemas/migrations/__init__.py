"""The database as numbered SQL files, forward only: `NNNN_topic.sql`, each applied once, in order, in one transaction.

Each number is given once. Numbers may be left out, so that work done at the same time need not agree on the next one.

A file that was released is never edited (its checksum is kept in the database): a change is a new file. Files run on
PostgreSQL 15 and newer, plain or Supabase, with or without contrib, by a role that may create roles and tables.
`deviations.toml` lists where they differ from the contract in `tests/data/database-schema.md`, and why.

Sinks of the version before go on writing while a file is applied, and analysts reading. So a file

1. reads no rows of tables that sinks write once it has closed one (ALTER TABLE, a policy, a trigger, a foreign key,
   rows that it changes): what is closed stays so to the end of the transaction, and rows may be a billion. So counting
   comes first in a file, a new constraint is NOT VALID and validated by the next file, a new column has a constant
   default or none;
2. closes as few of them as it can, in the sinks' order: sessions, recordings, chunks, events, issues, findings;
3. leaves every statement of the sinks before it valid: a new column that must not be NULL has a default;
4. makes an index on a partitioned table ON ONLY the parent. The runner builds the partitions' parts beside ingestion
   (`adapters.partitioned_indexes`);
5. names what it does to rows that are there, in a line of its own: `-- Changes rows: table, other_table.column`.

`tests/integration/test_migrations_from_earlier.py` and `test_migrations_beside_ingestion.py` hold 1, 3, 4 and 5 against
every file: they look at the locks that it takes and the rows that it reads.
"""

import re
from dataclasses import dataclass
from hashlib import sha256
from importlib.resources import files

_FILE_NAME = re.compile(r"(?P<version>\d{4})_(?P<topic>[a-z0-9_]+)\.sql")


@dataclass(frozen=True, slots=True)
class Migration:
    """One SQL file."""

    version: int
    name: str
    """The file's name."""
    sql: str
    sha256: str
    """Of the file's bytes, hexadecimal."""


class MigrationFilesError(ValueError):
    """A name is malformed or a number given twice: the message names the first file that is wrong."""


def load_migrations() -> tuple[Migration, ...]:
    """Read the SQL files in order.

    Raises:
        MigrationFilesError: if a name is malformed, or a number is given twice.
    """
    found = (file for file in files(__name__).iterdir() if file.name.endswith(".sql"))
    return in_order({file.name: file.read_bytes() for file in found})


def in_order(contents: dict[str, bytes]) -> tuple[Migration, ...]:
    """Order files by their numbers and hash them.

    Raises:
        MigrationFilesError: if a name is malformed, or a number is given twice.
    """
    migrations: list[Migration] = []
    for name in sorted(contents):
        match = _FILE_NAME.fullmatch(name)
        if match is None:
            raise MigrationFilesError(f"{name}: expected a name like 0001_topic.sql")
        version, body = int(match["version"]), contents[name]
        if migrations and version == migrations[-1].version:
            raise MigrationFilesError(f"{name}: {migrations[-1].name} has this number")
        migrations.append(Migration(version=version, name=name, sql=body.decode(), sha256=sha256(body).hexdigest()))
    return tuple(migrations)
