"""`migrator rehearse`: the run, its rollback and the run again, on a scratch copy."""

from __future__ import annotations

from typing import Annotated

import typer

from migrator.cli import opening, output, trial
from migrator.cli.options import AsJson, Changelog, ConfigPath, EnvironmentName, Overrides, Parameters, TargetUrl


def rehearse(
    changelog: Changelog,
    *,
    config: ConfigPath = None,
    env: EnvironmentName = None,
    url: TargetUrl = None,
    source: Annotated[
        str,
        typer.Option(
            "--from",
            metavar="SOURCE",
            help="What is rehearsed on: clone, schema, backup:ID or dump:FILE.",
        ),
    ] = "clone",
    rest: Annotated[str | None, typer.Argument(metavar="ID|FILE", hidden=True)] = None,
    allow_lossy_rollback: Annotated[
        bool,
        typer.Option("--allow-lossy-rollback", help="Pass though a rollback does not bring back what was there."),
    ] = False,
    param: Parameters = None,
    overrides: Overrides = None,
    as_json: AsJson = False,
) -> None:
    """Rehearse a changelog on a scratch copy: apply, verify, roll back, prove it, apply again, verify.

    The target is only read. Every changeset's rollback is tried by itself: what it does not bring back is told by
    table and column. Where the rehearsal passed and signing.key is set, an attestation is written, which an
    environment can ask for (require_attestation). Exit code 0: it passed; 3: it did not.

    \b
    migrator rehearse changelogs/2026.02-loyalty/changelog.xml --env staging
    migrator rehearse db/release.sql -e staging --from backup 20261123t175103_4f1c-production
    migrator rehearse db/release.sql -e staging --from schema --json
    """
    from migrator.rehearsals.origin import Origin
    from migrator.rehearsals.rehearsal import Wish, rehearse
    from migrator.reports import rehearsal as report

    origin = Origin.parse(source if rest is None else f"{source} {rest}")
    loaded, environment = opening.opened(config, env, overrides=overrides, url=url)
    run = trial.opened(loaded, environment, changelog, param=param, as_json=as_json)
    if not as_json:
        output.note(f"rehearsal {run.id} of {run.record.changelog}\n{environment.name}: {run.login}\n")
    record = rehearse(run, Wish(origin=origin, allow_lossy_rollback=allow_lossy_rollback))
    trial.tell(run, record, report, as_json=as_json)
