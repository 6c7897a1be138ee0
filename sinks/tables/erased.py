"""Keep out of a batch what was erased: the records of blocked sessions, and of an erased visitor's sessions.

Every transaction that stores rows asks first, whoever opened it: a sink, a redrive, a replay (`sinks.commit.writer`).
What is kept out is no dead letter, because its bytes would stay for as long as those; it is counted.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import structlog

from adapters.erasures import Erasures, Sighting, Subject
from adapters.postgres import Connection, Cursor
from sinks.contract.sink import Prepared
from sinks.contract.verdicts import Owner
from sinks.tables.record_owner import owner_of_key

P = TypeVar("P")

MAX_TIME_MS = 1 << 52
"""Beyond what any clock says, within what Postgres takes for a number."""

log = structlog.get_logger()


class NamesErased(Exception):
    """Sessions of an erased visitor that are not blocked yet: roll back, and erase these."""

    def __init__(self, owners: Iterable[Owner]) -> None:
        super().__init__("records name an erased visitor")
        self.owners = sorted(owners)


@dataclass(frozen=True, slots=True)
class ErasedRecords:
    """What asks the block-list for a sink."""

    _erasures: Erasures = field(default_factory=Erasures)

    def without(self, cursor: Cursor, items: Sequence[Prepared[P]]) -> Sequence[Prepared[P]]:
        """Return the items of what was not erased; that holds until the transaction ends.

        Raises:
            NamesErased: `erase` these sessions first, and begin again.
        """
        owners = {key: owner_of_key(key) for key in {item.record.key for item in items}}
        found = self._erasures.find(cursor, sightings(items, owners))
        if not found:
            return items
        if new := {(each.project_id, each.session_id) for each, is_blocked in found.items() if not is_blocked}:
            raise NamesErased(new)
        erased = {(each.project_id, each.session_id) for each in found}
        return [item for item in items if owners[item.record.key] not in erased]

    def erase(self, connection: Connection, owners: Iterable[Owner]) -> None:
        """Block sessions of an erased visitor, and remove what sinks have stored of them.

        Raises:
            psycopg.Error: some are not erased yet.
        """
        for project_id, session_id in owners:
            session = Subject(project_id, "session", session_id)
            with connection.transaction(), connection.cursor() as cursor:
                self._erasures.block(cursor, session)
                self._erasures.remove(cursor, session, [session_id])
            log.info("session_of_erased_visitor_erased")


def sightings(items: Iterable[Prepared[Any]], owners: Mapping[bytes | None, Owner | None]) -> list[Sighting]:
    """Return what the records say of whom, and since when: since the gateway had it, else since the broker had."""
    earliest: dict[tuple[bytes | None, str | None], int | None] = {}
    for item in items:
        named = item.record.key, item.visitor_id
        at = item.record.timestamp if item.received_at is None else item.received_at
        known = earliest.get(named)
        if 0 < at < (MAX_TIME_MS if known is None else known):
            earliest[named] = at
        else:
            earliest.setdefault(named, None)
    return [
        Sighting(*owner, visitor_id, at)
        for (key, visitor_id), at in earliest.items()
        if (owner := owners[key]) is not None
    ]
