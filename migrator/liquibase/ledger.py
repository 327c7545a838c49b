"""Liquibase's own tables, over any session: what has run here, and who holds the changelog lock."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from psycopg import sql

from migrator.errors import StepFailed
from migrator.failpoints import Effect, effect
from migrator.postgres.session import Session

TABLE = "databasechangelog"
LOCK_TABLE = "databasechangeloglock"
COLUMNS = (
    "id",
    "author",
    "filename",
    "dateexecuted",
    "orderexecuted",
    "exectype",
    "md5sum",
    "description",
    "comments",
    "tag",
    "liquibase",
    "contexts",
    "labels",
    "deployment_id",
)


@dataclass(frozen=True, kw_only=True)
class LedgerRow:
    """One row, every column as PostgreSQL prints it; a column that an old ledger lacks is None."""

    columns: Mapping[str, str | None]

    @property
    def id(self) -> str:
        return self.columns["id"] or ""

    @property
    def author(self) -> str:
        return self.columns["author"] or ""

    @property
    def path(self) -> str:
        return self.columns["filename"] or ""

    @property
    def key(self) -> tuple[str, str, str]:
        """Path, id and author: what Liquibase knows a changeset by."""
        return self.path, self.id, self.author

    @property
    def values(self) -> tuple[str | None, ...]:
        return tuple(self.columns.get(name) for name in COLUMNS)


@dataclass(frozen=True, kw_only=True)
class LockHolder:
    """Who took the changelog lock, in Liquibase's words: host (address), and the server's time of the grant."""

    locked_by: str
    granted_at: str | None


def read(session: Session, schema: str | None = None, *, table: str = TABLE) -> list[LedgerRow] | None:
    """The ledger in the order of execution; None when there is no such table.

    `schema` None: the first schema of the search path that holds one. Raises: StepFailed.
    """
    name = found_table(session, schema, table)
    if name is None:
        return None
    there = _columns(session, name)
    listed = sql.SQL(", ").join(
        sql.SQL("{}::pg_catalog.text").format(sql.Identifier(column)) if column in there else sql.NULL
        for column in COLUMNS
    )
    # By the table's own columns: those of the result are text, in which 10 comes before 9.
    query = sql.SQL("SELECT {} FROM {} AS l ORDER BY l.orderexecuted, l.dateexecuted, l.id").format(listed, name)
    return [LedgerRow(columns=dict(zip(COLUMNS, row, strict=True))) for row in session.rows(query.as_string(None))]


@effect(Effect.LEDGER_BACK)
def put_back(
    session: Session,
    schema: str | None,
    rows: Sequence[LedgerRow] | None,
    *,
    table: str = TABLE,
    lock_table: str = LOCK_TABLE,
) -> None:
    """The ledger holds exactly `rows`; for None (there was none) it and the lock table are gone. Safe to repeat.

    What is the same already is not touched, so columns that others have added keep their values. One implicit
    transaction. Raises: StepFailed, also when there are rows to put back and no table.
    """
    name = found_table(session, schema, table)
    if rows is None:
        tables = [found for found in (name, found_table(session, schema, lock_table)) if found is not None]
        if tables:
            session.execute(sql.SQL("DROP TABLE {}").format(sql.SQL(", ").join(tables)).as_string(None))
        return
    current = read(session, schema, table=table)
    if name is None or current is None:
        if not rows:
            return
        raise StepFailed(f"the ledger {table} is gone, and {len(rows)} rows are to be put back", code="ledger_gone")
    there = _columns(session, name)
    columns = [column for column in COLUMNS if column in there]
    before = Counter(row.values for row in rows)
    now = Counter(row.values for row in current)
    statements = [_delete(name, columns, values) for values in now if now[values] > before[values]]
    for values, count in before.items():
        missing = count if now[values] > count else count - now[values]
        statements += [_insert(name, columns, values)] * missing
    if statements:
        session.execute(sql.SQL("; ").join(statements).as_string(None))


@effect(Effect.LEDGER_PATHS)
def move(session: Session, schema: str | None, moves: Sequence[tuple[LedgerRow, str]], *, table: str = TABLE) -> None:
    """Each row's path is the one beside it; nothing else of the ledger is touched. One implicit transaction.

    Raises: StepFailed, also when there is no ledger.
    """
    name = found_table(session, schema, table)
    if name is None:
        raise StepFailed(f"there is no ledger {table}", code="ledger_gone")
    update = sql.SQL("UPDATE {} SET filename = {} WHERE filename = {} AND id = {} AND author = {}")
    statements = [
        update.format(name, *(sql.Literal(text) for text in (path, row.path, row.id, row.author)))
        for row, path in moves
    ]
    if statements:
        session.execute(sql.SQL("; ").join(statements).as_string(None))


def lock_holder(session: Session, schema: str | None = None, *, lock_table: str = LOCK_TABLE) -> LockHolder | None:
    """Who holds the changelog lock, by its row; None when nobody does or there is no such table.

    The row outlives its holder: whether one lives is another question. Raises: StepFailed.
    """
    name = found_table(session, schema, lock_table)
    if name is None:
        return None
    query = sql.SQL("SELECT lockedby, lockgranted::pg_catalog.text FROM {} WHERE locked").format(name)
    found = session.rows(query.as_string(None))
    return LockHolder(locked_by=found[0][0] or "", granted_at=found[0][1]) if found else None


@effect(Effect.LEDGER_RELEASE)
def release(session: Session, schema: str | None = None, *, lock_table: str = LOCK_TABLE) -> None:
    """Nobody holds the changelog lock. Only for a holder of which no session is left. Safe to repeat."""
    name = found_table(session, schema, lock_table)
    if name is not None:
        statement = sql.SQL("UPDATE {} SET locked = false, lockgranted = NULL, lockedby = NULL WHERE locked")
        session.execute(statement.format(name).as_string(None))


def stored_name(name: str) -> str:
    """The name as the catalogue holds it: Liquibase quotes mixed case only, the rest is folded to lower case."""
    return name if name != name.upper() and name != name.lower() else name.lower()


def found_table(session: Session, schema: str | None, table: str) -> sql.Identifier | None:
    """The table, qualified: in `schema`, for None in the first of the search path that has it; None: in none."""
    table = stored_name(table)
    condition: sql.Composable
    if schema is not None:
        condition = sql.SQL("n.nspname IN ({}, {})").format(sql.Literal(schema), sql.Literal(stored_name(schema)))
    else:
        condition = sql.SQL("n.nspname = ANY (pg_catalog.current_schemas(false))")
    query = sql.SQL(
        "SELECT n.nspname FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace"
        " WHERE c.relkind IN ('r', 'p') AND c.relname = {} AND {}"
        " ORDER BY pg_catalog.array_position(pg_catalog.current_schemas(false), n.nspname), n.nspname LIMIT 1"
    ).format(sql.Literal(table), condition)
    found = session.rows(query.as_string(None))
    return sql.Identifier(str(found[0][0]), table) if found else None


def _columns(session: Session, name: sql.Identifier) -> set[str]:
    query = sql.SQL(
        "SELECT attname FROM pg_catalog.pg_attribute"
        " WHERE attrelid = {}::pg_catalog.regclass AND attnum > 0 AND NOT attisdropped"
    ).format(sql.Literal(name.as_string(None)))
    return {str(column) for (column,) in session.rows(query.as_string(None))}


def _delete(name: sql.Identifier, columns: Sequence[str], values: Sequence[str | None]) -> sql.Composed:
    by_name = dict(zip(COLUMNS, values, strict=True))
    condition = sql.SQL(" AND ").join(
        sql.SQL("{} IS NOT DISTINCT FROM {}").format(
            sql.SQL("{}::pg_catalog.text").format(sql.Identifier(column)), sql.Literal(by_name[column])
        )
        for column in columns
    )
    return sql.SQL("DELETE FROM {} WHERE {}").format(name, condition)


def _insert(name: sql.Identifier, columns: Sequence[str], values: Sequence[str | None]) -> sql.Composed:
    by_name = dict(zip(COLUMNS, values, strict=True))
    return sql.SQL("INSERT INTO {} ({}) VALUES ({})").format(
        name,
        sql.SQL(", ").join(sql.Identifier(column) for column in columns),
        sql.SQL(", ").join(sql.Literal(by_name[column]) for column in columns),
    )
