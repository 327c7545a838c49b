"""A database with a history of its own is taken over: its ledger gets the paths, or the rows, of this changelog.

Nothing but the ledger is written, in one transaction in which Liquibase itself says what is pending then.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import closing

from migrator.errors import Locked, Refused, Unfinished, VerificationFailed
from migrator.failpoints import Effect, doing
from migrator.liquibase import changelog as screening
from migrator.liquibase import ledger
from migrator.liquibase.ledger import LedgerRow
from migrator.liquibase.models import Changeset, ChangesetState
from migrator.liquibase.session import Liquibase
from migrator.plans import adoption, obstacles, own_tables
from migrator.plans.adoption import Adoption
from migrator.runs import liquibase_session
from migrator.runs.byhand import refuse_if_at_work
from migrator.runs.run import Run
from migrator.runs.steps import lock

LEDGER_FILE = "ledger-before.json"
_TABLES = """
SELECT c.relname FROM pg_catalog.pg_class AS c JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p', 'f') AND n.nspname !~ '^(pg_|information_schema$)'
"""


def look(run: Run, changelog: str, *, tag: str | None) -> Adoption:
    """What `write` would write. The lock is held from here on, and the run's folder has the ledger as it is.

    `tag`: without a ledger, only the changesets up to the one with this tag.
    Raises: Locked, Unfinished; Refused where it is not sure that the changesets have run here.
    """
    lock.refuse_system_databases(run)
    refuse_if_at_work(run)
    lock.take(run)
    _refuse_unfinished(run)
    for one in screening.screen(run.config.liquibase.root, changelog, run.parameters).findings:
        run.warn(f"{one.file}{f':{one.line}' if one.line else ''}: {one.message}")
    if run.server is not None:
        obstacles.refuse(obstacles.of_server(run.server))
    with closing(run.session("preflight", read_only=True)) as target:
        obstacles.refuse(obstacles.of_pooler(target))
        rows = ledger.read(target, run.ledger_schema)
        holder = ledger.lock_holder(target, run.ledger_schema)
        tables = {name or "" for (name,) in target.rows(_TABLES)} - set(own_tables.NAMES)
    if holder is not None:
        raise Locked(
            f"Liquibase's changelog lock is set by {holder.locked_by} (since {holder.granted_at}).",
            hint="Wait until it is done; if it is gone: UPDATE databasechangeloglock SET locked = false;",
        )
    _keep(run, rows)
    if rows and tag is not None:
        raise Refused(
            "--to-tag is for a database without a ledger, and this one has one.",
            hint="Leave it out.",
            code="has_ledger",
        )
    with liquibase_session.opened(run, mode="read_only") as liquibase:
        changesets = liquibase.changesets(changelog)
    if rows:
        return adoption.moves(changesets, rows)
    return _marks(run, changelog, tag, changesets, tables)


def write(run: Run, changelog: str, wanted: Adoption, *, tag: str | None) -> None:
    """The ledger is what `wanted` says; everything was verified before the commit. Only after `look`, in one process.

    Raises: VerificationFailed, and the ledger is as it was.
    """
    before = _kept(run)
    with liquibase_session.opened(run, mode="held") as liquibase:
        liquibase.begin()
        now = ledger.read(liquibase, run.ledger_schema)
        if [row.columns for row in now or []] != [row.columns for row in before]:
            raise VerificationFailed("The ledger is not what it was when it was looked at.", hint="Call it once more.")
        if wanted.moved:
            ledger.move(liquibase, run.ledger_schema, [(one.row, one.changeset.path) for one in wanted.moved])
        else:
            liquibase.changelog_sync(changelog, tag=tag)
        after = _verified(run, liquibase, changelog, wanted, before)
        liquibase.commit()
    with closing(run.session("verify", read_only=True)) as session:
        if ledger.read(session, run.ledger_schema) != after:
            raise VerificationFailed("After the commit the ledger is not what was verified: somebody else wrote it.")


def _marks(run: Run, changelog: str, tag: str | None, changesets: Sequence[Changeset], tables: set[str]) -> Adoption:
    """Which rows Liquibase would write: it does so, and is rolled back."""
    with liquibase_session.opened(run, mode="held") as liquibase:
        liquibase.begin()
        liquibase.changelog_sync(changelog, tag=tag)
        rows = ledger.read(liquibase, run.ledger_schema) or []
        liquibase.rollback()
    marked = ["::".join(row.key) for row in rows]
    adoption.refuse_absent(changesets, set(marked), tables)
    left = [c.key for c in changesets if c.state is ChangesetState.PENDING and c.key not in set(marked)]
    return Adoption(marked=tuple(marked), pending=tuple(left))


def _verified(
    run: Run, liquibase: Liquibase, changelog: str, wanted: Adoption, before: Sequence[LedgerRow]
) -> list[LedgerRow]:
    """The ledger in the open transaction. Raises: VerificationFailed, Refused when it is not what was wanted."""
    after = ledger.read(liquibase, run.ledger_schema) or []
    paths = {move.row.key: move.changeset.path for move in wanted.moved}
    expected = [
        {**row.columns, "filename": paths[row.key]} if row.key in paths else dict(row.columns) for row in before
    ]
    if wanted.moved and [dict(row.columns) for row in after] != expected:
        raise VerificationFailed("Something else of the ledger would have changed; nothing was written.")
    if wanted.marked and sorted("::".join(row.key) for row in after) != sorted(wanted.marked):
        raise VerificationFailed("Liquibase marked others than it had before; nothing was written.")
    changesets = liquibase.changesets(changelog)
    adoption.refuse_changed(changesets)
    mapped = {move.changeset.key for move in wanted.moved} | set(wanted.marked)
    pending = [
        c.key
        for c in changesets
        if c.key in mapped and c.state is ChangesetState.PENDING and not (c.run_always or c.run_on_change)
    ]
    if pending:
        raise VerificationFailed(f"{pending[0]} would still be pending; nothing was written.")
    return after


def _refuse_unfinished(run: Run) -> None:
    unfinished = run.journal.unfinished(run.target)
    if unfinished is not None:
        raise Unfinished(
            f"Run {unfinished.run_id} of {run.database} has not ended.",
            hint=f"End it first: migrator resume {unfinished.run_id}",
        )


def _keep(run: Run, rows: Sequence[LedgerRow] | None) -> None:
    path = run.folder / LEDGER_FILE
    text = json.dumps(None if rows is None else [dict(row.columns) for row in rows], ensure_ascii=False, indent=1)
    try:
        with doing(Effect.WORK_FILE):
            path.write_text(text, encoding="utf-8")
            path.chmod(0o600)
    except OSError as error:
        raise Refused(f"The ledger cannot be kept in {path}: {error.strerror or error}.") from error


def _kept(run: Run) -> list[LedgerRow]:
    columns = json.loads((run.folder / LEDGER_FILE).read_text(encoding="utf-8"))
    return [LedgerRow(columns=one) for one in columns or []]
