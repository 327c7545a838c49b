"""The copy that is migrated in the database's place: made, recognised by its OID, swapped in, dropped.

The original is never written. Until the names are swapped, going back is dropping the copy; whether they were is asked
of the server: the copy's OID bears its own name, or the database's, or is not there.
"""

from __future__ import annotations

from migrator.errors import MigratorError, NotProven, StepFailed
from migrator.postgres import databases, fence, properties
from migrator.runs import written
from migrator.runs.record import Way
from migrator.runs.run import Run

BESIDE = frozenset({Way.BLUEGREEN, Way.RESTORE, Way.SWAP_BACK})  # the ways that swap another database in


def make(run: Run) -> None:
    """A copy of the database stands beside it, open to this run alone, and what the run does from now on is done there.

    Journal and fence know its name and OID before it is made. What an earlier attempt left of one is dropped first.
    Raises: StepFailed, and the original is as it was.
    """
    admin, facts = run.the_admin(), run.facts
    drop(run)
    name = databases.name_of(run.id, "new")
    before = properties.read(admin, run.database)
    facts.database_oid, facts.copy_name, facts.copy_oid = before.oid, name, databases.unused_oid(admin)
    run.save()
    _note(run)
    oid = databases.copy(
        admin,
        run.database,
        name,
        owner=before.owner,
        timeout_s=run.environment.limits.backup_timeout_s,
        wait_s=run.environment.limits.drain_s,
        oid=facts.copy_oid,
    )
    if facts.copy_oid != oid:  # before 15 the server chooses it
        facts.copy_oid = oid
        _note(run)
    facts.copied = True
    run.save()


def is_there(run: Run) -> bool:
    """Whether a whole copy of this run stands beside the original, under its own name."""
    facts = run.facts
    if not facts.copied or facts.copy_name is None or facts.copy_oid is None:
        return False
    return databases.oid_of(run.the_admin(), facts.copy_name) == facts.copy_oid


def is_swapped(run: Run) -> bool:
    """Whether the copy bears the database's name; the record says so then, and what is kept. Recognised by its OID."""
    facts = run.facts
    if run.record.way not in BESIDE or facts.copy_oid is None:
        return False
    if databases.oid_of(run.the_admin(), run.database) != facts.copy_oid:
        return False
    facts.swapped = facts.committed = True
    old = databases.name_of(run.id, "old")
    kept = (
        f"The database from before is kept as {old}, closed to everybody. "
        f'When it is not needed any more: DROP DATABASE "{old}"; (or, after its retention, migrator clean)'
    )
    for line in (kept, *([_way_back(run, old)] if run.record.way is Way.RESTORE else [])):
        if line not in run.record.kept:
            run.record.kept.append(line)
    which = "database from before" if run.record.way is Way.SWAP_BACK else "verified copy"
    run.prove(f"The {which} (OID {facts.copy_oid}) bears the name {run.database}, by one transaction.")
    return True


def _way_back(run: Run, old: str) -> str:
    environment, name = run.record.environment, run.database
    return (
        f"To go back to it: migrator maintenance on --env {environment} --reason back; then, from another database of "
        f'the server, ALTER DATABASE "{name}" RENAME TO "{name}_restored"; ALTER DATABASE "{old}" RENAME TO "{name}"; '
        f"then migrator maintenance off --env {environment} --force"
    )


def swap(run: Run) -> None:
    """The copy has the database's name and all that belongs to it, the standing fence too; the original is kept closed.

    One transaction. Raises: FenceBreached where somebody has written the original; StepFailed; what became of the
    names is then told by `is_swapped`.
    """
    admin, facts = run.the_admin(), run.facts
    if facts.copy_name is None or facts.copy_oid is None or facts.database_oid is None:
        raise StepFailed(f"There is no copy that could take the name of {run.database}.")
    old = databases.name_of(run.id, "old")
    with written.last_look(run, lambda now: written.judge_original(run, now)) as look:
        databases.swap(
            admin,
            current=run.database,
            incoming=facts.copy_name,
            old_name=old,
            properties=properties.read(admin, run.database),
            oids=(facts.database_oid, facts.copy_oid),
            wait_s=run.environment.limits.drain_s,
            last_look=look,
        )
    if facts.fence_up:  # its retention counts from now, whatever becomes of the journal
        fence.note(admin, old, put_aside=run.now().isoformat())


def drop(run: Run) -> None:
    """No copy of this run is left, whole or half-made, and work is done on the original again. Safe to repeat.

    Never the one that was swapped in. Raises: NotProven when it is not gone.
    """
    facts = run.facts
    if facts.copy_name is None or run.record.way is Way.SWAP_BACK:  # that one is somebody's data, and no copy
        return
    if is_swapped(run):
        raise NotProven(f"The copy of run {run.id} bears the name {run.database} already: it is not dropped.")
    try:
        databases.drop(run.the_admin(), facts.copy_name, oid=facts.copy_oid)
    except MigratorError as error:
        raise NotProven(
            f"The copy {facts.copy_name} could not be dropped: {error.message}",
            hint=f"The original was not touched. End what holds the copy, then: migrator resume {run.id}",
        ) from error
    facts.copied, facts.copy_name, facts.copy_oid = False, None, None
    run.save()


def prove_untouched(run: Run) -> None:
    """The original bears its name, by its OID, and whoever may connect to it can.

    Raises: NotProven.
    """
    admin, wanted = run.the_admin(), run.facts.database_oid
    found = databases.oid_of(admin, run.database)
    if wanted is None:
        return  # no copy was begun
    if found != wanted:
        raise NotProven(
            f"{run.database} has the OID {found}, and the database that was copied had {wanted}.",
            hint="Somebody else renamed or replaced it; find the database of that OID before anything else.",
        )
    databases.reopen(admin, run.database)  # a copy or a swap that was cut short had closed it
    run.prove(f"{run.database} is the original (OID {wanted}), which was never migrated; no copy of it is left.")


def _note(run: Run) -> None:
    """The fence tells a recovery without a journal which copy belongs to it."""
    if run.facts.fence_up:
        oid = run.facts.copy_oid
        facts = {"copy": run.facts.copy_name or "", "copy_oid": "" if oid is None else str(oid)}
        fence.note(run.the_admin(), run.database, phase="copying", way=Way.BLUEGREEN.value, xid="", **facts)
