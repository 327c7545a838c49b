"""How long the changesets would take on the target: as long as on the copy, by the size of the tables concerned."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from migrator.rehearsals.record import RehearsalRecord, RehearsedRecord

_LITTLE_BYTES = 2**20  # a table below this says nothing about time


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """Bytes of every table, by qualified name."""

    copied: Mapping[str, int]
    target: Mapping[str, int] | None  # None: it was not reached


def of(record: RehearsalRecord, tables: Mapping[str, Collection[str]], sizes: Sizes) -> None:
    """Every changeset has an estimate for the target, or says why there is none; so has the whole.

    `tables` are those that each changeset names or writes, by its key. Unknown stays unknown: on a copy without rows,
    where the target was not asked, and for what did not run.
    """
    for told in record.changesets:
        told.estimate_s, told.estimate_from = _one(told, tables.get(told.key, ()), sizes, with_data=record.with_data)
    known = [one.estimate_s for one in record.changesets]
    record.estimate_s = None if None in known else round(sum(one or 0.0 for one in known), 1)


def _one(told: RehearsedRecord, tables: Collection[str], sizes: Sizes, *, with_data: bool) -> tuple[float | None, str]:
    if not with_data:
        return None, "unknown: the copy has no rows"
    if sizes.target is None:
        return None, "unknown: the target was not reached"
    if told.apply_s is None:
        return None, "unknown: it did not run on the copy"
    here, there = (sum(side.get(name, 0) for name in tables) for side in (sizes.copied, sizes.target))
    if max(here, there) < _LITTLE_BYTES:
        return told.apply_s, "as on the copy: its tables are small"
    if here == 0:
        return None, "unknown: its tables are empty in the copy"
    factor = there / here
    return round(
        told.apply_s * factor, 3
    ), f"{factor:.2g} times the copy's: its tables have {there / 1e6:,.0f} MB there"
