"""Changes that throw rows away, or change all of them."""

from __future__ import annotations

from collections.abc import Iterator

from migrator.plans.findings.changes import Change
from migrator.plans.findings.dependents import Taken
from migrator.plans.findings.look import Look, rows_told
from migrator.plans.findings.model import Finding, Rule, Severity, Stake, are_empty
from migrator.plans.words import count

DROP_TABLE = Rule(
    id="drop-table",
    severity=Severity.ERROR,
    finds="An existing table is dropped.",
    why="Its rows are gone but for a backup, and statements of the running application that name it fail at once.",
    safer="Expand: release an application that no longer names it. Move data: copy what is still wanted. Contract: "
    "rename it first, drop it in a later changelog.",
)
DROP_SCHEMA = Rule(
    id="drop-schema",
    severity=Severity.ERROR,
    finds="A schema is dropped.",
    why="Every table in it goes with its rows, and statements of the running application that name them fail at once.",
    safer="Drop its tables one by one in a later changelog, when no application names them; then the empty schema.",
)
TRUNCATE = Rule(
    id="truncate",
    severity=Severity.ERROR,
    finds="An existing table is emptied.",
    why="All its rows are gone but for a backup, no ON DELETE trigger runs, and nobody can read or write the table "
    "until the transaction ends.",
    safer="Delete what is to go, in batches and by a condition; or rename the table and create an empty one.",
)
DELETE_ALL = Rule(
    id="delete-without-where",
    severity=Severity.ERROR,
    finds="A DELETE of an existing table has no condition.",
    why="All its rows are gone but for a backup, and a rollback that brings them back is seldom written.",
    safer="Say by a WHERE which rows are to go; where it is really all of them, keep a copy first.",
)
UPDATE_ALL = Rule(
    id="update-without-where",
    severity=Severity.WARNING,
    finds="An UPDATE of an existing table has no condition.",
    why="Every row gets a new version: the old values are gone, the table grows up to twice its size, and whoever "
    "writes one of its rows waits until the transaction ends.",
    safer="Say by a WHERE which rows are to change, and fill a large table in batches: expand, move data, contract.",
)
DROP_CASCADE = Rule(
    id="drop-cascade",
    severity=Severity.ERROR,
    finds="A DROP says CASCADE, and something hangs on the object.",
    asks_database=True,
    why="What hangs on the object goes with it though nobody has named it: views, foreign keys of other tables, even "
    "columns.",
    safer="Leave CASCADE out, and drop by name what is to go.",
)
TRUNCATE_CASCADE = Rule(
    id="truncate-cascade",
    severity=Severity.ERROR,
    finds="A TRUNCATE says CASCADE, and another table refers to this one.",
    asks_database=True,
    why="Every table that refers to this one by a foreign key is emptied too, and those that refer to them.",
    safer="Leave CASCADE out, and name the tables that are to be emptied.",
)
DELETE_CASCADES = Rule(
    id="delete-cascades",
    severity=Severity.WARNING,
    finds="Rows are deleted to which a foreign key with ON DELETE CASCADE refers.",
    asks_database=True,
    why="Rows of other tables go with them though nothing in the changeset says so; a run that finds it out goes back.",
    safer="Delete the rows of those tables by name first, or list the tables under checks.expected_writes.",
)
RULES = (
    DROP_TABLE,
    DROP_SCHEMA,
    TRUNCATE,
    DELETE_ALL,
    UPDATE_ALL,
    DROP_CASCADE,
    TRUNCATE_CASCADE,
    DELETE_CASCADES,
)
_NAMED = 8  # of what a cascade takes along


def of(look: Look) -> Iterator[Finding]:
    """What this statement throws away."""
    statement = look.statement
    if statement.verb == "DROP":
        yield from _dropped(look)
    elif statement.verb == "TRUNCATE":
        yield from _truncated(look)
    elif statement.verb == "ALTER" and statement.kind == "TABLE":
        yield from _columns_cascade(look)
    for change in statement.changes:
        yield from _changed(look, change)


def _dropped(look: Look) -> Iterator[Finding]:
    statement = look.statement
    old = [name for name in statement.names if not look.is_new(name) and not look.is_new_object(name)]
    if statement.kind == "TABLE":
        for name in old:
            if "IF EXISTS" in statement.modifiers and look.world.database is not None and look.table(name) is None:
                continue
            stakes = look.stakes(name)
            yield look.finding(
                DROP_TABLE, f"drops table {look.named(name)}{rows_told(stakes)}", at=statement.start, stakes=stakes
            )
    elif statement.kind == "SCHEMA":
        for name in old:
            tables = look.world.database.schema_tables(name.name) if look.world.database is not None else ()
            told = f"drops schema {name}" + (f" with {_listed(tables)}" if tables else "")
            yield look.finding(DROP_SCHEMA, told, at=statement.start, stakes=tables)
        return
    if "CASCADE" in statement.modifiers and old:
        taken = look.world.database.taken_by_drop(statement.kind, old) if look.world.database is not None else None
        names = ", ".join(look.named(name) for name in old)
        yield from _cascade(look, f"drops {statement.kind.lower()} {names} CASCADE", taken, statement.start)


def _columns_cascade(look: Look) -> Iterator[Finding]:
    table = look.statement.name
    if table is None or look.is_new(table):
        return
    for action in look.statement.actions:
        cursor = action.cursor()
        if action.words[-1] != "CASCADE" or not cursor.take("DROP") or cursor.word() == "CONSTRAINT":
            continue
        cursor.take("COLUMN")
        cursor.take("IF", "EXISTS")
        column = cursor.identifier()
        database = look.world.database
        taken = None if database is None else database.taken_by_drop("TABLE", [table], column)
        yield from _cascade(look, f"drops column {column} of {look.named(table)} CASCADE", taken, action.start)


def _cascade(look: Look, told: str, taken: Taken | None, at: int) -> Iterator[Finding]:
    if taken is None:
        yield look.finding(DROP_CASCADE, f"{told}; what goes with it only the database knows", at=at)
    elif taken.objects:
        stakes = tuple(stake for stake in taken.stakes if stake.rows)
        listed = ", ".join(taken.objects[:_NAMED])
        more = f" and {len(taken.objects) - _NAMED} more" if len(taken.objects) > _NAMED else ""
        yield look.finding(
            DROP_CASCADE,
            f"{told}, which takes along {listed}{more}{rows_told(stakes)}",
            at=at,
            stakes=stakes,
        )


def _truncated(look: Look) -> Iterator[Finding]:
    statement, database = look.statement, look.world.database
    old = [name for name in statement.names if not look.is_new(name)]
    for name in old:
        stakes = look.stakes(name)
        told = f"empties table {look.named(name)}{rows_told(stakes)}"
        severity = Severity.WARNING if are_empty(stakes) else None
        yield look.finding(TRUNCATE, told, at=statement.start, stakes=stakes, severity=severity)
    if "CASCADE" not in statement.modifiers or not old:
        return
    names = ", ".join(look.named(name) for name in old)
    if database is None:
        told = f"empties {names} CASCADE; which tables are emptied with it only the database knows"
        yield look.finding(TRUNCATE_CASCADE, told, at=statement.start)
        return
    tables = [table for name in old if (table := look.table(name)) is not None]
    taken = database.taken_by_rows(tables, only_cascade=False)
    if taken.tables:
        told = f"empties {names} CASCADE, and with it {_listed(taken.stakes)}"
        yield look.finding(TRUNCATE_CASCADE, told, at=statement.start, stakes=taken.stakes)


def _changed(look: Look, change: Change) -> Iterator[Finding]:
    if look.is_new(change.table):
        return
    named = look.named(change.table)
    if change.verb == "UPDATE":
        if not change.has_where:
            stakes = look.stakes(change.table)
            # A column that this changelog has added holds nothing that could be lost.
            fills = change.columns and all(look.is_new_column(change.table, column) for column in change.columns)
            yield look.finding(
                UPDATE_ALL,
                f"updates every row of {named}{rows_told(stakes)}",
                at=change.start,
                stakes=stakes,
                severity=Severity.INFO if fills else None,
            )
        return
    if not change.has_where:
        stakes = look.stakes(change.table)
        yield look.finding(
            DELETE_ALL, f"deletes every row of {named}{rows_told(stakes)}", at=change.start, stakes=stakes
        )
    table = look.table(change.table)
    if table is not None and look.world.database is not None:
        taken = look.world.database.taken_by_rows([table], only_cascade=True)
        if taken.tables:
            told = f"deletes rows of {named}, and by ON DELETE CASCADE those of {_listed(taken.stakes)}"
            yield look.finding(DELETE_CASCADES, told, at=change.start, stakes=taken.stakes)


def _listed(stakes: tuple[Stake, ...]) -> str:
    """`table a (41 rows (counted), 8.2 kB)`, the largest first."""
    ordered = sorted(stakes, key=lambda one: -one.rows)
    listed = ", ".join(f"{one.table} ({one.told})" for one in ordered[:_NAMED])
    return listed + (f" and {count(len(stakes) - _NAMED, 'table')} more" if len(stakes) > _NAMED else "")
