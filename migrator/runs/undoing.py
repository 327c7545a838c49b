"""What a rollback is about: the rows of the ledger that it takes away, the changelogs that say how, and the impact."""

from __future__ import annotations

from collections.abc import Sequence

from migrator.errors import Refused
from migrator.liquibase import changelog as screening
from migrator.liquibase.ledger import LedgerRow
from migrator.liquibase.models import Undoable
from migrator.liquibase.session import Liquibase
from migrator.plans import impact, obstacles, own_tables, undo
from migrator.plans.impact import Impact
from migrator.postgres import schema_fingerprint
from migrator.postgres.catalog import Relation
from migrator.postgres.schema_fingerprint import SchemaFingerprint
from migrator.postgres.session import Session
from migrator.runs import state
from migrator.runs.facts import Facts
from migrator.runs.journal_entries import StoredRun
from migrator.runs.record import Direction, Outcome
from migrator.runs.run import Run

_REMEMBERED = 1000  # runs of the journal in which a changeset's changelog is looked for
_SHOWN = 5
_UNDONE = {Outcome.MIGRATED, Outcome.UNFINISHED, Outcome.BROUGHT_BACK}


def rows(run: Run, held: Sequence[LedgerRow] | None) -> list[LedgerRow]:
    """The rows of the ledger that are to be undone, newest first; empty when there is nothing to undo.

    Raises: Refused.
    """
    wanted = run.undo
    if not held:
        raise Refused(f"{run.database} has no ledger with a row in it: nothing can be undone.", code="no_ledger")
    if wanted.run_id is not None:
        return _of_run(run, held, wanted.run_id)
    return undo.after_tag(held, wanted.tag) if wanted.tag is not None else undo.last(held, wanted.count or 0)


def name_changelogs(run: Run, chosen: Sequence[LedgerRow]) -> None:
    """The facts and the record name the changelogs that hold the rows, and each has been screened.

    Where none were given they are those of the runs that executed the rows, else the files that the ledger names.
    Raises: Refused.
    """
    named = run.undo.changelogs or _changelogs(run, chosen)
    for one in named:
        screened = screening.screen(run.config.liquibase.root, one, run.parameters)
        for finding in screened.findings:
            run.warn(f"{finding.file}{f':{finding.line}' if finding.line else ''}: {finding.message}")
    run.facts.undo = run.undo.model_copy(update={"changelogs": tuple(named)})
    run.record.changelog = ", ".join(named)


def plan(run: Run, chosen: Sequence[LedgerRow], liquibase: Liquibase) -> list[Undoable]:
    """The changesets as Liquibase would undo them, newest first.

    Raises: Refused naming everything that keeps it from undoing exactly these.
    """
    found = liquibase.undoable(run.undo.changelogs, len(chosen))
    obstacles.refuse(undo.hindrances(chosen, found, run.undo.changelogs))
    return found


def impact_of(changesets: Sequence[Undoable], relations: Sequence[Relation]) -> Impact:
    """What undoing them names: they themselves, and their rollbacks, whose DML alone counts as such."""
    back = impact.of(changesets, relations)
    words = set(back.words).union(*(impact.identifiers(text) for one in changesets for text in one.forward))
    return Impact(words=frozenset(words), named=impact.named_in(words, relations), written=back.written)


def compare_with_before(run: Run, session: Session) -> None:
    """The report says whether the schema is what it was before the run that was undone, where the journal knows that.

    Proves or does not prove; decides nothing: others may have changed the schema on purpose since.
    """
    run_id = run.undo.run_id
    if run_id is None:
        return
    before = Facts.model_validate(run.journal.get(run_id).facts).schema_before
    if before is None:
        return
    diff = SchemaFingerprint(objects=before).diff(schema_fingerprint.of_schema(session))
    others = [one for one in (*diff.added, *diff.removed, *diff.changed) if not own_tables.are_in(one)]
    if not others:
        run.prove(f"The schema is what it was before run {run_id}, object by object.")
        return
    more = f" and {len(others) - _SHOWN} more" if others[_SHOWN:] else ""
    run.not_proven(f"The schema is not what it was before run {run_id}: {', '.join(others[:_SHOWN])}{more}.")


def refuse_run(found: StoredRun) -> None:
    """Raises: Refused for a run that has left nothing to undo, or that is undone otherwise."""
    record = found.record
    if not found.closed or record.outcome not in {Outcome.MIGRATED, Outcome.UNFINISHED}:
        how = record.outcome.value.replace("_", " ") if record.outcome is not None else "it has not ended"
        raise Refused(
            f"Run {record.run_id} has migrated nothing that could be undone: {how}.",
            hint=f"`migrator show {record.run_id}` tells its story.",
            code="nothing_to_undo",
        )
    if record.direction is Direction.ROLLBACK:
        raise Refused(
            f"Run {record.run_id} is itself a rollback.",
            hint=f"To apply its changesets again: migrator run {record.changelog} --env {record.environment}",
            code="is_a_rollback",
        )


def _of_run(run: Run, held: Sequence[LedgerRow], run_id: str) -> list[LedgerRow]:
    found = run.journal.get(run_id)
    refuse_run(found)
    if found.target != run.target:
        raise Refused(
            f"Run {run_id} was one of {found.record.database}, and environment {run.environment.name} is {run.login}.",
            hint=f"Name its environment: --env {found.record.environment}",
            code="another_database",
        )
    for other in run.journal.history(run.environment.name, _REMEMBERED):
        undone = other.facts.get("undo")
        if other.record.outcome in _UNDONE and isinstance(undone, dict) and undone.get("run_id") == run_id:
            raise Refused(f"Run {run_id} was undone by run {other.record.run_id}.", code="undone_already")
    facts = Facts.model_validate(found.facts)
    had = {row.key for row in state.ledger_rows(facts) or []}
    skipped = {(c.path, c.id, c.author) for c in found.record.changesets if c.status in {"skipped", "pending"}}
    there = {row.key for row in held}
    never_there = skipped - there
    added = [one.key for one in facts.planned if one.key not in had and one.key not in never_there]
    if not added and not any(one.rerun for one in facts.planned):
        raise Refused(f"Run {run_id} has added nothing to the ledger.", code="nothing_to_undo")
    again = ["::".join(one.key) for one in facts.planned if one.rerun]
    return undo.of_run(held, run_id, executed=added, again=again)


def _changelogs(run: Run, chosen: Sequence[LedgerRow]) -> list[str]:
    if run.undo.run_id is not None:
        return [run.journal.get(run.undo.run_id).record.changelog]
    by_run: dict[tuple[str, str, str], str] = {}
    for other in run.journal.history(run.environment.name, _REMEMBERED):  # the newest first
        if other.target == run.target and other.record.direction is Direction.UPDATE:
            for c in other.record.changesets:
                by_run.setdefault((c.path, c.id, c.author), other.record.changelog)
    root = run.config.liquibase.root
    named: list[str] = []
    for row in chosen:
        candidates = [by_run.get(row.key), row.path]
        one = next((name for name in candidates if name is not None and (root / name).is_file()), None)
        if one is None:
            raise Refused(
                f"No changelog below {root} is known to hold {'::'.join(row.key)}.",
                hint="Name it with --changelog; several can be named.",
                code="no_changelog",
            )
        if one not in named:
            named.append(one)
    return named
