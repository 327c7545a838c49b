"""How changesets are run: what hides an error, runs again, was edited, ends transactions or reaches outside."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from types import MappingProxyType

from migrator.liquibase.models import Changeset, ChangesetState
from migrator.plans.findings.model import REFUSED, Finding, Rule, Severity, Subject
from migrator.plans.findings.places import Places

FAIL_QUIETLY = Rule(
    id="fail-quietly",
    severity=Severity.WARNING,
    finds="A changeset says failOnError=false.",
    why="An error in it is hidden behind a success: the database is not what the changelog says, and nobody is told.",
    safer="Let it fail; ask by a precondition (onFail: MARK_RAN) whether there is something to do.",
)
RUN_ALWAYS = Rule(
    id="run-always",
    severity=Severity.WARNING,
    finds="A changeset says runAlways=true.",
    why="It runs with every release, whatever is in it, and no rollback undoes more than its last run.",
    safer="Use runOnChange for what is created anew as a whole; give everything else a changeset that runs once.",
)
RUN_ON_CHANGE = Rule(
    id="run-on-change",
    severity=Severity.INFO,
    finds="A changeset says runOnChange=true.",
    why="It runs again whenever its text changes; the rollback that it holds is that of the new text, not of the old.",
    safer="Keep it to what is created anew as a whole: CREATE OR REPLACE of a view or a function.",
)
CHANGED_CHECKSUM = Rule(
    id="changed-checksum",
    severity=Severity.ERROR,
    finds="A changeset was edited after it had run in this database.",
    why="Liquibase refuses it, and no two databases that ran it at different times are alike.",
    safer="Put the old text back and write a new changeset. A checksum is never cleared by itself.",
)
NOT_SHOWN = Rule(
    id="not-shown",
    severity=Severity.INFO,
    finds="Liquibase cannot say which SQL a changeset will run before it runs.",
    why="No rule can look at it.",
    safer="Look at it yourself, or see it work by a rehearsal.",
)
TRANSACTION_CONTROL = Rule(
    id="transaction-control",
    severity=Severity.ERROR,
    finds="A changeset begins or ends a transaction of its own.",
    why="What came before it in the run is committed and can no longer be rolled back.",
    safer="Leave BEGIN and COMMIT to Liquibase; what must be committed by itself gets a changeset of its own.",
)
PSQL_COMMAND = Rule(
    id="psql-command",
    severity=Severity.ERROR,
    finds="A changeset holds a command of psql.",
    why="Liquibase cannot run it.",
    safer="Write it in SQL: COPY FROM STDIN as INSERT or loadData, \\i as include, \\set as a changelog parameter.",
)
OUTSIDE_DATABASE = Rule(
    id="outside-database",
    severity=Severity.WARNING,
    finds="A changeset changes roles and their members, databases, tablespaces, subscriptions or the server; hands "
    "over or drops all that a role owns; grants rights or comments on what the whole server shares; works through "
    "dblink; or runs a program there. Bodies of functions and DO blocks count.",
    why="No backup of the database holds it: neither a rollback nor a restore brings it back.",
    safer="Do it apart from the release, with its own way back.",
)
HOSTILE = Rule(
    id=REFUSED,
    severity=Severity.ERROR,
    finds="A changelog that no run would take: it is malformed, leaves its root, has a DOCTYPE, runs programs or loads "
    "Java classes.",
    why="It could do anything on the machine that runs it; it is refused before Liquibase reads it.",
    safer="Say it in SQL or in Liquibase's own changes, in files below liquibase.root.",
)
UNKNOWN_PARAMETER = Rule(
    id="unknown-parameter",
    severity=Severity.WARNING,
    finds="A changelog parameter has no value.",
    why="Liquibase leaves it as it stands, and PostgreSQL refuses it.",
    safer="Give it by --param, under parameters of the environment, or by a property of the changelog.",
)
RULES = (
    FAIL_QUIETLY,
    RUN_ALWAYS,
    RUN_ON_CHANGE,
    CHANGED_CHECKSUM,
    NOT_SHOWN,
    UNKNOWN_PARAMETER,
    TRANSACTION_CONTROL,
    PSQL_COMMAND,
    OUTSIDE_DATABASE,
    HOSTILE,
)
_PARAMETER = re.compile(r"\$\{([A-Za-z_]\w*)\}")
# What screening sees in a file's text, by its code.
_SCREENED: Mapping[str, Rule] = MappingProxyType(
    {
        "transaction_control": TRANSACTION_CONTROL,
        "psql_command": PSQL_COMMAND,
        "outside_database": OUTSIDE_DATABASE,
    }
)


def of(changeset: Changeset, places: Places) -> Iterator[Finding]:
    """What the changeset says of itself."""
    if changeset.state is ChangesetState.CHANGED:
        yield _finding(CHANGED_CHECKSUM, f"changeset {changeset.id} was edited after it ran", changeset, places)
    if changeset.state is not ChangesetState.PENDING:
        return
    if not changeset.fail_on_error:
        yield _finding(FAIL_QUIETLY, f"changeset {changeset.id} says failOnError=false", changeset, places)
    if changeset.run_always:
        yield _finding(RUN_ALWAYS, f"changeset {changeset.id} says runAlways=true", changeset, places)
    if changeset.run_on_change:
        yield _finding(RUN_ON_CHANGE, f"changeset {changeset.id} says runOnChange=true", changeset, places)
    if changeset.changes and not changeset.statements and set(changeset.changes) != {"empty"}:
        named = ", ".join(dict.fromkeys(changeset.changes))
        yield _finding(NOT_SHOWN, f"the SQL of changeset {changeset.id} ({named}) is not known", changeset, places)


def without_parameters(sql: str) -> str:
    """The SQL with a name of the same length in the place of each parameter that has no value."""
    return _PARAMETER.sub(lambda match: f"__{match[1]}_", sql)


def of_parameters(changeset: Changeset, places: Places) -> Iterator[Finding]:
    """The parameters that nobody has given."""
    for number, statement in enumerate(changeset.statements):
        for match in _PARAMETER.finditer(statement):
            file, line = places.of(changeset, number, match.start())
            told = f"the parameter {match.group()} has no value"
            found = _finding(UNKNOWN_PARAMETER, told, changeset, places)
            yield replace(found, file=file, line=line, statement=number)


def of_files(subject: Subject, places: Places) -> Iterator[Finding]:
    """What screening saw in the files, save in changesets that would not run."""
    states = {changeset.key: changeset.state for changeset in subject.changesets}
    for one in subject.screened.findings:
        rule = _SCREENED.get(one.code)
        if rule is None:
            continue
        key = places.at(one.file, one.line)
        if key is not None and states.get(key) is not ChangesetState.PENDING:
            continue
        yield rule.broken(one.message, changeset=key, file=one.file, line=one.line)


def refused(message: str, *, file: str | None, line: int | None) -> Finding:
    """The finding that the refusal of a whole changelog is."""
    return HOSTILE.broken(message, file=file, line=line)


def _finding(rule: Rule, message: str, changeset: Changeset, places: Places) -> Finding:
    return rule.broken(message, changeset=changeset.key, file=changeset.file, line=places.line_of(changeset))
