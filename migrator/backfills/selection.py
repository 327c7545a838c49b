"""Proves of a batch, before it is committed, that `where` still selects the rows that were moved.

The trigger asks `where` of a row that somebody has just written, and the undo looks for its rows by it. A condition
that the move itself makes false, such as `first_name is null`, would find none of them any more: nothing would be
caught, and nothing taken back.
"""

from __future__ import annotations

from dataclasses import dataclass

from migrator.backfills import keys
from migrator.backfills.definition import Backfill
from migrator.backfills.keys import Table
from migrator.errors import MigrationFailed
from migrator.postgres.session import Session
from migrator.postgres.transactions import statement


@dataclass(frozen=True, kw_only=True)
class Selection:
    backfill: Backfill
    table: Table

    @classmethod
    def of(cls, backfill: Backfill, table: Table) -> Selection | None:
        """None where nothing is looked for by `where` once the rows are moved."""
        undone_by_it = backfill.undo_statement is not None and backfill.undo_where is None
        wanted = backfill.where is not None and (backfill.capture == "trigger" or undone_by_it)
        return cls(backfill=backfill, table=table) if wanted else None

    def after(self, session: Session) -> None:
        """Every row of the batch that is still there is selected. Raises: MigrationFailed; StepFailed."""
        [(there, selected)] = session.rows(
            statement(
                _SELECTED,
                batch=self.table.batch(),
                table=self.table.identifier,
                names=self.table.names,
                same=self.table.equal("t", keys.BATCH),
                where=keys.and_where(self.backfill.where),
            )
        )
        let_go = int(there or 0) - int(selected or 0)
        if let_go <= 0:
            return
        rows = "1 row" if let_go == 1 else f"{let_go} rows"
        if self.backfill.capture == "trigger":
            consequence = "the trigger would not catch what becomes of them"
            remedy = "Name in `where` only what the statement reads."
        else:
            consequence = "an undo would not find them"
            remedy = 'Name in `where` only what the statement reads; or say which rows to undo: undo_where = "...".'
        raise MigrationFailed(
            f"{self.backfill.file}: backfill {self.backfill.name}: where names what the statement writes: {rows} of a "
            f"batch are not selected any more once they are moved, so {consequence}.",
            hint=f"{remedy} Nothing of this batch is in the database.",
            code="backfill_where",
            place=self.backfill.place,
        )


# In subqueries of their own: `where` may name a column as the key's, or by the table's name.
_SELECTED = """
WITH batch AS MATERIALIZED ({batch})
SELECT (SELECT count(*)::text FROM batch JOIN {table} AS t ON {same}),
       (SELECT count(*)::text FROM batch JOIN (SELECT {names} FROM {table} WHERE true{where}) AS t ON {same})"""
