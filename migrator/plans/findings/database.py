"""What the rules ask of the target database: its tables, their rows, and what hangs on them. Reads only.

Everything but a count comes from the catalogue without a lock on any table. A table is counted where that is cheap,
for a moment only, and never waits behind somebody's lock; else its rows are the planner's estimate.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from psycopg import sql

from migrator.errors import StepFailed
from migrator.plans.findings import dependents
from migrator.plans.findings.cursor import Name
from migrator.plans.findings.dependents import Taken
from migrator.plans.findings.model import Stake
from migrator.postgres.catalog import QUALIFIED, USER_SCHEMA, oid_array
from migrator.postgres.reading import reading, unlocking
from migrator.postgres.session import Row, Session
from migrator.postgres.transactions import statement

COUNTED_BYTES = 256_000_000  # a larger table is estimated
COUNTING_S = 3.0  # for all tables together
_ONE_COUNT_MS = 1500
_LOCK_MS = 200

_RELATIONS = f"""
WITH RECURSIVE wanted AS (
  SELECT c.oid FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
  WHERE c.relkind IN ('r', 'p', 'm', 'f', 'v') AND c.relpersistence <> 't' AND {USER_SCHEMA}
    AND c.relname = ANY ({{}}::text[])
), parts(root, oid) AS (
  SELECT oid, oid FROM wanted
  UNION ALL
  SELECT p.root, i.inhrelid FROM parts p JOIN pg_inherits i ON i.inhparent = p.oid
    JOIN pg_class pc ON pc.oid = i.inhrelid AND pc.relispartition
), sums AS (
  SELECT p.root, count(*) - 1 AS partitions,
         sum(greatest(c.reltuples, 0)) FILTER (WHERE c.relkind IN ('r', 'm', 'f')) AS tuples,
         bool_and(c.reltuples >= 0) FILTER (WHERE c.relkind IN ('r', 'm', 'f')) AS analyzed,
         sum(c.relpages::bigint + coalesce(t.relpages, 0)
             + coalesce((SELECT sum(x.relpages) FROM pg_index ix JOIN pg_class x ON x.oid = ix.indexrelid
                         WHERE ix.indrelid = c.oid), 0)) AS pages,
         sum(coalesce(s.seq_scan, 0) + coalesce(s.idx_scan, 0)) AS reads,
         sum(coalesce(s.n_tup_ins, 0) + coalesce(s.n_tup_upd, 0) + coalesce(s.n_tup_del, 0)) AS writes,
         sum((SELECT count(DISTINCT l.pid) FROM pg_locks l WHERE l.relation = c.oid AND l.pid <> pg_backend_pid()
              AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database()))) AS held_by
  FROM parts p JOIN pg_class c ON c.oid = p.oid LEFT JOIN pg_class t ON t.oid = c.reltoastrelid
  LEFT JOIN pg_stat_all_tables s ON s.relid = c.oid
  GROUP BY p.root
)
SELECT c.oid, n.nspname, c.relname, {QUALIFIED}, c.relkind, s.partitions, s.tuples, s.analyzed,
       s.pages * current_setting('block_size')::bigint, s.reads, s.writes, s.held_by
FROM sums s JOIN pg_class c ON c.oid = s.root JOIN pg_namespace n ON n.oid = c.relnamespace"""  # noqa: S608 (constants)

_COLUMNS = """
SELECT a.attrelid, a.attname, a.attnum, format_type(a.atttypid, a.atttypmod), a.attnotnull,
       (SELECT s.null_frac FROM pg_stats s WHERE s.schemaname = n.nspname AND s.tablename = c.relname
        AND s.attname = a.attname ORDER BY s.inherited DESC LIMIT 1)
FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE a.attnum > 0 AND NOT a.attisdropped AND a.attrelid = ANY ({})"""


@dataclass(frozen=True, kw_only=True)
class Column:
    name: str
    number: int  # pg_attribute.attnum
    type: str  # as PostgreSQL prints it, with its modifier
    is_not_null: bool
    null_share: float | None  # of the rows, by the planner's statistics


@dataclass(frozen=True, kw_only=True)
class Table:
    oid: int
    schema: str
    name: str
    qualified: str
    kind: str  # pg_class.relkind: r, p, m, f or v
    partitions: int
    tuples: int | None  # the planner's estimate; None where it was never analyzed
    pages_bytes: int  # indexes and TOAST included, as the planner knows them
    reads: int  # scans since the statistics were reset
    writes: int  # rows written since then
    held_by: int  # sessions that hold or wait for a lock on it just now
    columns: dict[str, Column]

    @property
    def holds_rows(self) -> bool:
        return self.kind in "rpm"


class Database:
    """The target, asked when a rule needs it; each answer is kept."""

    def __init__(
        self,
        session: Session,
        *,
        default_schema: str | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._session = session
        self._clock = clock
        self._left_s = COUNTING_S
        path = session.rows("SELECT unnest(pg_catalog.current_schemas(false))")
        self._path = [*([default_schema] if default_schema else []), *(str(schema) for (schema,) in path)]
        self._tables: dict[tuple[str, str], Table] = {}
        self._counts: dict[tuple[int, str], int | None] = {}
        self._sizes: dict[int, int] = {}
        self._keys: dict[int, list[dependents.Key]] | None = None

    @property
    def default_schema(self) -> str:
        return self._path[0] if self._path else "public"

    def load(self, names: Iterable[str]) -> None:
        """Every table of one of these names is known, whatever its schema. Raises: StepFailed."""
        wanted = sql.Literal(sorted(set(names)))
        with reading(self._session):
            found = self._session.rows(statement(_RELATIONS, wanted))
            columns = self._session.rows(statement(_COLUMNS, oid_array(int(row[0] or 0) for row in found)))
        by_table: dict[int, dict[str, Column]] = {}
        for oid, name, number, kind, not_null, null_share in columns:
            by_table.setdefault(int(oid or 0), {})[str(name)] = Column(
                name=str(name),
                number=int(number or 0),
                type=str(kind),
                is_not_null=not_null == "t",
                null_share=None if null_share is None else float(null_share),
            )
        for row in found:
            table = _table(row, by_table.get(int(row[0] or 0), {}))
            self._tables[table.schema, table.name] = table

    def table(self, name: Name) -> Table | None:
        """The table, by the search path where the name has no schema; None where there is none."""
        schemas = [name.schema] if name.schema else self._path
        return next((self._tables[one, name.name] for one in schemas if (one, name.name) in self._tables), None)

    def stake(self, table: Table, *, effect: str | None = None) -> Stake:
        """Its rows, counted where that is cheap."""
        return self._stake(table, table.tuples, "", effect)

    def values_in(self, table: Table, column: str) -> Stake:
        """The rows that have a value in the column."""
        known = table.columns.get(column)
        estimate = None
        if table.tuples is not None and known is not None and known.null_share is not None:
            estimate = round(table.tuples * (1 - known.null_share))
        elif known is not None and known.is_not_null:
            estimate = table.tuples
        return self._stake(table, estimate, column, "with a value in it")

    def nulls_in(self, table: Table, column: str) -> Stake:
        """The rows that have no value in the column."""
        every, filled = self.stake(table), self.values_in(table, column)
        rows = max(0, every.rows - filled.rows)
        return Stake(
            table=table.qualified,
            rows=rows,
            is_exact=every.is_exact and filled.is_exact,
            size_bytes=every.size_bytes,
            effect="without a value",
        )

    def taken_by_drop(self, kind: str, names: Sequence[Name], column: str | None = None) -> Taken:
        """What a DROP ... CASCADE of these objects takes along beside them."""
        roots = []
        for name in names:
            table = self.table(name)
            if table is not None:
                number = table.columns[column].number if column in table.columns else 0
                roots.append(dependents.Root(catalogue="pg_class", oid=table.oid, column=number))
            elif column is None:
                roots += dependents.roots(self._session, kind, name, self._path)
        return self._told(dependents.of_drop(self._session, roots))

    def taken_by_rows(self, tables: Sequence[Table], *, only_cascade: bool) -> Taken:
        """The tables whose rows go when those of `tables` go, by their foreign keys.

        `only_cascade`: by keys that say ON DELETE CASCADE (a DELETE); else by all of them (TRUNCATE ... CASCADE).
        """
        if self._keys is None:
            self._keys = dependents.keys(self._session)
        oids = [table.oid for table in tables]
        return self._told(dependents.of_rows(self._keys, oids, only_cascade=only_cascade))

    def schema_tables(self, schema: str) -> tuple[Stake, ...]:
        """The tables of a schema, with their rows."""
        return self._told(dependents.of_schema(self._session, schema)).stakes

    def _told(self, taken: Taken) -> Taken:
        unknown = [name for schema, name in taken.tables if (schema, name) not in self._tables]
        if unknown:
            self.load(unknown)
        known = (self._tables.get(one) for one in taken.tables)
        stakes = tuple(self.stake(table) for table in known if table is not None and table.holds_rows)
        return Taken(objects=taken.objects, tables=taken.tables, stakes=stakes)

    def _stake(self, table: Table, estimate: int | None, column: str, effect: str | None) -> Stake:
        size = self._size_bytes(table)
        counted = self._count(table, size, column)
        rows = counted if counted is not None else estimate if estimate is not None else table.tuples
        return Stake(
            table=table.qualified,
            rows=rows or 0,
            is_exact=counted is not None,
            size_bytes=size,
            effect=effect,
        )

    def _count(self, table: Table, size_bytes: int, column: str) -> int | None:
        key = (table.oid, column)
        if key not in self._counts:
            too_large = size_bytes > COUNTED_BYTES or not table.holds_rows
            self._counts[key] = None if too_large or self._left_s <= 0 else self._counted(table, column)
        return self._counts[key]

    def _counted(self, table: Table, column: str) -> int | None:
        what = sql.Identifier(column) if column else sql.SQL("*")
        query = statement("SELECT count({}) FROM {}", what, sql.Identifier(table.schema, table.name))
        try:
            return int(self._briefly(query)[0][0] or 0)
        except StepFailed:  # no right to read it, or it takes too long: the estimate serves
            return None

    def _size_bytes(self, table: Table) -> int:
        if table.oid not in self._sizes:
            is_known = table.tuples is not None or not table.holds_rows or self._left_s <= 0
            self._sizes[table.oid] = table.pages_bytes if is_known else self._measured(table)
        return self._sizes[table.oid]

    def _measured(self, table: Table) -> int:
        """Of a table that nobody has analyzed the catalogue does not know the size."""
        query = statement(
            "SELECT sum(pg_total_relation_size(relid)) FROM pg_partition_tree({}::oid)"
            if table.kind == "p"
            else "SELECT pg_total_relation_size({}::oid)",
            sql.Literal(table.oid),
        )
        try:
            return int(self._briefly(query)[0][0] or 0)
        except StepFailed:
            return table.pages_bytes

    def _briefly(self, query: str) -> list[Row]:
        """Raises: StepFailed, also when somebody's lock is in the way or it takes too long."""
        begin = self._clock()
        limits = f"SET LOCAL lock_timeout = {_LOCK_MS}; SET LOCAL statement_timeout = {_ONE_COUNT_MS}"
        try:
            with reading(self._session), unlocking(self._session):
                self._session.execute(limits)
                return self._session.rows(query)
        finally:
            self._left_s -= self._clock() - begin


def _table(row: Row, columns: dict[str, Column]) -> Table:
    oid, schema, name, qualified, kind, partitions, tuples, analyzed, size, reads, writes, held_by = row
    return Table(
        oid=int(oid or 0),
        schema=str(schema),
        name=str(name),
        qualified=str(qualified),
        kind=str(kind),
        partitions=int(partitions or 0),
        tuples=round(float(tuples or 0)) if analyzed == "t" else None,
        pages_bytes=int(size or 0),
        reads=int(reads or 0),
        writes=int(writes or 0),
        held_by=int(held_by or 0),
        columns=columns,
    )
