"""A look at a backfill and its database before anything is written: what would go wrong later is said now."""

from __future__ import annotations

from dataclasses import dataclass

from migrator.backfills.definition import Backfill
from migrator.backfills.keys import Table
from migrator.errors import Place
from migrator.postgres.session import Session


@dataclass(frozen=True, kw_only=True)
class Problem:
    """Why a backfill cannot be done. `code` is one of: table_gone, not_a_table, key_column, key_nullable,
    key_not_unique, key_order, statement, no_batch, ignores_batch, verify, undo, where, python."""

    code: str
    message: str  # begins with the file
    hint: str
    place: Place


@dataclass(frozen=True, kw_only=True)
class Looked:
    """What was found. `table` is None where it is gone or none."""

    problems: tuple[Problem, ...]
    table: Table | None
    rows: int | None  # of the table, as far as the server knows without counting


def of_file(backfill: Backfill) -> list[Problem]:
    """What can be said without a database: statements that are none or several, or do not name `batch`."""
    raise NotImplementedError


def of_table(session: Session, backfill: Backfill) -> Looked:
    """The table and its key, which may be there before the statements' own columns are. Raises: StepFailed."""
    raise NotImplementedError


def look(session: Session, backfill: Backfill) -> Looked:
    """Everything: file, table, and the statements as the server understands them. Nothing is written.

    For a moment at which the changeset of `after` has run. Raises: StepFailed.
    """
    raise NotImplementedError


def refuse(problems: tuple[Problem, ...] | list[Problem]) -> None:
    """There are none. Raises: Refused with all of them, and the place of the first."""
    raise NotImplementedError
