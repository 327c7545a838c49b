"""Ends a run that was left behind: carries on where that is safe, else goes back. From any machine.

What became of the database is asked of the server: the transaction's status, the OIDs, the fence, the ledger. The
journal says what was begun; where it is missing, the fence's own description and the backup's manifest do.
"""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

from migrator.errors import Interrupted, MigratorError, Refused, StepFailed
from migrator.failpoints import Effect, effect
from migrator.postgres import databases, fence, properties
from migrator.postgres.fence_record import fenced
from migrator.runs import bluegreen, engine, ladder, pinned, restore
from migrator.runs.journal import TakenOver
from migrator.runs.record import Outcome, StepName, StepRecord, Way
from migrator.runs.run import Run
from migrator.runs.signals import signals
from migrator.runs.steps import lock
from migrator.runs.watch import LockLost

_BEFORE_ANY_CHANGE = {StepName.LOCK, StepName.PREFLIGHT}
_BEFORE_BACKUP = {*_BEFORE_ANY_CHANGE, StepName.MAINTAIN}


def resume(run: Run, *, back: bool, force: bool = False) -> None:
    """The run has ended, and its outcome is true of the database.

    `back`: never carry on, even where it would be safe. `force`: take the run from a process that may still live.
    """
    with signals.installed():
        try:
            _take_over(run, force=force)
        except BaseException:
            run.close()  # it is not ours: neither its entry nor its report is touched
            raise
        try:
            _end_or_carry_on(run, back=back)
        finally:
            engine.close(run)


def what_it_will_do(run: Run, *, back: bool) -> str:
    """One sentence, before anything is done."""
    last = _last_step(run)
    if last is None or last.name in _BEFORE_ANY_CHANGE:
        return "nothing was touched; the run is closed"
    if run.facts.committed or last.name is StepName.LIFT:
        return "it was migrated and verified; users are let in"
    if run.record.way is Way.ATOMIC:
        return (
            "the server is asked whether its transaction was committed: if so users are let in; if not, nothing of it "
            f"is left, and the run {'ends there' if back else 'begins again behind its fence'}"
        )
    if run.record.way in bluegreen.BESIDE:
        copy = {Way.RESTORE: "restored backup", Way.SWAP_BACK: "database from before"}.get(run.record.way, "copy")
        dropped = "it stays beside" if run.record.way is Way.SWAP_BACK else "it is dropped, nothing of it is left"
        return (
            f"the server is asked whether the {copy} was swapped in: if so users are let in; if not, {dropped}, "
            f"and the run {'ends there' if back else 'begins again behind its fence'}"
        )
    if _is_migrating(run):
        carries_on = f"backfill {run.facts.moving} was cut short: it carries on from where its last batch was committed"
        taken_back = "its changes were applied in part: they are taken back, and that is proven"
        return carries_on if _is_moving(run) and not back else taken_back
    return "nothing was migrated yet; " + ("maintenance is lifted" if back else "the run carries on")


def _take_over(run: Run, *, force: bool) -> None:
    server = run.facts.system_identifier
    if force:  # its lock is a session; once that is gone it does nothing more
        ladder.end_sessions(run, but=())
    lock.take(run)
    if server not in (None, "unknown", run.facts.system_identifier):
        raise Refused(
            f"Run {run.id} is of another server, with the system identifier {server}: "
            f"{run.login.host}:{run.login.port} has {run.facts.system_identifier}.",
            hint="Name the run's own with: --set url=postgresql://USER@HOST:PORT/DATABASE",
            code="another_database",
        )
    if run.reconstructed:
        lock.begin(run)
    else:
        run.journal.take_over(run.id, lease_s=run.environment.limits.lease_s, force=force)
    _remove_temporary(run.folder)
    for entry in run.record.steps:
        if entry.status == "running":
            entry.status = "interrupted"
    run.record.warnings = []  # what an earlier process gave up on is looked at anew
    run.record.outcome = run.record.exit_code = run.record.error = run.record.next_command = None
    run.save()


@effect(Effect.WORK_FILE)
def _remove_temporary(folder: Path) -> None:
    """What a killed process could not take away is gone: password files, lists of a restore, half a report."""
    for left in folder.glob(".*"):
        if left.is_dir() and not left.is_symlink():
            shutil.rmtree(left)
        else:
            left.unlink()


def _end_or_carry_on(run: Run, *, back: bool) -> None:
    try:
        _look_around(run)
        last = _last_step(run)
        if last is None or last.name in _BEFORE_ANY_CHANGE:
            restore.drop_side(run)  # of the trial
            run.record.outcome = Outcome.FAILED_BEFORE
            return
        committed = _is_committed(run) or last.name is StepName.LIFT
        if committed and _was_lost(run):
            engine.go_back(run, Interrupted("The server that has taken over lacks what this run had committed."))
            return
        if committed:
            run.facts.committed = True
            engine.finish(run)
            return
        if back or _is_going_back(run) or _must_go_back(run):
            engine.go_back(run, Interrupted(f"The run was left behind in step {last.name.value}."))
            return
        engine.carry_on(run)
    except (LockLost, TakenOver) as error:
        engine.leave_alone(run, error)
    except MigratorError as error:
        engine.halt(run, error)


def _look_around(run: Run) -> None:
    """Nothing of the process before is at work any more, the watch is on, and the facts say whether the fence stands.

    Raises: NotProven when a session of it does not end.
    """
    # Its orchestrator too: the server goes on with a CREATE DATABASE or a rename whose client has died.
    ladder.end_sessions(run, but={"lock"})
    lock.watch(run)
    admin = run.the_admin()
    if run.facts.failed_over and (run.facts.users_back or not run.facts.fence_up):
        standing = fence.read(admin, run.database)
        if standing is not None and standing.run_id == run.id:  # that it was taken down is lost, with all that followed
            run.facts.fence_up, run.facts.users_back = True, False
    if not run.facts.fence_up:
        return
    if _fence_stands(run):
        if run.watch is not None:
            run.watch.fenced(fence.Mode(run.environment.maintenance.database))
        databases.reopen(admin, run.database)  # a killed copy or swap had closed it, to us too
    elif not run.facts.users_back and any(entry.name not in _BEFORE_BACKUP for entry in run.record.steps):
        run.facts.fence_lost = True
        run.warn("The fence was taken down by somebody else while the run lay there: others may have written.")
    run.save()


def _fence_stands(run: Run) -> bool:
    """Whether others are held off by this run, by its description or, where a changeset overwrote that, by effect."""
    admin = run.the_admin()
    standing = fence.read(admin, run.database)
    if standing is not None or run.facts.fence is None:
        return standing is not None and standing.run_id == run.id
    now = properties.read(admin, run.database)
    return replace(fenced(now, fence.Fence.from_comment(run.facts.fence)), comment=now.comment) == now


def _is_committed(run: Run) -> bool:
    """Whether the one transaction was committed, or the copy swapped in, and only after it was verified.

    Raises: NotProven when it was committed unverified; the ladder takes that back.
    """
    if run.facts.proven_back is not None:
        return run.facts.committed
    if run.record.way not in bluegreen.BESIDE and (run.record.way is not Way.ATOMIC or run.facts.xid is None):
        return run.facts.committed
    return ladder.is_committed(run)


def _was_lost(run: Run) -> bool:
    """Whether another server has taken over, without what this run had committed. The facts no longer say that it had.

    Users may have been let in on the server that is gone: then nothing is restored by itself on this one.
    """
    if not run.facts.failed_over:
        return False
    beside = run.record.way in bluegreen.BESIDE
    if bluegreen.is_swapped(run) if beside else ladder.ledger_is_complete(run):
        return False
    run.facts.committed = False
    proof = run.record.proof
    proof.proven = [sentence for sentence in proof.proven if "was committed after" not in sentence]
    run.facts.fence_lost = run.facts.fence_lost or run.facts.users_back
    return True


def _must_go_back(run: Run) -> bool:
    """A run that commits on its way is never continued in the middle: what is half there is taken back."""
    if run.record.way is Way.ATOMIC:
        return run.facts.xid is not None and ladder.transaction_status(run) != "aborted"
    if run.record.way in bluegreen.BESIDE:
        return False  # nothing was committed but to the copy, which the next attempt drops
    return _is_migrating(run) and not (_is_moving(run) and _is_as_planned(run))


def _is_going_back(run: Run) -> bool:
    """What was decided or proven, or what users may have written, is not put at risk by another attempt."""
    facts = run.facts
    return facts.going_back or facts.proven_back is not None or facts.users_back or facts.fence_lost


def _is_moving(run: Run) -> bool:
    """Whether it was killed in a backfill: no changeset was under way, and each batch has moved its cursor with it."""
    facts = run.facts
    if run.record.way is not Way.STEPWISE or run.undoes or facts.moving is None or facts.failed_over:
        return False
    last = _last_step(run)
    return last is not None and last.name is StepName.APPLY


def _is_as_planned(run: Run) -> bool:
    """Whether what would be executed from here on is what was planned."""
    try:
        pinned.require_unchanged(run)
    except StepFailed as error:
        run.warn(error.message)
        return False
    return True


def _is_migrating(run: Run) -> bool:
    return any(
        entry.name in {StepName.APPLY, StepName.VERIFY} and entry.status != "undone" for entry in run.record.steps
    )


def _last_step(run: Run) -> StepRecord | None:
    return run.record.steps[-1] if run.record.steps else None
