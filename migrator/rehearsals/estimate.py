"""How long the changesets would take on the target: as long as on the copy, by the size of the tables concerned."""

from __future__ import annotations

from collections.abc import Mapping

from migrator.rehearsals.one_by_one import OneByOne
from migrator.rehearsals.outlook import Outlook
from migrator.rehearsals.record import RehearsalRecord, RehearsedRecord
from migrator.runs.record import RunRecord

_LITTLE_BYTES = 2**20  # a table below this says nothing about time


def of(
    record: RehearsalRecord,
    outlook: Outlook,
    climb: OneByOne,
    target: Mapping[str, int] | None,
    first: RunRecord | None,
) -> None:
    """Every changeset has the time that it took in the first run on the copy, and an estimate for the target.

    `target` are the sizes of its tables. Unknown stays unknown: on a copy without rows, and where the target was not
    asked.
    """
    took = {(c.path, c.id, c.author): c.duration_s for c in first.changesets} if first is not None else {}
    copied = {name: table.pages_bytes for name, table in climb.start.tables.items()}
    for told, changeset in zip(record.changesets, outlook.changesets, strict=True):
        told.apply_s = took.get((told.path, told.id, told.author)) or told.apply_s
        tables = outlook.tables_of(changeset) | climb.written.get(changeset.key, frozenset())
        _one(told, record, sizes=(copied, target), tables=tables)
    known = [one.estimate_s for one in record.changesets]
    record.estimate_s = None if None in known else round(sum(one or 0.0 for one in known), 1)


def _one(
    told: RehearsedRecord,
    record: RehearsalRecord,
    *,
    sizes: tuple[Mapping[str, int], Mapping[str, int] | None],
    tables: frozenset[str],
) -> None:
    copied, target = sizes
    if not record.with_data:
        told.estimate_from = "unknown: the copy has no rows"
        return
    if target is None:
        told.estimate_from = "unknown: the target was not reached"
        return
    if told.apply_s is None:
        told.estimate_from = "unknown: it did not run on the copy"
        return
    here, there = (sum(side.get(name, 0) for name in tables) for side in (copied, target))
    if max(here, there) < _LITTLE_BYTES or here == 0:
        told.estimate_s, told.estimate_from = told.apply_s, "as on the copy: its tables are small"
        if there >= _LITTLE_BYTES:  # nothing to scale by: the copy's are empty
            told.estimate_s, told.estimate_from = None, "unknown: its tables are empty in the copy"
        return
    factor = there / here
    told.estimate_s = round(told.apply_s * factor, 3)
    told.estimate_from = f"{factor:.2g} times the copy's: by the size of its tables, {there / 1e6:.0f} MB"
