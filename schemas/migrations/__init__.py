"""The database as numbered SQL files, forward only: `NNNN_topic.sql`, each applied once, in order, in one transaction.

A file that was released is never edited (its checksum is kept in the database): a change is a new file. Files run on
PostgreSQL 15 and newer, plain or Supabase, with or without contrib, by a role that may create roles and tables.
`deviations.toml` lists where they differ from the contract in `tests/data/database-schema.md`, and why.
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
    """The files are not numbered 1, 2, 3 …: the message names the first that is wrong."""


def load_migrations() -> tuple[Migration, ...]:
    """Read the SQL files in order.

    Raises:
        MigrationFilesError: if a name is malformed, or a number is missing or given twice.
    """
    found = (file for file in files(__name__).iterdir() if file.name.endswith(".sql"))
    return in_order({file.name: file.read_bytes() for file in found})


def in_order(contents: dict[str, bytes]) -> tuple[Migration, ...]:
    """Order files by their numbers and hash them.

    Raises:
        MigrationFilesError: if a name is malformed, or a number is missing or given twice.
    """
    migrations = []
    for expected, name in enumerate(sorted(contents), start=1):
        match = _FILE_NAME.fullmatch(name)
        if match is None or int(match["version"]) != expected:
            raise MigrationFilesError(f"{name}: expected {expected:04d}_topic.sql, numbers without a gap")
        body = contents[name]
        migrations.append(Migration(version=expected, name=name, sql=body.decode(), sha256=sha256(body).hexdigest()))
    return tuple(migrations)
