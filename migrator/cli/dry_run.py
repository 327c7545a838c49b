"""`migrator dry-run`: everything executed, measured, and rolled back."""

from __future__ import annotations

from typing import Annotated

import typer

from migrator.cli import opening, trial
from migrator.cli.options import AsJson, Changelog, ConfigPath, EnvironmentName, Overrides, Parameters, TargetUrl


def dry_run(
    changelog: Changelog,
    *,
    config: ConfigPath = None,
    env: EnvironmentName = None,
    url: TargetUrl = None,
    on: Annotated[
        str,
        typer.Option("--on", metavar="WHERE", help="schema, clone, backup:ID, dump:FILE, or target."),
    ] = "schema",
    rest: Annotated[str | None, typer.Argument(metavar="ID|FILE", hidden=True)] = None,
    place: Annotated[
        str | None,
        typer.Option(
            "--at",
            metavar="SERVER",
            help="Where the copy is made: own (the target's server), server (scratch.url) or embedded. "
            "Default: the first that will do.",
        ),
    ] = None,
    param: Parameters = None,
    overrides: Overrides = None,
    as_json: AsJson = False,
) -> None:
    """Execute a changelog, measure what it does, and roll it back: on a copy, or on the target itself.

    Tells of each changeset what it locks and for how long, which tables it rewrites, which rows it changes, which
    indexes it builds, and what it writes; then what the checks say, and what remained. On a copy of the schema (the
    default) no seconds are told: there are no rows in it. Exit code 0: nothing speaks against a run; 3: something does.

    \b
    migrator dry-run changelogs/2026.02-loyalty/changelog.xml --env staging
    migrator dry-run db/release.sql -e staging --on clone
    migrator dry-run db/release.sql -e production --on backup:20261123t175103_4f1c-production
    migrator dry-run db/release.sql -e staging --on target --json
    """
    from migrator.errors import UsageError
    from migrator.rehearsals.dry_run import Wish
    from migrator.rehearsals.dry_run import dry_run as carry_out
    from migrator.rehearsals.origin import Origin
    from migrator.rehearsals.places import Place
    from migrator.reports import dry_run as report

    where = on if rest is None else f"{on} {rest}"
    origin = None if where == "target" else Origin.parse(where)
    if origin is not None and origin.kind == "empty":
        raise UsageError("an empty database is no copy of the target", hint="write --on schema")
    if place is not None and place not in list(Place):
        raise UsageError(f"there is no server {place!r}", hint=f"write --at {', '.join(Place)}")
    loaded, environment = opening.opened(config, env, overrides=overrides, url=url)
    run = trial.opened(loaded, environment, changelog, param=param, as_json=as_json)
    record = carry_out(run, Wish(origin=origin, place=Place(place) if place is not None else None))
    trial.tell(run, record, report, as_json=as_json)
