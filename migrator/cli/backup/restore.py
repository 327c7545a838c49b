"""`migrator backup restore`: shows what would be lost, asks for the environment's name, restores as a guarded run."""

from __future__ import annotations

from typing import TYPE_CHECKING

from migrator.cli import conduct, opening, output
from migrator.cli.backup import beside
from migrator.cli.confirm import ConfirmedName, confirm_name
from migrator.cli.options import AsJson, BackupId, ConfigPath, EnvironmentName, Overrides

if TYPE_CHECKING:
    from migrator.runs.byhand.restoring import Preview
    from migrator.runs.run import Run

_SHOWN = 20


def restore(
    backup_id: BackupId,
    *,
    config: ConfigPath = None,
    env: EnvironmentName = None,
    confirm: ConfirmedName = None,
    overrides: Overrides = None,
    as_json: AsJson = False,
) -> None:
    """Bring the database back to a backup: restored beside it, compared, swapped in. Shows first what would be lost.

    Users are held off meanwhile. The replaced database is kept closed, as mig_RUN_old. The exit code tells the state
    of the database: 0 it is the backup, 3 refused, 4 a run is at work, 5 failed and as before, 8 it is the backup with
    something left to do, 9 a person is needed, 10 not ended (migrator resume).

    A backup of RDS (rds, aurora, pitr) is restored as another server, and no name is swapped: `migrator backup swap`
    does that.

    \b
    migrator backup restore 20261123t175103_4f1c-production --env production
    migrator backup restore 20261123t175103_4f1c-production --env production --confirm production --json
    """
    from migrator.runs import byhand, engine, stores
    from migrator.runs.byhand import restoring
    from migrator.runs.byhand.beside import is_of_server
    from migrator.runs.journal import Journal

    loaded, named = opening.opened(config, env, overrides=overrides)
    environment = restoring.held_offline(named)
    run = byhand.opened(
        loaded,
        environment,
        doing=f"backup {backup_id}",
        journal=Journal.open(loaded.journal.url, loaded.base),
        reporter=conduct.reporter(silent=as_json),
    )
    try:
        found = stores.of(run).read(backup_id)
        if is_of_server(found):
            beside.restore(run, found, as_json=as_json)
            run.close()
            return
        output.note("reading the backup, and comparing the database with it")
        seen = restoring.preview(run, backup_id)
        for line in _lines(run, seen):
            output.note(line)
        confirm_name(environment.name, confirm, replaced=run.database)
    except BaseException:
        run.close()
        raise
    conduct.conduct(run, engine.execute, as_json=as_json)


def _lines(run: Run, seen: Preview) -> list[str]:
    from migrator.reports import wording

    made = f"{seen.manifest.created_at:%Y-%m-%d %H:%M:%S} UTC"
    lines = [f"{run.environment.name}: {run.login} goes back to backup {seen.manifest.id} of {made}"]
    lines += [f"not compared: {why}" for why in seen.not_seen]
    if seen.losses:
        lines.append(f"what differs from the backup, and would be lost ({wording.count(len(seen.losses), 'table')}):")
        lines += [f"  {wording.one_line(str(loss))}" for loss in seen.losses[:_SHOWN]]
        lines += [f"  and {len(seen.losses) - _SHOWN} more"] if len(seen.losses) > _SHOWN else []
    elif not seen.not_seen:
        lines.append("every table has the rows of the backup: none would be lost")
    if seen.schema_changes:
        shown = ", ".join(seen.schema_changes[:5]) + (" ..." if seen.schema_changes[5:] else "")
        lines.append(f"schema objects that differ: {len(seen.schema_changes)} ({wording.one_line(shown)})")
    return lines
