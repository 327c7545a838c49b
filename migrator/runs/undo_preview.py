"""What a rollback would undo, shown to a person before anybody is held off."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass

from migrator.liquibase import ledger
from migrator.liquibase.models import Undoable
from migrator.postgres import connect
from migrator.runs import liquibase_session, undoing
from migrator.runs.run import Run
from migrator.runs.steps import lock


@dataclass(frozen=True, kw_only=True)
class Shown:
    changesets: tuple[Undoable, ...]  # newest first
    sql: str


def show(run: Run) -> Shown:
    """What a rollback would undo, and the SQL of it. Reads only; the caller closes the run.

    Raises: Refused as the rollback itself would, where the ledger or the changelogs are the reason.
    """
    lock.refuse_system_databases(run)
    run.server = connect.server_info(run.the_admin())
    run.facts.system_identifier = run.server.system_identifier
    with closing(run.session("preflight", read_only=True)) as target:
        chosen = undoing.rows(run, ledger.read(target, run.ledger_schema))
    if not chosen:
        return Shown(changesets=(), sql="")
    undoing.name_changelogs(run, chosen)
    with liquibase_session.opened(run, mode="read_only") as liquibase:
        changesets = undoing.plan(run, chosen, liquibase)
        return Shown(
            changesets=tuple(changesets), sql=liquibase.rollback_count_sql(run.undo.changelogs, len(changesets))
        )
