"""The state before: taken once, from the backup's snapshot, and compared with what is there later."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import ExitStack, closing

from migrator.errors import StepFailed
from migrator.liquibase import ledger
from migrator.plans import own_tables
from migrator.postgres import catalog, row_fingerprint, schema_fingerprint, sequences
from migrator.postgres.catalog import Relation
from migrator.postgres.connect import PgSession
from migrator.postgres.row_fingerprint import TableFingerprint
from migrator.postgres.schema_fingerprint import SchemaFingerprint
from migrator.runs import inspection, written
from migrator.runs.facts import Facts, TableState, sequence_facts, sequences_of
from migrator.runs.run import Run
from migrator.runs.words import count

_SCHEMA_ALONE = "the schema is what it was"
_COLUMN_GOES = {"drop", "rename", "type"}  # one of these stands in any SQL that takes a column away or converts it


def take(run: Run, snapshot: str) -> None:
    """The facts hold the state before: schema, rows of the tables that the proof asks for, ledger, sequences.

    Runs in `jobs` sessions at the exported snapshot, so that it sees the very moment of the backup.
    Raises: StepFailed.
    """
    facts = run.facts
    with row_fingerprint.snapshot_sessions(
        run.login, snapshot=snapshot, jobs=run.environment.backup.jobs, run_id=run.id
    ) as opened:
        for session in opened:  # who keeps a table to himself keeps nobody waiting for longer
            limit_ms = max(1, round(run.environment.limits.lock_timeout_s * 1000))
            session.rows(f"SELECT set_config('lock_timeout', '{limit_ms}', false)")
        first = opened[0]
        facts.schema_before = dict(schema_fingerprint.of_schema(first).objects)
        rows = ledger.read(first, run.ledger_schema)
        facts.ledger_before = None if rows is None else [dict(row.columns) for row in rows]
        facts.ledger_read = True
        if facts.sequences is None:
            facts.sequences = sequence_facts(sequences.read(first))
        relations = wanted(catalog.tables(first), facts.fingerprinted)
        hashed = row_fingerprint.of_tables(opened, relations)
        facts.tables_before = {name: _state(found) for name, found in hashed.items()}
        _add_kept_digests(facts, opened, relations)
        if facts.fingerprinted is None:
            facts.large_objects_before = _state(row_fingerprint.of_large_objects(first))
        inspection.measure_again(run, first)


def _add_kept_digests(facts: Facts, opened: Sequence[PgSession], relations: Sequence[Relation]) -> None:
    """Tables of which the changelog names some columns get a digest of the others too.

    A column that is dropped, or that changes its type, would otherwise make the whole table incomparable. Where
    nothing of that kind stands in the changelog the second reading is spared: users are waiting.
    """
    words, named, tables = set(facts.words), set(facts.named) - set(facts.written), facts.tables_before or {}
    if not words & _COLUMN_GOES:
        return
    kept = {
        relation.qualified: [column for column in tables[relation.qualified].columns if column not in words]
        for relation in relations
        if relation.qualified in named
    }
    partly = {name: columns for name, columns in kept.items() if 0 < len(columns) < len(tables[name].columns)}
    found = row_fingerprint.of_tables(opened, [r for r in relations if r.qualified in partly], columns=partly)
    for name, fingerprint in found.items():
        tables[name] = tables[name].model_copy(
            update={"kept_columns": tuple(partly[name]), "kept_digest": fingerprint.digest}
        )
    facts.tables_before = tables


def differences(run: Run, database: str | None = None) -> list[str]:
    """Where schema, rows, ledger, sequences or large objects differ from the state before; empty when nowhere.

    `database`: another database of the same server, such as a restored copy.
    Raises: StepFailed when it could not be seen.
    """
    facts = run.facts
    login = run.login if database is None else run.login.to(database)
    if facts.schema_before is None or facts.tables_before is None:
        raise StepFailed("There is no record of the state before, so nothing can be compared with it.")
    with ExitStack() as stack:
        opened = [
            stack.enter_context(closing(_reader(run, login.database))) for _ in range(run.environment.backup.jobs)
        ]
        first = opened[0]
        found: list[str] = []
        before_schema, now = SchemaFingerprint(objects=facts.schema_before), schema_fingerprint.of_schema(first)
        if database is not None:
            before_schema, now = before_schema.as_restored(), now.as_restored()
        diff = before_schema.diff(now)
        found += [f"{identity} is new" for identity in telling(diff.added)]
        found += [f"{identity} is missing" for identity in telling(diff.removed)]
        found += [f"{identity} differs" for identity in telling(diff.changed)]
        relations = {r.qualified: r for r in catalog.tables(first)}
        compared = [
            relations[name] for name in facts.tables_before if name in relations and not own_tables.say_nothing(name)
        ]
        if database is not None:  # a restore refreshes materialized views, which may have been stale
            views = [relation.qualified for relation in compared if relation.kind == "m"]
            compared = [relation for relation in compared if relation.kind != "m"]
            if views:
                run.not_proven(f"Rows of materialized views, which a restore refreshes: {', '.join(views)}.")
        hashed = row_fingerprint.of_tables(opened, compared)
        others_wrote: list[str] = []
        for relation in compared:
            name = relation.qualified
            before, after = facts.tables_before[name], hashed[name]
            if (before.rows, before.digest) == (after.rows, after.digest):
                continue
            excuse = _excuse(run, name)
            if excuse is not None:
                run.not_proven(f"The rows of {name}: {excuse}.")
                others_wrote.append(name)
            elif before.rows != after.rows:
                found.append(f"{name} has {after.rows} rows, had {before.rows}")
            else:
                found.append(f"{name} has other values in its {after.rows} rows")
        run.record.proof.others_wrote = others_wrote
        objects_before = facts.large_objects_before
        if objects_before is not None and _state(row_fingerprint.of_large_objects(first)) != objects_before:
            found.append("the large objects differ")
        if facts.sequences is not None and run.offline:
            moved = sequences.changed(sequences_of(facts), sequences.read(first))
            found += [f"sequence {name} stands elsewhere" for name in moved]
    return found


def scope(run: Run) -> str:
    """What a comparison covers, in words."""
    tables = count(len(set(run.facts.tables_before or {}) - set(run.record.proof.others_wrote)), "table")
    if run.facts.fingerprinted is None:
        return f"schema, {tables}, sequences and large objects"
    return f"schema and {tables}" if run.facts.tables_before else "the schema alone"


def unchanged(run: Run) -> str:
    """What a comparison without a difference has shown, as a clause."""
    if run.facts.fingerprinted is None:
        return f"schema and rows are what they were ({scope(run)})"
    rows = count(len(set(run.facts.tables_before or {}) - set(run.record.proof.others_wrote)), "table")
    return f"the schema and the rows of {rows} are what they were" if run.facts.tables_before else _SCHEMA_ALONE


def not_hashed(run: Run) -> list[str]:
    """Tables that were there before, and whose rows no proof of this run can speak of."""
    known = run.facts.tables_before or {}
    return [name for name in run.facts.existing if name not in known and not own_tables.is_own(name)]


def ledger_rows(facts: Facts) -> list[ledger.LedgerRow] | None:
    """The ledger before, as rows; None when there was none."""
    if facts.ledger_before is None:
        return None
    return [ledger.LedgerRow(columns=columns) for columns in facts.ledger_before]


def wanted(relations: Sequence[Relation], names: Sequence[str] | None) -> list[Relation]:
    """The relations among `names`; all of them for None."""
    if names is None:
        return list(relations)
    chosen = set(names)
    return [relation for relation in relations if relation.qualified in chosen]


def telling(identities: Iterable[str]) -> list[str]:
    """Those of the schema's objects that say something of the database's state."""
    return [identity for identity in identities if not own_tables.say_nothing(identity)]


def _excuse(run: Run, name: str) -> str | None:
    """Why rows that differ say nothing against a way back: nobody was kept from writing them. None: they do.

    A copy that was restored has no other writers, whoever writes the database itself.
    """
    if not (run.others_write and run.facts.going_back):
        return None
    halfway = run.undoes and any(one.state == "undoing" for one in run.record.backfills)
    if name in run.facts.backfill_tables and not halfway:
        return "a backfill was taken back there, and others were writing them"
    if name in {*run.record.write_set, *run.record.surprises} or not written.is_known(run):
        return None
    if name not in run.facts.named and not own_tables.is_own(name):
        return "they changed while users were let in, and no changeset names it"
    return None


def _reader(run: Run, database: str) -> PgSession:
    session = run.session("verify", database=database, read_only=True)
    session.execute("begin isolation level repeatable read read only")
    return session


def _state(found: TableFingerprint) -> TableState:
    return TableState(rows=found.rows, digest=found.digest, columns=dict(found.columns))
