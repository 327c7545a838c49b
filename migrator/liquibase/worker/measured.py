"""Measures what each changeset does, on its own connection and between its statements. Runs in the worker."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from migrator.liquibase.worker import connection
from migrator.liquibase.worker.failures import Failure
from migrator.postgres import measuring
from migrator.postgres.measuring import ACCESS_EXCLUSIVE, MODES, SHARE_UPDATE, Changes, Held, Look, Relation

_TABLES = {"r", "p", "m", "f"}
_LOCKABLE = _TABLES | {"v", "S"}


class Measuring:
    """One changeset at a time: `begin`, then `look` before each commit of it, then `end`."""

    def __init__(self, real: Any, *, true_sizes: bool, clock: Callable[[], float] = time.monotonic) -> None:
        self._real = real
        self._true_sizes = true_sizes  # asked of the files also where somebody may have locked them
        self._clock = clock
        self._query = measuring.look_query(with_wal=_has_wal_position(real))
        self._known: dict[int, Relation] = {}  # as each was when it was last looked at
        self._new: set[int] = set()  # those that were not there in the beginning
        self._new_tables: set[str | None] = set()
        self._locks: set[str] = set()  # of the transaction, as texts
        self._modes: set[tuple[int, int]] = set()
        self._exclusive: set[str | None] = set()  # names of what it keeps from everybody
        self._counts: dict[int, tuple[int, int, int]] = {}
        self._wal: int | None = None
        self._in_set_up = True
        self._started = 0.0
        self._began = 0.0
        self._changes = Changes()

    def start(self) -> None:
        """What is there now counts for nothing."""
        self._known = dict(self._everything())
        self._new, self._new_tables = set(), set()
        self.forget_transaction()
        self._in_set_up = True
        self._started = self._clock()

    def forget_transaction(self) -> None:
        """The transaction has ended; the next one has neither locks nor counts."""
        self._locks, self._modes, self._exclusive, self._counts = set(), set(), set(), {}

    def begin(self) -> None:
        """A changeset begins. What Liquibase did for itself before the first one is nobody's."""
        if self._in_set_up:
            self.look()
            self._in_set_up = False
        self._began = self._clock()
        self._changes = Changes()

    def look(self) -> str:
        """What was done up to now is known; the id of the transaction in which it was."""
        look = self._read()
        held = look.new(self._locks)
        self._note(held)
        if look.wal_bytes is not None and self._wal is not None:
            self._changes.wal_bytes = (self._changes.wal_bytes or 0) + look.wal_bytes - self._wal
        self._wal = look.wal_bytes
        return look.xid

    def compare(self) -> None:
        """Files and indexes that changed outside a transaction are known too: the whole catalogue is read."""
        now = self._everything()
        for oid, relation in now.items():
            if relation.kind in _TABLES | {"i"}:
                self._compare(oid, relation)

    def end(self) -> dict[str, Any]:
        """What the changeset did, as JSON; `at_s` is when it began, from `start` on."""
        return {"at_s": self._began - self._started, "for_s": self._clock() - self._began, **asdict(self._changes)}

    # -- inside --------------------------------------------------------------------------------------------------

    def _note(self, held: list[Held]) -> None:
        sized: set[int] = set()
        self._note_locks([one for one in held if (one.oid, one.mode) not in self._modes])
        for one in held:
            if one.counts is not None and self._note_rows(one.oid, one.counts):
                sized.add(one.oid)
            if one.mode == ACCESS_EXCLUSIVE:
                known = self._known.get(one.oid)
                if known is None or one.filenode != known.filenode:
                    sized.add(one.oid)
        if sized:
            found = self._some(sized)
            # a table before its indexes, which ask whether it is new
            for oid in sorted(sized, key=lambda oid: oid in found and found[oid].kind in "iI"):
                self._compare(oid, found.get(oid))

    def _note_locks(self, fresh: list[Held]) -> None:
        """Of what others can see; of an index only where its table is not kept from everybody anyway."""
        self._modes |= {(one.oid, one.mode) for one in fresh}
        relations = [
            (one, self._known[one.oid]) for one in fresh if one.oid in self._known and one.oid not in self._new
        ]
        self._exclusive |= {found.name for one, found in relations if one.mode == ACCESS_EXCLUSIVE}
        for one, found in relations:
            of_index = found.kind in "iI" and one.mode >= SHARE_UPDATE and found.table not in self._exclusive
            if found.kind in _LOCKABLE or of_index:
                self._changes.locks.append((found.name, MODES[one.mode]))

    def _note_rows(self, oid: int, counts: tuple[int, int, int]) -> bool:
        before = self._counts.get(oid, (0, 0, 0))
        self._counts[oid] = counts
        inserted, updated, deleted = (max(0, now - then) for now, then in zip(counts, before, strict=True))
        if not (inserted or updated or deleted):
            return counts != before  # TRUNCATE begins to count anew
        name = self._name(oid)
        if name is None:
            return False
        known = self._changes.rows.get(name, (0, 0, 0))
        self._changes.rows[name] = (known[0] + inserted, known[1] + updated, known[2] + deleted)
        return True

    def _name(self, oid: int) -> str | None:
        if oid not in self._known:
            self._compare(oid, self._some({oid}).get(oid))
        found = self._known.get(oid)
        return found.name if found is not None and found.kind in _TABLES else None

    def _compare(self, oid: int, now: Relation | None) -> None:
        before = self._known.get(oid)
        if now is None:
            if before is not None:
                del self._known[oid]
                if before.kind in _TABLES:
                    self._changes.dropped[before.name] = before.size_bytes
            return
        self._known[oid] = now
        if before is None:
            self._new.add(oid)
            self._note_new(now)
        elif now.filenode != before.filenode and now.kind in {"r", "m"} and oid not in self._new:
            self._changes.rewritten[now.name] = (before.size_bytes, now.size_bytes)
        elif now.filenode != before.filenode and now.kind == "i" and oid not in self._new:
            self._changes.indexes.append((now.name, now.table or "", now.size_bytes, False))
        if before is not None and now.kind in _TABLES and now.size_bytes != before.size_bytes:
            first = self._changes.sizes.get(now.name, (before.size_bytes, 0))[0]
            self._changes.sizes[now.name] = (first, now.size_bytes)

    def _note_new(self, now: Relation) -> None:
        if now.kind in "iI":
            is_of_new = now.table in self._new_tables
            self._changes.indexes.append((now.name, now.table or "", now.size_bytes, is_of_new))
        elif now.kind in _TABLES | {"v"}:
            self._new_tables.add(now.name)
            self._changes.created[now.name] = now.size_bytes

    def _read(self) -> Look:
        _, [(xid, wal, locks)] = connection.rows(self._real, self._query)
        return Look(xid=xid or "", wal_bytes=None if wal is None else int(wal), locks=locks or "")

    def _everything(self) -> dict[int, Relation]:
        return self._relations(measuring.everything_query(true_sizes=self._true_sizes))

    def _some(self, oids: set[int]) -> dict[int, Relation]:
        return self._relations(measuring.some_query(oids))

    def _relations(self, query: str) -> dict[int, Relation]:
        _, [(text,)] = connection.rows(self._real, query)
        return dict(measuring.relations(json.loads(text) if text else None))


def _has_wal_position(real: Any) -> bool:
    """Whether the server tells its position in the WAL, which some that are not quite PostgreSQL do not."""
    try:
        connection.one(real, f"SELECT {measuring.WAL_POSITION}::text")
    except Failure:
        return False
    finally:
        real.rollback()
    return True
