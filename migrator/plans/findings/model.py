"""What was found in a changelog before it runs, and what was switched off."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path

from migrator.config.lint import FailOn
from migrator.liquibase.changelog import Screened
from migrator.liquibase.models import Changeset
from migrator.plans.words import count, size

REFUSED = "refused"  # the rule of changelogs that no run would take


class Severity(StrEnum):
    ERROR = "error"  # it loses data, breaks the application that is running, or fails
    WARNING = "warning"  # somebody waits, or it may fail
    INFO = "info"  # worth knowing

    @property
    def rank(self) -> int:
        """0 for the worst."""
        return list(Severity).index(self)


@dataclass(frozen=True, kw_only=True)
class Rule:
    """What is looked for. The reference in the documentation is made from these."""

    id: str
    severity: Severity  # as a rule; a finding may be milder or worse, by what the database holds
    finds: str
    why: str
    safer: str
    asks_database: bool = False  # says more, or something else, where there is one

    def broken(
        self,
        message: str,
        *,
        changeset: str | None = None,
        file: str | None = None,
        line: int | None = None,
        severity: Severity | None = None,
    ) -> Finding:
        """The finding that it is broken here: in the changeset of that key, as bad as it is as a rule if not said."""
        return Finding(
            rule=self.id,
            severity=severity or self.severity,
            message=message,
            why=self.why,
            safer=self.safer,
            changeset=changeset,
            file=file,
            line=line,
        )


@dataclass(frozen=True, kw_only=True)
class Stake:
    """A table that a finding is about, with its numbers in this database."""

    table: str  # schema.table, quoted where PostgreSQL would
    rows: int
    is_exact: bool  # counted; else the planner's estimate
    size_bytes: int | None = None  # indexes and TOAST included
    effect: str | None = None  # which of them, where it is not all: "without a value"

    @property
    def told(self) -> str:
        """1,000,000 rows (counted), 58 MB."""
        rows = count(self.rows, "row") + (f" {self.effect}" if self.effect else "")
        told = f"{rows} (counted)" if self.is_exact else f"about {rows} (estimated)"
        return f"{told}, {size(self.size_bytes)}" if self.size_bytes else told


def are_empty(stakes: Sequence[Stake]) -> bool:
    """Whether there are tables, counted, and no row in any of them."""
    return bool(stakes) and all(one.is_exact and not one.rows for one in stakes)


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One rule, broken in one place."""

    rule: str  # its id; rules of squawk begin with squawk/
    severity: Severity
    message: str  # what the changeset does, to what
    why: str
    safer: str
    changeset: str | None = None  # path::id::author
    file: str | None = None  # relative to liquibase.root
    line: int | None = None  # counted from 1; None where it is not known
    statement: int | None = None  # which of the changeset's statements, counted from 0
    stakes: tuple[Stake, ...] = ()  # empty where no database was asked

    @property
    def rows_at_stake(self) -> int | None:
        """The rows of all tables concerned; None where no database was asked."""
        return sum(stake.rows for stake in self.stakes) if self.stakes else None

    @property
    def identity(self) -> tuple[str, str, str]:
        """The same as long as the changeset says the same, wherever in its file it stands."""
        return self.rule, self.changeset or self.file or "", self.message if not self.stakes else ""

    @property
    def place(self) -> str:
        """file:line, as far as it is known."""
        if self.file is None:
            return self.changeset or ""
        return f"{self.file}:{self.line}" if self.line else self.file


@dataclass(frozen=True, kw_only=True)
class SwitchedOff:
    """A finding that nobody is bothered with."""

    finding: Finding
    reason: str
    by: str  # "configuration" or "changeset"


@dataclass(frozen=True, kw_only=True)
class Findings:
    found: tuple[Finding, ...] = ()  # the worst first, then by place
    switched_off: tuple[SwitchedOff, ...] = ()
    old: tuple[Finding, ...] = ()  # left out of `found`: an earlier state that was asked about had them already

    def since(self, earlier: Findings) -> Findings:
        """Those that `earlier` has too are old, wherever they stand by now; what no run would take never is."""
        known = Counter(one.identity for one in earlier.found)
        new: list[Finding] = []
        old: list[Finding] = []
        for one in self.found:
            known[one.identity] -= 1
            (new if known[one.identity] < 0 or one.rule == REFUSED else old).append(one)
        return replace(self, found=tuple(new), old=(*self.old, *old))

    def at_least(self, severity: Severity) -> tuple[Finding, ...]:
        """Those that are as bad, or worse."""
        return tuple(one for one in self.found if one.severity.rank <= severity.rank)

    def against(self, fail_on: FailOn) -> tuple[Finding, ...]:
        """Those for which the answer is no; empty: it is yes."""
        return () if fail_on == "never" else self.at_least(Severity(fail_on))

    def count(self, severity: Severity) -> int:
        return sum(1 for one in self.found if one.severity is severity)


@dataclass(frozen=True, kw_only=True)
class Subject:
    """What is looked at."""

    changesets: Sequence[Changeset]  # all of the changelog; those that would run are judged
    screened: Screened
    root: Path  # liquibase.root
    work_folder: Path | None = None  # for files of a moment; None: the system's temporary one


@dataclass(frozen=True, kw_only=True)
class Circumstances:
    """Under which the changesets would run."""

    server_major: int
    others_work: bool = True  # False behind an offline fence: nobody is kept waiting, the application is stopped


def sorted_findings(found: Sequence[Finding]) -> tuple[Finding, ...]:
    """The worst first, then by place."""
    return tuple(sorted(found, key=lambda one: (one.severity.rank, one.file or "", one.line or 0, one.rule)))


def joined(several: Sequence[Findings]) -> Findings:
    """The findings of several changelogs as one; what they share is told once."""
    found = dict.fromkeys(one for each in several for one in each.found)
    off = dict.fromkeys(one for each in several for one in each.switched_off)
    return Findings(found=sorted_findings(list(found)), switched_off=tuple(off))
