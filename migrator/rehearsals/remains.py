"""What a dry run leaves behind: the target is read before and after, and what moved all the same is told."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass

from psycopg import sql

from migrator.liquibase import ledger
from migrator.liquibase.ledger import LedgerRow
from migrator.plans import own_tables
from migrator.plans.words import size
from migrator.postgres import catalog, row_fingerprint, schema_fingerprint, sequences, sessions, waits
from migrator.postgres.catalog import Relation
from migrator.postgres.connect import APPLICATION_PREFIX
from migrator.postgres.row_fingerprint import TableFingerprint
from migrator.postgres.schema_fingerprint import SchemaFingerprint
from migrator.postgres.sequences import SequenceState
from migrator.postgres.transactions import Deadline, statement
from migrator.rehearsals.dry_run_record import DryRunRecord
from migrator.rehearsals.trying import Trying
from migrator.runs.run import Run
from migrator.runs.words import count

_GONE_S = 30.0


@dataclass(frozen=True, kw_only=True)
class Target:
    """The target as it was before. Rows and sequences are read where the dry run happens on the target itself."""

    schema: SchemaFingerprint
    ledger: Sequence[LedgerRow] | None
    relations: Sequence[Relation]
    rows: Mapping[str, TableFingerprint]  # of the tables that were read in full
    sequences: Mapping[str, SequenceState]
    others: bool  # whether anybody else was connected


def look(run: Run) -> Target:
    """The target's schema and ledger, read only. Raises: StepFailed."""
    with closing(run.session("verify", read_only=True)) as session:
        return Target(
            schema=schema_fingerprint.of_schema(session),
            ledger=ledger.read(session, run.ledger_schema),
            relations=catalog.tables(session),
            rows={},
            sequences={},
            others=False,
        )


def look_closely(run: Run, named: frozenset[str]) -> Target:
    """As `look`, with the rows of as many tables as the budget allows: all, or those of the changelog, or none."""
    found = look(run)
    with closing(run.session("verify", read_only=True)) as session:
        states = sequences.read(session)
    return Target(
        schema=found.schema,
        ledger=found.ledger,
        relations=found.relations,
        rows=_hashed(run, _within_budget(run, found.relations, named)),
        sequences=states,
        others=bool(sessions.foreign(run.the_admin(), run.database, own_run=run.id)),
    )


def prove_only_read(run: Run, before: Target, record: DryRunRecord) -> None:
    """The record says whether the target, of which a copy was tried, is what it was."""
    now = look(run)
    if _same(before, now, record):
        record.proven.append("The target was only read: its schema and Liquibase's ledger are equal before and after.")
    record.proven.append("The copy is gone, with its server session and files.")


def prove_rolled_back(run: Run, before: Target, tried: Trying, record: DryRunRecord) -> None:
    """The record says whether anything of the dry run on the target was committed, and what moved all the same."""
    admin = run.the_admin()
    deadline = Deadline(_GONE_S)
    roles = ("lock", "orchestrator", "watch", "verify", "checks")
    while sessions.of_run(admin, run.id, but=roles) and not deadline.passed:
        deadline.pause()
    left = waits.held_locks(admin, f"{APPLICATION_PREFIX}{run.id}:liquibase")
    if left or sessions.of_run(admin, run.id, but=roles):
        _not_proven(record, f"The session that tried it is still there, with {count(len(left), 'lock')}.")
    elif tried.xid is not None:
        _prove_aborted(run, tried.xid, record)
    now = look(run)
    if _same(before, now, record):
        record.proven.append("Schema and Liquibase's ledger are equal before and after; no lock and no table is left.")
    others = before.others or tried.others_seen
    _compare_rows(run, before, record, others=others)
    _tell_of_sequences(run, before, record)
    _tell_what_moved(record)


def _prove_aborted(run: Run, xid: str, record: DryRunRecord) -> None:
    with closing(run.session("verify", read_only=True)) as session:
        [(status,)] = session.rows(statement("SELECT pg_xact_status({}::text::xid8)", sql.Literal(xid)))
    if status == "aborted":
        record.proven.append(f"Transaction {xid} was rolled back: the server says aborted. Nothing of it is committed.")
    else:
        _not_proven(record, f"Transaction {xid} is not rolled back: the server says {status or 'nothing'}.")


def _same(before: Target, now: Target, record: DryRunRecord) -> bool:
    diff = before.schema.diff(now.schema)
    found = [f"{identity} is new" for identity in diff.added]
    found += [f"{identity} is gone" for identity in diff.removed]
    found += [f"{identity} differs" for identity in diff.changed]
    if [row.columns for row in before.ledger or []] != [row.columns for row in now.ledger or []]:
        found.append("Liquibase's ledger differs")
    if found:
        more = f" (and {len(found) - 3} more)" if found[3:] else ""
        _not_proven(record, f"The target is not what it was: {'; '.join(found[:3])}{more}.")
    return not found


def _compare_rows(run: Run, before: Target, record: DryRunRecord, *, others: bool) -> None:
    if not before.rows:
        if all(own_tables.is_own(relation.qualified) for relation in before.relations):
            return
        record.remains.append(
            "Rows were not compared: to read them would take longer than limits.proof_budget_s; see the transaction."
        )
        return
    read = [relation for relation in before.relations if relation.qualified in before.rows]
    now = _hashed(run, read)
    changed = [
        name
        for name, was in before.rows.items()
        if name not in now or (now[name].rows, now[name].digest) != (was.rows, was.digest)
    ]
    equal = len(before.rows) - len(changed)
    if equal:
        record.proven.append(f"The rows of {count(equal, 'table')} are equal before and after, by fingerprint.")
    if not changed:
        return
    names = ", ".join(changed[:5])
    if others:
        record.remains.append(f"The rows of {names} changed meanwhile: others were connected and free to write.")
    else:
        _not_proven(record, f"The rows of {names} are not what they were, and nobody else was connected.")


def _tell_of_sequences(run: Run, before: Target, record: DryRunRecord) -> None:
    """Sequences do not roll back. They stay: others may have drawn from them, at any moment."""
    with closing(run.session("verify", read_only=True)) as session:
        now = sequences.read(session)
    moved = sequences.changed(before.sequences, now)
    if moved:
        record.remains.append(
            f"Sequences do not roll back; these moved, and were left where they are: {_moves(before, now, moved)}."
        )


def _moves(before: Target, now: Mapping[str, SequenceState], moved: Sequence[str]) -> str:
    shown = [f"{name} from {before.sequences[name].last_value} to {now[name].last_value}" for name in moved[:5]]
    return ", ".join(shown) + (f" and {len(moved) - 5} more" if moved[5:] else "")


def _tell_what_moved(record: DryRunRecord) -> None:
    if record.wal_bytes:
        record.remains.append(f"{size(record.wal_bytes)} of WAL were written, what others wrote meanwhile included.")
    dead: dict[str, int] = {}
    for changeset in record.changesets:
        for rows in changeset.rows:
            dead[rows.table] = dead.get(rows.table, 0) + rows.inserted + rows.updated
    shown = [f"{number:,} in {table}" for table, number in sorted(dead.items()) if number]
    if shown:
        more = f" and {len(shown) - 5} more tables" if shown[5:] else ""
        record.remains.append(f"Dead rows for VACUUM: {', '.join(shown[:5])}{more}.")


def _not_proven(record: DryRunRecord, message: str) -> None:
    record.find(
        "not_proven",
        message,
        severity="error",
        hint="Look at it before anything else: somebody else may have changed it meanwhile, or the dry run did.",
    )


def _within_budget(run: Run, relations: Sequence[Relation], named: frozenset[str]) -> list[Relation]:
    """The tables that can be read twice within the budget: all, those of the changelog, or none."""
    own = [relation for relation in relations if not own_tables.is_own(relation.qualified)]
    of_changelog = [relation for relation in own if relation.qualified in named]
    budget_s = run.environment.limits.proof_budget_s
    for chosen in (own, of_changelog):
        if 2 * catalog.scan_estimate_s(chosen) / run.environment.jobs <= budget_s:
            return chosen
    return []


def _hashed(run: Run, relations: Sequence[Relation]) -> dict[str, TableFingerprint]:
    if not relations:
        return {}
    with ExitStack() as stack:
        opened = [
            stack.enter_context(closing(run.session("verify", read_only=True))) for _ in range(run.environment.jobs)
        ]
        for one in opened:
            one.execute("begin isolation level repeatable read read only")
        return row_fingerprint.of_tables(opened, relations)
