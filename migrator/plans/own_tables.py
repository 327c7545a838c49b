"""The tables in which Liquibase and backfills write down what was done: no changelog is about them."""

from __future__ import annotations

from migrator.backfills import ledger_tables
from migrator.liquibase import ledger as liquibase
from migrator.plans import impact

NAMES = (liquibase.TABLE, liquibase.LOCK_TABLE, ledger_tables.TABLE, ledger_tables.RANGES)
# Liquibase writes its lock row in every command; neither it nor what backfills have come to is the database's content.
_SAY_NOTHING = (liquibase.LOCK_TABLE, ledger_tables.TABLE, ledger_tables.RANGES)


def is_own(table: str) -> bool:
    """Whether a qualified name is that of one of them."""
    return impact.bare(table) in NAMES


def are_in(identity: str) -> bool:
    """Whether a schema object is one of them, or one of their indexes, constraints and columns."""
    return any(name in identity.lower() for name in NAMES)


def say_nothing(identity: str) -> bool:
    """Whether a table or schema object is of those that change without a change of the database's state."""
    return any(name in identity.lower() for name in _SAY_NOTHING)
