"""All rules, asked of all that would run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from migrator.config.lint import LintSettings
from migrator.errors import ToolFailed
from migrator.liquibase.models import Changeset, ChangesetState
from migrator.plans.findings import compatibility, control, destructive, locking, squawk, suppression
from migrator.plans.findings.database import Database
from migrator.plans.findings.look import Look
from migrator.plans.findings.model import Circumstances, Finding, Findings, Rule, Severity, Subject, sorted_findings
from migrator.plans.findings.places import Places
from migrator.plans.findings.squawk import Said
from migrator.plans.findings.statements import read
from migrator.plans.findings.world import World
from migrator.plans.impact import identifiers

FAMILIES: Mapping[str, Sequence[Rule]] = {
    "compatibility": compatibility.RULES,
    "destructive": destructive.RULES,
    "locking": locking.RULES,
    "control": control.RULES,
    "squawk": squawk.RULES,
    "suppression": suppression.RULES,
}
KNOWN = {rule.id: rule for rules in FAMILIES.values() for rule in rules}


def find(subject: Subject, settings: LintSettings, circumstances: Circumstances, database: Database | None) -> Findings:
    """As `migrator.plans.findings.find`."""
    pending = [one for one in subject.changesets if one.state is ChangesetState.PENDING]
    places = Places(subject.root, subject.changesets, subject.screened.files)
    if database is not None:
        database.load({word for one in pending for statement in one.statements for word in identifiers(statement)})
    found = list(control.of_files(subject, places))
    for changeset in subject.changesets:
        found += control.of(changeset, places)
    walk = _Walk(circumstances=circumstances, places=places, database=database)
    for changeset in pending:
        found += control.of_parameters(changeset, places)
        found += walk.through(changeset)
    found += _squawk(pending, walk, subject.work_folder)
    left, off = suppression.apply(list(dict.fromkeys(found)), pending, settings=settings, places=places, known=KNOWN)
    return Findings(
        found=sorted_findings(left),
        switched_off=tuple(sorted(off, key=lambda one: (one.finding.file or "", one.finding.line or 0))),
    )


@dataclass(frozen=True, slots=True)
class _Heading:
    """What is remembered of a statement that was looked at."""

    start: int
    text: str  # CREATE TABLE a
    is_read: bool  # enough of it to answer for
    is_about_new: bool  # tables that this changelog makes, and nothing else


class _Walk:
    """From statement to statement, in the order in which they run."""

    def __init__(self, *, circumstances: Circumstances, places: Places, database: Database | None) -> None:
        self.circumstances = circumstances
        self.places = places
        self._world = World(database)
        self._headings: dict[tuple[str, int], list[_Heading]] = {}

    def through(self, changeset: Changeset) -> Iterator[Finding]:
        parsed = [read(control.without_parameters(text)) for text in changeset.statements]
        made_again = frozenset(
            name.name for part in parsed for one in part if one.verb == "CREATE" for name in one.names
        )
        for number, part in enumerate(parsed):
            for statement in part:
                look = Look(
                    changeset=changeset,
                    number=number,
                    statement=statement,
                    made_again=made_again,
                    world=self._world,
                    circumstances=self.circumstances,
                    places=self.places,
                )
                self._headings.setdefault((changeset.key, number), []).append(_heading(look))
                found = [*compatibility.of(look), *destructive.of(look)]
                yield from found
                yield from locking.of(look, is_known=bool(found))
                self._world.apply(statement, changeset.file)

    def heading(self, said: Said) -> _Heading | None:
        """Of the statement that squawk speaks of."""
        known = self._headings.get((said.changeset.key, said.number), [])
        before = [one for one in known if one.start <= said.at]
        return before[-1] if before else next(iter(known), None)


def _heading(look: Look) -> _Heading:
    statement = look.statement
    named = f" {', '.join(map(str, statement.names[:3]))}" if statement.names else ""
    return _Heading(
        start=statement.start,
        text=f"{statement.verb} {statement.kind}".strip() + named,
        is_read=bool(statement.kind or statement.changes),
        is_about_new=(statement.verb == "CREATE" and statement.kind == "TABLE")
        or (bool(statement.targets) and all(look.is_new(name) for name in statement.targets)),
    )


def _squawk(pending: Sequence[Changeset], walk: _Walk, folder: Path | None) -> Iterator[Finding]:
    """What squawk says, save what another rule answers, and what cannot be true here."""
    try:
        for one in squawk.of(pending, server_major=walk.circumstances.server_major, folder=folder):
            name, heading = one.rule.removeprefix(squawk.PREFIX), walk.heading(one)
            is_answered = name in squawk.ANSWERED and (heading is None or heading.is_read or name in squawk.SCREENED)
            is_moot = heading is not None and heading.is_about_new and not one.is_style and not one.is_refusal
            if name not in squawk.NOT_HERE and not is_answered and not is_moot:
                yield _told(one, heading, walk)
    except ToolFailed as error:
        rule = squawk.NOT_LOOKED_AT
        yield rule.broken(error.message)


def _told(said: Said, heading: _Heading | None, walk: _Walk) -> Finding:
    file, line = walk.places.of(said.changeset, said.number, said.at)
    name = said.rule.removeprefix(squawk.PREFIX)
    severity = said.severity
    if severity is Severity.WARNING and not walk.circumstances.others_work:
        severity = Severity.INFO
    about = f" in {heading.text}" if heading is not None else ""
    return Finding(
        rule=said.rule,
        severity=severity,
        message=f"{name.replace('-', ' ')}{about}",
        why=said.message,
        safer=said.help or f"See https://squawkhq.com/docs/{name}",
        changeset=said.changeset.key,
        file=file,
        line=line,
        statement=said.number,
    )
