"""A sketch of each column's values: equal for equal values in any order, and it counts how many were lost.

The values of a column fall into buckets by their hash; a bucket has the number of its values and the sum of their
hashes. A value that is gone is missing in its bucket, unless another one that fell into the same has taken its place.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from psycopg import sql

from migrator.postgres.catalog import Relation
from migrator.postgres.reading import reading, unlocking
from migrator.postgres.row_fingerprint import Column, columns_of, value_of
from migrator.postgres.session import Session

_NULL = -1
_BUCKETS = 256


@dataclass(frozen=True, kw_only=True)
class ColumnSketch:
    """The values of one column."""

    type: str
    buckets: Mapping[int, tuple[int, str]]  # number of values, sum of their hashes; -1 holds the NULLs

    @property
    def filled(self) -> int:
        """How many rows have a value."""
        return sum(number for bucket, (number, _) in self.buckets.items() if bucket != _NULL)

    def lost_in(self, now: ColumnSketch) -> int:
        """How many values are not there `now`, at least; 0 where all are. Exact where the column is empty now."""
        lost = 0
        for bucket, (number, digest) in self.buckets.items():
            if bucket == _NULL:
                continue
            left, other = now.buckets.get(bucket, (0, ""))
            lost += max(number - left, 1 if number == left and digest != other else 0)
        return lost


def of_table(session: Session, relation: Relation) -> dict[str, ColumnSketch]:
    """Every column of one table, read in the session's snapshot, in one scan. Safe to repeat."""
    with reading(session):
        columns = columns_of(session, [relation])[relation.oid]
        if not columns or not relation.populated:
            return {column.name: ColumnSketch(type=column.type, buckets={}) for column in columns}
        with unlocking(session):
            rows = session.rows(_query(relation, columns).as_string(None))
    found: dict[str, dict[int, tuple[int, str]]] = {column.name: {} for column in columns}
    for index, bucket, number, digest in rows:
        found[columns[int(index or 0)].name][int(bucket or 0)] = (int(number or 0), str(digest))
    return {column.name: ColumnSketch(type=column.type, buckets=found[column.name]) for column in columns}


def _query(relation: Relation, columns: list[Column]) -> sql.Composed:
    values = sql.SQL(", ").join(
        sql.SQL("({index}, {value} IS NULL, hash_record_extended(ROW({value}), 0))").format(
            index=sql.Literal(index), value=value_of(column)
        )
        for index, column in enumerate(columns)
    )
    return sql.SQL(
        "SELECT v.c::text, (CASE WHEN v.n THEN {null} ELSE v.h & {mask} END)::text, count(*)::text, sum(v.h)::text "
        "FROM ONLY {relation} t CROSS JOIN LATERAL (VALUES {values}) v(c, n, h) GROUP BY 1, 2"
    ).format(null=sql.Literal(_NULL), mask=sql.Literal(_BUCKETS - 1), relation=relation.identifier, values=values)
