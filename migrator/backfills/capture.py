"""Catches what others write while a backfill is under way, in their own transactions: installed, looked at, removed.

It is there before the first batch: CREATE TRIGGER waits for everybody who has written the table to end, so every row is
either seen by a batch or written under the trigger. A batch locks its rows before it reads them, and a writer's trigger
runs with its row locked: of the two, whoever comes second sees what the first has committed.
It stays after the last batch, until the contract is closed: rows that come later must be right, too.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING

from psycopg import sql
from pydantic import BaseModel, ConfigDict, ValidationError

from migrator.backfills import capturable, capture_function
from migrator.backfills.capturable import Definer
from migrator.backfills.capture_function import Deeds, Source
from migrator.errors import StepFailed
from migrator.failpoints import Effect, effect
from migrator.postgres.session import Session
from migrator.postgres.transactions import (
    LOCK_NOT_AVAILABLE,
    Deadline,
    acting_as,
    sqlstate,
    statement,
    transaction,
)

if TYPE_CHECKING:
    from migrator.backfills.definition import Backfill

_DEADLOCK = "40P01"
_PATIENCE_S = 300.0  # for a moment at which nobody is in the middle of a write


@dataclass(frozen=True, kw_only=True)
class Captured:
    """A capture as it stands in the database."""

    backfill: str
    checksum: str  # of the backfill that it was made for
    table: str | None  # qualified; its name of the moment; None where the table is gone
    function: str  # qualified
    back: bool  # only deletions are caught: the backfill is being undone
    complete: bool  # every trigger is there and fires in every session


class _Note(BaseModel):
    """What the function says of itself, as its comment: the database is enough to know it again."""

    model_config = ConfigDict(frozen=True)

    backfill: str
    checksum: str
    back: bool
    triggers: int

    @classmethod
    def read(cls, comment: str | None) -> _Note | None:
        """None for a comment that is no note."""
        try:
            return cls.model_validate_json(comment or "")
        except ValidationError:
            return None

    @property
    def text(self) -> str:
        return self.model_dump_json()


def install(session: Session, backfill: Backfill, *, lock_timeout_s: float, patience_s: float = _PATIENCE_S) -> None:
    """Whoever writes a row of the table from now on carries its counterpart along. Safe to repeat.

    Raises: Refused for what cannot be caught; StepFailed, code `table_busy`, naming who is in the way.
    """
    if is_installed(session, backfill):
        return
    _put(session, backfill, back=False, lock_timeout_s=lock_timeout_s, patience_s=patience_s)


def turn_back(session: Session, backfill: Backfill, *, lock_timeout_s: float, patience_s: float = _PATIENCE_S) -> None:
    """New rows are let be, and only what is deleted is still caught, so that an undo leaves no counterpart behind.

    Nobody who wrote under the other rule is still under way. Safe to repeat. Raises: as `install`.
    """
    if backfill.on_delete is None:
        remove(session, backfill.name, lock_timeout_s=lock_timeout_s, patience_s=patience_s)
        return
    _put(session, backfill, back=True, lock_timeout_s=lock_timeout_s, patience_s=patience_s)


def remove(session: Session, name: str, *, lock_timeout_s: float, patience_s: float = _PATIENCE_S) -> None:
    """Nothing of the backfill's capture is left, whatever its table is called by now. Safe to repeat.

    Raises: StepFailed, code `table_busy`, naming who is in the way.
    """
    found = read(session, name)
    if found is None:
        return
    _when_free(
        session,
        found.table or "",
        lambda: remove_here(session, name),
        lock_timeout_s=lock_timeout_s,
        patience_s=patience_s,
    )


def remove_proven(
    session: Session,
    name: str,
    proof: Callable[[], None],
    *,
    lock_timeout_s: float,
    patience_s: float = _PATIENCE_S,
) -> None:
    """As `remove`, and `proof` held at that moment: it was asked while nobody could write the table. What it raises
    leaves the capture as it was. It sees what is committed, and may be asked again.
    """
    found = read(session, name)
    if found is None or found.table is None:
        proof()
        remove(session, name, lock_timeout_s=lock_timeout_s, patience_s=patience_s)
        return
    table = found.table

    def do() -> None:
        session.execute(statement("LOCK TABLE {} IN SHARE ROW EXCLUSIVE MODE", sql.SQL(table)))
        proof()
        remove_here(session, name)

    _when_free(session, table, do, lock_timeout_s=lock_timeout_s, patience_s=patience_s)


@effect(Effect.CAPTURE_OFF)
def remove_here(session: Session, name: str) -> None:
    """As `remove`, within the transaction that the session is in, whose lock_timeout is the limit."""
    for oid, function, _ in _functions(session, name):
        for trigger, table in session.rows(statement(_TRIGGERS, sql.Literal(oid))):
            session.execute(f"DROP TRIGGER IF EXISTS {trigger} ON {table}")
        session.execute(f"DROP FUNCTION {function}()")


def is_installed(session: Session, backfill: Backfill) -> bool:
    """Whether everything that is written to the table is caught, as this very definition wants it."""
    found = read(session, backfill.name)
    return found is not None and found.complete and not found.back and found.checksum == backfill.checksum


def read(session: Session, name: str) -> Captured | None:
    """The capture of the backfill of this name; None where there is none."""
    for oid, function, said in _functions(session, name):
        [(table, triggers, silent)] = session.rows(statement(_STANDING, sql.Literal(oid)))
        return Captured(
            backfill=name,
            checksum=said.checksum,
            table=table,
            function=function,
            back=said.back,
            complete=triggers == str(said.triggers) and silent == "0",
        )
    return None


def _functions(session: Session, name: str) -> list[tuple[str, str, _Note]]:
    """Oid, qualified name and note of the functions that say that they are this backfill's."""
    called = session.rows(statement(_FUNCTIONS, sql.Literal(capture_function.function_name(name))))
    found = [(oid or "", function or "", _Note.read(comment)) for oid, function, comment in called]
    return [(oid, function, note) for oid, function, note in found if note is not None and note.backfill == name]


def _put(session: Session, backfill: Backfill, *, back: bool, lock_timeout_s: float, patience_s: float) -> None:
    source = capturable.source_of(session, backfill)
    deeds = Deeds(
        name=backfill.name,
        where=backfill.where,
        kept=None if back else capturable.statement_of(backfill),
        gone=backfill.on_delete,
    )
    definer = capturable.definer_of(session, source)
    capturable.refuse_unsafe(session, backfill, source, definer)
    note = _Note(
        backfill=backfill.name,
        checksum=backfill.checksum,
        back=back,
        triggers=len(capture_function.create_triggers(source, deeds)),
    )
    _when_free(
        session,
        source.identifier.as_string(None),
        lambda: _create(session, source, deeds, definer, note),
        lock_timeout_s=lock_timeout_s,
        patience_s=patience_s,
    )


@effect(Effect.CAPTURE_ON)
def _create(session: Session, source: Source, deeds: Deeds, definer: Definer, note: _Note) -> None:
    # Also where the triggers are there already and only the function changes: who is in the middle of a write goes by
    # the old one, so they are waited for.
    session.execute(statement("LOCK TABLE {} IN SHARE ROW EXCLUSIVE MODE", source.identifier))
    with acting_as(session, definer.role):
        capturable.refuse_failing(session, source, deeds, definer.role)
    name = sql.Identifier(source.schema, capture_function.function_name(deeds.name))
    with nullcontext() if definer.is_given else acting_as(session, definer.role):
        session.execute(capture_function.create_function(source, deeds))
        session.execute(statement("COMMENT ON FUNCTION {}() IS {}", name, sql.Literal(note.text)))
        for trigger, text in capture_function.create_triggers(source, deeds).items():
            session.execute(text)
            session.execute(
                statement("ALTER TABLE {} ENABLE ALWAYS TRIGGER {}", source.identifier, sql.Identifier(trigger))
            )
    if definer.is_given:
        session.execute(statement("ALTER FUNCTION {}() OWNER TO {}", name, sql.Identifier(definer.role)))


def _when_free(
    session: Session, table: str, do: Callable[[], None], *, lock_timeout_s: float, patience_s: float
) -> None:
    """Done in a transaction of its own, tried again while others are in the way for longer than the lock timeout."""
    deadline = Deadline(patience_s)
    while True:
        try:
            with transaction(session, lock_timeout_s=lock_timeout_s):
                do()
        except StepFailed as error:
            if sqlstate(error) not in {LOCK_NOT_AVAILABLE, _DEADLOCK}:
                raise
            if deadline.passed:
                raise StepFailed(
                    f"For {patience_s:g} s there was no moment at which nobody was in the middle of a transaction on "
                    f"{table}. In the way: {_in_the_way(session, table) or 'nobody who can be seen now'}.",
                    hint="Wait for long transactions to end, or end them with pg_terminate_backend; then do it again.",
                    code="table_busy",
                ) from error
        else:
            return
        deadline.pause()


def _in_the_way(session: Session, table: str) -> str:
    return "; ".join(str(line) for (line,) in session.rows(statement(_HOLDERS, sql.Literal(table))))


_FUNCTIONS = """
SELECT f.oid, quote_ident(n.nspname) || '.' || quote_ident(f.proname), obj_description(f.oid, 'pg_proc')
FROM pg_proc AS f JOIN pg_namespace AS n ON n.oid = f.pronamespace
WHERE f.proname = {} AND f.prorettype = 'trigger'::regtype
ORDER BY f.oid
"""
_QUALIFIED = "quote_ident(n.nspname) || '.' || quote_ident(c.relname)"
# Those of partitions come and go with their parent's.
_TRIGGERS = f"""
SELECT quote_ident(t.tgname), {_QUALIFIED}
FROM pg_trigger AS t JOIN pg_class AS c ON c.oid = t.tgrelid JOIN pg_namespace AS n ON n.oid = c.relnamespace
WHERE t.tgfoid = {{}} AND t.tgparentid = 0
ORDER BY 1
"""  # noqa: S608 (a constant of this module)
_STANDING = f"""
SELECT min({_QUALIFIED}) FILTER (WHERE t.tgparentid = 0), count(*) FILTER (WHERE t.tgparentid = 0),
       count(*) FILTER (WHERE t.tgenabled <> 'A')
FROM pg_trigger AS t JOIN pg_class AS c ON c.oid = t.tgrelid JOIN pg_namespace AS n ON n.oid = c.relnamespace
WHERE t.tgfoid = {{}}
"""  # noqa: S608 (a constant of this module)
# Everything that a write takes is in the way of a CREATE TRIGGER, and a read in the way of a DROP TRIGGER.
_HOLDERS = """
SELECT CASE WHEN l.pid IS NULL THEN 'a prepared transaction' ELSE
       format('pid %s, user %s, application %L, %s since %s', l.pid, coalesce(a.usename, '?'), a.application_name,
              coalesce(a.state, 'state hidden'), coalesce(a.xact_start::timestamptz(0)::text, '?')) END
FROM pg_locks AS l LEFT JOIN pg_stat_activity AS a ON a.pid = l.pid
WHERE l.locktype = 'relation' AND l.granted AND l.relation = to_regclass({}) AND l.pid IS DISTINCT FROM pg_backend_pid()
      AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
GROUP BY 1 ORDER BY 1 LIMIT 8
"""
