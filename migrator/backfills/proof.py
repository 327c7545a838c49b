"""Proves of a batch, before it is committed, that the statement changed rows of this batch only.

PostgreSQL counts the rows that a transaction updates and deletes, without a scan. Of the batch's own rows those that it
wrote are known by their xmin, and those that it deleted by being gone. If both numbers are equal, every row that was
changed is one of the batch. The count alone is looked at for every batch; which rows they are, for the first ones.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from psycopg import sql

from migrator.backfills.keys import Bounds, Table
from migrator.backfills.ledger_tables import Tables
from migrator.backfills.ranges import Phase
from migrator.errors import MigrationFailed, Place
from migrator.postgres.session import Session
from migrator.postgres.transactions import statement

_EXACTLY = 3  # batches of each worker
_SCANNED_BYTES = 200_000_000  # a table of this size is looked through in a second or two


@dataclass(frozen=True, kw_only=True)
class Claim:
    """A range's number, and the part of it that is meant."""

    number: int
    bounds: Bounds
    written: frozenset[str] = frozenset()  # tables that earlier batches of the range wrote


@dataclass(frozen=True, kw_only=True)
class Counted:
    """Rows of the table that the session has written and not reported to the statistics yet."""

    updated: int
    deleted: int


@dataclass(kw_only=True)
class Proof:
    """For the batches of one session."""

    name: str
    phase: Phase
    table: Table
    tables: Tables
    place: Place
    keeps_rows: bool  # an undo walks through the rows: none may go
    _proven: int = field(default=0, init=False)

    def before(self, session: Session) -> Counted:
        """What was counted until now. Give it to `after`."""
        [(updated, deleted)] = session.rows(statement(_COUNTED, oid=sql.Literal(self.table.oid)))
        return Counted(updated=int(updated or 0), deleted=int(deleted or 0))

    def after(self, session: Session, before: Counted, rows: int, batch: Claim) -> None:
        """No row outside the batch was changed. Raises: MigrationFailed; StepFailed.

        The batch's range was written in this transaction, or in this savepoint, before the rows were.
        """
        now = self.before(session)
        deleted = now.deleted - before.deleted
        changed = now.updated - before.updated + deleted
        if changed <= rows and self._proven >= _EXACTLY:
            return
        mine, gone = self._of_batch(session, batch)
        if gone > deleted:
            raise self._refusal(
                f"the statement changes the key of its rows ({gone} of a batch): they would be met again, or never",
                "Leave the key as it is; write the new one to a column of its own.",
                "backfill_key",
            )
        if gone and self.keeps_rows:
            raise self._refusal(
                f"the statement takes rows of {self.table.qualified} away ({gone} of a batch), so its undo would have"
                " none to walk through",
                'Copy the rows, and drop the old ones in a later changeset; or write undo = "restore".',
                "backfill_deletes",
            )
        counts_nothing = mine > 0 and changed == 0  # track_counts is off
        if deleted > gone:
            raise self._others(f", {deleted - gone} deleted ones")
        if changed > mine + gone or counts_nothing:
            self._look_for_others(session, batch, changed - mine - gone)
        self._proven += 1

    def _of_batch(self, session: Session, batch: Claim) -> tuple[int, int]:
        """How many rows of the batch were written since the range was, and how many are gone."""
        [(mine, gone)] = session.rows(
            statement(_OF_BATCH, **self._parts(batch), first=sql.Identifier("t", self.table.key[0].name))
        )
        return int(mine or 0), int(gone or 0)

    def _look_for_others(self, session: Session, batch: Claim, number: int) -> None:
        """Triggers may write a row of the batch twice; so a table that is not too large is looked through."""
        if self.table.size_bytes > _SCANNED_BYTES:
            if number > 0:
                raise self._others(f", {number} more than the batch has")
            return
        key = sql.SQL(", ").join(sql.Identifier("t", column.name) for column in self.table.key)
        rows = session.rows(statement(_OTHERS, **self._parts(batch), key=key))
        if rows:
            names = ", ".join(column.name for column in self.table.key)
            raise self._others(f", such as the one with {names} {', '.join(map(str, rows[0]))}")

    def _others(self, which: str) -> MigrationFailed:
        return self._refusal(
            f"the statement changes rows of {self.table.qualified} that are not in its batch{which}",
            "Join the relation batch by the whole key: ... from batch b where t.id = b.id.",
            "backfill_other_rows",
        )

    def _parts(self, batch: Claim) -> dict[str, sql.Composable]:
        return {
            "since": sql.SQL(_SINCE).format(
                **self.tables.named,
                name=sql.Literal(self.name),
                phase=sql.Literal(self.phase),
                number=sql.Literal(batch.number),
            ),
            "written": sql.SQL(_WRITTEN),
            "batch": self.table.batch(),
            "table": self.table.identifier,
            "same": self.table.equal("t", "batch"),
        }

    def _refusal(self, what: str, remedy: str, code: str) -> MigrationFailed:
        undone = " Nothing of this batch is in the database."
        return MigrationFailed(
            f"{self.place.file}: backfill {self.name}: {what}.", hint=remedy + undone, code=code, place=self.place
        )


_COUNTED = """
SELECT coalesce(sum(pg_stat_get_xact_tuples_updated(relid)), 0)::text,
       coalesce(sum(pg_stat_get_xact_tuples_deleted(relid)), 0)::text
FROM (SELECT {oid}::oid::regclass AS relid UNION SELECT relid FROM pg_partition_tree({oid}::oid::regclass)) AS tree"""
# What was written since bears the xid under which the range was written, or a younger one that is not over. Others'
# xids that are younger are over, or the row could not be seen.
_SINCE = """
since AS MATERIALIZED (
    SELECT age(xmin) AS age, pg_current_xact_id()::text::bigint AS mine FROM {ranges}
    WHERE name = {name} AND phase = {phase} AND number = {number}
)"""
_WRITTEN = """
CASE WHEN age(t.xmin) <= since.age
     THEN pg_xact_status((since.mine - age(t.xmin))::text::xid8) = 'in progress' ELSE false END"""
_OF_BATCH = """
WITH batch AS MATERIALIZED ({batch}), {since}
SELECT (count(*) FILTER (WHERE {written}))::text, (count(*) FILTER (WHERE {first} IS NULL))::text
FROM since, batch LEFT JOIN {table} AS t ON {same}"""
_OTHERS = """
WITH batch AS MATERIALIZED ({batch}), {since}
SELECT {key} FROM since, {table} AS t
WHERE {written} AND NOT EXISTS (SELECT FROM batch WHERE {same}) LIMIT 1"""
