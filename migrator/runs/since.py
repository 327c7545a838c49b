"""What a blue/green run left, and who has written since: by this a later swap back knows what it would lose."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass

from migrator.errors import StepFailed
from migrator.plans import own_tables
from migrator.postgres import catalog, row_fingerprint, schema_fingerprint, sequences
from migrator.postgres.row_fingerprint import TableFingerprint
from migrator.postgres.schema_fingerprint import SchemaFingerprint
from migrator.postgres.session import Session
from migrator.runs import state
from migrator.runs.facts import Facts, TableState, sequence_facts, sequences_of
from migrator.runs.run import Run


@dataclass(frozen=True, kw_only=True)
class Written:
    """Something that is no longer as the run left it."""

    what: str  # a table, qualified; or words
    rows_then: int | None = None  # None: no table, or one that was not there
    rows_now: int | None = None

    def __str__(self) -> str:
        if self.rows_now is None:
            return self.what
        then = "was not there" if self.rows_then is None else f"had {self.rows_then}"
        return f"{self.what} has {self.rows_now} rows ({then} when the run ended)"


def remember(run: Run, session: Session) -> None:
    """The facts hold what the migrated database is: schema, rows, sequences, large objects.

    `session` is in a transaction with a snapshot, after the verification. Unwritten tables, which were just found
    equal to the state before, are not read again; of tables that the proof left out nothing is known.
    """
    facts = run.facts
    before = facts.tables_before or {}
    [(snapshot,)] = session.rows("select pg_export_snapshot()")
    maybe_written = set(run.record.write_set) | (set(facts.named) if facts.unobserved else set())
    with row_fingerprint.snapshot_sessions(
        run.work_login, snapshot=snapshot or "", jobs=run.environment.backup.jobs, run_id=run.id
    ) as opened:
        first = opened[0]
        facts.schema_after = dict(schema_fingerprint.of_schema(first).objects)
        relations = [relation for relation in catalog.tables(first) if not own_tables.say_nothing(relation.qualified)]
        known = {
            relation.qualified: before[relation.qualified]
            for relation in relations
            if relation.qualified in before
            and relation.qualified not in maybe_written
            and not own_tables.is_own(relation.qualified)
        }
        unread = [r for r in relations if r.qualified not in known and _is_in_scope(facts, r.qualified, maybe_written)]
        hashed = row_fingerprint.of_tables(opened, unread)
        facts.tables_after = known | {name: _state(found) for name, found in hashed.items()}
        facts.sequences_after = sequence_facts(sequences.read(first))
        facts.large_objects_after = _state(row_fingerprint.of_large_objects(first))


def written(run: Run, left: Facts) -> list[Written]:
    """What is no longer as `left` has it, seen at one moment; empty when nobody has written since.

    Raises: StepFailed when the run did not remember what it left.
    """
    if left.tables_after is None or left.schema_after is None:
        raise StepFailed("What the run left was not recorded, so nobody can tell who has written since.")
    with closing(run.session("snapshot", read_only=True)) as session:
        session.execute("begin isolation level repeatable read read only")
        [(snapshot,)] = session.rows("select pg_export_snapshot()")
        with row_fingerprint.snapshot_sessions(
            run.login, snapshot=snapshot or "", jobs=run.environment.backup.jobs, run_id=run.id
        ) as opened:
            return _compared(opened, left)


def not_known(left: Facts) -> list[str]:
    """Tables of which the run did not remember what it left: the proof had no time for them."""
    known = left.tables_after or {}
    return sorted(name for name in left.existing if name not in known and not own_tables.say_nothing(name))


def _compared(opened: Sequence[Session], left: Facts) -> list[Written]:
    first = opened[0]
    diff = SchemaFingerprint(objects=left.schema_after or {}).diff(schema_fingerprint.of_schema(first))
    changed = state.telling([*diff.added, *diff.removed, *diff.changed])
    found = [Written(what=f"{identity} was made, changed or dropped") for identity in changed]
    tables = left.tables_after or {}
    relations = [r for r in catalog.tables(first) if not own_tables.say_nothing(r.qualified)]
    hashed = row_fingerprint.of_tables(opened, [r for r in relations if r.qualified in tables])
    for name, now in hashed.items():
        then = tables[name]
        if (now.rows, now.digest) != (then.rows, then.digest):
            found.append(Written(what=name, rows_then=then.rows, rows_now=now.rows))
    moved = sequences.changed(
        sequences_of(left.model_copy(update={"sequences": left.sequences_after})), sequences.read(first)
    )
    found += [Written(what=f"sequence {name} was drawn from") for name in moved]
    objects = left.large_objects_after
    if objects is not None and _state(row_fingerprint.of_large_objects(first)) != objects:
        found.append(Written(what="the large objects were changed"))
    return found


def _is_in_scope(facts: Facts, name: str, maybe_written: set[str]) -> bool:
    if facts.fingerprinted is None or name not in facts.existing:
        return True
    return name in maybe_written or name in facts.fingerprinted


def _state(found: TableFingerprint) -> TableState:
    return TableState(rows=found.rows, digest=found.digest, columns=dict(found.columns))
