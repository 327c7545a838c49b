"""What an attempt on a copy would do to the whole server that the copy is on: roles, databases, programs, dblink.

A copy keeps the target's data from harm. It does not keep its server from what belongs to all databases of it.
"""

from __future__ import annotations

from migrator.liquibase import changelog as changelogs
from migrator.liquibase import sql_findings
from migrator.liquibase.changelog import Seen
from migrator.liquibase.models import ChangesetState
from migrator.plans.findings.places import Places
from migrator.rehearsals.origin import Origin
from migrator.runs import liquibase_session
from migrator.runs.run import Run

CODE = "outside_database"


def found(run: Run, origin: Origin) -> Seen | None:
    """The first statement that reaches outside the database and would be executed on a copy of `origin`.

    What ran on the target already does not run on a copy that has its ledger. Only reads.
    Raises: Refused where a run would refuse the changelog, StepFailed.
    """
    seen = pending(run) if origin.kind in {"schema", "clone"} else _all(run)
    run.end_workers()  # the attempt has its own
    return next(iter(seen), None)


def pending(run: Run) -> list[Seen]:
    """All such statements, save those in changesets that the target would not run."""
    root = run.config.liquibase.root
    seen = _all(run)
    if not seen:
        return []
    with liquibase_session.opened(run, mode="read_only") as liquibase:
        changesets = liquibase.changesets(run.record.changelog)
    states = {one.key: one.state for one in changesets}
    places = Places(root, changesets, changelogs.screen(root, run.record.changelog, run.parameters).files)
    return [
        one
        for one in seen
        if (key := places.at(one.file, one.line)) is None or states.get(key) is ChangesetState.PENDING
    ]


def not_taken_back(seen: list[Seen]) -> Seen | None:
    """The first of them that a rollback leaves as it is."""
    return next((one for one in seen if sql_findings.is_irreversible(one.message)), None)


def told(one: Seen) -> str:
    """What it is, and where it stands."""
    return f"{one.message} ({one.file}{f':{one.line}' if one.line else ''})"


def _all(run: Run) -> list[Seen]:
    screened = changelogs.screen(run.config.liquibase.root, run.record.changelog, run.parameters)
    return [one for one in screened.findings if one.code == CODE]
