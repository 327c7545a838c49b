"""The way back, rung by rung, each proven before it counts.

1. end what is still running        `end_sessions`
2. the transaction rolled back      `prove_rolled_back`   (atomic)
   the copy dropped                 `_drop_copy`          (bluegreen)
   Liquibase's rollbacks            `_roll_back`          (stepwise)
3. the proof                        `verification.differences` against the state before
4. the backup beside, and a swap    `migrator.runs.restore`
5. none of it: NotProven is raised, and the engine halts with maintenance on
"""

from __future__ import annotations

import time
from collections.abc import Collection
from contextlib import closing

from migrator.errors import ConnectionFailed, MigratorError, NotProven, StepFailed
from migrator.failpoints import Effect, effect
from migrator.liquibase import ledger
from migrator.plans import impact
from migrator.postgres import databases, sequences, sessions, soundness
from migrator.postgres.transactions import statement
from migrator.runs import bluegreen, liquibase_session, moving, restore, segments, state, written
from migrator.runs.facts import sequences_of
from migrator.runs.record import Outcome, Way
from migrator.runs.run import Run
from migrator.runs.words import count

_END_SESSIONS_S = 30.0
_KEPT_ROLES = frozenset({"lock", "orchestrator", "watch"})


def go_back(run: Run) -> Outcome:
    """The database is proven to be what it was. Safe to repeat, in this process or another.

    Raises: NotProven when no rung could prove it.
    """
    if run.facts.proven_back is not None:
        return Outcome(run.facts.proven_back)
    end_sessions(run)
    if restore.is_swapped_in(run):
        restore.note_swapped(run)
        return _reached(run, Outcome.RESTORED)
    if run.record.way is Way.ATOMIC:
        if is_committed(run):
            raise NotProven(
                f"Transaction {run.facts.xid} was committed after everything in it was verified: it is not taken back.",
                hint=f"Users are let in by: migrator resume {run.id}",
            )
        if transaction_status(run) != "committed":
            prove_rolled_back(run)
            return _reached(run, Outcome.ROLLED_BACK)
    if run.record.way is Way.BLUEGREEN:
        _drop_copy(run)
        return _reached(run, Outcome.ROLLED_BACK)
    if run.facts.fence_lost:
        raise NotProven(
            f"The fence of run {run.id} was taken down by somebody else, so others may have written: nothing is rolled "
            "back or restored by itself.",
            hint="Look at the database; when it is as it should be: "
            f"migrator maintenance off --env {run.environment.name} --force",
        )
    why = _roll_back(run)
    if why is None:
        return _reached(run, Outcome.ROLLED_BACK)
    run.warn(f"Rolling back by changeset was not enough: {why}")
    end_sessions(run)
    restore.restore_and_swap(run, because=why)
    return _reached(run, Outcome.RESTORED)


def end_sessions(run: Run, *, but: Collection[str] = _KEPT_ROLES) -> None:
    """No child process and no server session of this run works any more; its lock and orchestrator stay.

    `but` are the roles whose sessions are left alone. Raises: NotProven when a session does not end.
    """
    run.end_workers()
    try:
        sessions.terminate_run(run.the_admin(), run.id, roles=but, timeout_s=_END_SESSIONS_S)
    except StepFailed as error:
        raise NotProven(
            f"Sessions of run {run.id} are still at work: {error.message}",
            hint="End them with pg_terminate_backend as a superuser, then resume.",
        ) from error


def transaction_status(run: Run) -> str | None:
    """aborted, committed, or None where no transaction was begun or it is too old to tell.

    Waits while the server still says "in progress": its session has been ended, so it settles soon. Waits as long for
    a server that is starting or out of reach.

    Raises: NotProven when it does not settle; ConnectionFailed.
    """
    if run.facts.xid is None or run.facts.failed_over:  # there the same id may be another transaction's
        return None
    deadline = time.monotonic() + _END_SESSIONS_S
    while True:
        try:
            status = run.the_admin().rows(f"select pg_xact_status('{int(run.facts.xid)}'::xid8)")[0][0]
        except ConnectionFailed:
            if time.monotonic() > deadline:
                raise
            time.sleep(1.0)
            continue
        if status != "in progress":
            return status
        if time.monotonic() > deadline:
            raise NotProven(f"Transaction {run.facts.xid} of run {run.id} is still in progress.")
        time.sleep(0.05)


def is_committed(run: Run) -> bool:
    """Whether the one transaction was committed, or the copy swapped in, after everything in it was verified.

    The facts know it from now on.

    Raises: NotProven, ConnectionFailed when the server does not say what became of it.
    """
    if run.record.way in bluegreen.BESIDE:
        return bluegreen.is_swapped(run)
    if not run.facts.verified or run.facts.xid is None:
        return False
    if transaction_status(run) == "committed":
        witness = "pg_xact_status"
    elif run.facts.failed_over and ledger_is_complete(run):
        witness = "the ledger of the server that has taken over"
    else:
        return False
    run.facts.committed = True
    run.prove(f"Transaction {run.facts.xid} was committed after everything in it was verified ({witness}).")
    return True


def ledger_is_complete(run: Run) -> bool:
    """Whether the ledger says that all that was planned was done. What a replica has of the WAL is a beginning of it,
    so what was committed before is there as well. Raises: StepFailed."""
    with closing(run.session("verify", read_only=True)) as session:
        now = {row.key: row.columns for row in ledger.read(session, run.ledger_schema) or []}
    before = {row.key: row.columns for row in state.ledger_rows(run.facts) or []}
    skipped = {(c.path, c.id, c.author) for c in run.record.changesets if c.status == "skipped"}
    planned = {p.key for p in run.facts.planned} - skipped
    if run.undoes:
        return not planned & now.keys()
    return all(key in now and now[key] != before.get(key) for key in planned)


def _drop_copy(run: Run) -> None:
    """No copy is left, and the original bears its name, open to whoever may connect, without a row of this run."""
    if is_committed(run):
        raise NotProven(
            f"The copy was swapped in after everything in it was verified: it is not taken back. The original is "
            f"kept as {databases.name_of(run.id, 'old')}.",
            hint=f"Users are let in by: migrator resume {run.id}",
        )
    bluegreen.drop(run)
    bluegreen.prove_untouched(run)
    if run.facts.breaches:
        run.not_proven(f"That {run.database} is as it was when the run began: {'; '.join(run.facts.breaches)}.")
    if run.facts.ledger_read:
        _prove_ledger_without(run)


def _prove_ledger_without(run: Run) -> None:
    with closing(run.session("verify", read_only=True)) as session:
        left = _rows_of_this_run(run, ledger.read(session, run.ledger_schema))
    if left:
        what = "lacks" if run.undoes else "holds"
        raise NotProven(f"The ledger {what} {left[0]} by this run though nothing that it did was to stay.")
    run.prove("The ledger has every row that was to be undone." if run.undoes else "The ledger has no row of this run.")


def prove_rolled_back(run: Run) -> None:
    """The one transaction is gone without a trace, and the sequences that it moved are back under `offline`.

    Raises: NotProven.
    """
    xid, status = run.facts.xid, transaction_status(run)
    if status == "committed":
        raise NotProven(f"Transaction {xid} was committed before everything in it was verified.")
    if xid is not None and status is None and not run.facts.ledger_read:
        raise NotProven(f"The server does not know any more what became of transaction {xid}, nor does the ledger.")
    if xid is not None:
        unknown = "the ledger has none of it" if run.facts.failed_over else "it is too old for pg_xact_status"
        said = f"pg_xact_status says {status}" if status is not None else unknown
        run.prove(f"Transaction {xid} was rolled back: its session is gone, {said}.")
    if run.facts.ledger_read:
        _prove_ledger_without(run)
    _put_sequences_back(run)


def _put_sequences_back(run: Run) -> None:
    if run.facts.sequences is None:
        return
    before = sequences_of(run.facts)
    with closing(run.session("sequences")) as session:
        moved = sequences.changed(before, sequences.read(session))
        if not moved:
            return
        if not run.offline:
            run.not_proven(f"Sequences do not roll back; {', '.join(moved[:5])} moved on (others may have moved them).")
            return
        changed = sequences.put_back(session, before)
        run.prove(f"Sequences were set back: {', '.join(changed)}.")


def _roll_back(run: Run) -> str | None:
    """None when Liquibase's rollbacks have led to the state before; else why they have not."""
    executed, why = _executed(run)
    if why is not None:
        return why
    try:
        with closing(run.session("ledger")) as session:
            ledger.release(session, run.ledger_schema)  # its holder, our worker, has been ended
        _undo_segments(run)
        moving.put_captures_back(run)
        _drop_invalid_indexes(run)
        with closing(run.session("ledger")) as session:
            ledger.put_back(session, run.ledger_schema, state.ledger_rows(run.facts))
    except MigratorError as error:
        return f"the rollback failed: {error.message}"
    _put_sequences_back(run)
    differences = state.differences(run)
    if differences:
        return f"after the rollback {differences[0]}" + (
            f" (and {len(differences) - 1} more)" if differences[1:] else ""
        )
    end_sessions(run)  # the last that they have counted is with the server then
    unseen = written.uncompared(run)
    if unseen:
        return (
            f"after the rollback the rows of {', '.join(unseen[:3])}{' ...' if unseen[3:] else ''} cannot be compared: "
            f"they were not hashed before (proof {run.record.proof.level}), and may have been written"
        )
    written.tell_uncompared(run)
    undone = count(executed, "changeset")
    others = run.record.proof.others_wrote
    but = f", but for the rows of {', '.join(others)}" if others else ""
    run.prove(f"Liquibase rolled back {undone}; {state.unchanged(run)}{but}.")
    return None


def _undo_segments(run: Run) -> None:
    """Changesets and backfills of this run are undone, newest first. Raises: MigrationFailed, StepFailed."""
    with closing(run.session("verify", read_only=True)) as session:
        left = set(_rows_of_this_run(run, ledger.read(session, run.ledger_schema)))
    done = [one for one in reversed(run.facts.planned) if "::".join(one.key) in left and not run.undoes]
    moves = {} if run.undoes else {one.name: one.after for one in run.facts.backfills}
    for segment in segments.back(done, moves):
        if segment.changesets:
            with liquibase_session.opened(run, mode="stepwise") as liquibase, written.observed(run) as note:
                liquibase.rollback_count(
                    run.record.changelog,
                    len(segment.changesets),
                    timeout_s=run.environment.limits.migration_timeout_s,
                    on_event=note,
                )
        for name in segment.moves:
            moving.undo(run, moving.planned(run, name))


_TAKEN_BACK = {"undoing", "undone"}


@effect(Effect.INDEX_DROP)
def _drop_invalid_indexes(run: Run) -> None:
    """An index that this run's CREATE INDEX CONCURRENTLY left invalid is gone: no changeset's rollback knows of it."""
    with closing(run.session("clean-up")) as session:
        for name, identifier in soundness.invalid_indexes(session).items():
            # One that no changeset names may be somebody else's, being built at this moment.
            if f"index {name} is invalid" in run.facts.unsound_before or impact.bare(name) not in run.facts.words:
                continue
            session.execute(statement("DROP INDEX CONCURRENTLY IF EXISTS {}", identifier))
            run.warn(f"Dropped the invalid index {name}, which a failed changeset had left behind.")


def _executed(run: Run) -> tuple[int, str | None]:
    """How many changesets of this run the ledger holds, and why they cannot be rolled back, if so."""
    if not run.facts.ledger_read:
        return 0, "what the ledger held before is not known"
    with closing(run.session("verify", read_only=True)) as session:
        rows = ledger.read(session, run.ledger_schema)
    done = set(_rows_of_this_run(run, rows))
    if run.undoes and any(one.state in _TAKEN_BACK for one in run.record.backfills):
        return 0, "a backfill was taken back, and only a restore brings it back"
    if run.undoes:
        return 0, f"{min(done)} is undone, and only a restore brings it back" if done else None
    planned = {"::".join(p.key): p for p in run.facts.planned}
    rerun = [key for key, p in planned.items() if p.rerun]
    if rerun:
        return len(done), f"{rerun[0]} ran before and was run again: its rollback would undo more than this run"
    without = [key for key in done if not planned[key].has_rollback]
    if without:
        return len(done), f"{without[0]} has no rollback"
    return len(done), None


def _rows_of_this_run(run: Run, rows: list[ledger.LedgerRow] | None) -> list[str]:
    """The changesets of this run that the ledger holds now and did not hold before; or, in a rollback, the reverse."""
    before = {row.key for row in state.ledger_rows(run.facts) or []}
    planned = {p.key for p in run.facts.planned}
    if run.undoes:
        now = {row.key for row in rows or []}
        return ["::".join(key) for key in planned & before if key not in now]
    return ["::".join(row.key) for row in rows or [] if row.key in planned and row.key not in before]


def _reached(run: Run, outcome: Outcome) -> Outcome:
    if outcome is Outcome.ROLLED_BACK and run.facts.side_name is not None:
        restore.drop_side(run)  # of an earlier try
    for changeset in run.record.changesets:
        if run.undoes:
            changeset.status = "failed" if changeset.status == "failed" else run.status_before
        elif changeset.status in {"executed", "running"} or (
            changeset.status == "failed" and run.record.way is not Way.ATOMIC
        ):
            changeset.status = "rolled_back"
    run.facts.proven_back = outcome.value
    run.save()
    return outcome
