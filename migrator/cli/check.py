"""`migrator check`: the suites and invariants alone."""

from __future__ import annotations

from contextlib import closing
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from migrator.cli import opening, output
from migrator.cli.options import AsJson, ConfigPath, EnvironmentName, Overrides
from migrator.errors import Refused

if TYPE_CHECKING:
    from migrator.checks.results import CheckResult


def check(
    *,
    config: ConfigPath = None,
    env: EnvironmentName = None,
    suite: Annotated[
        list[str] | None,
        typer.Option("--suite", "-s", metavar="NAME", help="Only this suite or invariant. Repeatable."),
    ] = None,
    overrides: Overrides = None,
    as_json: AsJson = False,
) -> None:
    """Look at the data with the environment's suites and invariants, read only. Exit code 3: a critical one fails.

    \b
    migrator check --env production
    migrator check --env production --suite orders --json
    """
    from migrator.checks.results import failures
    from migrator.reports import wording
    from migrator.runs import byhand
    from migrator.runs.byhand import checking

    loaded, environment = opening.opened(config, env, overrides=overrides)
    if not (environment.checks.suites or environment.checks.invariants):
        raise Refused(
            f"environment {environment.name} has no check",
            hint="name files in checks.suites or checks.invariants of migrator.toml",
            code="no_checks",
        )
    with closing(byhand.opened(loaded, environment, doing="check")) as run:
        results = checking.check(run, suite or (), lambda result: None if as_json else _tell(result))
    failed = failures(results)
    if as_json:
        output.json_result(
            {
                "environment": environment.name,
                "checks": [_as_json(result) for result in results],
                "failed": len(failed),
                "exit_code": Refused.exit_code if failed else 0,
            }
        )
    else:
        holding = sum(1 for result in results if result.success)
        others = len(results) - holding - len(failed)
        output.result(
            f"{wording.count(len(results), 'check')}: {holding} hold, {len(failed)} critical fail"
            + (f", {others} that are not critical fail" if others else "")
        )
    raise typer.Exit(Refused.exit_code if failed else 0)


def _tell(result: CheckResult) -> None:
    from migrator.reports import wording

    sign = "ok" if result.success else "failed" if result.severity == "critical" else "warning"
    about = f" on {result.table}" if result.table else ""
    told = wording.one_line(f"{result.name}{about}" + (f": {result.detail}" if result.detail else ""))
    output.result(f"{sign:<8}{told}")


def _as_json(result: CheckResult) -> dict[str, object]:
    return {name: value for name, value in asdict(result).items() if name != "phase"}
