"""Proves of a batch, before it is committed, that the statement changed rows of this batch only.

PostgreSQL counts the rows that a transaction inserts, updates and deletes, without a scan. Of the batch's own rows
those that it wrote are known by their xmin, and those that it deleted by being gone. If as many were counted, every row
that was changed is one of the batch. Where more were, the table is looked through, if that can be done in a moment.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from psycopg import sql

from migrator.backfills.keys import Bounds, Table
from migrator.backfills.ledger_tables import Tables
from migrator.backfills.ranges import Phase
from migrator.backfills.writes import Writes
from migrator.errors import MigrationFailed, Place
from migrator.postgres.session import Session
from migrator.postgres.transactions import statement

_EXACTLY = 3  # batches of each worker that are looked at though nothing was counted
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

    inserted: int
    updated: int
    deleted: int
    is_on: bool  # track_counts: otherwise nothing is counted


@dataclass(kw_only=True)
class Proof:
    """For the batches of one session."""

    name: str
    phase: Phase
    table: Table
    tables: Tables
    place: Place
    keeps_rows: bool  # an undo walks through the rows: none may go
    must_write: bool = False  # the first batch: verify, which found nothing before it, would not tell if it did not
    writes: Writes = field(default_factory=Writes, init=False)
    _proven: int = field(default=0, init=False)

    def before(self, session: Session) -> Counted:
        """What was counted until now. Give it to `after`."""
        [(inserted, updated, deleted, tracked)] = session.rows(statement(_COUNTED, oid=sql.Literal(self.table.oid)))
        return Counted(
            inserted=int(inserted or 0), updated=int(updated or 0), deleted=int(deleted or 0), is_on=tracked == "on"
        )

    def after(self, session: Session, before: Counted, batch: Claim, *, is_whole: bool) -> None:
        """No row outside the batch was changed. Raises: MigrationFailed; StepFailed.

        The batch's range was written in this transaction, or in this savepoint, before the rows were. `is_whole`: the
        batch is every row of its range, so that from there no key has to be looked up.
        """
        now = self.before(session)
        if now.inserted > before.inserted:  # also what an UPDATE moves to another partition, with another key
            raise self._refusal(
                f"the statement puts rows into {self.table.qualified}, the table that is walked through"
                f" ({now.inserted - before.inserted} in a batch): they would be met in their turn, without an end",
                "Put them into another table; and leave the key as it is, and what a row's partition is chosen by.",
                "backfill_inserts",
            )
        deleted = now.deleted - before.deleted
        changed = now.updated - before.updated + deleted
        if changed == 0 and now.is_on and self._proven >= _EXACTLY:
            return
        if is_whole and not deleted and self._proven >= _EXACTLY and self._of_range(session, batch) == changed:
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
        if deleted > gone:
            raise self._others(f", {deleted - gone} deleted ones")
        if changed > mine + gone or not now.is_on:
            self._look_for_others(session, batch, changed - mine - gone if now.is_on else None)
        self._proven += 1

    def note_written(self, session: Session, before: int, rows: int, written: frozenset[str]) -> int | None:
        """How many rows the batch wrote to these tables; None: the server counts none.

        `before`: of `writes`; `rows`: of the batch. Raises: MigrationFailed where it was to write some, and did not.
        """
        number = self.writes.after(session, before, written)
        if self.must_write and number is not None and self.writes.total == 0:
            raise self._refusal(
                f"the statement wrote nothing at all for the first {'row' if rows == 1 else f'{rows} rows'}, and verify"
                " found nothing before that: either every row is right already, or neither of them meets the rows",
                "Correct what the statement joins by; and let verify find a row that is not moved, by IS DISTINCT FROM:"
                " <> is not true of a null. Where every row is right, let the statement write it all the same.",
                "backfill_writes_nothing",
            )
        return number

    def _of_range(self, session: Session, batch: Claim) -> int:
        """How many rows between the batch's bounds were written since the range was."""
        within = self.table.within(batch.bounds)
        [(written,)] = session.rows(statement(_OF_RANGE, **self._parts(batch), within=within))
        return int(written or 0)

    def _of_batch(self, session: Session, batch: Claim) -> tuple[int, int]:
        """How many rows of the batch were written since the range was, and how many are gone."""
        [(mine, gone)] = session.rows(
            statement(_OF_BATCH, **self._parts(batch), first=sql.Identifier("t", self.table.key[0].name))
        )
        return int(mine or 0), int(gone or 0)

    def _look_for_others(self, session: Session, batch: Claim, number: int | None) -> None:
        """Triggers may write a row of the batch twice; so a table that is not too large is looked through.

        `number`: how many more were counted than the batch has; None: nothing was counted.
        """
        if self.table.size_bytes > _SCANNED_BYTES:
            if number is not None:
                raise self._others(f", {number} more than the batch has")
            raise self._refusal(
                "the server counts no rows (track_counts is off), so which ones the statement changes cannot be told"
                f" of a table as large as {self.table.qualified}",
                "Let a superuser set track_counts = on.",
                "backfill_uncounted",
            )
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
SELECT coalesce(sum(pg_stat_get_xact_tuples_inserted(relid)), 0)::text,
       coalesce(sum(pg_stat_get_xact_tuples_updated(relid)), 0)::text,
       coalesce(sum(pg_stat_get_xact_tuples_deleted(relid)), 0)::text,
       current_setting('track_counts')
FROM (SELECT {oid}::oid::regclass AS relid UNION SELECT relid FROM pg_partition_tree({oid}::oid::regclass)) AS tree"""
# What was written since bears the xid under which the range was written, or a younger one that is not over. Others'
# xids that are younger are over, or the row could not be seen.
_SINCE = """
since AS MATERIALIZED (
    SELECT age(xmin) AS age, pg_current_xact_id()::text::bigint AS mine FROM {ranges}
    WHERE name = {name} AND phase = {phase} AND number = {number}
)"""
_WRITTEN = """
CASE WHEN age(t.xmin) > (SELECT age FROM since) THEN false WHEN age(t.xmin) = 0 THEN true
     ELSE pg_xact_status(((SELECT mine FROM since) - age(t.xmin))::text::xid8) = 'in progress' END"""
_OF_RANGE = """
WITH {since} SELECT (count(*) FILTER (WHERE {written}))::text FROM {table} AS t WHERE {within}"""
_OF_BATCH = """
WITH batch AS MATERIALIZED ({batch}), {since}
SELECT (count(*) FILTER (WHERE {written}))::text, (count(*) FILTER (WHERE {first} IS NULL))::text
FROM batch LEFT JOIN {table} AS t ON {same}"""
_OTHERS = """
WITH batch AS MATERIALIZED ({batch}), {since}
SELECT {key} FROM {table} AS t
WHERE {written} AND NOT EXISTS (SELECT FROM batch WHERE {same}) LIMIT 1"""
