"""Whether somebody else has changed the schema since the last verified run: what a run leaves, and what it finds."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import closing

from migrator.errors import MigratorError, Refused
from migrator.plans import concerned, drift
from migrator.plans.drift import Drift
from migrator.postgres import connect, schema_fingerprint
from migrator.runs.journal_schemas import KeptSchema
from migrator.runs.record import Outcome
from migrator.runs.run import Run
from migrator.runs.words import count

_VERIFIED = {Outcome.MIGRATED, Outcome.BROUGHT_BACK}
_NAMED = 5  # differences that a message names


def left_by(run: Run) -> Mapping[str, str] | None:
    """The objects of the schema that the run leaves, where it ended well; None otherwise, or when they cannot be read.

    A resumed run has not seen them itself, and a restore by hand neither: they are read now.
    """
    if run.record.outcome not in _VERIFIED or run.options.rehearsal:
        return None
    if run.schema_left is not None:
        return run.schema_left
    try:
        with closing(run.session("verify", read_only=True)) as session:
            return schema_fingerprint.of_schema(session).objects
    except MigratorError as error:
        run.warn(f"The schema could not be noted, so drift from it will not be seen: {error.message}")
        return None


def gate(run: Run) -> str | None:
    """What was found, when it does not stand in the way; None where the environment does not ask.

    Raises: Refused where on_drift says so, naming what differs.
    """
    environment = run.environment
    if environment.on_drift == "ignore":
        return None
    with closing(run.session("preflight", read_only=True)) as session:
        if run.facts.system_identifier is None:
            run.facts.system_identifier = connect.server_info(session).system_identifier
        kept = run.journal.schema(run.target)
        if kept is None:
            return "The journal knows no verified run of this database, so there is no schema to compare with."
        found = schema_fingerprint.of_schema(session).objects
    drifted = drift.compare(kept.objects, found, ignore=environment.drift.ignore)
    if environment.drift.scope == "touched":
        drifted = _touched(run, drifted, kept, found)
    where = "" if environment.drift.scope == "all" else " in what this changelog touches"
    if not drifted:
        return f"No drift{where}, compared with {kept}."
    says = f"Drift{where}: {named(drifted)}; compared with {kept}."
    if environment.on_drift == "refuse":
        raise Refused(
            says,
            hint=f"See it with: migrator drift --env {environment.name}. What is right as it is now is accepted with: "
            f"migrator drift --env {environment.name} --accept REASON",
            code="drift",
        )
    differences = count(len(drifted.differences), "object")
    run.warn(f"Drift: {differences}{where}, see the gates and: migrator drift --env {environment.name}")
    return says


def named(found: Drift) -> str:
    """The first differences, and the number of the others."""
    names = [f"{one.identity} ({one.change.value})" for one in found.differences]
    more = len(names) - _NAMED
    return ", ".join(names[:_NAMED]) + (f" and {count(more, 'other')}" if more > 0 else "")


def _touched(run: Run, found: Drift, kept: KeptSchema, now: Mapping[str, str]) -> Drift:
    identities = {*concerned.objects(kept.objects, run.facts.words), *concerned.objects(now, run.facts.words)}
    return found.touching(identities, run.facts.named)
