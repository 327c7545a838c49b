"""What the manifest of a run's backup says: enough to prove and to restore without any journal."""

from __future__ import annotations

import json

from migrator import __version__
from migrator.backups import Made
from migrator.backups import manifest as manifests
from migrator.postgres import fence, properties
from migrator.postgres.schema_fingerprint import SchemaFingerprint
from migrator.runs.facts import sequences_of
from migrator.runs.run import Run


def manifest_of(
    run: Run, made: Made, *, backup_id: str, kind: str, extra: tuple[manifests.FileEntry, ...] = ()
) -> manifests.Manifest:
    """The manifest of a backup that this run made; what is not known of the state before is left out."""
    facts = run.facts
    admin = run.the_admin()
    standing = fence.read(admin, run.database)
    before = standing.previous if standing is not None else properties.read(admin, run.database)
    schema = facts.schema_before or {}
    return manifests.Manifest(
        id=backup_id,
        kind=kind,
        run_id=run.id,
        environment=run.environment.name,
        created_at=run.now(),
        system_identifier=facts.system_identifier or "unknown",
        database=run.database,
        database_oid=before.oid,
        server_version=run.record.versions.get("postgresql", ""),
        tools={**made.tools, "migrator": __version__},
        files=(*made.files, *extra),
        copy_name=made.copy_name,
        copy_oid=made.copy_oid,
        roles=made.roles,
        extensions=made.extensions,
        schema_digest=SchemaFingerprint(objects=schema).digest,
        schema_objects=schema,
        tables={
            name: manifests.TableState(rows=table.rows, digest=table.digest, columns=table.columns)
            for name, table in (facts.tables_before or {}).items()
        },
        sequences={
            name: manifests.SequenceState(last_value=state.last_value, is_called=state.is_called)
            for name, state in sequences_of(facts).items()
        },
        large_objects=(
            manifests.TableState(rows=facts.large_objects_before.rows, digest=facts.large_objects_before.digest)
            if facts.large_objects_before is not None
            else None
        ),
        properties=json.loads(json.dumps(dict(before.to_json()))),
        facts={"changelog": run.record.changelog, "way": str(run.record.way), **made.facts},
    )
