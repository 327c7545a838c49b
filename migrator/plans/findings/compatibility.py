"""Changes that the application which is running cannot live with."""

from __future__ import annotations

from collections.abc import Iterator

from migrator.errors import StepFailed
from migrator.plans.findings import column_types
from migrator.plans.findings.cursor import Cursor, Name
from migrator.plans.findings.look import Look, rows_told
from migrator.plans.findings.model import Finding, Rule, Severity, Stake, are_empty
from migrator.plans.findings.rewrites import type_text
from migrator.plans.findings.statements import Action

DROP_COLUMN = Rule(
    id="drop-column",
    severity=Severity.ERROR,
    finds="A column of an existing table is dropped.",
    why="Statements of the running application that name the column fail at once, and its data is gone: a rollback "
    "brings the column back empty.",
    safer="Contract last. Expand: release an application that no longer names the column. Move data: copy what is "
    "still wanted. Contract: drop the column in a later changelog.",
)
RENAME_COLUMN = Rule(
    id="rename-column",
    severity=Severity.ERROR,
    finds="A column of an existing table is renamed.",
    why="The running application knows the old name only; its statements fail at once.",
    safer="Expand: add a column with the new name, and keep both alike with a trigger. Move data: copy the old rows. "
    "Contract: drop the old column when no application names it.",
)
RENAME_TABLE = Rule(
    id="rename-table",
    severity=Severity.ERROR,
    finds="An existing table or view is renamed, or moved to another schema.",
    why="The running application knows the old name only; its statements fail at once.",
    safer="Expand: rename it and create a view of the old name in the same changeset. Move data: release an "
    "application that uses the new name. Contract: drop the view.",
)
NARROW_TYPE = Rule(
    id="narrow-type",
    severity=Severity.ERROR,
    finds="A column gets a type that holds less than the one it has.",
    asks_database=True,
    why="Rows that do not fit make the changeset fail, and the running application still writes values that the new "
    "type refuses.",
    safer="Expand: add a column of the new type. Move data: copy in batches, with a rule for what does not fit. "
    "Contract: drop the old column when no application uses it.",
)
CHANGE_TYPE = Rule(
    id="change-type",
    severity=Severity.WARNING,
    finds="A column gets another type, and there is no database to ask for the old one.",
    asks_database=True,
    why="The new type may refuse what the running application writes, and most changes write every row anew while "
    "nobody can read or write the table.",
    safer="Ask with the database at hand (migrator plan). Else: expand by a new column, move data in batches, contract "
    "by dropping the old one.",
)
ADD_REQUIRED_COLUMN = Rule(
    id="add-required-column",
    severity=Severity.ERROR,
    finds="A column that is NOT NULL and has no default is added to an existing table.",
    why="The changeset fails as soon as the table has a row, and the running application, which does not know the "
    "column, can no longer insert.",
    safer="Expand: add it with a default, or nullable. Move data: fill it in batches. Contract: SET NOT NULL when "
    "every application writes it.",
)
SET_NOT_NULL = Rule(
    id="set-not-null",
    severity=Severity.WARNING,
    finds="A column of an existing table becomes NOT NULL.",
    why="Every row is checked while nobody can read or write the table; one NULL makes it fail, and so does each "
    "insert of a running application that leaves the column out.",
    safer="Expand: ADD CONSTRAINT ... CHECK (column IS NOT NULL) NOT VALID. Move data: fill the NULLs, then VALIDATE "
    "CONSTRAINT. Contract: SET NOT NULL (it uses the validated check) and drop the check.",
)
NEW_CONSTRAINT = Rule(
    id="new-constraint",
    severity=Severity.WARNING,
    finds="A constraint or a unique index is put on the rows of an existing table.",
    why="Every row is checked while writers wait; one that breaks it makes the changeset fail, and from then on the "
    "running application's own writes may fail too.",
    safer="Expand: add it NOT VALID (a unique one: CREATE UNIQUE INDEX CONCURRENTLY, then ADD CONSTRAINT ... USING "
    "INDEX). Move data: correct the rows. Contract: VALIDATE CONSTRAINT in a changeset of its own.",
)
DROP_OBJECT = Rule(
    id="drop-object",
    severity=Severity.WARNING,
    finds="A view, function, type or sequence is dropped and not created again in the same changeset.",
    why="Statements of the running application that use it fail at once.",
    safer="Expand: release an application that no longer uses it. Contract: drop it in a later changelog.",
)
RULES = (
    DROP_COLUMN,
    RENAME_COLUMN,
    RENAME_TABLE,
    NARROW_TYPE,
    CHANGE_TYPE,
    ADD_REQUIRED_COLUMN,
    SET_NOT_NULL,
    NEW_CONSTRAINT,
    DROP_OBJECT,
)
_OBJECTS = {"VIEW", "MATERIALIZED VIEW", "FUNCTION", "PROCEDURE", "ROUTINE", "TYPE", "DOMAIN", "SEQUENCE", "AGGREGATE"}
_CONSTRAINTS = {"CHECK", "UNIQUE", "PRIMARY", "FOREIGN", "EXCLUDE"}


def of(look: Look) -> Iterator[Finding]:
    """What this statement does to the application."""
    statement = look.statement
    if statement.verb == "ALTER" and statement.name is not None and not look.is_new(statement.name):
        for action in statement.actions:
            yield from _altered(look, statement.kind, statement.name, action)
    elif statement.verb == "DROP" and statement.kind in _OBJECTS:
        for name in statement.names:
            if name.name not in look.made_again and not look.is_new(name) and not look.is_new_object(name):
                kind = statement.kind.lower()
                yield look.finding(DROP_OBJECT, f"drops {kind} {look.named(name)}", at=statement.start)
    elif statement.verb == "CREATE" and statement.kind == "INDEX" and "UNIQUE" in statement.modifiers:
        table = statement.table
        if table is not None and not look.is_new(table):
            stakes = look.stakes(table)
            told = f"puts a unique index on {look.named(table)}{rows_told(stakes)}"
            yield look.finding(NEW_CONSTRAINT, told, at=statement.start, stakes=stakes)


def _altered(look: Look, kind: str, table: Name, action: Action) -> Iterator[Finding]:
    cursor = action.cursor()
    if cursor.take("RENAME", "TO") or cursor.take("SET", "SCHEMA"):
        if kind in {"TABLE", "VIEW", "MATERIALIZED VIEW"}:
            new, moved = cursor.identifier(), action.words[0] == "SET"
            told = f"{'moves' if moved else 'renames'} {kind.lower()} {look.named(table)} to {new}"
            if table.name not in look.made_again:  # a view of the old name is the way to do it
                yield look.finding(RENAME_TABLE, told, at=action.start)
    elif kind != "TABLE":
        return
    elif cursor.take("RENAME"):
        yield from _renamed(look, table, action, cursor)
    elif cursor.take("DROP"):
        yield from _dropped(look, table, action, cursor)
    elif cursor.take("ADD"):
        yield from _added(look, table, action, cursor)
    elif cursor.take("ALTER"):
        cursor.take("COLUMN")
        column = cursor.identifier()
        if column is not None and not look.is_new_column(table, column):
            yield from _column_altered(look, table, column, action, cursor)


def _renamed(look: Look, table: Name, action: Action, cursor: Cursor) -> Iterator[Finding]:
    if cursor.word() == "CONSTRAINT":
        return
    cursor.take("COLUMN")
    column = cursor.identifier()
    if column is not None and cursor.take("TO") and not look.is_new_column(table, column):
        told = f"renames column {column} of {look.named(table)} to {cursor.identifier()}"
        yield look.finding(RENAME_COLUMN, told, at=action.start)


def _dropped(look: Look, table: Name, action: Action, cursor: Cursor) -> Iterator[Finding]:
    if cursor.word() in {"CONSTRAINT", "EXPRESSION", "IDENTITY"}:
        return
    cursor.take("COLUMN")
    optional = cursor.take("IF", "EXISTS")
    column = cursor.identifier()
    facts = look.table(table)
    if column is None or look.is_new_column(table, column):
        return
    if optional and facts is not None and column not in facts.columns:
        return
    stakes: tuple[Stake, ...] = ()
    if facts is not None and facts.holds_rows and column in facts.columns and look.world.database is not None:
        stakes = (look.world.database.values_in(facts, column),)
    told = f"drops column {column} of {look.named(table)}{rows_told(stakes)}"
    yield look.finding(DROP_COLUMN, told, at=action.start, stakes=stakes)


def _added(look: Look, table: Name, action: Action, cursor: Cursor) -> Iterator[Finding]:
    named = cursor.take("CONSTRAINT")
    name = cursor.identifier() if named else None
    if named or cursor.word() in _CONSTRAINTS:
        yield from _constrained(look, table, action, cursor, name)
        return
    cursor.take("COLUMN")
    cursor.take("IF", "NOT", "EXISTS")
    column = cursor.identifier()
    words = action.words
    filled = {"DEFAULT", "GENERATED", "SERIAL", "BIGSERIAL", "SMALLSERIAL"} & set(words)
    is_required = _has(words, "NOT", "NULL") or _has(words, "PRIMARY", "KEY")
    if column is not None and is_required and not filled:
        stakes = look.stakes(table)
        told = f"adds column {column} to {look.named(table)}, NOT NULL and without a default{rows_told(stakes)}"
        severity = Severity.WARNING if are_empty(stakes) else Severity.ERROR
        yield look.finding(ADD_REQUIRED_COLUMN, told, at=action.start, stakes=stakes, severity=severity)


def _constrained(look: Look, table: Name, action: Action, cursor: Cursor, name: str | None) -> Iterator[Finding]:
    words = action.words
    if _has(words, "NOT", "VALID") or _has(words, "USING", "INDEX") or cursor.word() == "NOT":
        return
    kind = {"PRIMARY": "primary key", "FOREIGN": "foreign key"}.get(cursor.word(), cursor.word().lower())
    stakes = look.stakes(table)
    other = next((spot + 1 for spot, word in enumerate(words) if word == "REFERENCES"), None)
    if other is not None:
        referenced = Cursor(action.tokens, other).name()
        if referenced is not None and not look.is_new(referenced) and referenced.name != table.name:
            stakes += look.stakes(referenced)
    told = f"puts {kind} {name} on {look.named(table)}" if name else f"puts a {kind} on {look.named(table)}"
    # Nothing can break it yet where it is about columns that this changelog adds; the rows are read all the same.
    fresh = any(
        token.kind != "string" and look.is_new_column(table, token.name) for token in action.tokens[cursor.at :]
    )
    empty = bool(stakes) and not stakes[0].rows
    severity = Severity.INFO if fresh or empty else None
    yield look.finding(NEW_CONSTRAINT, told + rows_told(stakes), at=action.start, stakes=stakes, severity=severity)


def _column_altered(look: Look, table: Name, column: str, action: Action, cursor: Cursor) -> Iterator[Finding]:
    facts = look.table(table)
    if cursor.take("SET", "NOT", "NULL"):
        if facts is not None and column in facts.columns and facts.columns[column].is_not_null:
            return
        yield from _set_not_null(look, table, column, action)
    elif cursor.take("TYPE") or cursor.take("SET", "DATA", "TYPE"):
        new = type_text(cursor)
        if facts is None or column not in facts.columns:
            told = f"changes the type of column {column} of {look.named(table)} to {new}"
            yield look.finding(CHANGE_TYPE, told, at=action.start)
            return
        old = facts.columns[column].type
        if column_types.effect(old, new).narrows:
            stakes = look.stakes(table)
            told = f"narrows column {column} of {facts.qualified} from {old} to {new}{rows_told(stakes)}"
            yield look.finding(NARROW_TYPE, told, at=action.start, stakes=stakes)


def _set_not_null(look: Look, table: Name, column: str, action: Action) -> Iterator[Finding]:
    facts, stakes = look.table(table), look.stakes(table)
    told = f"makes column {column} of {look.named(table)} NOT NULL"
    severity = None
    if facts is not None and look.world.database is not None and column in facts.columns:
        try:
            missing = look.world.database.nulls_in(facts, column)
        except StepFailed:
            missing = None
        if missing is not None and missing.rows:
            stakes, severity = (missing,), Severity.ERROR
    yield look.finding(SET_NOT_NULL, told + rows_told(stakes), at=action.start, stakes=stakes, severity=severity)


def _has(words: tuple[str, ...], *wanted: str) -> bool:
    size = len(wanted)
    return any(words[place : place + size] == wanted for place in range(len(words) - size + 1))
