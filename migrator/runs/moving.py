"""A run does a backfill between its changesets, proves it, and takes it back when it goes back itself."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack, closing

from psycopg import sql

from migrator.backfills import capture, ledger, ledger_rights, ledger_tables, mover, undoing, verifying
from migrator.backfills.definition import Backfill
from migrator.backfills.ledger import State
from migrator.backfills.mover import Moved, Progress, Work
from migrator.backfills.verifying import Verdict
from migrator.errors import MigrationFailed, Place, Refused, StepFailed
from migrator.liquibase import ledger as liquibase_ledger
from migrator.liquibase.session import Liquibase
from migrator.postgres.session import Session
from migrator.postgres.transactions import sqlstate, statement
from migrator.runs import due
from migrator.runs.facts import PlannedBackfill
from migrator.runs.record import BackfillRecord, StepName
from migrator.runs.run import Run
from migrator.runs.signals import signals
from migrator.runs.words import count


def move(run: Run, planned: PlannedBackfill, held: Liquibase | None) -> None:
    """Every row was moved, in the held transaction or batch by batch, and its verify query finds nothing wrong.

    Carries on where it was left; one that is verified is done. One whose changeset was skipped stays pending, and the
    report says so. Raises: MigrationFailed; Refused; StepFailed.
    """
    backfill, told = due.definition(run, planned), of(run, planned.name)
    if not _has_come(run, planned, held):
        run.warn(
            f"Backfill {planned.name} is still pending, because its changeset {planned.after} was skipped: the run "
            "that executes the changeset does it."
        )
        return
    if _is_verified(run, planned.name, told, held):
        _tell_verified(run, backfill, told)
        return
    told.state = "running"
    run.reporter.backfill(told)
    if held is not None:
        moved = mover.move_inside(backfill, held, run.ledger_schema, run_id=run.id)
        _note(told, moved)
        verdict = verifying.ask(held, backfill)
        verifying.note(held, backfill, run.ledger_schema, verdict)
    else:
        with closing(run.session("backfill-capture")) as session:
            if backfill.capture == "trigger":
                capture.install(session, backfill, lock_timeout_s=run.environment.limits.lock_timeout_s)
            moved = mover.move(backfill, _work(run), on_progress=_telling(run), check=_checking(run))
            _note(told, moved)
            # What a process that was killed has moved and written only the ledger knows.
            entry = ledger.read(session, run.ledger_schema)[backfill.name]
            told.rows, told.batches = entry.rows_done, entry.batches
            run.record.write_set = sorted({*run.record.write_set, *entry.written})
            told.state = "moved"
            run.save()
            verdict = verifying.verify(session, backfill, run.ledger_schema)
    _judge(backfill, told, verdict)
    if moved.tells_nothing:
        written = "" if moved.writes is None else f" {count(moved.writes, 'row')} written."
        run.warn(f"Backfill {backfill.name}: {mover.TELLS_NOTHING}.{written}")
    _tell_verified(run, backfill, told)


def _tell_verified(run: Run, backfill: Backfill, told: BackfillRecord) -> None:
    told.state = "verified"
    run.save()
    run.reporter.backfill(told)
    if backfill.capture == "trigger":
        run.keep(
            f"The trigger of backfill {backfill.name} stays on {backfill.table}, so that new rows are right too. When "
            f"nothing needs it any more: migrator backfill finish {backfill.name} --env {run.environment.name}"
        )
    run.prove(
        f"Backfill {backfill.name}: {count(told.rows or 0, 'row')} of {backfill.table} moved; its verify query, asked "
        "in the database about every row, finds nothing."
    )


def _has_come(run: Run, planned: PlannedBackfill, held: Liquibase | None) -> bool:
    """Whether Liquibase's ledger holds the changeset that it follows, be it marked as ran."""
    with ExitStack() as stack:
        session = held or stack.enter_context(closing(run.session("backfill-capture", read_only=True)))
        rows = liquibase_ledger.read(session, run.ledger_schema) or []
    return any("::".join(row.key) == planned.after for row in rows)


def _is_verified(run: Run, name: str, told: BackfillRecord, held: Liquibase | None) -> bool:
    """Whether the database that is worked on has it: what was rolled back, or dropped with a copy, is not there.

    Whoever has brought it to its end, the record knows how much that was.
    """
    with ExitStack() as stack:
        session = held or stack.enter_context(closing(run.session("backfill-capture", read_only=True)))
        entry = ledger.read(session, run.ledger_schema).get(name)
    if entry is None:
        told.rows = told.batches = told.duration_s = told.waited_s = told.rate = told.violations = None
    if entry is None or entry.state is not State.VERIFIED:
        return False
    told.rows, told.batches, told.violations = entry.rows_done, entry.batches, 0
    run.record.write_set = sorted({*run.record.write_set, *entry.written})
    return True


def close_ledger(run: Run, held: Liquibase | None) -> None:
    """Nobody else may write the backfills' ledger, though a changeset granted rights on all tables.

    Raises: StepFailed.
    """
    with ExitStack() as stack:
        session = held or stack.enter_context(closing(run.session("ledger")))
        tables = ledger_tables.found(session, run.ledger_schema)
        opened = ledger_rights.close_again(session, tables) if tables is not None else []
    if opened:
        run.warn(
            f"A changeset let others write the backfills' ledger ({', '.join(opened)}): that was taken back. A GRANT "
            "on all tables of a schema includes it."
        )


def keep_writers_off(run: Run, held: Liquibase) -> None:
    """Nobody writes the tables of required backfills until the transaction ends, and what was committed is proven.

    To be called before its first changeset. Its own snapshot does not show what others have written since it was
    taken; another session sees that, as long as no changeset keeps it from looking.
    Raises: MigrationFailed; StepFailed.
    """
    if not (run.others_write and run.facts.required):
        return
    backfills = [due.definition(run, one) for one in run.facts.required]
    for backfill in backfills:
        _lock(held, backfill)
    with closing(run.session("backfill-proof", read_only=True)) as session:
        for backfill in backfills:
            _judge(backfill, of(run, backfill.name), verifying.ask(session, backfill))


def _lock(held: Liquibase, backfill: Backfill) -> None:
    [(table,)] = held.rows(statement("SELECT to_regclass({})::text", sql.Literal(backfill.table)))
    if table is None:
        return
    try:
        held.execute(statement("LOCK TABLE {} IN SHARE ROW EXCLUSIVE MODE", sql.SQL(table)))
    except StepFailed as error:
        raise MigrationFailed(
            f"Others were in the middle of a write to {table}, which backfill {backfill.name} is to be proven of: "
            f"{error.message}",
            hint="Wait for long transactions to end, or do it under maintenance.",
            code="table_busy",
            place=Place(sqlstate=sqlstate(error)),
        ) from error


def require(run: Run, planned: PlannedBackfill, held: Liquibase | None) -> None:
    """What a changeset rests on is proven now, and its capture is gone: the changeset may take away what it reads.

    Raises: MigrationFailed, StepFailed.
    """
    backfill, told = due.definition(run, planned), of(run, planned.name)
    if held is not None:
        _require_done(run, planned, held)
        _judge(backfill, told, verifying.ask(held, backfill))
        capture.remove_here(held, backfill.name)
    else:
        with closing(run.session("backfill-capture")) as session:
            _require_done(run, planned, session)
            capture.remove_proven(
                session,
                backfill.name,
                lambda: _judge(backfill, told, verifying.ask(session, backfill)),
                lock_timeout_s=run.environment.limits.lock_timeout_s,
            )
    run.drop_kept(f"The trigger of backfill {backfill.name} ")
    run.prove(f"Backfill {backfill.name} was complete and proven right before the changeset that requires it.")
    if held is None and run.others_write:
        run.not_proven(
            f"What others wrote to {backfill.table} between the proof of backfill {backfill.name} and the lock of the "
            "changeset that requires it."
        )


def _require_done(run: Run, planned: PlannedBackfill, session: Session) -> None:
    """Raises: MigrationFailed for one that was left out in this run."""
    entry = ledger.read(session, run.ledger_schema).get(planned.name)
    if entry is None or not entry.is_complete:
        raise MigrationFailed(
            f"A changeset requires backfill {planned.name}, which {'is ' + entry.state if entry else 'was not done'}.",
            hint=f"It is done once its changeset {planned.after} is executed.",
            code="requires",
        )


def undo(run: Run, planned: PlannedBackfill) -> None:
    """The rows are what they were before the backfill, and nothing of it is left. Safe to repeat.

    Raises: MigrationFailed, also where only the backup leads back, or what it made is the only copy by now; StepFailed.
    """
    backfill, told = due.definition(run, planned), of(run, planned.name)
    with closing(run.session("backfill-capture")) as session:
        entry = ledger.read(session, run.ledger_schema).get(backfill.name)
        theirs = entry is not None and entry.run_id != run.id and not run.undoes
        if entry is not None and theirs and entry.state is not State.UNDONE:
            return
        if entry is not None and entry.state is not State.UNDONE:
            if backfill.undo_statement is None:
                raise MigrationFailed(
                    f"Backfill {backfill.name} has no undo statement: only the backup leads back.",
                    code="backfill_restore",
                )
            try:
                undoing.refuse_loss(session, backfill, run.ledger_schema)
            except Refused as error:  # of a run that has begun nothing is refused any more
                raise MigrationFailed(error.message, hint=error.hint, code=error.code, place=error.place) from error
            told.state = "undoing"
            run.save()  # from here on rows may have been taken back
            capture.turn_back(session, backfill, lock_timeout_s=run.environment.limits.lock_timeout_s)
            if entry.state is State.PAUSED:
                ledger.go_on(session, run.ledger_schema, backfill.name)
            check = _checking(run) if run.undoes and not run.facts.going_back else _nothing
            if run.facts.going_back:  # users wait behind the fence: a replica that stands still must not hold that up
                backfill = backfill.model_copy(update={"max_lag_bytes": None, "max_active_sessions": None})
            undone = undoing.undo(backfill, _work(run), on_progress=_telling(run), check=check)
            run.record.write_set = sorted({*run.record.write_set, *entry.written, *undone.written})
            if run.undoes:
                _note(told, undone)
        capture.remove(session, backfill.name, lock_timeout_s=run.environment.limits.lock_timeout_s)
        if not theirs:
            undoing.forget(session, run.ledger_schema, backfill.name)
    run.drop_kept(f"The trigger of backfill {backfill.name} ")
    if told.state != "pending":
        told.state = "undone"
        run.reporter.backfill(told)


def put_captures_back(run: Run) -> None:
    """What catches new rows for a required backfill is there again, where the run found it. What nothing caught
    meanwhile is looked for: the ledger calls no backfill verified that is not. Raises: StepFailed.
    """
    with closing(run.session("backfill-capture")) as session:
        for one in run.facts.required:
            backfill = due.definition(run, one)
            if one.name not in run.facts.captures:
                continue
            capture.install(session, backfill, lock_timeout_s=run.environment.limits.lock_timeout_s)
            verdict = verifying.verify(session, backfill, run.ledger_schema) if run.others_write else None
            if verdict is not None and verdict.violations:
                run.warn(
                    f"Backfill {one.name} is not verified any more: its verify query finds "
                    f"{count(verdict.violations, 'row')} ({', '.join(verdict.sample[:3])}), written while its trigger "
                    f"was away. Correct them, then: migrator backfill verify {one.name} --env {run.environment.name}"
                )


def of(run: Run, name: str) -> BackfillRecord:
    """The record's part of this backfill."""
    return next(one for one in run.record.backfills if one.name == name)


def planned(run: Run, name: str) -> PlannedBackfill:
    """What was planned of this backfill: to be done here, or done by an earlier run."""
    return next(one for one in (*run.facts.backfills, *run.facts.required) if one.name == name)


def _judge(backfill: Backfill, told: BackfillRecord, verdict: Verdict) -> None:
    told.violations = verdict.violations
    if verdict.violations:
        raise MigrationFailed(
            f"Backfill {backfill.name}: its verify query finds {count(verdict.violations, 'row')} that "
            f"{'is' if verdict.violations == 1 else 'are'} not as they should be: {', '.join(verdict.sample[:5])}.",
            hint="Correct the statement, or the query; a backfill that has begun elsewhere needs a new name then.",
            code="backfill_wrong",
            place=Place(file=str(backfill.file)),
        )


def _work(run: Run) -> Work:
    return Work(login=run.work_login, schema=run.ledger_schema, run_id=run.id, connect=run.session)


def _note(told: BackfillRecord, moved: Moved) -> None:
    """What was moved before the run was taken over counts too; the rate is of late."""
    if moved.rows and moved.duration_s:
        told.rate = round(moved.rows / moved.duration_s, 1)
    told.rows = (told.rows or 0) + moved.rows
    told.batches = (told.batches or 0) + moved.batches
    told.duration_s = round((told.duration_s or 0.0) + moved.duration_s, 3)
    told.waited_s = round((told.waited_s or 0.0) + moved.waited_s, 3)
    told.max_lag_bytes = max(
        (lag for lag in (told.max_lag_bytes, moved.max_lag_bytes) if lag is not None), default=None
    )


def _telling(run: Run) -> Callable[[Progress], None]:
    def tell(progress: Progress) -> None:
        of_total = "" if progress.total is None else f" of about {progress.total:,}"
        said = [f"backfill {progress.name}: {progress.rows:,}{of_total} rows", f"{progress.rate:,.0f}/s"]
        if progress.eta_s is not None:
            said.append(f"{progress.eta_s:.0f} s left")
        if progress.lag_bytes:
            said.append(f"lag {progress.lag_bytes / 1e6:.1f} MB")
        if progress.waiting_for:
            said.append(f"waiting for {progress.waiting_for}")
        done = min(1.0, progress.rows / progress.total) if progress.total else None
        run.progress(StepName.APPLY, ", ".join(said), done)

    return tell


def _checking(run: Run) -> Callable[[], None]:
    """What ends it between two batches: a signal, the watch, the time limit of a migration."""
    timeout_s, began = run.environment.limits.migration_timeout_s, time.monotonic()

    def check() -> None:
        signals.check()
        run.heed_alarm()
        if time.monotonic() - began > timeout_s:
            raise MigrationFailed(
                f"The backfill took longer than limits.migration_timeout_s = {timeout_s:g}.",
                hint="Allow more time, or do it online beforehand: migrator backfill run.",
                code="timeout",
            )

    return check


def _nothing() -> None:
    pass
