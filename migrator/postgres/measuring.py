"""What a transaction does to the server, read by itself between its statements: locks, rows, files, WAL.

PostgreSQL keeps a transaction's locks and its row counts until it ends, so one look tells all that was done up to
now, and two of them what was done between. A look is one row; names are asked only of what is new.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

MODES = (
    "AccessShareLock",
    "RowShareLock",
    "RowExclusiveLock",
    "ShareUpdateExclusiveLock",
    "ShareLock",
    "ShareRowExclusiveLock",
    "ExclusiveLock",
    "AccessExclusiveLock",
)
ROW_EXCLUSIVE, SHARE_UPDATE, ACCESS_EXCLUSIVE = 2, 3, 7  # places in MODES

WAL_POSITION = "pg_catalog.pg_wal_lsn_diff(pg_catalog.pg_current_wal_insert_lsn(), '0/0')::pg_catalog.int8"
"""Not on every server: see `look_query`."""

_MODE_ARRAY = "ARRAY[" + ", ".join(f"'{mode}'" for mode in MODES) + "]"
# One text in place of one row a lock: the driver's cost is by value. A lock that rewrites need has the file's number
# with it, one that writes need the rows.
_LOOK = f"""
SELECT pg_catalog.pg_current_xact_id()::pg_catalog.text, {{wal}}::pg_catalog.text,
       (SELECT pg_catalog.string_agg(
                 l.relation::pg_catalog.text || ':' || pg_catalog.array_position({_MODE_ARRAY}, l.mode) || CASE l.mode
                 WHEN 'AccessExclusiveLock' THEN ':' || coalesce(
                      pg_catalog.pg_relation_filenode(l.relation)::pg_catalog.int8,
                      (SELECT -1 FROM pg_catalog.pg_class c WHERE c.oid = l.relation), 0)
                 WHEN 'RowExclusiveLock' THEN ':' || pg_catalog.pg_stat_get_xact_tuples_inserted(l.relation)
                      || '/' || pg_catalog.pg_stat_get_xact_tuples_updated(l.relation)
                      || '/' || pg_catalog.pg_stat_get_xact_tuples_deleted(l.relation)
                 ELSE '' END, ' ')
        FROM pg_catalog.pg_locks l
        WHERE l.pid = pg_catalog.pg_backend_pid() AND l.locktype = 'relation' AND l.granted AND l.relation >= 16384
          AND l.database = (SELECT d.oid FROM pg_catalog.pg_database d
                            WHERE d.datname = pg_catalog.current_database()))
"""  # noqa: S608 (constants of this module)

_NAME = "pg_catalog.quote_ident({n}.nspname) || '.' || pg_catalog.quote_ident({c}.relname)"
_RELATION = f"""pg_catalog.json_build_array(c.oid::pg_catalog.int8, c.relkind, {_NAME.format(n="n", c="c")},
    (SELECT {_NAME.format(n="tn", c="t")} FROM pg_catalog.pg_index i JOIN pg_catalog.pg_class t ON t.oid = i.indrelid
     JOIN pg_catalog.pg_namespace tn ON tn.oid = t.relnamespace WHERE i.indexrelid = c.oid),
    {{size}}, coalesce(pg_catalog.pg_relation_filenode(c.oid)::pg_catalog.int8, -1),
    greatest(c.reltuples, 0)::pg_catalog.int8)"""  # noqa: S608 (constants of this module)

# To ask for a file's size waits for whoever has the table locked against readers; on a copy there is nobody.
_TRUE_SIZE = "coalesce(pg_catalog.pg_table_size(c.oid), 0)"
_BELIEVED_SIZE = f"""CASE WHEN c.reltuples < 0 THEN {_TRUE_SIZE} ELSE 8192 * (c.relpages::pg_catalog.int8
    + coalesce((SELECT t.relpages FROM pg_catalog.pg_class t WHERE t.oid = c.reltoastrelid), 0)) END"""  # noqa: S608
_EVERYTHING = f"""
SELECT pg_catalog.json_agg({_RELATION.format(size="<size>")})::pg_catalog.text
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE c.oid >= 16384 AND c.relpersistence <> 't' AND c.relkind <> 't' AND n.nspname !~ '^pg_toast'
"""  # noqa: S608
_SOME = f"""
SELECT pg_catalog.json_agg({_RELATION.format(size=_TRUE_SIZE)})::pg_catalog.text
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE c.oid IN (<oids>) AND c.relpersistence <> 't' AND n.nspname !~ '^pg_toast'
"""  # noqa: S608


@dataclass(frozen=True, kw_only=True)
class Relation:
    oid: int
    kind: str  # pg_class.relkind
    name: str  # qualified, quoted where PostgreSQL would
    table: str | None  # of an index
    size_bytes: int
    filenode: int  # -1 where it has no file
    rows: int  # as the planner believes

    @classmethod
    def from_row(cls, row: list[object]) -> Relation:
        oid, kind, name, table, size, filenode, rows = row
        return cls(
            oid=_number(oid),
            kind=str(kind),
            name=str(name),
            table=None if table is None else str(table),
            size_bytes=_number(size),
            filenode=_number(filenode),
            rows=_number(rows),
        )


@dataclass(frozen=True, kw_only=True)
class Held:
    """A lock, and what came with it."""

    oid: int
    mode: int  # its place in MODES
    filenode: int | None = None  # with ACCESS EXCLUSIVE; -1: it has no file, 0: it is gone
    counts: tuple[int, int, int] | None = None  # with ROW EXCLUSIVE: rows inserted, updated, deleted


@dataclass(frozen=True, kw_only=True)
class Look:
    xid: str
    wal_bytes: int | None  # position in the server's WAL; None where it cannot be asked
    locks: str  # as the server wrote them

    def new(self, known: set[str]) -> list[Held]:
        """The locks of which `known` does not have the text, with all that came with them; it has them afterwards."""
        fresh = [text for text in self.locks.split(" ") if text and text not in known]
        known.update(fresh)
        return [_held(text) for text in fresh]


@dataclass(kw_only=True)
class Changes:
    """What was done between two looks. Relations by name; those that did not exist before are in `created` only."""

    locks: list[tuple[str, str]] = field(default_factory=list)  # relation, mode; taken here for the first time
    rows: dict[str, tuple[int, int, int]] = field(default_factory=dict)  # inserted, updated, deleted
    rewritten: dict[str, tuple[int, int]] = field(default_factory=dict)  # size in bytes before and after
    created: dict[str, int] = field(default_factory=dict)  # table or view -> size in bytes
    dropped: dict[str, int] = field(default_factory=dict)  # table -> size in bytes before
    indexes: list[tuple[str, str, int, bool]] = field(default_factory=list)  # name, table, size, table is new
    sizes: dict[str, tuple[int, int]] = field(default_factory=dict)  # written or rewritten table: bytes before, after
    wal_bytes: int | None = None


def look_query(*, with_wal: bool) -> str:
    """One row: transaction, position in the WAL, locks. `with_wal`: whether the server has the position."""
    return _LOOK.format(wal=WAL_POSITION if with_wal else "NULL")


def everything_query(*, true_sizes: bool) -> str:
    """Every relation; its size is the true one, or what the planner believes."""
    return _EVERYTHING.replace("<size>", _TRUE_SIZE if true_sizes else _BELIEVED_SIZE)


def some_query(oids: Iterable[int]) -> str:
    """The relations of these OIDs that are there, as `everything_query` has them, with the true sizes."""
    return _SOME.replace("<oids>", ", ".join(str(oid) for oid in sorted(oids)))


def relations(rows: list[list[object]] | None) -> Mapping[int, Relation]:
    """What `everything_query` or `some_query` gave, by OID."""
    return {found.oid: found for found in map(Relation.from_row, rows or [])}


def _held(text: str) -> Held:
    oid, mode, *more = text.split(":")
    place = int(mode) - 1
    if not more:
        return Held(oid=int(oid), mode=place)
    if place == ACCESS_EXCLUSIVE:
        return Held(oid=int(oid), mode=place, filenode=int(more[0]))
    inserted, updated, deleted = (int(number) for number in more[0].split("/"))
    return Held(oid=int(oid), mode=place, counts=(inserted, updated, deleted))


def _number(value: object) -> int:
    return int(value) if isinstance(value, (int, float)) else 0
