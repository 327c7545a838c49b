"""The changeset that a backfill in a person's own hands follows: one that has run in this database."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from migrator.backfills import inspection
from migrator.backfills.definition import Backfill
from migrator.backfills.inspection import Problem
from migrator.backfills.ledger import Entry, State
from migrator.errors import Refused
from migrator.liquibase import ledger as liquibase_ledger
from migrator.postgres.session import Session

if TYPE_CHECKING:
    from migrator.runs.byhand.backfilling import Database


def changesets(session: Session, database: Database, backfill: Backfill) -> list[str]:
    """The whole keys, path::id::author, of those that have run and that `after` may mean.

    Without a path it means one of a changelog in the file's folder: another one may have the same id and author.
    """
    root = database.config.liquibase.root
    inside = backfill.file.is_relative_to(root)
    folder = PurePosixPath(backfill.file.parent.relative_to(root).as_posix()) if inside else None
    wanted, found = backfill.after.strip(), []
    for row in liquibase_ledger.read(session, database.schema) or []:
        short = f"{row.id}::{row.author}"
        is_beside = folder is None or PurePosixPath(row.path).parent == folder
        if wanted in (f"{row.path}::{short}", f"{short}::{row.path}") or (wanted == short and is_beside):
            found.append(f"{row.path}::{short}")
    return found


def placed(session: Session, database: Database, backfill: Backfill, entry: Entry | None) -> Backfill:
    """With its changeset's whole key: by that a rollback knows it. One that has begun has it already.

    Raises: Refused where it has not run here, or could be one of several.
    """
    its = changesets(session, database, backfill)
    elsewhere = _elsewhere(session, database, backfill)
    begun = str(entry.definition.get("after")) if entry is not None and entry.state is not State.UNDONE else None
    if begun is not None and begun in (*its, *elsewhere):
        return backfill.model_copy(update={"after": begun})
    if not its:
        hint = f"Run its changelog: migrator run CHANGELOG --env {database.environment.name}"
        if elsewhere:
            hint += f". If {elsewhere[0]} is meant, which is of another folder, write that as `after`"
        raise Refused(
            f"Backfill {backfill.name} follows the changeset {backfill.after}, which has not run in "
            f"{database.login.database}.",
            hint=hint,
            code="backfill_after",
            place=backfill.place,
        )
    inspection.refuse(ambiguous(backfill, its))
    return backfill.model_copy(update={"after": its[0]})


def ambiguous(backfill: Backfill, its: Sequence[str]) -> list[Problem]:
    if len(its) < 2:
        return []
    return [
        Problem(
            code="backfill_ambiguous",
            message=f"{backfill.file}: after: {backfill.after!r} could be {' or '.join(its)}",
            hint="Write it with its path: path::id::author.",
            place=backfill.place,
        )
    ]


def _elsewhere(session: Session, database: Database, backfill: Backfill) -> list[str]:
    """The whole keys of those of other folders that have run and have the same id and author."""
    keys = ["::".join(row.key) for row in liquibase_ledger.read(session, database.schema) or []]
    return [key for key in keys if key.endswith(f"::{backfill.after.strip()}")]
