"""What was written, and by whom: this run's own write set, and the server's counters since the fence was put up.

The write set says what this run's transactions have written, where all of it was seen. The counters say which tables
anybody has written, without a name. What is in neither was not written.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from contextlib import closing, contextmanager
from fnmatch import fnmatchcase

from migrator.errors import FenceBreached, MigrationFailed, StepFailed, ToolFailed
from migrator.liquibase.models import ChangesetEvent
from migrator.plans import own_tables
from migrator.postgres import catalog, counters, fence, row_fingerprint, sessions
from migrator.postgres.counters import LARGE_OBJECTS, Counters
from migrator.postgres.transactions import Deadline
from migrator.runs.record import Way
from migrator.runs.run import Run

_NAMES_CHANGE = {"rename", "schema"}
_HALFWAY = {"running", "undoing"}
_SHOWN = 8


# -- this run ----------------------------------------------------------------------------------------------------------


def begin(run: Run) -> None:
    """Nothing of this run has been committed to what it works on; what the server has counted is known by now.

    Raises: StepFailed.
    """
    facts = run.facts
    facts.writes_known, facts.changed = run.record.way is not Way.ATOMIC, []
    count_from_here(run)


@contextmanager
def observed(run: Run) -> Iterator[Callable[[ChangesetEvent], None]]:
    """In the block Liquibase commits on its way, and tells the yielded function of it; the journal knows that it does.

    Afterwards the facts say whether all that was committed was heard of.
    """
    facts = run.facts
    before, facts.writes_known = facts.writes_known, False
    run.save()
    try:
        yield lambda event: _heard(run, event)
    except MigrationFailed as error:
        facts.writes_known = before and _was_heard_out(error)
        raise
    facts.writes_known = before


def is_known(run: Run) -> bool:
    """Whether the record's write set is all that this run's own transactions have written, by the names before."""
    facts, record = run.facts, run.record
    halfway = any(one.state in _HALFWAY for one in record.backfills)
    renamed = _NAMES_CHANGE & set(facts.words) and set(record.write_set) - set(facts.existing)
    return facts.writes_known and not (hidden(run) or halfway or renamed)


def hidden(run: Run) -> list[str]:
    """The changesets that were begun and may have written where no lock showed it."""
    begun = {(one.path, one.id, one.author) for one in run.record.changesets if one.status != run.status_before}
    return ["::".join(one.key) for one in run.facts.planned if one.hides_writes and one.key in begun]


def _heard(run: Run, event: ChangesetEvent) -> None:
    written = {name for name in event.written if not own_tables.is_own(name)}
    run.record.write_set = sorted({*run.record.write_set, *written})
    run.facts.changed = sorted({*run.facts.changed, *(written & set(event.changed))})


def _was_heard_out(error: MigrationFailed) -> bool:
    """Whether the worker could still tell everything: it answered, or its last word before its end was read."""
    cause = error.__cause__
    return cause.code == "gone" if isinstance(cause, ToolFailed) else True


# -- anybody -----------------------------------------------------------------------------------------------------------


def count_from_here(run: Run) -> None:
    """What the server has counted up to now is before the migration. Once a run; safe to repeat."""
    if run.facts.counters is None:
        run.facts.counters = read(run)
        run.save()


def read(run: Run) -> Counters:
    """The counters of the database itself, never of a copy. Raises: StepFailed."""
    with closing(run.session("counters", read_only=True, database=run.database)) as session:
        return counters.read(session)


def moved(run: Run, now: Counters | None = None) -> frozenset[str] | None:
    """The tables that anybody may have written since `count_from_here`; None: the counters do not tell."""
    if run.facts.counters is None:
        return None
    found = counters.moved(run.facts.counters, now or read(run))
    return None if found is None else _others(found)


def beyond_the_write_set(run: Run) -> list[str]:
    """Tables that no changeset names, and that somebody wrote behind the fence of a stepwise run, by the counters."""
    if run.record.way is not Way.STEPWISE or not run.offline:
        return []
    found = (moved(run) or frozenset()) - LARGE_OBJECTS - {*run.record.write_set, *run.facts.named}
    return sorted(name for name in found if not _is_expected(run, name))


def require_unwritten(run: Run) -> None:
    """Behind the offline fence nobody has written up to now, when nothing of this run has either.

    Raises: FenceBreached naming the tables.
    """
    facts = run.facts
    again = facts.attempt > 1 and run.record.way is Way.ATOMIC  # what was rolled back was counted too
    if not run.offline or again or facts.moving is not None or facts.applied:
        return
    found = moved(run)
    if found:
        raise _breach(run, found, "before anything was migrated")


def begin_anew(run: Run) -> None:
    """After an attempt that was rolled back: what it wrote is not laid to anybody else, nor the other way round.

    Raises: FenceBreached where a table that was hashed before has other rows.
    """
    if not run.offline or run.facts.counters is None:
        return
    now = read(run)
    found = moved(run, now)
    if found is None:
        return
    changed, unclear = _compared(run, found)
    if changed:
        raise _breach(run, changed, "while an attempt was made that was rolled back")
    run.facts.unclear = sorted({*run.facts.unclear, *unclear})
    run.facts.counters = now


# -- before a way back is called one -----------------------------------------------------------------------------------


def uncompared(run: Run) -> list[str]:
    """Tables whose rows may be others than before, and were not compared: as long as there is one, nothing is proven.

    Asked when no session of this run works any more. Raises: StepFailed.
    """
    facts, record = run.facts, run.record
    now = read(run)
    seen, known = moved(run, now), is_known(run)
    if known:
        may = {*record.write_set, *record.surprises}
        may |= LARGE_OBJECTS if LARGE_OBJECTS & may else set()
        if run.offline and seen is not None and not _has_rolled_back(run):
            may |= seen
    else:
        may = {*facts.existing, *LARGE_OBJECTS} if seen is None else set(seen)
    before = facts.counters.tables if facts.counters is not None else {}
    return sorted(
        name
        for name in may
        if (name in facts.existing or name in before)
        and not own_tables.is_own(name)
        and not _is_hashed(run, name)
        and not (seen is not None and name not in seen)
        and not (known and (seen is None or not run.offline) and _was_only_locked(run, name, now))
    )


def tell_uncompared(run: Run) -> None:
    """The record says of what was not hashed whether somebody wrote it. Raises: StepFailed."""
    facts = run.facts
    if facts.fingerprinted is None:
        return
    seen = moved(run)
    if seen is not None and run.offline:
        rest = sorted(name for name in seen if not _is_hashed(run, name))
        if not rest:
            run.prove(
                "No row of any table that was not hashed has been written since the fence was put up: the server's "
                "counters stand where they stood, and no table has another file."
            )
            return
        run.not_proven(
            f"Rows of {_several(rest)}: a changeset that was rolled back wrote there, or somebody else; the write set "
            "says that nothing of this run was committed there."
        )
        return
    why = "others were free to write" if seen is not None else "the server's counters were reset or are off"
    run.not_proven(f"Rows of other tables than those {len(facts.fingerprinted)} that were hashed before ({why}).")


def somebody_elses(run: Run, now: Counters) -> list[str]:
    """Tables of the failed database with rows that are not this run's, as far as that can be told: a breach.

    What a rolled-back changeset wrote was counted too: of a table that it may have meant the rows are compared, where
    they were hashed. Raises: StepFailed.
    """
    seen = moved(run, now)
    if seen is None or not is_known(run):
        return []
    foreign = seen - set(run.record.write_set) - set(run.record.surprises)
    if LARGE_OBJECTS & set(run.record.write_set):
        foreign -= LARGE_OBJECTS
    changed, unclear = _compared(run, foreign)
    failed = _has_rolled_back(run)
    meant = _meant(run, unclear) if failed else frozenset()
    found = sorted({*changed, *(set(unclear) - meant)})
    if found:
        or_else = "" if changed or not failed else ", or a function of the changeset that failed,"
        said = f"somebody else{or_else} wrote {_several(found)}, and nothing that this run committed did"
        run.facts.breaches += [] if said in run.facts.breaches else [said]
    return found


def note_kept(run: Run, now: Counters, kept: str) -> None:
    """The facts know of which tables the kept database alone may have rows, and how those are compared."""
    facts, seen = run.facts, moved(run, now)
    facts.kept_warning = facts.kept_unproven = None
    if seen is None:
        facts.kept_unproven = (
            "That nobody else wrote behind the fence: the server's counters were reset or are off. "
            f"{kept} alone would have such rows."
        )
        return
    names = sorted(seen | set(facts.unclear))
    unnamed = [] if is_known(run) else sorted(seen - _meant(run, seen) - LARGE_OBJECTS)
    if unnamed:
        facts.kept_warning = (
            f"{_several(unnamed)} changed in the failed database, and no changeset names it: a function of the "
            f"migration wrote there, or somebody behind the fence. {_comparison(run, unnamed, kept)}"
        )
    if names:
        facts.kept_unproven = (
            f"That nobody else wrote {_several(names)} behind the fence while the migration did: {kept} alone would "
            f"have such rows. {_comparison(run, names, kept)}"
        )


@contextmanager
def last_look(run: Run, judge: Callable[[Counters], None]) -> Iterator[Callable[[], None]]:
    """To be called when nobody can come in any more: who is there is ended, and `judge` sees the counters.

    Its session is opened with the block, since nobody comes in later.
    """
    with closing(run.session("counters", read_only=True, database=run.database)) as session:
        [(pid,)] = session.rows("select pg_backend_pid()")

        def look() -> None:
            _wait_until_alone(run, int(pid or 0))
            judge(counters.read(session))
            session.close()

        yield look


def judge_original(run: Run, now: Counters) -> None:
    """Nobody has written the database in whose place the copy is to come. Raises: FenceBreached."""
    found = moved(run, now)
    if found:
        raise _breach(run, found, "and the database that is to take its place lacks that")
    if found is None:
        run.not_proven(
            f"That nobody wrote {run.database} behind the fence: the server's counters were reset or are off. The "
            "database from before is kept."
        )
        return
    run.prove(
        f"Nobody wrote {run.database} since the fence was put up: the server's counters of every table stood still, "
        "looked at when nobody could come in any more."
    )


def judge_failed(run: Run, before: Counters, now: Counters) -> None:
    """Nobody has written the failed database since `before`. Raises: FenceBreached."""
    found = _others(counters.moved(before, now) or ())
    if found:
        raise _breach(run, found, "while the backup was restored beside, which lacks that")


# -- inside ------------------------------------------------------------------------------------------------------------


def _breach(run: Run, tables: Collection[str], when: str) -> FenceBreached:
    what = _several(sorted(tables))
    said = f"somebody wrote {what} in spite of the offline fence"
    if said not in run.facts.breaches:
        run.facts.breaches.append(said)
    return FenceBreached(
        f"Somebody wrote {what} in spite of the offline fence, {when} (by the server's counters).",
        hint=f"Look for a superuser, or who else logs in as {run.login.user}: give migrator a login of its own.",
    )


def _wait_until_alone(run: Run, pid: int) -> None:
    admin, deadline = run.the_admin(), Deadline(run.environment.limits.drain_s)
    while True:
        coming = fence.on_way_in(admin, run.database)
        here = [one for one in sessions.foreign(admin, run.database, own_run=None) if one.pid != pid]
        if not here and not coming - {pid}:
            return
        for one in here:
            sessions.end_foreign(admin, run.database, one.pid, own_run=None)
        if deadline.passed:
            raise StepFailed(f"Sessions on {run.database} did not end: {'; '.join(map(str, here))}.")
        deadline.pause()


def _compared(run: Run, names: Collection[str]) -> tuple[list[str], list[str]]:
    """Those whose rows are others than before, and those of which nobody can tell."""
    before = run.facts.tables_before or {}
    with closing(run.session("verify", read_only=True, database=run.database)) as session:
        there = [one for one in catalog.tables(session) if one.qualified in names and one.qualified in before]
        found = row_fingerprint.of_tables([session], there) if there else {}
        objects = run.facts.large_objects_before if LARGE_OBJECTS & set(names) else None
        now = row_fingerprint.of_large_objects(session) if objects is not None else None
    changed = [n for n, one in found.items() if (one.rows, one.digest) != (before[n].rows, before[n].digest)]
    told = set(found)
    if objects is not None and now is not None:
        told |= LARGE_OBJECTS
        changed += (
            [] if (now.rows, now.digest) == (objects.rows, objects.digest) else sorted(LARGE_OBJECTS & set(names))
        )
    return changed, sorted(set(names) - told)


def _meant(run: Run, names: Collection[str]) -> frozenset[str]:
    """Those that changelog or checks name, or to which a foreign key passes on what is done to one of them."""
    if not names:
        return frozenset()
    with closing(run.session("verify", read_only=True, database=run.database)) as session:
        meant = {*run.facts.named, *catalog.cascades(session, run.facts.named)}
    return frozenset(name for name in names if name in meant or _is_expected(run, name))


def _is_expected(run: Run, name: str) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in run.environment.checks.expected_writes)


def _has_rolled_back(run: Run) -> bool:
    """Whether a transaction of this run's Liquibase may have ended without a commit: what it wrote was counted too."""
    return run.record.error is None or run.record.error.code != "verification"


def _is_hashed(run: Run, name: str) -> bool:
    if name in LARGE_OBJECTS:
        return run.facts.large_objects_before is not None
    return name in (run.facts.tables_before or {})


def _was_only_locked(run: Run, name: str, now: Counters) -> bool:
    """Whether this run's own counts say that it changed no row of it, nor gave it another file."""
    before = run.facts.counters
    if run.record.backfills:  # what they wrote was not counted by Liquibase's worker
        return False
    if before is None or "off" in {before.witness, now.witness} or name in run.facts.changed or name in LARGE_OBJECTS:
        return False
    return name in before.tables and name in now.tables and before.tables[name][:2] == now.tables[name][:2]


def _others(names: Collection[str]) -> frozenset[str]:
    return frozenset(name for name in names if not own_tables.is_own(name))


def _several(names: Collection[str]) -> str:
    shown = list(names)
    return ", ".join(shown[:_SHOWN]) + (f" and {len(shown) - _SHOWN} more" if shown[_SHOWN:] else "")


def _comparison(run: Run, names: Collection[str], kept: str) -> str:
    name = next((one for one in names if one not in LARGE_OBJECTS), "pg_catalog.pg_largeobject")
    return (
        f'To compare: ALTER DATABASE "{kept}" ALLOW_CONNECTIONS true; then diff '
        f"<(pg_dump -a -t '{name}' {kept} | sort) <(pg_dump -a -t '{name}' {run.database} | sort)"
    )
