"""All rules, asked of all that would run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from migrator.config.lint import LintSettings
from migrator.errors import ToolFailed
from migrator.liquibase.models import Changeset, ChangesetState
from migrator.plans.findings import compatibility, control, destructive, locking, squawk, suppression
from migrator.plans.findings.cursor import Cursor
from migrator.plans.findings.database import Database
from migrator.plans.findings.look import Look
from migrator.plans.findings.model import Circumstances, Finding, Findings, Rule, Severity, Subject, sorted_findings
from migrator.plans.findings.places import Places
from migrator.plans.findings.squawk import Said
from migrator.plans.findings.statements import Statement, read
from migrator.plans.findings.world import World

FAMILIES: Mapping[str, Sequence[Rule]] = {
    "Compatibility with the application that is running": compatibility.RULES,
    "Rows that are lost or changed": destructive.RULES,
    "Locks and rewrites": locking.RULES,
    "How changesets run": control.RULES,
    "squawk": squawk.RULES,
    "Switching rules off": suppression.RULES,
}
KNOWN = {rule.id: rule for rules in FAMILIES.values() for rule in rules}


def find(subject: Subject, settings: LintSettings, circumstances: Circumstances, database: Database | None) -> Findings:
    """As `migrator.plans.findings.find`."""
    pending = [one for one in subject.changesets if one.state is ChangesetState.PENDING]
    places = Places(subject.root, subject.changesets, subject.screened.files)
    parsed = {one.key: [read(control.without_parameters(text)) for text in one.statements] for one in pending}
    if database is not None:
        database.load(_names(parsed))
    found = list(control.of_files(subject, places))
    for changeset in subject.changesets:
        found += control.of(changeset, places)
    walk = _Walk(circumstances=circumstances, places=places, database=database)
    for changeset in pending:
        found += control.of_parameters(changeset, places)
        found += walk.through(changeset, parsed[changeset.key])
    found += _squawk(pending, parsed, walk)
    left, off = suppression.apply(list(dict.fromkeys(found)), pending, settings=settings, places=places, known=KNOWN)
    return Findings(
        found=sorted_findings(left),
        switched_off=tuple(sorted(off, key=lambda one: (one.finding.file or "", one.finding.line or 0))),
    )


class _Walk:
    """From statement to statement, in the order in which they run."""

    def __init__(self, *, circumstances: Circumstances, places: Places, database: Database | None) -> None:
        self.circumstances = circumstances
        self.places = places
        self._world = World(database)
        self.about_new: set[tuple[str, int, int]] = set()  # statements that are about new tables alone

    def through(self, changeset: Changeset, parsed: Sequence[Sequence[Statement]]) -> Iterator[Finding]:
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
                if statement.targets and all(look.is_new(name) for name in statement.targets):
                    self.about_new.add((changeset.key, number, statement.start))
                found = [*compatibility.of(look), *destructive.of(look)]
                locks = list(locking.of(look))
                yield from found
                yield from (one for one in locks if not (found and one.severity is Severity.INFO))
                self._world.apply(statement, changeset.file)


def _squawk(
    pending: Sequence[Changeset], parsed: Mapping[str, Sequence[Sequence[Statement]]], walk: _Walk
) -> Iterator[Finding]:
    """What squawk says, save what another rule answers, and what cannot be true here."""
    try:
        said = squawk.of(pending, server_major=walk.circumstances.server_major)
    except ToolFailed as error:
        rule = squawk.NOT_LOOKED_AT
        yield Finding(rule=rule.id, severity=rule.severity, message=error.message, why=rule.why, safer=rule.safer)
        return
    for one in said:
        name = one.rule.removeprefix(squawk.PREFIX)
        statement = _at(parsed[one.changeset.key][one.number], one.at)
        is_read = statement is not None and (statement.kind or statement.changes)
        if name in squawk.NOT_HERE or (name in squawk.ANSWERED and (is_read or name in squawk.SCREENED)):
            continue
        key = (one.changeset.key, one.number, statement.start if statement is not None else 0)
        if key in walk.about_new and not one.is_style and not one.is_refusal:
            continue
        yield _told(one, statement, walk)


def _at(statements: Sequence[Statement], place: int) -> Statement | None:
    """The statement that this place of the text belongs to."""
    before = [one for one in statements if one.start <= place]
    return before[-1] if before else next(iter(statements), None)


def _told(said: Said, statement: Statement | None, walk: _Walk) -> Finding:
    file, line = walk.places.of(said.changeset, said.number, said.at)
    name = said.rule.removeprefix(squawk.PREFIX)
    severity = said.severity
    if severity is Severity.WARNING and not walk.circumstances.others_work:
        severity = Severity.INFO
    about = f" in {_heading(statement)}" if statement is not None else ""
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


def _heading(statement: Statement) -> str:
    named = f" {', '.join(map(str, statement.names[:3]))}" if statement.names else ""
    return f"{statement.verb} {statement.kind}".strip() + named


def _names(parsed: Mapping[str, Sequence[Sequence[Statement]]]) -> set[str]:
    """The names of everything that a rule may ask the database about."""
    found = set()
    for parts in parsed.values():
        for part in parts:
            for statement in part:
                found |= {name.name for name in (*statement.names, *statement.targets)}
                for action in statement.actions:
                    words = action.words
                    for place in (spot for spot, word in enumerate(words) if word == "REFERENCES"):
                        referenced = Cursor(action.tokens, place + 1).name()
                        found |= {referenced.name} if referenced is not None else set()
    return found
