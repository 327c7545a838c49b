"""What a scratch database is at one moment, and what it has lost since: by table and column, with the number of rows.

Nobody else works on it, so no snapshot has to be shared, and a table that was not written is not read again.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field

from migrator.plans import impact, own_tables
from migrator.plans.attestation import Loss
from migrator.postgres import catalog, column_fingerprint, row_fingerprint, schema_fingerprint, sequences
from migrator.postgres.catalog import Relation
from migrator.postgres.column_fingerprint import ColumnSketch
from migrator.postgres.schema_fingerprint import SchemaDiff, SchemaFingerprint
from migrator.postgres.sequences import SequenceState
from migrator.postgres.session import Session
from migrator.runs.words import count

_COLUMN = re.compile(r'column (?P<table>(?:"(?:[^"]|"")+"|[^".]+)\.(?:"(?:[^"]|"")+"|[^".]+))\.(?P<column>.+)')
_COLUMN_LIST = re.compile(r"COLUMNS \((?P<names>.*?)\)(?= |$)")


@dataclass(frozen=True, kw_only=True)
class TableRows:
    """The rows of a table. Without `sketches` it is not known which column a difference is in."""

    oid: int
    rows: int
    digest: str
    columns: Mapping[str, str]  # name -> type
    pages_bytes: int
    sketches: Mapping[str, ColumnSketch] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Moment:
    objects: Mapping[str, str]  # of the schema, without Liquibase's own tables
    tables: Mapping[str, TableRows]  # by qualified name, without Liquibase's own
    sequences: Mapping[str, SequenceState]

    @property
    def size_bytes(self) -> int:
        return sum(table.pages_bytes for table in self.tables.values())


def take(
    session: Session,
    *,
    words: Collection[str],
    since: Moment | None = None,
    written: Collection[str] | None = None,
) -> Moment:
    """The database as it is now. Columns are looked at one by one in tables whose names stand among `words`.

    Tables that are not in `written` and look as they did in `since` are taken from there; None: all are read.
    Raises: StepFailed.
    """
    schema = schema_fingerprint.of_schema(session).objects
    objects = {identity: line for identity, line in schema.items() if not own_tables.are_in(identity)}
    relations = [one for one in catalog.tables(session) if not own_tables.is_own(one.qualified)]
    known: dict[str, TableRows] = {}
    if since is not None and written is not None:
        altered = _altered(since.objects, objects)
        known = {
            one.qualified: since.tables[one.qualified]
            for one in relations
            if one.qualified in since.tables
            and since.tables[one.qualified].oid == one.oid
            and one.qualified not in written
            and one.qualified not in altered
        }
    unread = [one for one in relations if one.qualified not in known]
    hashed = row_fingerprint.of_tables([session], unread)
    named = impact.named_in(words, relations)
    read = {
        one.qualified: TableRows(
            oid=one.oid,
            rows=hashed[one.qualified].rows,
            digest=hashed[one.qualified].digest,
            columns=dict(hashed[one.qualified].columns),
            pages_bytes=one.pages_bytes,
            sketches=_sketches(session, one, named),
        )
        for one in unread
    }
    return Moment(objects=objects, tables=known | read, sequences=_own(sequences.read(session)))


def losses(before: Moment, now: Moment) -> list[Loss]:
    """Everything in which the database is not what it was; empty where it is. Sequences may have moved on."""
    diff = SchemaFingerprint(objects=before.objects).diff(SchemaFingerprint(objects=now.objects))
    gone = {name for name in before.tables if name not in now.tables}
    new = {name for name in now.tables if name not in before.tables}
    found = [
        Loss(
            what=name,
            rows=before.tables[name].rows,
            how=f"is gone, and {count(before.tables[name].rows, 'row')} with it",
        )
        for name in sorted(gone)
    ]
    found += [
        Loss(what=name, rows=now.tables[name].rows, how=f"is left behind, with {count(now.tables[name].rows, 'row')}")
        for name in sorted(new)
    ]
    for name in sorted(before.tables.keys() & now.tables.keys()):
        found += _of_rows(name, before.tables[name], now.tables[name])
    found += _of_schema(diff, apart=gone | new)
    found += [
        Loss(what=name, how=f"stands at {now.sequences[name].last_value}, stood at {state.last_value}")
        for name, state in sorted(before.sequences.items())
        if name in now.sequences and now.sequences[name].last_value < state.last_value
    ]
    return found


def _of_rows(name: str, before: TableRows, now: TableRows) -> Iterator[Loss]:
    if before.rows != now.rows:
        number = abs(before.rows - now.rows)
        how = "are gone" if now.rows < before.rows else "are left behind"
        yield Loss(what=name, rows=number, how=f"{count(number, 'row')} {how}, of {before.rows:,} there were")
    gone = [column for column in before.columns if column not in now.columns]
    for column in gone:
        filled = before.sketches[column].filled if column in before.sketches else None
        values = f", and its value in {count(filled, 'row')}" if filled is not None else ""
        yield Loss(what=name, column=column, rows=filled, how=f"is gone{values}")
    if before.rows == now.rows and (before.digest, before.columns) != (now.digest, now.columns):
        found = list(_of_values(name, before, now))
        yield from found
        if not found and not gone and before.columns.keys() == now.columns.keys():
            yield Loss(what=name, rows=None, how=f"has other values in its {count(now.rows, 'row')}")


def _of_values(name: str, before: TableRows, now: TableRows) -> Iterator[Loss]:
    for column, sketch in before.sketches.items():
        if column not in now.sketches:
            continue
        after = now.sketches[column]
        if lost := sketch.lost_in(after):
            yield _of_column(name, column, lost, sketch, after)
        elif (extra := after.filled - sketch.filled) > 0:
            yield Loss(what=name, column=column, rows=extra, how=f"has a value in {count(extra, 'row')} that had none")


def _of_column(table: str, column: str, lost: int, before: ColumnSketch, now: ColumnSketch) -> Loss:
    if now.filled == 0:
        how = f"is empty in {count(lost, 'row')} that had a value"
    else:
        how = f"lost its value in {'' if lost == before.filled else 'at least '}{count(lost, 'row')}"
    return Loss(what=table, column=column, rows=lost, how=how)


def _of_schema(diff: SchemaDiff, *, apart: Collection[str]) -> Iterator[Loss]:
    """What of the schema differs, but for what belongs to tables that are told of as a whole."""

    def is_told(identity: str) -> bool:
        return any(f" {table}." in f"{identity}." or identity.endswith(f" on {table}") for table in apart)

    columns = {identity for identity in (*diff.added, *diff.removed) if identity.startswith("column ")}
    for identity in diff.removed:
        if not is_told(identity) and identity not in columns:
            yield Loss(what=identity, how="is gone")
    for identity in diff.added:
        if not is_told(identity):
            yield Loss(what=identity, how="is left behind")
    for identity, (before, now) in diff.changed.items():
        if not is_told(identity):
            how = _order(before, now)
            if how is not None or not _same_but_columns(before, now):
                yield Loss(what=identity, how=how or "is defined otherwise")


def _order(before: str, now: str) -> str | None:
    was, is_now = _COLUMN_LIST.search(before), _COLUMN_LIST.search(now)
    if was is None or is_now is None or was[0] == is_now[0]:
        return None
    same = sorted(was["names"].split(", ")) == sorted(is_now["names"].split(", "))
    return "has its columns in another order" if same else None


def _same_but_columns(before: str, now: str) -> bool:
    """Whether nothing but the list of its columns tells them apart: missing and new columns are told by themselves."""
    return before != now and _COLUMN_LIST.sub("", before) == _COLUMN_LIST.sub("", now)


def _altered(before: Mapping[str, str], now: Mapping[str, str]) -> set[str]:
    """The tables of which a column came, went or changed."""
    identities = {one for one in before.keys() | now.keys() if before.get(one) != now.get(one)}
    return {found["table"] for found in map(_COLUMN.fullmatch, identities) if found is not None}


def _sketches(session: Session, relation: Relation, named: Collection[str]) -> dict[str, ColumnSketch]:
    return column_fingerprint.of_table(session, relation) if relation.qualified in named else {}


def _own(found: Mapping[str, SequenceState]) -> dict[str, SequenceState]:
    return {name: state for name, state in found.items() if not own_tables.are_in(name)}
