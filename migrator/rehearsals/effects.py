"""What Liquibase's worker measured of a changeset, in the words of the dry run's record."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from pydantic import BaseModel, ConfigDict, ValidationError

from migrator.errors import ToolFailed
from migrator.plans import own_tables
from migrator.postgres.stature import Stature
from migrator.rehearsals.dry_run_record import (
    BuiltIndex,
    ChangedRows,
    ResizedTable,
    RewrittenTable,
    TakenLock,
    TriedChangeset,
)

_STRONG = ("ShareLock", "ShareRowExclusiveLock", "ExclusiveLock", "AccessExclusiveLock")
_KEEPS_OUT = {
    "AccessShareLock": "nobody but DDL",
    "RowShareLock": "DDL",
    "RowExclusiveLock": "DDL",
    "ShareUpdateExclusiveLock": "DDL, VACUUM",
    "ShareLock": "writers, DDL",
    "ShareRowExclusiveLock": "writers, DDL",
    "ExclusiveLock": "writers, DDL, SELECT FOR UPDATE",
    "AccessExclusiveLock": "everybody",
}
_ORDER = list(_KEEPS_OUT)


class Measured(BaseModel):
    """The event `measured`; see `migrator.postgres.measuring.Changes`."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    at_s: float
    for_s: float
    locks: list[tuple[str, str]]
    rows: dict[str, tuple[int, int, int]]
    rewritten: dict[str, tuple[int, int]]
    created: dict[str, int]
    dropped: dict[str, int]
    indexes: list[tuple[str, str, int, bool]]
    sizes: dict[str, tuple[int, int]]
    wal_bytes: int | None = None


def heard(said: object) -> Measured:
    """What the worker measured. Raises: ToolFailed, code `protocol`."""
    try:
        return Measured.model_validate(said)
    except ValidationError as error:
        why = f"Liquibase's worker measured something that is not understood ({error.error_count()} fields)"
        raise ToolFailed(why, code="protocol") from error


def note(
    changeset: TriedChangeset, found: Measured, *, named: Collection[str], target: Mapping[str, Stature], real: bool
) -> None:
    """The changeset's part of the record has what was measured; how long locks are held is added by `hold`.

    `named`: the existing tables that it names. `target`: what the target's tables are like. `real`: whether sizes and
    seconds are those of real data.
    """
    changeset.rows = [
        ChangedRows(
            table=name,
            inserted=inserted,
            updated=updated,
            deleted=deleted,
            named=name in named or name not in target,
        )
        for name, (inserted, updated, deleted) in sorted(found.rows.items())
        if not own_tables.is_own(name)
    ]
    changeset.locks = [
        TakenLock(relation=relation, mode=mode, keeps_out=_KEEPS_OUT[mode])
        for relation, mode in sorted(found.locks, key=lambda one: (one[0], -_ORDER.index(one[1])))
        if not own_tables.is_own(relation) and mode != "AccessShareLock"
    ]
    changeset.rewritten = [
        RewrittenTable(
            table=name,
            before_bytes=before,
            after_bytes=after,
            target_rows=target[name].rows if name in target else None,
            target_bytes=target[name].size_bytes if name in target else None,
        )
        for name, (before, after) in sorted(found.rewritten.items())
    ]
    changeset.indexes = [
        BuiltIndex(index=name, table=table, size_bytes=size, on_new_table=is_new)
        for name, table, size, is_new in sorted(found.indexes)
        if not own_tables.is_own(table)
    ]
    changeset.created = sorted(name for name in found.created if not own_tables.is_own(name))
    changeset.dropped = sorted(found.dropped)
    changeset.sizes = [
        ResizedTable(table=name, before_bytes=before, after_bytes=after)
        for name, (before, after) in sorted(found.sizes.items())
        if not own_tables.is_own(name)
    ]
    changeset.wal_bytes = found.wal_bytes
    if real:
        changeset.duration_s = round(found.for_s, 4)


def is_strong(lock: TakenLock) -> bool:
    """Whether those who write, or read, would wait for it."""
    return lock.mode in _STRONG
