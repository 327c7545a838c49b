"""The last rung that acts by itself: the backup restored beside the database, compared, and swapped in."""

from __future__ import annotations

from collections.abc import Callable

from migrator.config.store import is_s3
from migrator.errors import FenceBreached, MigratorError, NotProven, Refused, StepFailed
from migrator.postgres import databases, fence, properties
from migrator.runs import state, stores, written
from migrator.runs.record import StepName
from migrator.runs.run import Run
from migrator.runs.words import count

_SIDE = "The restored backup stands beside as "
_SHOWN = 8


def may_restore(run: Run, *, ask: bool = True) -> str | None:
    """None when a restore may be done; else why not. `ask`: a person is asked where the configuration says so."""
    settings, facts = run.environment, run.facts
    limit_s = settings.limits.restore_max_s
    breaches = facts.breaches
    refusals = (
        (facts.fence_lost, "the fence did not stand all the time: others may have written since the backup"),
        (not run.offline, f"maintenance is {settings.maintenance.database}: others may have written since the backup"),
        (bool(breaches), f"the fence was breached: {', '.join(breaches[:1])}"),
        (settings.backup.restore == "never", "backup.restore is never"),
        (facts.backup_id is None, "there is no backup of kind dump"),
        (
            facts.restore_estimate_s > limit_s,
            f"it would take about {facts.restore_estimate_s:.0f} s, and limits.restore_max_s is {limit_s:g}",
        ),
    )
    refusal = next((why for stands, why in refusals if stands), None)
    if refusal is None and ask and settings.backup.restore == "ask":
        question = f"Restore backup {facts.backup_id} beside {run.database} and swap it in?"
        return None if run.options.confirm(question) else "the answer was no"
    return refusal


def try_schema(run: Run) -> None:
    """A restore of the schema into an empty database beside works here, as this login. Nothing of it is left.

    Raises: Refused with the first thing that this login may not restore.
    """
    admin = run.the_admin()
    side = databases.name_of(run.id, "side")
    try:
        databases.create_empty(admin, side, like=properties.read(admin, run.database))
        stores.dump(run).restore_schema_only(stores.source(run), side)
    except StepFailed as error:
        raise Refused(
            f"A restore would not work here, and this run may need one: {error.message}", hint=error.hint
        ) from error
    finally:
        databases.drop(admin, side)


def is_swapped_in(run: Run) -> bool:
    """Whether the restored copy bears the database's name already. Recognised by its OID."""
    side = run.facts.side_oid
    return side is not None and databases.oid_of(run.the_admin(), run.database) == side


def restore_and_swap(run: Run, *, because: str) -> None:
    """The database of that name is the restored backup, proven equal to the state before; the failed one is kept.

    Raises: NotProven; the original still bears its name then.
    """
    failed = written.read(run)
    if may_restore(run, ask=False) is None:
        written.somebody_elses(run, failed)  # a breach then
    refusal = may_restore(run)
    if refusal is not None:
        raise NotProven(
            f"{because}, and the backup is not restored by itself: {refusal}.",
            hint=_runbook(run),
        )
    try:
        side = _restore_beside(run)
        differences = state.differences(run, side)
    except MigratorError as error:
        drop_side(run)
        raise NotProven(
            f"{because}, and the restore of backup {run.facts.backup_id} failed: {error.message}", hint=_runbook(run)
        ) from error
    run.keep(f"{_SIDE}{side}, open to this run's login alone. {_drop_hint(side)}")
    if differences:
        raise NotProven(
            f"{because}, and the restored copy {side} is not what was backed up: {'; '.join(differences[:3])}.",
            hint=f"Both are kept. Compare {side} with {run.database} before anything else.",
        )
    refusal = may_restore(run, ask=False)  # somebody may have come in while it was restored
    if refusal is not None:
        raise NotProven(f"{because}, and the restored copy {side} was not swapped in: {refusal}.", hint=_runbook(run))
    written.note_kept(run, failed, databases.name_of(run.id, "old"))
    run.save()
    try:
        with written.last_look(run, lambda now: written.judge_failed(run, failed, now)) as look:
            _swap(run, side, look)
    except FenceBreached as error:
        raise NotProven(
            f"{because}, and the restored copy {side} was not swapped in: {error.message}", hint=_runbook(run)
        ) from error


def _restore_beside(run: Run) -> str:
    """A side database holds the backup, which was verified first. A half-made one of an earlier try is dropped."""
    admin = run.the_admin()
    backup_id = run.facts.backup_id or ""
    side = databases.name_of(run.id, "side")
    drop_side(run)
    run.progress(StepName.APPLY, f"restoring {backup_id} into {side}")
    run.facts.side_name = side
    run.save()
    run.facts.side_oid = databases.create_empty(admin, side, like=properties.read(admin, run.database))
    run.save()
    for warning in stores.restore(run, backup_id, side, step=StepName.APPLY):
        run.warn(f"pg_restore: {warning}")
    return side


def _swap(run: Run, side: str, look: Callable[[], None]) -> None:
    """The names are swapped in one transaction; the fence goes with the name, so it stays up until it is lifted."""
    admin = run.the_admin()
    old = databases.name_of(run.id, "old")
    now = properties.read(admin, run.database)
    side_oid = run.facts.side_oid or 0
    databases.swap(
        admin,
        current=run.database,
        incoming=side,
        old_name=old,
        properties=now,
        oids=(now.oid, side_oid),
        last_look=look,
    )
    if not is_swapped_in(run):
        raise NotProven(f"After the swap {run.database} is not the restored copy.", hint=_runbook(run))
    note_swapped(run)
    try:
        fence.note(admin, old, put_aside=run.now().isoformat())
    except StepFailed as error:  # its retention then counts from when the fence was put up, as that says too
        run.warn(f"When {old} was put aside could not be noted in its comment: {error.message}")


def note_swapped(run: Run) -> None:
    """The record says that the restored copy, which was compared before, bears the name; and what is kept."""
    old = databases.name_of(run.id, "old")
    kept = f"The failed database is kept as {old}, closed to everybody. {_drop_hint(old)}"
    run.drop_kept(_SIDE)
    run.keep(kept)
    _tell_compared(run)
    run.facts.restored = True
    run.save()


def _tell_compared(run: Run) -> None:
    """What was found equal before the swap, and nothing more; and of which rows nobody can tell."""
    facts, left_out = run.facts, state.not_hashed(run)
    rows = count(len(facts.tables_before or {}), "table")
    if facts.fingerprinted is None:
        what = f"found equal to the state before ({state.scope(run)})"
    elif facts.tables_before:
        what = f"its schema and the rows of {rows} found equal to the state before"
    else:
        what = "its schema found equal to the state before"
    run.prove(f"Backup {facts.backup_id} was restored beside, {what}, and swapped in.")
    if facts.fingerprinted is not None and (left_out or not facts.existing):
        shown = ", ".join(left_out[:_SHOWN]) or "all tables that the backup's manifest.json does not name"
        more = f" and {len(left_out) - _SHOWN} more, all that the backup's manifest.json does not name"
        run.not_proven(
            f"Rows of {shown}{more if left_out[_SHOWN:] else ''}: they were not hashed before, so what was restored of "
            "them was not compared. The files of the backup were."
        )
    if facts.kept_unproven is not None:
        run.not_proven(facts.kept_unproven)
    if facts.kept_warning is not None:
        run.warn(facts.kept_warning)


def drop_side(run: Run) -> None:
    """No side database of this run is left, whole or half-made. Safe to repeat; never the one that was swapped in."""
    databases.drop(run.the_admin(), databases.name_of(run.id, "side"))
    run.drop_kept(_SIDE)
    run.facts.side_name = run.facts.side_oid = None


def _drop_hint(name: str) -> str:
    return f'When it is not needed any more: DROP DATABASE "{name}";'


def _runbook(run: Run) -> str:
    fenced = run.environment.maintenance.database != "none"
    begin = "Maintenance stays on." if fenced else "Users go on working on it as it is."
    end = f" Then: migrator maintenance off --env {run.record.environment} --force" if fenced else ""
    if run.facts.backup_id is None and run.record.runbook:
        steps = [line.partition("   #")[0] for line in run.record.runbook if not line.startswith("#")]
        return f"{begin} RDS is never restored by itself. By hand: {'; then '.join(steps)}"
    if run.facts.backup_id is None:
        return f"{begin} Restore your own backup, or repair the database by hand.{end}"
    place = stores.of(run).location(run.facts.backup_id)
    lost = "" if run.offline else " What users have written since is not in it."
    if is_s3(place):
        ended = f"migrator maintenance off --env {run.record.environment} --force, which lets users in, and at once "
        return (
            f"{begin} The backup is {place}.{lost} To use it: {ended if fenced else ''}"
            f"migrator backup restore {run.facts.backup_id} --env {run.record.environment}"
        )
    return (
        f"{begin} The backup is {place}.{lost} To use it: pg_restore --exit-on-error -d NEW_DATABASE {place}/dump, "
        f"compare, and swap the names.{end}"
    )
