"""The text of a capture: a function that does for a row just written what a batch does, and the triggers that call it.

What is leant on (PostgreSQL's documentation of CREATE TRIGGER and "Overview of Trigger Behavior"):
- A row-level AFTER trigger of a partitioned table is on every partition, also for rows that are written to a partition
  by its own name; an UPDATE that moves a row between partitions is a DELETE and an INSERT to such triggers.
- ENABLE ALWAYS: it fires under session_replication_role = replica too, so rows that logical replication brings count.
- A WHEN clause that is false costs no call. What it names cannot be dropped: a column that the statement reads is safe
  from a DROP COLUMN for as long as the capture is there, which would otherwise break every writer.
- SECURITY DEFINER: whoever may write the table need not have rights on where the rows go. So the search path is fixed,
  temporary tables come last, nobody else may call it, and every setting that changes how a value is printed is as in
  the sessions of the batches: a date is the same day in both.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from psycopg import sql

from migrator.backfills import keys
from migrator.backfills.batch import SETTING

_STACK = "migrator.captured"  # the rows whose statement is under way in this session, one digest each
_LONGEST_NAME = 63
_LONGEST_SUFFIX = len(":truncate")  # no backfill's name has a colon in it

# As migrator.postgres.connect sets them in every session of ours.
PRINTED_AS = (
    ("DateStyle", "ISO, YMD"),
    ("IntervalStyle", "postgres"),
    ("TimeZone", "UTC"),
    ("extra_float_digits", "1"),
    ("bytea_output", "hex"),
    ("lc_monetary", "C"),
    ("standard_conforming_strings", "on"),
)


@dataclass(frozen=True, kw_only=True)
class Source:
    """The table whose rows are walked through, as the catalogue has it."""

    schema: str
    table: str
    owner: str
    key: tuple[str, ...]
    columns: tuple[str, ...]  # those whose change calls for the statement; empty: any
    search_path: tuple[str, ...]  # of the session that installs it: there unqualified names are looked up

    @property
    def identifier(self) -> sql.Identifier:
        return sql.Identifier(self.schema, self.table)


@dataclass(frozen=True, kw_only=True)
class Deeds:
    """What is done for a row; None: nothing."""

    name: str  # the backfill's
    where: str | None
    kept: str | None  # the statement, for a row that `where` selects
    gone: str | None  # on_delete, for a key that it selects no longer


def function_name(backfill: str) -> str:
    """The name of the function, and the start of its triggers' names: at most 63 bytes, whatever the backfill's is."""
    plain = f"migrator_backfill_{backfill}"
    if len(plain.encode()) + _LONGEST_SUFFIX <= _LONGEST_NAME:
        return plain
    digest = hashlib.sha256(backfill.encode()).hexdigest()[:8]
    room = _LONGEST_NAME - _LONGEST_SUFFIX - len(digest) - 1
    return f"{plain.encode()[:room].decode(errors='ignore')}_{digest}"


def create_function(source: Source, deeds: Deeds) -> str:
    """The function is there as these deeds want it, owned by the current role, and nobody else may call it."""
    settings = (("row_security", "off"), *PRINTED_AS)
    text = sql.SQL(
        "CREATE OR REPLACE FUNCTION {name}() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER"
        " SET search_path = {path} {settings} AS {body}; REVOKE ALL ON FUNCTION {name}() FROM PUBLIC"
    ).format(
        name=_function(source, deeds),
        path=_list([sql.Identifier(schema) for schema in (*source.search_path, "pg_temp")]),
        settings=sql.SQL(" ").join(
            sql.SQL("SET {} = {}").format(sql.Identifier(name.lower()), sql.Literal(value)) for name, value in settings
        ),
        body=sql.Literal(_body(source, deeds).as_string(None)),
    )
    return text.as_string(None)


def create_triggers(source: Source, deeds: Deeds) -> dict[str, str]:
    """Name -> CREATE TRIGGER, for all that is to be caught."""
    start = function_name(deeds.name)
    not_a_batch = sql.SQL("current_setting({}, true) IS DISTINCT FROM {}").format(
        sql.Literal(SETTING), sql.Literal(deeds.name)
    )
    changed = sql.SQL("{} AND {}").format(not_a_batch, _changed(source))
    row = sql.SQL("FOR EACH ROW WHEN ({})")
    found: dict[str, tuple[str, sql.Composable]] = {
        start: ("AFTER INSERT OR DELETE" if deeds.gone else "AFTER INSERT", row.format(not_a_batch)),
        f"{start}:update": ("AFTER UPDATE", row.format(changed)),
    }
    if deeds.gone:
        found[f"{start}:truncate"] = ("BEFORE TRUNCATE", sql.SQL("FOR EACH STATEMENT"))
    return {
        name: sql.SQL("CREATE OR REPLACE TRIGGER {} {} ON {} {} EXECUTE FUNCTION {}()")
        .format(sql.Identifier(name), sql.SQL(event), source.identifier, each, _function(source, deeds))
        .as_string(None)
        for name, (event, each) in found.items()
    }


def trial(source: Source, text: str) -> str:
    """A statement that plans `text` for no key at all, and looks at the rights that it needs."""
    none = sql.SQL("SELECT {} FROM {} WHERE false").format(_names(source), source.identifier)
    return f"EXPLAIN {keys.with_batch(none, text)}"


def _body(source: Source, deeds: Deeds) -> sql.Composable:
    """plpgsql. The statements are executed as text: no variable of plpgsql can take the place of a column's name.

    A row that the statement itself writes calls the trigger again, which ends there; another row, which some other
    trigger changes meanwhile, has its turn.
    """
    using_old, using_new = (sql.SQL(" USING {}").format(_fields(row, source.key)) for row in ("OLD", "NEW"))
    gone_old = _execute(_gone(source, deeds), deeds.gone, using_old)
    return sql.SQL(_TEMPLATE).format(
        stack=sql.Literal(_STACK),
        name=sql.Literal(deeds.name),
        new=_fields("NEW", source.key),
        truncated=_execute(_all(source), deeds.gone, sql.SQL("")),
        deleted=gone_old,
        key_changed=_differ(source.key),
        left=gone_old,
        # a row that is still there, and that `where` may have let go
        let_go=_execute(_gone(source, deeds), deeds.gone if deeds.where else None, using_new),
        kept=_execute(_kept(source, deeds), deeds.kept, using_new),
    )


_TEMPLATE = """
DECLARE
    under_way CONSTANT text := coalesce(current_setting({stack}, true), '');
    this text;
BEGIN
    IF TG_OP = 'TRUNCATE' THEN
        {truncated}
        RETURN NULL;
    ELSIF TG_OP = 'DELETE' THEN
        {deleted}
        RETURN NULL;
    END IF;
    this := md5({name} || ROW({new})::text);
    IF position(this IN under_way) > 0 THEN
        RETURN NULL;
    END IF;
    PERFORM set_config({stack}, under_way || ' ' || this, true);
    IF TG_OP = 'UPDATE' THEN
        IF {key_changed} THEN
            {left}
        END IF;
        {let_go}
    END IF;
    {kept}
    PERFORM set_config({stack}, under_way, true);
    RETURN NULL;
END
"""


def _execute(batch: sql.Composable, text: str | None, using: sql.Composable) -> sql.Composable:
    if text is None:
        return sql.SQL("NULL;")
    return sql.SQL("EXECUTE {}{};").format(sql.Literal(keys.with_batch(batch, text)), using)


def _kept(source: Source, deeds: Deeds) -> sql.Composable:
    """The key $1, $2 ... as a batch, if its row is still there and selected."""
    return _selected(source, deeds, _names(source))


def _gone(source: Source, deeds: Deeds) -> sql.Composable:
    """The key $1, $2 ... as a batch, if no selected row has it any more."""
    key = _list([sql.SQL("{} AS {}").format(_value(i), sql.Identifier(c)) for i, c in enumerate(source.key, 1)])
    return sql.SQL("SELECT {} WHERE NOT EXISTS ({})").format(key, _selected(source, deeds, sql.SQL("")))


def _all(source: Source) -> sql.Composable:
    return sql.SQL("SELECT {} FROM {}").format(_names(source), source.identifier)


def _selected(source: Source, deeds: Deeds, what: sql.Composable) -> sql.Composable:
    conditions = [sql.SQL("{} = {}").format(sql.Identifier(c), _value(i)) for i, c in enumerate(source.key, 1)]
    is_key = sql.SQL(" AND ").join(conditions)
    where = keys.and_where(deeds.where)
    return sql.SQL("SELECT {} FROM {} WHERE {}{}").format(what, source.identifier, is_key, where)


def _changed(source: Source) -> sql.Composable:
    """Whether the row has changed in what the statement reads; types that have no equality count, too."""
    if not source.columns:
        # The first sees columns that come later; the ROWs name today's, so that none is dropped meanwhile. The operator
        # behind this function, *<>, would not do: pg_dump prints it so that it cannot be restored.
        return sql.SQL("(record_image_ne(OLD.*, NEW.*) OR record_image_ne(ROW(OLD.*), ROW(NEW.*)))")
    return _differ(tuple(dict.fromkeys((*source.key, *source.columns))))


def _differ(columns: Sequence[str]) -> sql.Composable:
    return sql.SQL("record_image_ne(ROW({}), ROW({}))").format(_fields("OLD", columns), _fields("NEW", columns))


def _fields(row: str, columns: Sequence[str]) -> sql.Composable:
    return _list([sql.SQL("{}.{}").format(sql.SQL(row), sql.Identifier(column)) for column in columns])


def _names(source: Source) -> sql.Composable:
    return _list([sql.Identifier(column) for column in source.key])


def _value(position: int) -> sql.Composable:
    return sql.SQL(f"${position}")


def _function(source: Source, deeds: Deeds) -> sql.Identifier:
    return sql.Identifier(source.schema, function_name(deeds.name))


def _list(parts: Sequence[sql.Composable]) -> sql.Composable:
    return sql.SQL(", ").join(parts)
