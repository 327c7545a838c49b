"""Backfills in a person's own hands: looked at, begun, paused, proven, taken back, and their captures removed."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import datetime

from migrator.backfills import capture, inspection, ledger, lock, mover, throttle, undoing, verifying
from migrator.backfills.capture import Captured
from migrator.backfills.definition import DECISIVE, Backfill
from migrator.backfills.inspection import Looked
from migrator.backfills.ledger import Entry, State
from migrator.backfills.lock import AtWork
from migrator.backfills.mover import Moved, Progress, Work
from migrator.backfills.throttle import Lag
from migrator.backfills.verifying import Verdict
from migrator.config.configuration import Config
from migrator.config.login import Login
from migrator.config.models import Environment
from migrator.errors import Locked, Refused
from migrator.postgres import fence
from migrator.postgres.connect import PgSession
from migrator.postgres.session import Session
from migrator.postgres.transactions import Deadline, transaction
from migrator.runs import opening
from migrator.runs.access import Access
from migrator.runs.byhand import following, refuse_a_run
from migrator.runs.journal import Journal

_DYING_S = 3.0


@dataclass(frozen=True, kw_only=True)
class Database:
    """Where the backfills are, and the id by which this command's sessions are known."""

    config: Config
    environment: Environment
    login: Login
    run_id: str

    @property
    def schema(self) -> str | None:
        """Of Liquibase's ledger, and so of the backfills'."""
        return self.environment.liquibase_schema or self.environment.default_schema

    @property
    def work(self) -> Work:
        return Work(login=self.login, schema=self.schema, run_id=self.run_id, connect=self.session)

    def session(self, role: str, *, read_only: bool = False, database: str | None = None) -> PgSession:
        access = Access(
            login=self.login, run_id=self.run_id, connect_timeout_s=self.environment.limits.connect_timeout_s
        )
        return access.session(role, read_only=read_only, database=database)

    def looking(self) -> PgSession:
        """A session that cannot write."""
        return self.session("backfill-status", read_only=True)


@dataclass(frozen=True, kw_only=True)
class Planned:
    """What `run` would do, and what is in its way."""

    backfill: Backfill
    has_come: bool  # the changeset of `after` has run here
    looked: Looked
    entry: Entry | None

    @property
    def is_in_the_way(self) -> bool:
        return bool(self.looked.problems)


@dataclass(frozen=True, kw_only=True)
class Standing:
    """How far a backfill is in this database."""

    entry: Entry
    at_work: AtWork | None
    captured: Captured | None
    lag: Lag
    now: datetime  # by the server's clock
    run: str | None = None  # that it is part of, and that has not ended

    @property
    def is_left_behind(self) -> bool:
        return self.entry.state in (State.RUNNING, State.UNDOING) and self.at_work is None


@dataclass(frozen=True, kw_only=True)
class Done:
    backfill: Backfill
    moved: Moved | None  # None: there was nothing left to move
    verdict: Verdict
    captured: bool


@dataclass(frozen=True, kw_only=True)
class Undone:
    moved: Moved | None  # None: only a capture was there, of a process that was killed before its first batch
    loss: str | None  # what was accepted as lost


def opened(config: Config, environment: Environment) -> Database:
    """Nothing has been asked of the database yet."""
    login = opening.login_of(config, environment)
    run_id = opening.new_id(datetime.now().astimezone())
    return Database(config=config, environment=environment, login=login, run_id=run_id)


def plan(database: Database, backfill: Backfill) -> Planned:
    """Only reads. Raises: StepFailed."""
    with closing(database.looking()) as session:
        its = following.changesets(session, database, backfill)
        has_come = bool(its)
        look = inspection.look if has_come else inspection.of_table
        looked = look(session, backfill)
        if not has_come:
            others = [one for one in looked.problems if one.code != "table_gone"]  # a changeset before may make it
            looked = replace(looked, problems=(*inspection.of_file(backfill), *others))
        looked = replace(looked, problems=(*following.ambiguous(backfill, its), *looked.problems))
        return Planned(
            backfill=backfill,
            has_come=has_come,
            looked=looked,
            entry=ledger.read(session, database.schema).get(backfill.name),
        )


def standing(database: Database) -> list[Standing]:
    """Every backfill that the database knows, the latest first. Only reads. Raises: StepFailed."""
    runs = _unfinished(database)
    with closing(database.looking()) as session:
        lag = throttle.lag(session)
        [(now,)] = session.rows("SELECT clock_timestamp()")
        found = [
            Standing(
                entry=entry,
                at_work=lock.at_work(session, entry.name),
                captured=capture.read(session, entry.name),
                lag=lag,
                now=datetime.fromisoformat(now or ""),
                run=entry.run_id if entry.run_id in runs else None,
            )
            for entry in ledger.read(session, database.schema).values()
        ]
    return sorted(found, key=lambda one: one.entry.started_at, reverse=True)


def known(database: Database, name: str) -> Standing:
    """Raises: Refused for a name that the database does not know."""
    found = {one.entry.name: one for one in standing(database)}
    if name not in found:
        raise Refused(
            f"No backfill {name} has begun in {database.login.database}.",
            hint=f"It knows: {', '.join(sorted(found)) or 'none'}. Begin one with: migrator backfill run {name} "
            f"--env {database.environment.name}",
            code="no_backfill",
        )
    return found[name]


def run(
    database: Database,
    backfill: Backfill,
    *,
    on_progress: Callable[[Progress], None],
    check: Callable[[], None],
    nobody_writes: bool = False,
) -> Done:
    """All rows are moved and verified, and what others write is caught. Carries on where it was left.

    Raises: Refused before anything is written; Locked; Interrupted; MigrationFailed; StepFailed.
    """
    with closing(database.session("backfill")) as session:
        _refuse_a_run(database)
        entry = ledger.read(session, database.schema).get(backfill.name)
        _refuse_part_of_a_run(database, entry)
        backfill = following.placed(session, database, backfill, entry)
        ledger.refuse_changed(backfill, entry)
        _refuse_half_undone(database, entry)
        looked = inspection.look(session, backfill)
        inspection.refuse(looked.problems)
        _refuse_another_table(backfill, entry, looked)
        if not nobody_writes:
            _refuse_uncaught(database, backfill)
        _refuse_another(session, database, backfill.name)
        moved = None
        if entry is None or not entry.is_complete:
            _install(session, backfill)
            _wake(session, database, entry)
            moved = mover.move(backfill, database.work, on_progress=on_progress, check=check)
        verdict = verifying.verify(session, backfill, database.schema)
        captured = capture.is_installed(session, backfill)
    return Done(backfill=backfill, moved=moved, verdict=verdict, captured=captured)


def pause(database: Database, name: str, because: str) -> Entry:
    """No batch is under way, and none begins until somebody resumes it. Raises: Refused; StepFailed."""
    known(database, name)
    with closing(database.session("backfill-control")) as session, transaction(session):
        return ledger.pause(session, database.schema, name, because)


def go_on(database: Database, name: str) -> AtWork | None:
    """It is paused no longer. Whose process waited for that; None: nobody's, so it is to be run.

    Raises: Refused; StepFailed.
    """
    found = known(database, name)
    with closing(database.session("backfill-control")) as session:
        if found.entry.state is not State.PAUSED:
            return None
        with transaction(session):
            ledger.go_on(session, database.schema, name)
        return _who_is_at_work(session, name)


def verify(database: Database, backfill: Backfill) -> Verdict:
    """What its question finds now; a clean answer is noted where all rows are moved. Raises: Refused; StepFailed."""
    with closing(database.session("backfill-verify")) as session:
        entry = ledger.read(session, database.schema).get(backfill.name)
        ledger.refuse_changed(backfill, entry)
        _refuse_another_table(backfill, entry, inspection.of_table(session, backfill))
        return verifying.verify(session, backfill, database.schema)


def undo(
    database: Database,
    backfill: Backfill,
    *,
    on_progress: Callable[[Progress], None],
    check: Callable[[], None],
    accept_loss: bool = False,
) -> Undone:
    """What was moved is taken back, and nothing of the capture is left. Carries on where it was left.

    `accept_loss`: also where what it was moved from is not there any more, or not as it was.
    Raises: Refused; Locked; Interrupted; MigrationFailed; StepFailed.
    """
    _refuse_a_run(database)
    with closing(database.session("backfill")) as session:
        entry = ledger.read(session, database.schema).get(backfill.name)
        _refuse_part_of_a_run(database, entry)
        has_begun = entry is not None
        if entry is not None:
            backfill = _as_begun(backfill, entry)
        captured = capture.read(session, backfill.name)
        if captured is None and not has_begun:
            known(database, backfill.name)  # refuses
        _refuse_another(session, database, backfill.name)
        undone, loss = None, None
        if has_begun:
            loss = _loss(session, database, backfill, accepted=accept_loss)
            if captured is not None and backfill.undo_statement is not None:
                capture.turn_back(session, backfill, lock_timeout_s=backfill.lock_timeout_s)
            undone = undoing.undo(backfill, database.work, on_progress=on_progress, check=check)
        capture.remove(session, backfill.name, lock_timeout_s=backfill.lock_timeout_s)
    return Undone(moved=undone, loss=loss)


def finish(database: Database, backfill: Backfill) -> Verdict:
    """The backfill is proven now, and nothing of its capture is left: rows that come later are the application's.

    With violations nothing is removed. Raises: Refused where it is not complete; StepFailed.
    """
    found = known(database, backfill.name)
    _refuse_part_of_a_run(database, found.entry)
    if not found.entry.is_complete:
        raise Refused(
            f"Backfill {backfill.name} is {found.entry.state}: what is written to {found.entry.table} is still to be "
            "caught.",
            hint=f"Carry it to its end first: migrator backfill resume {backfill.name} "
            f"--env {database.environment.name}",
            code="backfill_incomplete",
        )
    verdict = verify(database, backfill)
    if not verdict.violations:
        with closing(database.session("backfill")) as session:
            capture.remove(session, backfill.name, lock_timeout_s=backfill.lock_timeout_s)
    return verdict


def forget(database: Database, name: str) -> None:
    """The database knows the backfill no more, and nothing of its capture is left; the rows stay as they are.

    Raises: Refused; Locked; StepFailed.
    """
    _refuse_a_run(database)
    _refuse_part_of_a_run(database, known(database, name).entry)
    with closing(database.session("backfill")) as session:
        _refuse_another(session, database, name)
        lock.take(session, name)
        capture.remove(session, name, lock_timeout_s=database.environment.limits.lock_timeout_s)
        with transaction(session):
            undoing.forget(session, database.schema, name)


def _as_begun(backfill: Backfill, entry: Entry) -> Backfill:
    """What was done is taken back, whatever the file says by now; only its pace counts."""
    pace = Backfill.model_fields.keys() - {*DECISIVE, "after"}
    return entry.backfill().model_copy(update={name: getattr(backfill, name) for name in pace})


def _install(session: PgSession, backfill: Backfill) -> None:
    if backfill.capture == "trigger":
        capture.install(session, backfill, lock_timeout_s=backfill.lock_timeout_s)


def _wake(session: PgSession, database: Database, entry: Entry | None) -> None:
    """One that was paused goes on: that is what `run` was asked for."""
    if entry is not None and entry.state is State.PAUSED:
        with transaction(session):
            ledger.go_on(session, database.schema, entry.name)


def _who_is_at_work(session: Session, name: str) -> AtWork | None:
    """Sessions of a process that was killed are given the time to find that out."""
    deadline = Deadline(_DYING_S)
    while (found := lock.at_work(session, name)) is not None and not deadline.passed:
        deadline.pause()
    return found


def _unfinished(database: Database) -> set[str]:
    """The runs in the journal that have not ended."""
    with closing(Journal.open(database.config.journal.url, database.config.base, read_only=True)) as journal:
        return {one.run_id for one in journal.open_runs()}


def _refuse_part_of_a_run(database: Database, entry: Entry | None) -> None:
    """Raises: Refused for the backfill of a run that is still to be carried on, or taken back, with all its parts."""
    if entry is None or entry.state is State.UNDONE or entry.run_id not in _unfinished(database):
        return
    raise Refused(
        f"Backfill {entry.name} is part of run {entry.run_id}, which has not ended.",
        hint=f"End that first: migrator resume {entry.run_id} (or, to take it back: migrator resume {entry.run_id} "
        "--back)",
        code="backfill_of_a_run",
    )


def _refuse_another_table(backfill: Backfill, entry: Entry | None, looked: Looked) -> None:
    if looked.table is not None:
        ledger.refuse_another_table(backfill, entry, looked.table.qualified)


def _refuse_half_undone(database: Database, entry: Entry | None) -> None:
    if entry is not None and entry.state is State.UNDOING:
        raise Refused(
            f"Backfill {entry.name} is being undone.",
            hint=f"Let that come to its end: migrator backfill undo {entry.name} --env {database.environment.name}",
            code="backfill_undoing",
        )


def _loss(session: Session, database: Database, backfill: Backfill, *, accepted: bool) -> str | None:
    """What an undo loses for good; None: nothing. Raises: Refused where that was not accepted."""
    try:
        undoing.refuse_loss(session, backfill, database.schema)
    except Refused as error:
        if not accepted or error.code != undoing.ONE_WAY:
            raise
        return error.message
    return None


def _refuse_another(session: Session, database: Database, name: str) -> None:
    found = _who_is_at_work(session, name)
    if found is not None:
        raise Locked(
            f"Backfill {name} is at work already ({found.application_name}, pid {found.pid}).",
            hint=f"See how far it is: migrator backfill status {name} --env {database.environment.name}; end its "
            "process to do it from here",
            code="backfill_at_work",
        )


def _refuse_a_run(database: Database) -> None:
    """Raises: Locked while a run is at work, Refused where one was left behind with its fence up."""
    with closing(
        database.session("backfill-control", database=database.environment.maintenance_database, read_only=True)
    ) as admin:
        refuse_a_run(admin, database.login.database, environment=database.environment.name)


def _refuse_uncaught(database: Database, backfill: Backfill) -> None:
    """Raises: Refused where others may write and nothing is said of how that is caught."""
    if backfill.capture != "none":
        return
    with closing(
        database.session("backfill-control", database=database.environment.maintenance_database, read_only=True)
    ) as admin:
        if fence.read(admin, database.login.database) is not None:
            return
    raise Refused(
        f"{backfill.file}: backfill {backfill.name} does not say how rows are caught that others write meanwhile.",
        hint='Write capture = "trigger" (a trigger on the table carries them along) or capture = "application" (it '
        "writes old and new alike) into the file; or hold users off first with `migrator maintenance on`; "
        "or give --nobody-writes.",
        code="backfill_capture",
        place=backfill.place,
    )
