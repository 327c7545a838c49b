"""`migrator plan`: what a run would do, without touching anything."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from migrator.cli import conduct, job, opening, output
from migrator.cli.options import (
    AsJson,
    Changelog,
    ConfigPath,
    EnvironmentName,
    Overrides,
    Parameters,
    TargetUrl,
    Window,
)

if TYPE_CHECKING:
    from migrator.config.lint import FailOn
    from migrator.plans.plan import Plan
    from migrator.runs.run import Run


def plan(
    changelog: Changelog,
    *,
    config: ConfigPath = None,
    env: EnvironmentName = None,
    url: TargetUrl = None,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="FILE", help="Write the plan there: to be approved, and to be run.")
    ] = None,
    sql: Annotated[
        bool | None, typer.Option("--sql/--no-sql", help="Show all of the SQL, or none. Default: the first lines.")
    ] = None,
    fail_on: Annotated[
        str | None,
        typer.Option("--fail-on", metavar="SEVERITY", help="Exit 3 for findings: error (the default), warning, never."),
    ] = None,
    way: Annotated[
        str | None, typer.Option("--way", metavar="WAY", help="auto, atomic, bluegreen or stepwise, as for the run.")
    ] = None,
    param: Parameters = None,
    overrides: Overrides = None,
    window: Window = None,
    accept_no_way_back: Annotated[
        bool, typer.Option("--accept-no-way-back", help="As for the run: also where a failure could not be taken back.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Show what a run would do, how, and what stands in its way. Writes nothing; a login with SELECT is enough.

    Exit 0, or 3 where the findings are as bad as --fail-on, or the rules could not look. What a run would be refused
    for is shown, and is no error of the plan. `migrator run --plan FILE` carries out this very plan, or refuses.

    \b
    migrator plan changelogs/2026.02-loyalty/changelog.xml --env staging
    migrator plan db/release.sql -e production --out plan.json
    migrator approve plan.json
    migrator run --plan plan.json
    """
    from migrator.runs import looking
    from migrator.runs.run import Options

    chosen = [*(overrides or ()), *([f"way={way}"] if way is not None else [])]
    loaded, environment = opening.opened(config, env, overrides=chosen, url=url, window=window)
    limit = _fail_on(fail_on, environment.lint.fail_on)
    options = Options(changelog=changelog, accept_no_way_back=accept_no_way_back)
    with looking.opened(
        loaded, environment, options, reporter=conduct.reporter(silent=True), parameters=conduct.parameters(param)
    ) as run:
        job.hide(run)
        found = looking.look(run)
        if out is not None:
            found = _write(run, found, out)
        unknown = run.findings is None and bool(found.changesets) and limit != "never"
        against = run.findings.against(limit) if run.findings is not None else ()
    if as_json:
        output.result(found.model_dump_json(indent=2))
    else:
        _show(found, sql)
        if out is not None:
            output.note(f"written: {out}; carry it out with: migrator run --plan {shlex.quote(str(out))}")
    job.tell_plan(run, found, len(against))
    if against:
        from migrator.plans.words import count

        output.note(f"{count(len(against), 'finding')} at or above {limit}: exit 3 (--fail-on)")
        raise typer.Exit(3)
    if unknown:
        output.note(
            f"the rules could not look at the changesets, so whether there is a finding at or above {limit} is not "
            "known: exit 3 (--fail-on)"
        )
        raise typer.Exit(3)


def _fail_on(given: str | None, configured: FailOn | None) -> FailOn:
    from typing import cast, get_args

    from migrator.config.lint import FailOn
    from migrator.errors import UsageError

    chosen = given or configured or "error"
    if chosen not in get_args(FailOn):
        raise UsageError(f"--fail-on {chosen}: there is no such severity", hint="error, warning or never")
    return cast("FailOn", chosen)


def _write(run: Run, plan: Plan, path: Path) -> Plan:
    """The file holds the plan, signed where there is a key to sign with."""
    from migrator.errors import ConfigError
    from migrator.plans import approvals, plan_file
    from migrator.reports import files
    from migrator.runs import stores

    try:
        key = stores.signing_key(run)
    except ConfigError as error:  # a key that only the pipeline has: a plan is one without it too
        output.note(f"the plan is not signed: {error.message}")
        key = None
    signed = plan if key is None else approvals.sign(plan, key)
    files.write(path, plan_file.render(signed))
    return signed


def _show(plan: Plan, sql: bool | None) -> None:
    import os
    import sys

    from rich.console import Console
    from rich.text import Text

    from migrator.reports import plan_view
    from migrator.reports.symbols import Symbols

    console = Console(file=sys.stdout, highlight=False, markup=False, emoji=False, _environ=os.environ)
    width = min(console.width, 100) if sys.stdout.isatty() else 80
    mode: plan_view.Sql = "folded" if sql is None else "all" if sql else "none"
    symbols = Symbols.for_encoding(sys.stdout.encoding or "ascii")
    with console.capture() as captured:
        for line in plan_view.lines(plan, symbols, width=width, sql=mode):
            console.print(Text(line.text, style=line.style), soft_wrap=True)
    output.result(captured.get().rstrip("\n"))
