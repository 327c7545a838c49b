"""The plan as a document: for a run what its digest covers, for a person all that was found out."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

from pydantic import JsonValue

from migrator import __version__
from migrator.liquibase.models import Changeset, ChangesetState
from migrator.plans import attestation, concerned, parameters, proof
from migrator.plans.parameters import Mask
from migrator.plans.plan import BackfillView, BackupView, LeftOut, ObstacleView, Plan, PlannedChangeset, ProofView
from migrator.runs import attested, outlook
from migrator.runs.facts import PlannedBackfill
from migrator.runs.planning import Planning
from migrator.runs.run import Run

# Settings that decide what is done. `jobs` and paths are the machine's, and left out; checks count by their content.
_SETTINGS = (
    *("way", "bluegreen", "contexts", "labels", "default_schema", "liquibase_schema", "protected", "proof"),
    *("maintenance.database", "backup.kinds", "backup.restore", "limits"),
    *("checks.inside", "checks.inside_timeout_s", "checks.expected_writes"),
)
_LEFT_OUT = frozenset(state.value for state in ChangesetState) - {"pending"}


def of(planning: Planning) -> Plan:
    """What is planned, and its digest. Who is in the way, and the like, stands in a plan for a person only."""
    run, environment = planning.run, planning.run.environment
    mask = mask_of(run)
    planned = {"::".join(one.key): one for one in run.facts.planned}
    chosen = [one for one in planning.chosen if isinstance(one, Changeset)]
    seen = outlook.of(planning, mask) if planning.looks else outlook.Outlook()
    return Plan(
        environment=environment.name,
        server=_server(run),
        database=run.database,
        changelog=run.record.changelog,
        files={} if planning.screened is None else attested.files_of(run, planning.screened),
        changesets=tuple(
            _changeset(one, mask, again=planned[one.key].rerun, has_ledger=planning.held is not None) for one in chosen
        ),
        backfills=tuple(_backfill(one) for one in run.facts.backfills),
        requires={key: tuple(names) for key, names in run.facts.requires.items()},
        way=run.record.way,
        fallback=run.record.fallback,
        parameters=parameters.digests(run.parameters, salt=f"{environment.name}\0{run.record.changelog}"),
        settings=_settings(run),
        checks=_checks(run),
        schema_objects=_schema_objects(planning),
        versions={
            "migrator": __version__,
            "liquibase": run.record.versions.get("liquibase", "unknown"),
            "postgresql": run.server.version if run.server is not None else "unknown",
        },
        target=str(run.login),
        made_at=run.now(),
        has_ledger=planning.held is not None,
        way_reason=run.record.way_reason or "",
        proof=_proof(planning),
        backups=tuple(
            BackupView(
                kind=kind,
                where=environment.backup.store if kind == "dump" else "the database's own server",
                size_bytes=run.facts.tables_bytes,
            )
            for kind in environment.backup.kinds
        ),
        estimate=seen.estimate,
        disk=seen.disk,
        maintenance=environment.maintenance.database,
        outside=tuple(one.type for one in environment.maintenance.outside),
        others=seen.others,
        in_the_way=seen.in_the_way,
        tables=tuple(run.facts.named),
        left_out=tuple(_left_out(one) for one in planning.known if one.state.value in _LEFT_OUT),
        findings=seen.findings,
        gates=(),
        obstacles=obstacles_of(planning),
        warnings=tuple(mask.text(one) for one in run.record.warnings),
    ).with_digest()


def obstacles_of(planning: Planning) -> tuple[ObstacleView, ...]:
    """What was found in the way of a run, up to now."""
    mask = mask_of(planning.run)
    return tuple(ObstacleView(what=mask.text(one.what), remedy=mask.text(one.remedy)) for one in planning.obstacles)


def mask_of(run: Run) -> Mask:
    """Hides the values of changelog parameters that the configuration has by reference."""
    prefix = "parameters."
    secret = [key.removeprefix(prefix) for key in run.environment.references if key.startswith(prefix)]
    return Mask(run.environment.parameters, secret)


def _server(run: Run) -> str:
    """What tells the server from every other one, as far as this login may know."""
    known = run.server.system_identifier if run.server is not None else "unknown"
    return known if known != "unknown" else f"{run.login.host}:{run.login.port}"


def _settings(run: Run) -> dict[str, JsonValue]:
    """Dotted key -> value, of the settings that decide what is done."""
    document = run.environment.model_dump(mode="json")
    found: dict[str, JsonValue] = {}
    for key in _SETTINGS:
        value: JsonValue = document
        for part in key.split("."):
            value = value[part] if isinstance(value, dict) else None
        if isinstance(value, dict):
            found |= {f"{key}.{inner}": one for inner, one in value.items()}
        else:
            found[key] = value
    found["backup.store"] = _name(run, Path(run.environment.backup.store))
    found["maintenance.outside"] = [one.type for one in run.environment.maintenance.outside]
    return found


def _changeset(one: Changeset, mask: Mask, *, again: bool, has_ledger: bool) -> PlannedChangeset:
    precondition, says = one.precondition, one.precondition_says
    if one.has_preconditions and precondition == "none":
        precondition = "unknown"
        says = None if has_ledger else "there is no ledger yet"
    return PlannedChangeset(
        path=one.path,
        id=one.id,
        author=one.author,
        checksum=one.checksum,
        in_transaction=one.run_in_transaction,
        fails_quietly=not one.fail_on_error,
        runs_again=again,
        has_rollback=one.has_rollback,
        sql=mask.all(one.statements),
        rollback_sql=mask.all(one.rollback),
        file=one.file,
        line=one.line,
        comment=mask.text(one.comment) if one.comment else None,
        precondition=precondition,  # type: ignore[arg-type]  # one of the worker's four words
        precondition_says=mask.text(says) if says else None,
        on_fail=one.on_fail,
    )


def _backfill(one: PlannedBackfill) -> BackfillView:
    return BackfillView(
        name=one.name,
        checksum=one.checksum,
        table=one.table,
        after=one.after,
        inside=one.inside,
        rows=one.rows,
        leads_back=one.leads_back,
        capture=str(one.definition.get("capture", "none")),
    )


def _left_out(one: Changeset) -> LeftOut:
    return LeftOut(
        path=one.path,
        id=one.id,
        author=one.author,
        why=one.state.value,  # type: ignore[arg-type]  # any state but pending
        says=one.reason,
        ran_at=one.ran_at,
    )


def _checks(run: Run) -> Mapping[str, str]:
    settings = run.environment.checks
    return {_name(run, path): _sha256(path) for path in (*settings.suites, *settings.invariants)}


def _name(run: Run, path: Path) -> str:
    return path.relative_to(run.config.base).as_posix() if path.is_relative_to(run.config.base) else str(path)


def _sha256(path: Path) -> str:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        return f"unreadable: {error.strerror}"


def _schema_objects(planning: Planning) -> Mapping[str, str]:
    if planning.schema is None:
        return {}
    return attestation.digests(concerned.objects(planning.schema.objects, planning.run.facts.words))


def _proof(planning: Planning) -> ProofView | None:
    run, found = planning.run, planning.proof
    if found is None:
        return None
    settings = run.environment.checks
    return ProofView(
        level=found.level,
        reason=found.reason,
        tables=len(found.tables),
        estimate_s=round(found.estimate_s, 3),
        will_not_prove=tuple(
            proof.not_proven(
                found.level,
                maintenance=run.environment.maintenance.database,
                has_checks=bool(settings.suites or settings.invariants),
                unhashed=len(run.relations) - len(found.tables) - (2 if planning.held is not None else 0),
            )
        ),
    )
