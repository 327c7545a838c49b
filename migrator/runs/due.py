"""Which backfills a run does, and which it rests on: found out before anything is touched."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from migrator.backfills import capture, discovery, inspection, ledger, lock, undoing, verifying
from migrator.backfills.capture_function import function_name
from migrator.backfills.definition import Backfill
from migrator.backfills.discovery import Placed
from migrator.backfills.ledger import Entry, State
from migrator.errors import Refused
from migrator.liquibase.models import Changeset, ChangesetState, Undoable
from migrator.plans import impact, requires
from migrator.plans.findings.places import Places
from migrator.plans.impact import Impact
from migrator.plans.obstacles import Obstacle
from migrator.postgres.session import Session
from migrator.runs.facts import PlannedBackfill
from migrator.runs.record import BackfillRecord
from migrator.runs.run import Run

_CAPTURED = frozenset({"trigger", "application"})
_LEFT_OUT = frozenset(
    {
        ChangesetState.OTHER_CONTEXT,
        ChangesetState.OTHER_LABEL,
        ChangesetState.OTHER_DBMS,
        ChangesetState.IGNORED,
    }
)


def note(
    run: Run, target: Session, known: Sequence[Changeset], chosen: Sequence[Changeset], files: Sequence[str]
) -> None:
    """The facts and the record know the backfills between these changesets, and those that a changeset requires.

    Raises: Refused for a file that cannot be used, one that was changed since it began, and one that is half done.
    """
    entries = ledger.read(target, run.ledger_schema)
    placed = discovery.beside(run.record.changelog, known, run.config.liquibase.root)
    states = {one.key: one.state for one in known}
    due = []
    for one in placed:
        entry = entries.get(one.backfill.name)
        ledger.refuse_changed(one.backfill, entry)
        if states.get(one.changeset) in _LEFT_OUT:
            continue
        if entry is not None and entry.state is State.VERIFIED:
            _refuse_gone(run, one)
            continue
        _refuse_half_done(run, target, entry)
        _refuse_left_capture(run, target, one.backfill.name)
        due.append(one)
    run.facts.backfills = [
        _planned(_placed(one), one.changeset, rows=inspection.of_table(target, one.backfill).rows) for one in due
    ]
    needed = requires.of(chosen, Places(run.config.liquibase.root, list(known), list(files)))
    run.facts.requires = {key: list(names) for key, names in needed.items()}
    run.facts.required = _required(run, chosen, entries)
    run.facts.captures = [one.name for one in run.facts.required if capture.read(target, one.name) is not None]
    run.record.backfills = [
        BackfillRecord(name=one.name, table=one.table, after=one.after, state="pending") for one in run.facts.backfills
    ] + [
        BackfillRecord(name=one.name, table=one.table, after=one.after, state="required") for one in run.facts.required
    ]


def tell(run: Run, target: Session, known: Sequence[Changeset]) -> None:
    """Of a changelog without a pending changeset: a person knows which of its backfills are not done."""
    entries = ledger.read(target, run.ledger_schema)
    states = {one.key: one.state for one in known}
    for one in discovery.beside(run.record.changelog, known, run.config.liquibase.root):
        entry = entries.get(one.backfill.name)
        if states.get(one.changeset) in _LEFT_OUT or (entry is not None and entry.state is State.VERIFIED):
            continue
        name, environment = one.backfill.name, run.environment.name
        run.warn(
            f"No changeset is pending, but backfill {name} is {'pending' if entry is None else entry.state}. Do it "
            f"with: migrator backfill run {name} --env {environment}"
        )


def note_undone(run: Run, target: Session, undone: Sequence[Undoable]) -> None:
    """Of a rollback: the facts and the record know the backfills that follow what is undone. Raises: Refused."""
    found = []
    for entry in ledger.read(target, run.ledger_schema).values():
        backfill = entry.backfill()
        if entry.state is State.UNDONE:
            continue
        after = next((one.key for one in undone if _names(one) & {backfill.after.strip()}), None)
        if after is None:
            continue
        if entry.state is not State.VERIFIED:
            _refuse_half_done(run, target, entry)
        found.append(_planned(backfill, after))
    run.facts.backfills = found
    run.record.backfills = [
        BackfillRecord(name=one.name, table=one.table, after=one.after, state="verified") for one in found
    ]


def obstacles(run: Run, target: Session) -> Iterator[Obstacle]:
    """Why the backfills could not be done, as far as that shows before their changesets have run."""
    planned = {"::".join(one.key) for one in run.facts.planned}
    for one in run.facts.backfills:
        backfill = definition(run, one)
        if run.undoes:
            yield from _lost(run, target, backfill, one.after)
            continue
        yield from _uncaught(run, backfill)
        if one.after in planned:  # a changeset may make the table, or its key
            problems = [*inspection.of_file(backfill)]
            found = inspection.of_table(target, backfill)
            problems += [problem for problem in found.problems if problem.code == "not_a_table"]
        else:
            problems = list(inspection.look(target, backfill).problems)
        for problem in problems:
            yield Obstacle(what=problem.message.rstrip("."), remedy=problem.hint.rstrip("."))
    for one in run.facts.required:
        verdict = verifying.ask(target, definition(run, one))
        if verdict.violations:
            yield Obstacle(
                what=f"changeset {_who_requires(run, one.name)} requires backfill {one.name}, and its verify query "
                f"finds {verdict.violations:,} rows that are not as they should be ({', '.join(verdict.sample[:3])})",
                remedy=f"look at them with: migrator backfill verify {one.name} --env {run.environment.name}",
            )


@dataclass(frozen=True)
class AsChangeset:
    """A backfill as the way back sees it: one that has no undo is like a changeset that has no rollback."""

    planned: PlannedBackfill
    path: str = "backfill"
    run_in_transaction: bool = True  # that is asked of the backfill itself
    needs_savepoint: bool = False

    @property
    def id(self) -> str:
        return self.planned.name

    @property
    def author(self) -> str:
        return f"after {self.planned.after}"

    @property
    def has_rollback(self) -> bool:
        return self.planned.leads_back


@dataclass(frozen=True, kw_only=True)
class _Text:
    statements: tuple[str, ...]
    tables: frozenset[str]


def impact_of(run: Run) -> Impact:
    """The tables that the backfills name, and those that they write. What they put into the schema is named too."""
    texts = []
    for one in (*run.facts.backfills, *run.facts.required):
        backfill = definition(run, one)
        texts.append(_Text(statements=("reset",), tables=frozenset({function_name(backfill.name)})))
        if one in run.facts.backfills:
            given = (backfill.statement, backfill.undo_statement, backfill.on_delete)
            statements = tuple(text for text in given if text is not None)
            texts.append(_Text(statements=statements, tables=frozenset(impact.identifiers(backfill.table))))
    return impact.of(texts, run.relations)


def definition(run: Run, planned: PlannedBackfill) -> Backfill:
    """The backfill as it was when the run was planned, whatever its file says by now."""
    file = run.config.liquibase.root / planned.file
    return Backfill.model_validate({**planned.definition, "file": file})


def _planned(backfill: Backfill, after: str, *, rows: int | None = None) -> PlannedBackfill:
    return PlannedBackfill(
        name=backfill.name,
        checksum=backfill.checksum,
        table=backfill.table,
        after=after,
        inside=backfill.inside,
        rows=rows,
        leads_back=backfill.undo_statement is not None,
        file=str(backfill.file),
        definition=backfill.model_dump(mode="json"),
    )


def _required(run: Run, chosen: Sequence[Changeset], entries: Mapping[str, Entry]) -> list[PlannedBackfill]:
    """Those that an earlier run has done. Raises: Refused for one that is not done, or comes too late in this run."""
    order = {changeset.key: number for number, changeset in enumerate(chosen)}
    here = {one.name: one for one in run.facts.backfills}
    found: dict[str, PlannedBackfill] = {}
    for key, names in run.facts.requires.items():
        for name in names:
            mine, entry = here.get(name), entries.get(name)
            if mine is not None:
                if order.get(mine.after, -1) >= order[key]:
                    raise Refused(
                        f"{key} requires backfill {name}, which comes after it (after {mine.after}).",
                        hint="Move the changeset behind it.",
                        code="requires_later",
                    )
                continue
            if entry is None or entry.state is not State.VERIFIED:
                state = "has not begun here" if entry is None else f"is {entry.state}, and not verified"
                anew = entry is None or entry.state is State.UNDONE
                raise Refused(
                    f"{key} requires backfill {name}, which {state}.",
                    hint=f"Do it first: migrator backfill {'run' if anew else 'resume'} {name} --env "
                    f"{run.environment.name}; `migrator backfill status` tells how far it is.",
                    code="requires",
                )
            found[name] = _planned(entry.backfill(), key)
    return list(found.values())


def _placed(one: Placed) -> Backfill:
    """The backfill with its changeset's whole key: another changelog may have the same id and author."""
    return one.backfill.model_copy(update={"after": one.changeset})


def _refuse_gone(run: Run, one: Placed) -> None:
    """Raises: Refused where the changeset of one that is done is pending: undone by others than this program, or
    skipped before."""
    again = next((p for p in run.facts.planned if "::".join(p.key) == one.changeset), None)
    if again is None or again.rerun or again.always:
        return
    name = one.backfill.name
    raise Refused(
        f"Backfill {name} is done in this database, but its changeset {one.changeset} is pending: it was undone, or "
        "skipped, without its backfill.",
        hint=f"Take back what it moved: migrator backfill undo {name} --env {run.environment.name}. Where nothing of "
        f"that is there any more: migrator backfill forget {name} --env {run.environment.name}",
        code="backfill_gone",
        place=one.backfill.place,
    )


def _refuse_half_done(run: Run, session: Session, entry: Entry | None) -> None:
    """Raises: Refused for one that is at work, paused, left behind, or moved and found wrong."""
    if entry is None or entry.state is State.UNDONE:
        return
    environment = run.environment.name
    other = lock.at_work(session, entry.name)
    if other is not None:
        raise Refused(
            f"Backfill {entry.name} is at work in this database ({other.application_name}, pid {other.pid}).",
            hint=f"Wait until it is done, or stop it: migrator backfill pause {entry.name} --env {environment}",
            code="backfill_at_work",
        )
    verb = "undo" if entry.state is State.UNDOING else "resume"
    raise Refused(
        f"Backfill {entry.name} has begun outside of this run and is {entry.state}: if the run failed, it could not "
        "tell what was there before.",
        hint=f"Bring it to its end first: migrator backfill {verb} {entry.name} --env {environment}",
        code="backfill_half_done",
    )


def _refuse_left_capture(run: Run, session: Session, name: str) -> None:
    """Raises: Refused where the trigger of one that is to be done is there already: going back would take it away."""
    left = capture.read(session, name)
    if left is None:
        return
    raise Refused(
        f"The trigger of backfill {name} is on {left.table} already, left by a command that was ended before its first "
        "batch: if the run failed, the database would not be what it was.",
        hint=f"Remove it first: migrator backfill undo {name} --env {run.environment.name}",
        code="backfill_half_done",
    )


def _uncaught(run: Run, backfill: Backfill) -> Iterator[Obstacle]:
    if run.environment.maintenance.database != "none" or run.options.rehearsal:
        return
    if backfill.inside and any(backfill.name in names for names in run.facts.requires.values()):
        yield Obstacle(
            what=f"changeset {_who_requires(run, backfill.name)} requires backfill {backfill.name} of the same "
            "transaction, which does not see what others write meanwhile (maintenance.database is none)",
            remedy="put the changeset into a release of its own, or run it under maintenance",
        )
    if backfill.inside and backfill.capture != "application":
        yield Obstacle(
            what=f"backfill {backfill.name} is inside the run's transaction, which does not see the rows that others "
            "write meanwhile (maintenance.database is none)",
            remedy="run it under maintenance, leave inside out, or say capture = 'application' where the application "
            "writes old and new alike",
        )
    elif backfill.capture not in _CAPTURED:
        yield Obstacle(
            what=f"backfill {backfill.name} has capture = 'none', and others write meanwhile (maintenance.database is "
            "none)",
            remedy="say capture = 'trigger', or capture = 'application' where the application writes old and new "
            "alike; or run it under maintenance",
        )


def _lost(run: Run, target: Session, backfill: Backfill, after: str) -> Iterator[Obstacle]:
    """What an undo would take away for good, as far as that shows before later changesets are undone."""
    try:
        undoing.refuse_loss(target, backfill, run.ledger_schema)
    except Refused as error:
        if "::".join(run.facts.planned[0].key) != after:
            run.warn(
                f"As the database is now, {error.message} The changesets that are undone before may bring back what is "
                "missing: it is asked again then."
            )
        else:
            yield Obstacle(what=error.message.rstrip("."), remedy=(error.hint or "").rstrip("."))


def _who_requires(run: Run, name: str) -> str:
    return next((key for key, names in run.facts.requires.items() if name in names), "a changeset")


def _names(one: Undoable) -> set[str]:
    short = f"{one.id}::{one.author}"
    return {short, f"{one.path}::{short}", f"{short}::{one.path}"}
