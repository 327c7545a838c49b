"""One statement under the eyes of the rules, with everything that they may ask."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from migrator.liquibase.models import Changeset
from migrator.plans.findings.cursor import Name
from migrator.plans.findings.database import Table
from migrator.plans.findings.model import Circumstances, Finding, Rule, Severity, Stake
from migrator.plans.findings.places import Places
from migrator.plans.findings.statements import Statement
from migrator.plans.findings.world import World


@dataclass(frozen=True, kw_only=True)
class Look:
    changeset: Changeset
    number: int  # which of the changeset's statements it stands in, counted from 0
    statement: Statement
    made_again: frozenset[str]  # names that a later statement of the changeset creates
    world: World
    circumstances: Circumstances
    places: Places

    def table(self, name: Name) -> Table | None:
        """The table with its numbers, where the database has it."""
        return self.world.table(name)

    def is_new(self, name: Name) -> bool:
        """Whether this changelog makes it, so that nobody uses it yet."""
        return self.world.is_new(name, self.changeset.file)

    def is_new_object(self, name: Name) -> bool:
        """As `is_new`, of an object of the statement's kind that is no table."""
        return self.world.is_new_object(self.statement.kind, name, self.changeset.file)

    def is_new_column(self, name: Name, column: str) -> bool:
        return self.world.is_new_column(name, column, self.changeset.file)

    def named(self, name: Name) -> str:
        """Qualified where the database has it, else as it is written."""
        table = self.table(name)
        return str(name) if table is None else table.qualified

    def stakes(self, name: Name) -> tuple[Stake, ...]:
        """The table with its rows; empty without a database."""
        table = self.table(name)
        if table is None or not table.holds_rows or self.world.database is None:
            return ()
        return (self.world.database.stake(table),)

    def finding(
        self,
        rule: Rule,
        message: str,
        *,
        at: int,
        severity: Severity | None = None,
        stakes: Sequence[Stake] = (),
    ) -> Finding:
        """What was found; `at` is the place in the text of the changeset's statement."""
        file, line = self.places.of(self.changeset, self.number, at)
        found = rule.broken(message, changeset=self.changeset.key, file=file, line=line, severity=severity)
        return replace(found, statement=self.number, stakes=tuple(stakes))


def rows_told(stakes: Sequence[Stake]) -> str:
    """`: 41 rows (counted), 8.2 kB`; nothing where there is nothing to tell."""
    if len(stakes) == 1:
        return f": {stakes[0].told}"
    return ": " + "; ".join(f"{stake.table} {stake.told}" for stake in stakes) if stakes else ""
