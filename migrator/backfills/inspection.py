"""A look at a backfill and its database before anything is written: what would go wrong later is said now."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

from psycopg import sql

from migrator.backfills import callables, keys
from migrator.backfills.definition import Backfill
from migrator.backfills.keys import Column, Table
from migrator.config.names import did_you_mean
from migrator.errors import ConnectionFailed, Place, Refused, StepFailed, TransactionLost
from migrator.failpoints import Effect, effect
from migrator.postgres.session import Session
from migrator.postgres.statement import READING, NotOneStatement, single, words
from migrator.postgres.transactions import rehearsal, sqlstate, statement

MOVING = ("update", "insert", "delete", "merge", "with", "select")
_TRIAL_S = 5.0
_QUERY_CANCELED = "57014"


@dataclass(frozen=True, kw_only=True)
class Problem:
    """Why a backfill cannot be done.

    `code` is one of: table_gone, not_a_table, key_column, key_nullable, key_not_unique, where, undo_where, statement,
    no_batch, ignores_batch, verify, undo, python, backfill_ambiguous.
    """

    code: str
    message: str  # begins with the file
    hint: str
    place: Place


@dataclass(frozen=True, kw_only=True)
class Looked:
    """What was found. `table` is None where there is none, or its key cannot be used."""

    problems: tuple[Problem, ...]
    table: Table | None
    rows: int | None  # of the table, as far as the server knows without counting


def of_file(backfill: Backfill) -> list[Problem]:
    """What can be said without a database: texts that are no statement or several, or do not use `batch`."""
    found: list[Problem] = []
    for key, text in _texts(backfill).items():
        try:
            names = {word for word, _ in words(single(text, first_words=MOVING))}
        except NotOneStatement as error:
            found.append(_problem(backfill, key, f"{key}: {error}", "Write one statement.", code=_code(key)))
            continue
        if keys.BATCH not in names:
            hint = f"Join it by the key: ... from {keys.BATCH} b where " + " and ".join(
                f"t.{column} = b.{column}" for column in backfill.key
            )
            message = f"{key}: does not use the relation {keys.BATCH}, so it would change the same rows in every batch"
            found.append(_problem(backfill, key, message, hint, code="no_batch"))
    try:
        single(backfill.verify, first_words=READING)
    except NotOneStatement as error:
        found.append(_problem(backfill, "verify", f"verify: {error}", "Write a query that returns what is wrong."))
    try:
        callables.find(backfill)
    except Refused as error:
        found.append(Problem(code="python", message=error.message, hint=error.hint or "", place=backfill.place))
    return found


def of_table(session: Session, backfill: Backfill) -> Looked:
    """The table and its key, which may be there before the columns that the statements name. Raises: StepFailed."""
    found = _relation(session, backfill.table)
    if found is None:
        return _nothing(
            backfill,
            "table_gone",
            f"table: there is no table {backfill.table} in this database",
            "Correct the name, with its schema where the search path does not have it; or take the file away if the"
            " table is gone for good.",
        )
    if found.kind != "table":
        hint = "Name the table that holds the rows."
        return _nothing(backfill, "not_a_table", f"table: {backfill.table} is {found.kind}", hint)
    problems, columns = _key(session, backfill, found)
    table = None
    if not problems:
        table = Table(
            oid=found.oid,
            schema=found.schema,
            name=found.name,
            key=columns,
            is_partitioned=found.is_partitioned,
            size_bytes=found.size_bytes,
        )
    return Looked(problems=tuple(problems), table=table, rows=found.rows)


def look(session: Session, backfill: Backfill) -> Looked:
    """Everything: file, table, and the statements as the server understands them. Nothing is written.

    For a session without an open transaction, at a moment when the changeset of `after` has run. Raises: StepFailed.
    """
    session.execute("BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE")
    try:
        return look_inside(session, backfill)
    finally:
        with suppress(StepFailed):  # a lost session has rolled back already
            session.execute("ROLLBACK")


def look_inside(session: Session, backfill: Backfill) -> Looked:
    """As `look`, in the transaction that is open. Raises: StepFailed."""
    problems = of_file(backfill)
    looked = of_table(session, backfill)
    if looked.table is not None:
        keys_with_problems = {problem.message.partition(": ")[2].partition(":")[0] for problem in problems}
        problems += _tried(session, backfill, looked.table, skip=keys_with_problems)
    return Looked(problems=(*problems, *looked.problems), table=looked.table, rows=looked.rows)


def refuse(problems: Sequence[Problem]) -> None:
    """There are none. Raises: Refused with all of them, and code and place of the first."""
    if problems:
        first = problems[0]
        message = "\n".join(problem.message for problem in problems)
        raise Refused(message, hint=first.hint, code=first.code, place=first.place)


def _texts(backfill: Backfill) -> dict[str, str]:
    """The statements over a batch, by their keys in the file."""
    given = {
        "statement": backfill.statement,
        "undo": backfill.undo_statement,
        "on_delete": backfill.on_delete,
    }
    return {key: text for key, text in given.items() if text is not None}


@dataclass(frozen=True, kw_only=True)
class _Relation:
    oid: int
    schema: str
    name: str
    kind: str
    is_partitioned: bool
    size_bytes: int
    rows: int | None


def _relation(session: Session, given: str) -> _Relation | None:
    name = _NAME.fullmatch(given)
    if name is None:
        return None
    quoted = ".".join(sql.Identifier(_folded(part)).as_string(None) for part in name.groups() if part is not None)
    rows = session.rows(statement(_RELATION, sql.Literal(quoted)))
    if not rows:
        return None
    oid, schema, relation, kind, inherited, size_bytes, tuples = rows[0]
    known = {"r": "table", "p": "table", "v": "a view", "m": "a materialized view", "f": "a foreign table"}
    word = "a table whose rows are partly in children that inherit from it"
    return _Relation(
        oid=int(oid or 0),
        schema=schema or "",
        name=relation or "",
        kind=word if inherited == "t" else known.get(kind or "", "no table"),
        is_partitioned=kind == "p",
        size_bytes=int(size_bytes or 0),
        rows=None if tuples is None else int(tuples),
    )


def _folded(name: str) -> str:
    return name[1:-1].replace('""', '"') if name.startswith('"') else name.lower()


def _key(session: Session, backfill: Backfill, table: _Relation) -> tuple[list[Problem], tuple[Column, ...]]:
    rows = session.rows(statement(_COLUMNS, oid=sql.Literal(table.oid)))
    types = {str(name): str(kind) for name, kind, _, _ in rows}
    nullable = {str(name): unproven for name, _, not_null, unproven in rows if not_null != "t" or unproven}
    unknown = [name for name in backfill.key if name not in types]
    named = ", ".join(backfill.key)
    if unknown:
        message = f"key: {backfill.table} has no column {unknown[0]}"
        return [_problem(backfill, "key", message, did_you_mean(unknown[0], types), code="key_column")], ()
    problems = []
    with_null = [name for name in backfill.key if name in nullable]
    if with_null:
        message = f"key: {', '.join(with_null)} of {backfill.table} may be null, and rows without a key are never met"
        unproven = nullable[with_null[0]]
        change = f"alter column {with_null[0]} set not null" if unproven is None else f"validate constraint {unproven}"
        hint = f"Choose a key that is not null, or make it so: alter table {backfill.table} {change}."
        problems.append(_problem(backfill, "key", message, hint, code="key_nullable"))
    unique = {
        tuple(json.loads(names or "[]")): tuple(json.loads(schemas or "[]"))
        for names, schemas in session.rows(statement(_INDEXES, oid=sql.Literal(table.oid)))
    }
    if backfill.key not in unique:
        others = [names for names in unique if sorted(names) == sorted(backfill.key)]
        message = f"key: ({named}) of {backfill.table} is not unique: no valid unique index has just these columns"
        hint = "Choose the primary key, or another unique one."
        if others:
            message = f"key: ({named}) is not in the order of the unique index of {backfill.table}"
            hint = f"Write them in its order: {', '.join(others[0])}."
        elif unique:
            hint = f"Unique in {backfill.table}: " + "; ".join(f"({', '.join(names)})" for names in unique) + "."
        problems.append(_problem(backfill, "key", message, hint, code="key_not_unique"))
        return problems, ()
    schemas = unique[backfill.key]
    problems += _unseen(session, backfill, schemas)
    return problems, tuple(
        Column(name=name, type=types[name], schema=schema) for name, schema in zip(backfill.key, schemas, strict=True)
    )


def _unseen(session: Session, backfill: Backfill, schemas: Sequence[str]) -> list[Problem]:
    """One comparison of rows takes one operator, of one schema; those of several are found by their name alone."""
    if len(set(schemas)) == 1:
        return []
    seen = {name for (name,) in session.rows("SELECT unnest(current_schemas(true))::text")}
    unseen = [schema for schema in dict.fromkeys(schemas) if schema not in seen]
    if not unseen:
        return []
    message = (
        f"key: {backfill.table} compares ({', '.join(backfill.key)}) by operators of the schemas"
        f" {' and '.join(dict.fromkeys(schemas))}, and {unseen[0]} is not in the search path"
    )
    hint = f"Choose another key; or put {unseen[0]} into the login's search path: alter role ... set search_path = ..."
    return [_problem(backfill, "key", message, hint, code="key_operators")]


def _tried(session: Session, backfill: Backfill, table: Table, *, skip: set[str]) -> list[Problem]:
    """Every statement with an empty batch, undone at once; what writes nevertheless does not keep to its batch."""
    found: list[Problem] = []
    for key, where in (("where", backfill.where), ("undo_where", backfill.undo_where)):
        if where is not None:  # in a CASE no closing bracket can end the condition's own brackets
            text = statement("SELECT CASE WHEN\n{}\nTHEN 1 END FROM {} LIMIT 0", sql.SQL(where), table.identifier)
            found += _failure(session, backfill, key, text)
    if "verify" not in skip:
        found += _failure(session, backfill, "verify", statement("EXPLAIN {}", sql.SQL(single(backfill.verify))))
    for key, text in _texts(backfill).items():
        if key not in skip:
            found += _failure(session, backfill, key, keys.with_batch(table.no_batch(), text), code=_code(key))
    return found


@effect(Effect.BACKFILL_TRIAL)
def _failure(session: Session, backfill: Backfill, key: str, text: str, *, code: str | None = None) -> list[Problem]:
    try:
        with rehearsal(session):
            session.execute(statement("SET LOCAL statement_timeout = {}", sql.Literal(int(_TRIAL_S * 1000))))
            before = session.rows(_WRITTEN)
            session.execute(text)
            if session.rows(_WRITTEN) == before:
                return []
    except StepFailed as error:
        state = sqlstate(error)
        if isinstance(error, ConnectionFailed | TransactionLost) or state is None:
            raise
        if state != _QUERY_CANCELED:
            return [_problem(backfill, key, f"{key}: {error.message}", error.hint or "Correct it.", code=code)]
        what = f"{key}: takes more than {_TRIAL_S:g} s for a batch without a row"
    else:
        what = f"{key}: changes rows that are in no batch"
    return [_problem(backfill, key, what, "Join the relation batch by the whole key.", code="ignores_batch")]


def _nothing(backfill: Backfill, code: str, message: str, hint: str) -> Looked:
    return Looked(problems=(_problem(backfill, "table", message, hint, code=code),), table=None, rows=None)


def _problem(backfill: Backfill, key: str, message: str, hint: str, *, code: str | None = None) -> Problem:
    return Problem(code=code or key, message=f"{backfill.file}: {message}", hint=hint, place=backfill.place)


def _code(key: str) -> str:
    return "undo" if key == "undo" else "statement"


_PART = r'("(?:[^"]|"")+"|[^\W\d][\w$]*)'
_NAME = re.compile(rf"\s*(?:{_PART}\s*\.\s*)?{_PART}\s*")
_RELATION = """
SELECT c.oid::text, n.nspname, c.relname, c.relkind,
       (c.relkind = 'r' AND EXISTS (SELECT FROM pg_inherits i WHERE i.inhparent = c.oid))::text = 'true',
       tree.size::text, CASE WHEN tree.rows >= 0 THEN tree.rows::bigint::text END
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace,
     LATERAL (SELECT coalesce(sum(pg_relation_size(leaf.oid)), 0) AS size,
                     CASE WHEN bool_and(leaf.reltuples >= 0) THEN sum(leaf.reltuples) ELSE -1 END AS rows
              FROM pg_class leaf
              WHERE leaf.relkind <> 'p' AND (leaf.oid = c.oid OR c.relkind = 'p'
                    AND leaf.oid IN (SELECT relid FROM pg_partition_tree(c.oid)))) AS tree
WHERE c.oid = to_regclass({})"""
# A NOT NULL that is NOT VALID (from PostgreSQL 18 on) is in attnotnull too, and says nothing of rows that are there.
_COLUMNS = """
SELECT attname, format_type(atttypid, -1), attnotnull,
       (SELECT min(quote_ident(c.conname)) FROM pg_constraint c
        WHERE c.conrelid = attrelid AND c.contype = 'n' AND c.conkey = ARRAY[attnum] AND NOT c.convalidated)
FROM pg_attribute WHERE attrelid = {oid} AND attnum > 0 AND NOT attisdropped ORDER BY attnum"""
# Only an index that is in the order of a plain comparison of rows can walk through a table: all columns up or all down,
# nulls at the far end, each compared as ORDER BY compares the column itself. The schema is that of <=, = and >.
_INDEXES = """
SELECT json_agg(a.attname ORDER BY k.number)::text, json_agg(operators.schema ORDER BY k.number)::text
FROM pg_index i
CROSS JOIN generate_series(1, i.indnkeyatts) AS k (number)
JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[k.number - 1]
JOIN pg_opclass o ON o.oid = i.indclass[k.number - 1]
LEFT JOIN LATERAL (
    SELECT min(n.nspname::text) AS schema
    FROM pg_amop m JOIN pg_operator p ON p.oid = m.amopopr JOIN pg_namespace n ON n.oid = p.oprnamespace
    WHERE m.amopfamily = o.opcfamily AND m.amoplefttype = o.opcintype AND m.amoprighttype = o.opcintype
          AND (m.amopstrategy, p.oprname) IN ((2, '<='), (3, '='), (5, '>'))
    HAVING count(*) = 3 AND count(DISTINCT n.oid) = 1) AS operators ON true
WHERE i.indrelid = {oid} AND i.indisunique AND i.indisvalid AND i.indisready AND i.indislive
      AND i.indpred IS NULL AND i.indexprs IS NULL
GROUP BY i.indexrelid, i.indnkeyatts, i.indisprimary
HAVING count(operators.schema) = i.indnkeyatts
       AND count(DISTINCT i.indoption[k.number - 1]) = 1 AND bool_and(i.indoption[k.number - 1] IN (0, 3))
       AND bool_and(i.indcollation[k.number - 1] = a.attcollation)
       AND bool_and(EXISTS (SELECT FROM pg_opclass d
                            WHERE d.opcfamily = o.opcfamily AND d.opcintype = o.opcintype AND d.opcdefault))
ORDER BY i.indisprimary DESC, 1"""
_WRITTEN = """
SELECT sum(n_tup_ins + n_tup_upd + n_tup_del)::text FROM pg_stat_xact_user_tables"""
