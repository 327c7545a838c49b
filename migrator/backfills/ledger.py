"""What has been moved in this database: a table of the backfills and one of their ranges, beside Liquibase's ledger.

A batch moves its rows and its range's cursor in one transaction. The state is read there too, under a lock that a
change of the state waits for: once it is `paused`, no batch is under way.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from types import MappingProxyType

from psycopg import sql
from pydantic import ValidationError

from migrator.backfills import ledger_rights, ledger_tables, lock
from migrator.backfills.definition import DECISIVE, SUFFIX, Backfill
from migrator.backfills.ledger_tables import TABLE, Tables
from migrator.errors import Refused
from migrator.failpoints import Effect, effect
from migrator.postgres.session import Row, Session
from migrator.postgres.transactions import statement


class State(StrEnum):
    """A backfill that has no row is pending."""

    RUNNING = "running"  # begun; also where the process that did it is gone
    PAUSED = "paused"
    MOVED = "moved"  # every range is done
    VERIFIED = "verified"
    UNDOING = "undoing"
    UNDONE = "undone"


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One backfill as the database has it."""

    name: str
    checksum: str
    table: str  # qualified and quoted
    state: State
    run_id: str  # of the run or command that began it
    definition: Mapping[str, object] = field(default_factory=lambda: MappingProxyType({}))
    rows_done: int = 0  # moved
    rows_walked: int = 0  # those that `where` leaves out counted
    batches: int = 0
    total: int | None = None  # rows of the table when it began, as far as the server knew
    ranges: int = 0
    ranges_done: int = 0
    rows_undone: int = 0
    written: frozenset[str] = frozenset()  # tables that its batches wrote, qualified; these two left out
    started_at: datetime
    ended_at: datetime | None = None  # the last range was done
    verified_at: datetime | None = None
    paused_because: str | None = None

    @property
    def is_complete(self) -> bool:
        return self.state in (State.MOVED, State.VERIFIED)

    def backfill(self) -> Backfill:
        """As it was when it began, without its file: enough to undo it.

        Raises: Refused for a definition that is not what began here.
        """
        try:
            found = Backfill.model_validate({**self.definition, "file": f"{self.name}{SUFFIX}"})
        except ValidationError as error:
            raise self._damaged() from error
        # Of a function the text counts too, and only its file has that.
        if found.name != self.name or (found.python is None and found.checksum != self.checksum):
            raise self._damaged()
        return found

    def _damaged(self) -> Refused:
        return Refused(
            f"What the database's ledger holds of backfill {self.name} is not what its checksum says: it was changed "
            "by hand, or by another version of migrator.",
            hint=f"Compare the row in {TABLE} with the backfill's file; put the definition back, or delete the row.",
            code="ledger_damaged",
        )


def read(session: Session, schema: str | None = None) -> dict[str, Entry]:
    """Every backfill that has begun in this database, by name; {} where there are no tables.

    Raises: Refused where others may write them, or have; StepFailed.
    """
    tables = ledger_tables.found(session, schema)
    if tables is None:
        return {}
    ledger_rights.refuse_open(session, tables)
    entries = [_entry(row) for row in session.rows(statement(_READ, **tables.named))]
    return {entry.name: entry for entry in entries}


def refuse_changed(backfill: Backfill, entry: Entry | None) -> None:
    """The file is what has begun here. Raises: Refused for another, as Liquibase refuses a changed checksum."""
    if entry is None or entry.state is State.UNDONE or entry.checksum == backfill.checksum:
        return
    changed = [
        name
        for name, value in backfill.model_dump(mode="json").items()
        if name in DECISIVE and entry.definition.get(name) != value
    ]
    raise Refused(
        f"{backfill.file}: backfill {backfill.name} has begun in this database, and was changed since"
        + (f" ({', '.join(changed)})." if changed else "."),
        hint="Put the file back as it was, and write what is new as a backfill with a name of its own;"
        f" or take this one back with `migrator backfill undo {backfill.name}` first.",
        code="backfill_changed",
        place=backfill.place,
    )


def refuse_another_table(backfill: Backfill, entry: Entry | None, table: str) -> None:
    """What `table` means in this session, qualified, is the table whose rows it began with. Raises: Refused.

    A login with another search_path may find another table by the same name.
    """
    if entry is None or entry.state is State.UNDONE or entry.table == table:
        return
    raise Refused(
        f"{backfill.file}: backfill {backfill.name} has begun on {entry.table}, and to this login {backfill.table} is"
        f" {table}.",
        hint="Use the login that began it, or let this role's search_path find what that one's does:"
        " ALTER ROLE ... SET search_path.",
        code="backfill_another_table",
        place=backfill.place,
    )


@effect(Effect.BACKFILL_LEDGER)
def begin(
    session: Session, schema: str | None, backfill: Backfill, *, table: str, run_id: str, total: int | None = None
) -> Entry:
    """The backfill has a row: a new one that is running, or the one that it had. Inside a transaction only.

    One that was undone begins anew. Safe to repeat. Raises: Refused for a changed one, one that is being undone,
    and one of another table; StepFailed.
    """
    tables = ledger_tables.found(session, schema)
    if tables is None:
        tables = ledger_tables.created(session, schema)
        ledger_rights.close(session, tables)
    entry = read(session, schema).get(backfill.name)
    if entry is not None and entry.state is State.UNDOING:
        raise Refused(
            f"Backfill {backfill.name} is being undone.",
            hint=f"Let that come to its end: `migrator backfill undo {backfill.name}`.",
            code="backfill_undoing",
            place=backfill.place,
        )
    refuse_changed(backfill, entry)
    refuse_another_table(backfill, entry, table)
    if entry is not None and entry.state is not State.UNDONE:
        return entry
    _delete(session, tables, backfill.name)
    session.execute(
        statement(
            "INSERT INTO {backfills} (name, checksum, table_name, definition, state, run_id, total)"
            " VALUES ({name}, {checksum}, {table}, {definition}, 'running', {run}, {total})",
            **tables.named,
            name=sql.Literal(backfill.name),
            checksum=sql.Literal(backfill.checksum),
            table=sql.Literal(table),
            definition=sql.Literal(json.dumps(backfill.model_dump(mode="json"))),
            run=sql.Literal(run_id),
            total=sql.Literal(total),
        )
    )
    return read(session, schema)[backfill.name]


@effect(Effect.BACKFILL_STATE)
def change(
    session: Session,
    schema: str | None,
    name: str,
    state: State,
    *,
    only_from: Sequence[State],
    because: str | None = None,
) -> Entry:
    """The backfill is in this state, and no batch that knew another is under way. Safe to repeat.

    `because`: who paused it, and why. Raises: Refused when it is in none of `only_from` (nor in it already);
    StepFailed.
    """
    tables = ledger_tables.found(session, schema)
    if tables is not None:
        session.execute(
            statement(
                "UPDATE {backfills} SET state = {state}, paused_because = {because},"
                " ended_at = CASE WHEN {state} = 'moved' THEN coalesce(ended_at, clock_timestamp()) ELSE ended_at END,"
                " verified_at = CASE WHEN {state} = 'verified' THEN clock_timestamp() ELSE verified_at END"
                " WHERE name = {name} AND state = ANY ({before}) AND state <> {state}",
                **tables.named,
                state=sql.Literal(state.value),
                because=sql.Literal(because),
                name=sql.Literal(name),
                before=sql.Literal([one.value for one in only_from]),
            )
        )
    entry = read(session, schema).get(name)
    if entry is None or entry.state is not state:
        now = "has not begun in this database" if entry is None else f"is {entry.state}"
        raise Refused(
            f"Backfill {name} {now}; it cannot become {state}.",
            hint="See `migrator backfill status`.",
            code="backfill_state",
        )
    return entry


def pause(session: Session, schema: str | None, name: str, because: str) -> Entry:
    """No batch is under way, and none begins until `go_on`. Inside a transaction only.

    Raises: Refused when it is not running; StepFailed.
    """
    lock.wait_for_batches(session, name)  # by its row alone new batches would pass whoever wants to change it
    return change(session, schema, name, State.PAUSED, only_from=[State.RUNNING], because=because)


def go_on(session: Session, schema: str | None, name: str) -> Entry:
    """The backfill is running again. Raises: Refused when it was not paused; StepFailed."""
    return change(session, schema, name, State.RUNNING, only_from=[State.PAUSED])


@effect(Effect.BACKFILL_LEDGER)
def forget(session: Session, schema: str | None, name: str) -> None:
    """The backfill is as if it had never begun here; the tables go with the last one. Safe to repeat.

    Raises: StepFailed.
    """
    tables = ledger_tables.found(session, schema)
    if tables is None:
        return
    _delete(session, tables, name)
    if session.rows(statement("SELECT FROM {backfills} LIMIT 1", **tables.named)) == []:
        session.execute(statement("DROP TABLE {backfills}, {ranges}", **tables.named))


def _delete(session: Session, tables: Tables, name: str) -> None:
    session.execute(
        statement(
            "DELETE FROM {ranges} WHERE name = {name}; DELETE FROM {backfills} WHERE name = {name}",
            **tables.named,
            name=sql.Literal(name),
        )
    )


def _entry(row: Row) -> Entry:
    values = dict(zip(_COLUMNS, row, strict=True))
    return Entry(
        name=str(values["name"]),
        checksum=str(values["checksum"]),
        table=str(values["table_name"]),
        state=State(str(values["state"])),
        run_id=str(values["run_id"]),
        definition=json.loads(values["definition"] or "{}"),
        rows_done=int(values["rows_done"] or 0),
        rows_walked=int(values["rows_walked"] or 0),
        batches=int(values["batches"] or 0),
        total=None if values["total"] is None else int(values["total"]),
        ranges=int(values["ranges"] or 0),
        ranges_done=int(values["ranges_done"] or 0),
        rows_undone=int(values["rows_undone"] or 0),
        written=frozenset(json.loads(values["written"] or "[]")),
        started_at=_time(values["started_at"]) or datetime.min.replace(tzinfo=UTC),
        ended_at=_time(values["ended_at"]),
        verified_at=_time(values["verified_at"]),
        paused_because=values["paused_because"],
    )


def _time(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)


_COLUMNS = (
    "name",
    "checksum",
    "table_name",
    "state",
    "run_id",
    "definition",
    "rows_done",
    "rows_walked",
    "batches",
    "total",
    "ranges",
    "ranges_done",
    "rows_undone",
    "written",
    "started_at",
    "ended_at",
    "verified_at",
    "paused_because",
)
_READ = """
SELECT b.name, b.checksum, b.table_name, b.state, b.run_id, b.definition::text,
       coalesce(sum(r.rows_done) FILTER (WHERE r.phase = 'move'), 0)::text,
       coalesce(sum(r.rows_walked) FILTER (WHERE r.phase = 'move'), 0)::text,
       coalesce(sum(r.batches) FILTER (WHERE r.phase = 'move'), 0)::text, b.total::text,
       count(r.number) FILTER (WHERE r.phase = 'move'), count(r.number) FILTER (WHERE r.phase = 'move' AND r.done),
       coalesce(sum(r.rows_done) FILTER (WHERE r.phase = 'undo'), 0)::text,
       (SELECT json_agg(DISTINCT one)::text FROM {ranges} w, jsonb_array_elements_text(to_jsonb(w) -> 'written') AS one
        WHERE w.name = b.name AND w.phase = 'move'),
       to_json(b.started_at) #>> '{{}}', to_json(b.ended_at) #>> '{{}}', to_json(b.verified_at) #>> '{{}}',
       b.paused_because
FROM {backfills} b LEFT JOIN {ranges} r ON r.name = b.name
GROUP BY b.name ORDER BY b.started_at, b.name"""
