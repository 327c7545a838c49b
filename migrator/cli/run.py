"""`migrator run`: one guarded migration of one database."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from migrator.cli import conduct, opening
from migrator.cli.options import (
    AsJson,
    AssumeYes,
    ConfigPath,
    EnvironmentName,
    Overrides,
    Parameters,
    TargetUrl,
    Window,
)
from migrator.errors import UsageError

if TYPE_CHECKING:
    from migrator.plans.plan import Plan


def run(
    changelog: Annotated[
        str | None,
        typer.Argument(
            metavar="CHANGELOG",
            help="The changelog file: SQL, XML, YAML or JSON. With --plan: the plan's.",
            show_default=False,
        ),
    ] = None,
    *,
    plan: Annotated[
        Path | None,
        typer.Option("--plan", metavar="FILE", help="Carry out this plan, or refuse, naming what has changed since."),
    ] = None,
    config: ConfigPath = None,
    env: EnvironmentName = None,
    url: TargetUrl = None,
    way: Annotated[
        str | None, typer.Option("--way", metavar="WAY", help="auto, atomic, bluegreen or stepwise, for this run.")
    ] = None,
    param: Parameters = None,
    overrides: Overrides = None,
    window: Window = None,
    accept_no_way_back: Annotated[
        bool,
        typer.Option("--accept-no-way-back", help="Go on though a failure could not be taken back by itself."),
    ] = False,
    attestation: Annotated[
        Path | None,
        typer.Option(
            "--attestation",
            metavar="FILE",
            help="The rehearsal behind this run. Default: looked for in signing.attestations.",
        ),
    ] = None,
    override_gate: Annotated[
        str | None,
        typer.Option("--override-gate", metavar="REASON", help="Pass a closed gate where the configuration allows it."),
    ] = None,
    yes: AssumeYes = False,
    as_json: AsJson = False,
) -> None:
    """Take a database through a changelog: back up, hold users off, apply, verify; or bring it back.

    The exit code tells the state of the database: 0 migrated and verified, 3 refused, 4 another run is at work,
    5 failed before anything was migrated, 6 rolled back, 7 restored, 8 migrated with something left to do,
    9 halted with maintenance on, 10 not ended (migrator resume).

    \b
    migrator run changelogs/2026.02-loyalty/changelog.xml --env staging
    migrator run db/release.sql -e production --yes --json
    migrator run --plan plan.json
    """
    from migrator.runs import engine
    from migrator.runs.opening import new
    from migrator.runs.run import Options

    chosen = [*(overrides or ()), *([f"way={way}"] if way is not None else [])]
    loaded = opening.configuration(config, overrides=chosen, url=url, window=window, required=False)
    given = _plan(plan)
    if changelog is None and given is None:
        raise UsageError("which changelog?", hint="name one, or a plan: migrator run CHANGELOG, or --plan FILE")
    if override_gate is not None and not override_gate.strip():
        raise UsageError("--override-gate wants a reason", hint="for example --override-gate 'hotfix for ticket 4711'")
    environment = opening.environment(loaded, env or (given.environment if given is not None else None))
    opened = new(
        loaded,
        environment,
        Options(
            changelog=changelog or (given.changelog if given is not None else ""),
            plan=given,
            plan_file=plan,
            accept_no_way_back=accept_no_way_back,
            attestation=attestation,
            override_gate=override_gate,
            confirm=conduct.confirmer(assume_yes=yes),
        ),
        reporter=conduct.reporter(silent=as_json),
        parameters=conduct.parameters(param),
    )
    conduct.conduct(opened, engine.execute, as_json=as_json)


def _plan(path: Path | None) -> Plan | None:
    if path is None:
        return None
    from migrator.plans import plan_file

    return plan_file.read(path)
