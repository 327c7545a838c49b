"""The guarded run: executes the steps of a way, undoes them when one fails, and names what the database is afterwards.

Every path out of here ends with an outcome that is true of the database: see `Outcome`.
"""

from __future__ import annotations

import traceback
from contextlib import suppress

from migrator.errors import (
    Interrupted,
    Locked,
    MigrationFailed,
    MigratorError,
    Place,
    Refused,
    StepFailed,
    TransactionLost,
    Unfinished,
    UsageError,
    VerificationFailed,
)
from migrator.failpoints import Effect, effect
from migrator.runs import drifted, ladder, ways
from migrator.runs.journal import TakenOver
from migrator.runs.record import ErrorRecord, Outcome, StepName, StepRecord, Way
from migrator.runs.retry import Again, wait_before_retry
from migrator.runs.run import Run, Step
from migrator.runs.signals import signals
from migrator.runs.steps.lock import LockStep
from migrator.runs.watch import LockLost

_AFTER_PROOF = {StepName.LIFT}
_LEAVES_OPEN = {Outcome.HALTED, Outcome.UNFINISHED, Outcome.INTERRUPTED}


def execute(run: Run) -> None:
    """The run has ended and `run.record.outcome` says how; the journal knows it too."""
    with signals.installed():
        try:
            _begin(run)
            if run.record.outcome is None:
                _carry_out(run)
        finally:
            close(run)


def carry_on(run: Run) -> None:
    """Executes the steps of the run's way from the first, each of which recognises what is already done."""
    run.facts.attempt += 1
    _carry_out(run)


def finish(run: Run) -> None:
    """What is left after the commit is done: users are let in. There is no way back from here."""
    run.facts.committed = True
    _carry_out(run)


def go_back(run: Run, error: MigratorError) -> None:
    """Undoes every step that was started, newest first, and names the outcome that was proven."""
    signals.deaf = True
    _remember(run, error)
    if run.facts.proven_back is None:
        run.forget_proofs()
    run.facts.going_back = True
    try:
        run.save()  # whoever takes over from here goes back too
        if run.watch is not None:
            run.watch.going_back()
        for step in reversed(ways.steps_of(run)):
            if _was_started(run, step):
                if run.watch is not None:
                    run.watch.check_ownership()
                _undo(run, step)
    except (LockLost, TakenOver) as lost:
        leave_alone(run, lost)
        return
    except Exception as failure:  # noqa: BLE001  whatever stops the way back leaves the database fenced, and says so
        halt(run, failure)
        return
    run.record.outcome = Outcome(run.facts.proven_back) if run.facts.proven_back else Outcome.FAILED_BEFORE
    run.record.next_command = ways.command_of(run)


def _begin(run: Run) -> None:
    try:
        perform(run, LockStep())
        perform(run, ways.preflight_of(run))
    except Locked as error:
        _end_untouched(run, Outcome.LOCKED, error)
    except Unfinished as error:
        _end_untouched(run, Outcome.INTERRUPTED, error)
    except (Refused, StepFailed, UsageError) as error:
        _end_untouched(run, Outcome.REFUSED, error)
    except Interrupted as error:
        _end_untouched(run, Outcome.FAILED_BEFORE, error)
    except LockLost as error:
        leave_alone(run, error)
    except Exception as error:  # the boundary tells the bug; the run must not stay open for it
        _end_untouched(run, Outcome.FAILED_BEFORE, _bug(run, error))
        raise


def _carry_out(run: Run) -> None:
    """All steps after preflight, with the fallback and the retries that are allowed; or the way back."""
    while True:
        try:
            failure = _attempt(run)
            if failure is None:
                return
            if _is_committed_after_all(run):
                continue
            again = _again(run, failure)
            if again is None:
                go_back(run, _the_cause(run, failure))
                return
            wait_before_retry(run, again)
        except (LockLost, TakenOver) as error:
            leave_alone(run, error)
            return
        except MigratorError as error:  # of the wait: a signal, or what was left behind could not be proven gone
            go_back(run, error)
            return


def _attempt(run: Run) -> MigratorError | None:
    """None when the run has ended, with its outcome set; else why it did not get past the point of proof.

    Raises: LockLost, TakenOver.
    """
    try:
        for step in ways.steps_of(run):
            if not (run.facts.committed and step.name not in _AFTER_PROOF):
                perform(run, step)
    except (LockLost, TakenOver):
        raise
    except MigratorError as error:
        failure = error
    except Exception as error:  # noqa: BLE001  a bug of ours must not leave users locked out
        failure = _bug(run, error)
    else:
        run.record.outcome = run.record.outcome or ways.success_of(run)
        return None
    if run.watch is not None and isinstance(run.watch.alarm, LockLost):
        raise run.watch.alarm
    if run.facts.committed or _is_past_proof(run):
        _require_ownership(run)
        if isinstance(failure, VerificationFailed):
            _remember(run, failure)
            halt(run, failure)
        else:
            _leave_unfinished(run, failure)
        return None
    return failure


def _require_ownership(run: Run) -> None:
    """Raises: LockLost, TakenOver: then what was committed may be lost with the server, and nothing is claimed."""
    if run.watch is not None:
        with suppress(StepFailed):  # a journal that is out of use says nothing of the database
            run.watch.check_ownership()


def _is_committed_after_all(run: Run) -> bool:
    """Whether the answer to the commit, or the swap, was lost and itself was not: the server is asked again."""
    if not any(entry.name in {StepName.COMMIT, StepName.SWAP} for entry in run.record.steps):
        return False
    try:
        return ladder.is_committed(run)
    except MigratorError:
        return False  # the way back asks once more, and halts when it gets no answer


@effect(Effect.LOG)
def _bug(run: Run, error: Exception) -> MigratorError:
    log = run.folder / "bug.log"
    with suppress(OSError):
        log.write_text("".join(traceback.format_exception(error)), encoding="utf-8")
    return StepFailed(
        f"This is a bug in migrator: {type(error).__name__}: {error}", hint=f"Please report it with {log}.", code="bug"
    )


def perform(run: Run, step: Step) -> None:
    """The step ran, and the journal knew of it before and after.

    Raises: whatever the step raises; LockLost when this run no longer owns the database.
    """
    if run.watch is not None:
        run.watch.check()
    signals.check()
    entry = StepRecord(name=step.name, attempt=run.facts.attempt, status="running", started_at=run.now())
    run.record.steps.append(entry)
    run.reporter.step_started(step.name, step.title)
    if step.name is not StepName.LOCK:  # the lock step itself opens the run's entry in the journal
        run.journal.step_started(run.id, entry.attempt, step.name)
        run.save()  # whoever resumes goes by the record: it must not miss the step that was killed
    try:
        entry.note = step.run(run)
    except BaseException as error:
        _end_step(run, entry, "interrupted" if isinstance(error, (Interrupted, KeyboardInterrupt)) else "failed")
        raise
    _end_step(run, entry, "done")


def _end_step(run: Run, entry: StepRecord, status: str) -> None:
    entry.status = status
    entry.duration_s = round((run.now() - entry.started_at).total_seconds(), 3)
    run.reporter.step_ended(entry.name, status, entry.duration_s, entry.note)
    if run.journal.knows(run.id):
        run.journal.step_ended(run.id, entry.attempt, entry.name, status, entry.note)
        run.save()


def _undo(run: Run, step: Step) -> None:
    if step.undo_title is not None:
        run.reporter.step_started(step.name, step.undo_title)
    started = run.now()
    note = step.undo(run)
    for entry in run.record.steps:
        if entry.name is step.name and entry.status in {"done", "failed", "interrupted", "running"}:
            entry.status = "undone"
    duration_s = round((run.now() - started).total_seconds(), 3)
    if step.undo_title is not None:
        run.reporter.step_ended(step.name, "undone", duration_s, note)
    run.save()


def _was_started(run: Run, step: Step) -> bool:
    return any(entry.name is step.name and entry.status != "undone" for entry in run.record.steps)


def _is_past_proof(run: Run) -> bool:
    return any(entry.name in _AFTER_PROOF for entry in run.record.steps)


def _the_cause(run: Run, error: MigratorError) -> MigratorError:
    """What the watch saw comes first: it ended the session whose loss the step reports."""
    alarm = run.watch.alarm if run.watch is not None else None
    return alarm if alarm is not None else error


def _again(run: Run, error: MigratorError) -> Again | None:
    """What is tried next instead of going back, after a transaction that was rolled back whole."""
    if run.record.way is not Way.ATOMIC or not isinstance(error, MigrationFailed):
        return None
    if isinstance(error, TransactionLost) and error.committed:
        return None
    if run.watch is not None and run.watch.alarm is not None:
        return None
    return Again.after(run, error)


def leave_alone(run: Run, error: MigratorError) -> None:
    """This process does nothing more to the database: it may be another's by now."""
    _remember(run, error)
    run.record.outcome = Outcome.INTERRUPTED
    run.record.next_command = f"migrator status --env {run.record.environment}"


def _remember(run: Run, error: MigratorError) -> None:
    if run.record.error is not None:
        return
    place = error.place if isinstance(error, MigrationFailed) else Place()
    run.record.error = ErrorRecord(
        code=error.code,
        message=error.message,
        sqlstate=place.sqlstate,
        changeset=place.changeset,
        file=place.file,
        line=place.line,
        hint=error.hint,
    )


def _end_untouched(run: Run, outcome: Outcome, error: MigratorError) -> None:
    _remember(run, error)
    run.record.outcome = outcome


def _leave_unfinished(run: Run, error: MigratorError) -> None:
    _remember(run, error)
    run.record.outcome = Outcome.UNFINISHED
    run.record.next_command = f"migrator resume {run.id}"


def halt(run: Run, failure: Exception) -> None:
    """Nothing more is done by itself; maintenance stays as it is, and the record says what a person does next."""
    first = run.record.error.message if run.record.error is not None else ""
    hint = failure.hint if isinstance(failure, MigratorError) else None
    run.warn(f"The way back ended early: {failure}" + (f" {hint}" if hint else ""))
    run.not_proven(f"The database {run.database} is what it was. {failure}")
    run.record.outcome = Outcome.HALTED
    run.record.next_command = f"migrator resume {run.id}"
    if run.record.error is None:
        _remember(run, StepFailed(first or str(failure)))


def _report(run: Run) -> None:
    """The reports are written; where they cannot be, the database's verdict stands and the exit code says so."""
    try:
        run.write_reports(run.record)
    except StepFailed as error:
        _leave_unreported(run, error)
    except Exception as error:  # noqa: BLE001  a bug in a report must not hide what became of the database
        _leave_unreported(run, _bug(run, error))


def _leave_unreported(run: Run, error: MigratorError) -> None:
    run.warn(error.message)
    if run.record.outcome in {Outcome.MIGRATED, Outcome.BROUGHT_BACK}:
        _leave_unfinished(run, error)
        run.record.exit_code = Outcome.UNFINISHED.exit_code


def close(run: Run) -> None:
    """The journal holds the outcome, and this process holds nothing of the database."""
    record = run.record
    signals.deaf = True
    outcome = record.outcome or Outcome.INTERRUPTED
    record.outcome = outcome
    record.exit_code = outcome.exit_code
    record.ended_at = run.now()
    if run.watch is not None:
        run.watch.stop()  # a heartbeat after the run is closed would take its end for a take-over
    try:
        _report(run)
        if run.journal.knows(run.id):
            if record.outcome in _LEAVES_OPEN:
                run.save()
                run.journal.renew(run.id, 0.0)  # whoever comes next, from whatever machine, need not wait
            else:
                run.journal.close_run(run.id, record, drifted.left_by(run))
    except (TakenOver, StepFailed) as error:  # the verdict on the database stands, whatever became of the journal
        _leave_unreported(run, error)
    finally:
        run.close()
