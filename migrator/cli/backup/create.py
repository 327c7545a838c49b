"""`migrator backup create`: a backup of one moment, outside any run."""

from __future__ import annotations

from migrator.cli import opening, output
from migrator.cli.options import AsJson, ConfigPath, EnvironmentName, Overrides


def create(
    *, config: ConfigPath = None, env: EnvironmentName = None, overrides: Overrides = None, as_json: AsJson = False
) -> None:
    """Make a backup now, of one moment, with the fingerprints that a restore of it must have.

    Nobody is held off: what others write after that moment is not in it. No run can begin while it is made.

    \b
    migrator backup create --env production
    migrator backup create --env production --json | jq -r .backup_id
    """
    from migrator.reports import wording
    from migrator.runs.byhand.create import create as make
    from migrator.runs.byhand.create import wanting_a_dump

    with opening.by_hand(config, env, overrides, doing="backup by hand") as run:
        run.environment = wanting_a_dump(run.environment)
        if not as_json:
            output.note(f"backing up {run.login}; others may read and write meanwhile")
        made = make(run)
        [record] = run.record.backups
        warnings = run.record.warnings
    if as_json:
        output.json_result(
            {
                "backup_id": made.id,
                "kind": made.kind,
                "location": record.location,
                "size_bytes": made.size_bytes,
                "duration_s": record.duration_s,
                "tables": len(made.tables),
                "others_may_write": True,
                "warnings": warnings,
            }
        )
        return
    for warning in warnings:
        output.note(f"warning: {warning}")
    output.result(f"backup {made.id}: {wording.size(made.size_bytes)} in {record.location}")
    output.result(
        f"{wording.count(len(made.tables), 'table')} fingerprinted at its snapshot; nobody was held off: "
        "what was written since is not in it"
    )
    output.result(f"prove that it restores: migrator backup verify {made.id} --restore --env {made.environment}")
