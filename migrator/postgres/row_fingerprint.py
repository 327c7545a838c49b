"""A digest of the rows of a table, whatever their order: equal after dump and restore, different after any change.

A row's hash is PostgreSQL's own over its columns, by name, each in a form that keeps all that the value holds:

- Hash functions of a type forget what its equality forgets. Numbers with and without a sign, NaN and infinity,
  1.0 and 1.00, -0, jsonb numbers, `1 day` and `24:00`, citext in both cases hash alike, and a bigint the same as
  another one whose two halves have the same XOR. Enums and reg* types hash by OID, which a restore changes.
  So only bool, uuid, bytea, date and text by bytes are hashed as they are, some types in their binary form, and
  every other one as its output function prints it (a cast to text may be somebody's own, and trims char(n)).
- hash_record is linear in its columns, and so would be the sum over the rows: two rows that swap a value would mostly
  leave it as it was. So the row's hash is hashed once more before it is summed.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field

from psycopg import sql

from migrator.config.login import Login
from migrator.errors import ConnectionFailed, StepFailed
from migrator.postgres.catalog import Relation, oid_array
from migrator.postgres.connect import PgSession, connect
from migrator.postgres.reading import reading, unlocking
from migrator.postgres.session import Session
from migrator.postgres.spread import spread
from migrator.postgres.transactions import sqlstate, statement

ROLE = "fingerprint"
_CANCELLED, _NO_PRIVILEGE = "57014", "42501"
_SMALL_BYTES = 2**20
_BATCH = 20  # small tables read by one statement


@dataclass(frozen=True, kw_only=True)
class TableFingerprint:
    """Equal for equal rows in any order. `columns` says what was read: name -> type, as PostgreSQL names it."""

    rows: int
    digest: str  # a sum of 64-bit hashes; "unpopulated" for a materialized view that was never refreshed
    columns: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Column:
    """A column as what its values are hashed by."""

    name: str
    type: str  # with its modifier, as declared
    base: str  # what a domain stands on, qualified; else the type itself
    builtin: str | None  # pg_type.typname of the base where it is one of PostgreSQL's own
    output: tuple[str, str]  # schema and name of the base's output function


# A virtual generated column (18) holds nothing: its expression is a matter of the schema.
_COLUMNS = """
WITH RECURSIVE based(oid, base) AS (
  SELECT oid, oid FROM pg_type WHERE typtype <> 'd'
  UNION ALL
  SELECT t.oid, b.base FROM based b JOIN pg_type t ON t.typbasetype = b.oid AND t.typtype = 'd'
)
SELECT a.attrelid, a.attname, format_type(a.atttypid, a.atttypmod), format_type(t.oid, -1),
       CASE WHEN t.typnamespace = 'pg_catalog'::regnamespace THEN t.typname END, pn.nspname, p.proname
FROM pg_attribute a JOIN based b ON b.oid = a.atttypid JOIN pg_type t ON t.oid = b.base
JOIN pg_proc p ON p.oid = t.typoutput JOIN pg_namespace pn ON pn.oid = p.pronamespace
WHERE a.attrelid = ANY ({}) AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated <> 'v'"""

# In pieces: lo_get of a whole object fails beyond 1 GB. A piece's hash and size travel on, not the piece.
_LARGE_OBJECTS = """
WITH RECURSIVE piece(oid, n, hash, size) AS (
  SELECT m.oid, 0::bigint, hash_record_extended(ROW(d.data), 0), octet_length(d.data)
  FROM pg_largeobject_metadata m, LATERAL (SELECT lo_get(m.oid, 0, 8388608) AS data OFFSET 0) d
  UNION ALL
  SELECT p.oid, p.n + 1, hash_record_extended(ROW(d.data), 0), octet_length(d.data)
  FROM piece p, LATERAL (SELECT lo_get(p.oid, (p.n + 1) * 8388608, 8388608) AS data OFFSET 0) d
  WHERE p.size = 8388608
)
SELECT (count(*) FILTER (WHERE n = 0))::text,
       coalesce(sum(hash_record_extended(ROW(
         int8send(hash_record_extended(ROW(oid::text, int8send(n), int8send(hash), size), 0))), 0)), 0)::text
FROM piece"""


def of_table(session: Session, relation: Relation, *, columns: Sequence[str] | None = None) -> TableFingerprint:
    """The rows of one table were read, in the session's snapshot; of all its columns, or of those named.

    Integers of all sizes count alike, text and varchar too, numerics by value and scale. Safe to repeat.
    Raises: StepFailed, code `unreadable`, naming the table, where the login may not read every row.
    """
    chosen = {} if columns is None else {relation.qualified: columns}
    return of_tables([session], [relation], columns=chosen)[relation.qualified]


def of_tables(
    sessions: Sequence[Session],
    relations: Sequence[Relation],
    *,
    columns: Mapping[str, Sequence[str]] | None = None,
) -> dict[str, TableFingerprint]:
    """Every relation's fingerprint by qualified name; the biggest were read first, one at a time in each session.

    Several sessions must share a snapshot (`snapshot_sessions`). A session that is in a transaction stays in it, and
    keeps none of the locks. `columns` limits what is read of a table. Safe to repeat.
    Raises: StepFailed, code `unreadable`, naming the table, where the login may not read every row.
    """
    if not relations:
        return {}
    with ExitStack() as frames:
        for session in sessions:
            frames.enter_context(reading(session))
        known = columns_of(sessions[0], relations)
        work = [
            (relation, _chosen(relation, known[relation.oid], (columns or {}).get(relation.qualified)))
            for relation in sorted(relations, key=lambda relation: (-relation.pages_bytes, relation.qualified))
        ]
        found = spread(sessions, _batches(work), _read)
    return {name: fingerprint for part in found for name, fingerprint in part.items()}


def of_large_objects(session: Session) -> TableFingerprint:
    """All large objects were read; a row is an object. Raises: StepFailed where one may not be read."""
    with reading(session):
        [(count, digest)] = session.rows(_LARGE_OBJECTS)
    return TableFingerprint(rows=int(count or 0), digest=str(digest))


@contextmanager
def snapshot_sessions(login: Login, *, snapshot: str, jobs: int, run_id: str) -> Iterator[list[PgSession]]:
    """`jobs` sessions that see what the transaction that exported `snapshot` sees; closed at the end.

    Raises: StepFailed when that transaction is over.
    """
    with ExitStack() as stack:
        sessions = [stack.enter_context(connect(login, role=ROLE, run_id=run_id, read_only=True)) for _ in range(jobs)]
        for session in sessions:
            session.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
            session.execute(statement("SET TRANSACTION SNAPSHOT {}", sql.Literal(snapshot)))
        yield sessions


_Work = tuple[Relation, list[Column]]


def columns_of(session: Session, relations: Sequence[Relation]) -> dict[int, list[Column]]:
    """The columns of each relation that hold values, by its oid, in the order of their names."""
    found: dict[int, list[Column]] = {relation.oid: [] for relation in relations}
    for oid, name, declared, base, builtin, schema, function in session.rows(statement(_COLUMNS, oid_array(found))):
        found[int(oid or 0)].append(
            Column(
                name=str(name),
                type=str(declared),
                base=str(base),
                builtin=builtin,
                output=(str(schema), str(function)),
            )
        )
    # By name, not by place: a restore closes the gaps that dropped columns leave.
    return {oid: sorted(columns, key=lambda column: column.name) for oid, columns in found.items()}


def _chosen(relation: Relation, columns: list[Column], names: Sequence[str] | None) -> list[Column]:
    if names is None:
        return columns
    missing = set(names) - {column.name for column in columns}
    if missing:
        raise StepFailed(
            f"{relation.qualified} has no column {', '.join(sorted(missing))} to fingerprint", code="no_such_column"
        )
    return [column for column in columns if column.name in names]


def _batches(work: Sequence[_Work]) -> list[list[_Work]]:
    """Big tables alone, in order; small ones together, so that thousands of them cost few round trips."""
    big = [[item] for item in work if item[0].pages_bytes > _SMALL_BYTES]
    small = [item for item in work if item[0].pages_bytes <= _SMALL_BYTES]
    return big + [small[start : start + _BATCH] for start in range(0, len(small), _BATCH)]


def _read(session: Session, batch: Sequence[_Work]) -> dict[str, TableFingerprint]:
    readable = [(relation, columns) for relation, columns in batch if relation.populated]
    found = {relation.qualified: _unpopulated(columns) for relation, columns in batch if not relation.populated}
    if not readable:
        return found
    query = sql.SQL(" UNION ALL ").join(
        _query(index, relation, columns) for index, (relation, columns) in enumerate(readable)
    )
    try:
        with unlocking(session):
            rows = session.rows(query.as_string(None))
    except StepFailed as error:
        if len(readable) == 1 or isinstance(error, ConnectionFailed) or _state(error) == _CANCELLED:
            raise _named(readable, error) from error
        # one at a time, to know which one it is
        return found | {name: one for item in readable for name, one in _read(session, [item]).items()}
    for index, count, digest in rows:
        relation, columns = readable[int(index or 0)]
        found[relation.qualified] = TableFingerprint(rows=int(count or 0), digest=str(digest), columns=_types(columns))
    return found


def _named(batch: Sequence[_Work], error: StepFailed) -> StepFailed:
    names = ", ".join(relation.qualified for relation, _ in batch)
    if _state(error) != _NO_PRIVILEGE:
        return StepFailed(f"the rows of {names} could not be read: {error.message}", hint=error.hint, code=error.code)
    return StepFailed(
        f"the rows of {names} cannot be read in full: {error.message}",
        hint="GRANT SELECT on it to the migrating role; under row level security the role also needs BYPASSRLS, or to "
        "own a table that does not FORCE it.",
        code="unreadable",
    )


def _state(error: StepFailed) -> str | None:
    found = re.search(r"SQLSTATE (\w{5})", error.message)  # sessions other than our own have it in the message only
    return sqlstate(error) or (found[1] if found else None)


def _unpopulated(columns: Sequence[Column]) -> TableFingerprint:
    return TableFingerprint(rows=0, digest="unpopulated", columns=_types(columns))


def _types(columns: Sequence[Column]) -> dict[str, str]:
    return {column.name: column.type for column in columns}


def _query(index: int, relation: Relation, columns: Sequence[Column]) -> sql.Composed:
    row = sql.SQL(", ").join(value_of(column) for column in columns)
    return sql.SQL(
        "SELECT {index}, count(*)::text, coalesce(sum(hash_record_extended(ROW("
        "int8send(hash_record_extended(ROW({row}), 0))), 0)), 0)::text FROM ONLY {relation} t"
    ).format(index=sql.Literal(str(index)), row=row, relation=relation.identifier)


def value_of(column: Column) -> sql.Composed:
    """The column of the table `t` in the form that is hashed: a bool, uuid, bytea, date or text that says it all."""
    name = sql.Identifier("t", column.name)
    match column.builtin:
        case "bool" | "uuid" | "bytea" | "date" as same:
            return sql.SQL("{}::{}").format(name, sql.Identifier(same))
        case "int2" | "int4" | "int8":
            return sql.SQL("int8send({})").format(name)
        case "numeric" | "timestamp" | "timestamptz" as binary:
            return sql.SQL("{}({})").format(sql.Identifier(f"{binary}_send"), name)
        case "text" | "varchar" | "refcursor":  # whose output function is that of text
            # by bytes: a nondeterministic collation would take two spellings for one
            return sql.SQL('{}::text COLLATE "C"').format(name)
        case _:
            # column.base is PostgreSQL's own rendering of a type's name, quoted where it has to be
            base = sql.SQL(column.base)  # type: ignore[arg-type,unused-ignore]
            printed = sql.SQL("{}({}::{})").format(sql.Identifier(*column.output), name, base)
            return sql.SQL('textin({}) COLLATE "C"').format(printed)
