"""`migrator clean`: what runs have kept is dropped after its retention, never earlier."""

from __future__ import annotations

from contextlib import closing
from typing import Annotated

import typer

from migrator.cli import opening, output
from migrator.cli.confirm import confirm
from migrator.cli.options import AsJson, AssumeYes, ConfigPath, EnvironmentName, Overrides


def clean(
    *,
    config: ConfigPath = None,
    env: EnvironmentName = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what would be dropped.")] = False,
    overrides: Overrides = None,
    yes: AssumeYes = False,
    as_json: AsJson = False,
) -> None:
    """Drop the databases that were kept after a swap, and clones, once they are older than backup.keep_days.

    Shows which, asks, and drops them, and scratch databases that a killed dry run or rehearsal left. Those of other
    databases and of unfinished runs are left alone, and so are side databases of halted runs: they are evidence.

    \b
    migrator clean --env production
    migrator clean --env production --dry-run
    """
    from migrator.runs import byhand
    from migrator.runs.byhand import kept as keeping
    from migrator.runs.byhand import prune
    from migrator.runs.steps import lock

    loaded, environment = opening.opened(config, env, overrides=overrides)
    with closing(byhand.opened(loaded, environment, doing="clean")) as run:
        byhand.refuse_if_at_work(run)
        lock.take(run)
        admin = run.the_admin()
        now = keeping.now_of(admin)
        found = keeping.listing(
            loaded,
            environment,
            admin,
            database=run.database,
            system_identifier=run.facts.system_identifier or "unknown",
        )
        going = [one for one in found if one.may_go(now)]
        for one in found:
            output.note(keeping.told(one, now=now))
        if going and not dry_run:
            confirm(f"Drop {len(going)} of {len(found)} kept databases?", assume_yes=yes)
            for one in going:
                if one.backup is not None:
                    prune.delete(run, one.backup)
                else:
                    keeping.drop(admin, one, now=now)
    dropped = [] if dry_run else [one.name for one in going]
    if as_json:
        output.json_result(
            {
                "dropped": dropped,
                "would_drop": [one.name for one in going] if dry_run else [],
                "kept": [keeping.as_json(one, now=now) for one in found if one.name not in dropped],
            }
        )
    elif dry_run:
        output.result(f"{len(going)} would be dropped, {len(found) - len(going)} kept")
    else:
        output.result(f"{len(dropped)} dropped, {len(found) - len(dropped)} kept")
