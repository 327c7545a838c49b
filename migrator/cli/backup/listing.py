"""`migrator backup list` and `show`: what is in the store, and what each backup holds."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from migrator.cli import opening, output
from migrator.cli.options import AsJson, BackupId, ConfigPath, EnvironmentName, Overrides

if TYPE_CHECKING:
    from migrator.backups.manifest import Manifest
    from migrator.backups.store import Listed, Store
    from migrator.config.models import Environment


def list_(
    *,
    config: ConfigPath = None,
    env: EnvironmentName = None,
    everything: Annotated[
        bool, typer.Option("--all", help="Also those of other environments that share the store.")
    ] = False,
    overrides: Overrides = None,
    as_json: AsJson = False,
) -> None:
    """List the backups in the environment's store, the oldest first, and what does not count as one. Reads only.

    \b
    migrator backup list --env production
    """
    environment, store = _store(config, env, overrides)
    found = [
        one
        for one in store.listing()
        if everything or one.manifest is None or one.manifest.environment == environment.name
    ]
    if as_json:
        output.json_result([_summary(one) for one in found])
    elif not found:
        output.note(f"no backup of environment {environment.name} in {store.place}")
    else:
        output.result(output.table(("backup", "environment", "database", "made", "kind", "size"), _rows(found)))
    if not as_json:
        for one in found:
            if one.problem is not None:
                output.note(f"not a backup: {one.id}: {one.problem}")


def show(
    backup_id: BackupId,
    *,
    config: ConfigPath = None,
    env: EnvironmentName = None,
    overrides: Overrides = None,
    as_json: AsJson = False,
) -> None:
    """Say what a backup is of and what it holds, from its manifest. Contents are not read: see backup verify.

    \b
    migrator backup show 20261123t175103_4f1c-production
    """
    _, store = _store(config, env, overrides)
    found = store.read(backup_id)
    if as_json:
        output.result(found.model_dump_json(indent=2))
        return
    output.lines(_story(found, store))


def _store(config: ConfigPath, env: str | None, overrides: list[str] | None) -> tuple[Environment, Store]:
    from migrator.runs import stores

    loaded, environment = opening.opened(config, env, overrides=overrides)
    return environment, stores.of_environment(loaded, environment)


def _rows(found: Sequence[Listed]) -> list[tuple[str, ...]]:
    from migrator.reports import wording

    return [
        (
            one.manifest.id,
            one.manifest.environment,
            one.manifest.database,
            one.manifest.created_at.astimezone().strftime("%Y-%m-%d %H:%M"),
            one.manifest.kind,
            wording.size(one.manifest.size_bytes) if one.manifest.files else one.manifest.copy_name or "",
        )
        for one in found
        if one.manifest is not None
    ]


def _summary(one: Listed) -> dict[str, object]:
    if one.manifest is None:
        return {"backup_id": one.id, "problem": one.problem}
    return {
        "backup_id": one.id,
        "problem": None,
        "environment": one.manifest.environment,
        "database": one.manifest.database,
        "kind": one.manifest.kind,
        "created_at": one.manifest.created_at.isoformat(),
        "size_bytes": one.manifest.size_bytes,
        "run_id": one.manifest.run_id,
        "copy_name": one.manifest.copy_name,
        "signed": one.manifest.signature is not None,
    }


def _story(found: Manifest, store: Store) -> Iterator[str]:
    from migrator.reports import wording

    rows = sum(table.rows for table in found.tables.values())
    yield f"backup {found.id} ({found.kind}), made {found.created_at:%Y-%m-%d %H:%M:%S} UTC by run {found.run_id}"
    yield f"of       {found.environment}: database {found.database} (OID {found.database_oid})"
    yield f"server   PostgreSQL {found.server_version}, system identifier {found.system_identifier}"
    yield f"with     {', '.join(f'{name} {version}' for name, version in sorted(found.tools.items()))}"
    if found.copy_name is not None:
        yield f"copy     {found.copy_name} (OID {found.copy_oid}) on the same server"
    else:
        yield f"files    {len(found.files)}, {wording.size(found.size_bytes)}, in {store.location(found.id)}"
    yield (
        f"holds    {wording.count(len(found.tables), 'table')} with {wording.count(rows, 'row')}, "
        f"{wording.count(len(found.sequences), 'sequence')}, "
        f"{wording.count(len(found.schema_objects), 'schema object')}"
    )
    yield f"needs    roles {', '.join(found.roles) or 'none'}; extensions {', '.join(_extensions(found)) or 'none'}"
    yield f"signed   {'yes' if found.signature is not None else 'no'}"


def _extensions(found: Manifest) -> list[str]:
    return [f"{extension.name} {extension.version}" for extension in found.extensions]
