"""Where every sequence stands. Sequences do not roll back, so they are read before and put back after."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from psycopg import sql

from migrator.errors import StepFailed
from migrator.failpoints import Effect, effect
from migrator.postgres.catalog import QUALIFIED, USER_SCHEMA
from migrator.postgres.reading import reading, unlocking
from migrator.postgres.session import Session

_BATCH = 100  # sequences read by one statement

_SEQUENCES = f"""
SELECT n.nspname, c.relname, {QUALIFIED}, has_table_privilege(c.oid, 'SELECT')
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind = 'S' AND c.relpersistence <> 't' AND {USER_SCHEMA}
ORDER BY 1, 2"""  # noqa: S608 (constants of catalog.py)


@dataclass(frozen=True, kw_only=True)
class SequenceState:
    """`last_value` was handed out already where `is_called`; else it is the next one."""

    last_value: int
    is_called: bool


def read(session: Session) -> dict[str, SequenceState]:
    """Every sequence outside the system's schemas by qualified name, identity columns' included. Safe to repeat.

    Raises: StepFailed naming the sequences that this login may not read.
    """
    with reading(session):
        found = session.rows(_SEQUENCES)
        hidden = [str(name) for _, _, name, allowed in found if allowed not in ("t", "true")]
        if hidden:
            raise StepFailed(
                f"sequences cannot be read: no SELECT privilege on {', '.join(hidden)}",
                hint="GRANT SELECT on them to the migrating role, or a role that owns them.",
                code="unreadable",
            )
        return dict(_states(session, [(str(schema), str(name), str(full)) for schema, name, full, _ in found]))


def _states(session: Session, found: list[tuple[str, str, str]]) -> Iterator[tuple[str, SequenceState]]:
    # The sequence itself, not pg_sequence_last_value(): that takes a lock which outlives the savepoint.
    one = "SELECT {index}, last_value::text, is_called::text FROM {name}"
    for start in range(0, len(found), _BATCH):
        batch = found[start : start + _BATCH]
        query = sql.SQL(" UNION ALL ").join(
            sql.SQL(one).format(index=sql.Literal(str(index)), name=sql.Identifier(schema, name))
            for index, (schema, name, _) in enumerate(batch)
        )
        with unlocking(session):
            rows = session.rows(query.as_string(None))
        for index, last_value, is_called in rows:
            full = batch[int(index or 0)][2]
            yield full, SequenceState(last_value=int(last_value or 0), is_called=is_called == "true")


def changed(before: Mapping[str, SequenceState], now: Mapping[str, SequenceState]) -> list[str]:
    """Names of the sequences of both readings that stand elsewhere, in order."""
    return sorted(name for name in before.keys() & now.keys() if before[name] != now[name])


@effect(Effect.SEQUENCES_BACK)
def put_back(session: Session, before: Mapping[str, SequenceState]) -> list[str]:
    """Every sequence that is still there stands where it did in `before`; returns the names of those that were moved.

    Only while nobody else draws numbers: a number that was handed out meanwhile would come again. Safe to repeat.
    Raises: StepFailed where the login has no UPDATE privilege on a sequence.
    """
    moved = changed(before, read(session))
    for name in moved:
        state = before[name]
        session.rows(
            sql.SQL("SELECT pg_catalog.setval({name}, {value}, {called})")
            .format(name=sql.Literal(name), value=sql.Literal(state.last_value), called=sql.Literal(state.is_called))
            .as_string(None)
        )
    return moved
