"""What a run would do to the scratch copy, found out before anything is done: by the same code as a plan and a run."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass

from migrator.backfills import discovery
from migrator.backfills.discovery import Placed
from migrator.liquibase import ledger
from migrator.liquibase.models import Changeset
from migrator.plans import concerned, impact, pending, way
from migrator.plans.way import Choice
from migrator.postgres import catalog, schema_fingerprint
from migrator.postgres.catalog import Relation
from migrator.runs import attested, liquibase_session
from migrator.runs.run import Run


@dataclass(frozen=True, kw_only=True)
class Outlook:
    changesets: tuple[Changeset, ...]  # pending, in their order
    words: frozenset[str]  # the identifiers in them
    backfills: tuple[Placed, ...]  # that follow one of them
    choice: Choice  # the way that a run of the environment would take
    schema_objects: Mapping[str, str]  # of the objects that they touch, before they run
    relations: tuple[Relation, ...]
    files: Mapping[str, str]  # of the changelog -> SHA-256

    def tables_of(self, changeset: Changeset) -> frozenset[str]:
        """The existing tables that one changeset names."""
        return impact.of([changeset], self.relations).named


def look(run: Run, trial: Run) -> Outlook:
    """What is pending on the scratch copy of `trial`, and how `run`'s environment would apply it. Writes nothing.

    Raises: Refused as a run would, where the changelog is the reason.
    """
    files = attested.files(run)
    with closing(trial.session("preflight", read_only=True)) as session:
        held = ledger.read(session, trial.ledger_schema)
        relations = catalog.tables(session)
        schema = schema_fingerprint.of_schema(session).as_restored().objects
    with liquibase_session.opened(trial, mode="read_only") as liquibase:
        known = liquibase.changesets(run.record.changelog)
    found = pending.pending(known, held, run.config.liquibase.root)
    words = impact.of(found, relations).words
    keys = {changeset.key for changeset in found}
    placed = discovery.beside(run.record.changelog, known, run.config.liquibase.root)
    backfills = tuple(one for one in placed if one.changeset in keys)
    environment = run.environment
    return Outlook(
        changesets=tuple(found),
        words=words,
        backfills=backfills,
        choice=way.choose(
            environment.way,
            found,
            protected=environment.protected,
            maintenance=environment.maintenance.database,
            hindrances=[] if environment.bluegreen or environment.way == "bluegreen" else None,
            backfills=[one.backfill for one in backfills],
        ),
        schema_objects=concerned.objects(schema, words),
        relations=tuple(relations),
        files=files,
    )
