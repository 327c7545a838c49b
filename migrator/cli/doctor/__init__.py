"""`migrator doctor`: what is installed, reachable and permitted."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from migrator.cli import opening, output
from migrator.cli.options import AsJson, ConfigPath, Overrides, TargetUrl, environment_names
from migrator.errors import Refused

if TYPE_CHECKING:
    from migrator.cli.doctor.finding import Finding

_SIGNS = {"ok": "ok     ", "warning": "warning", "problem": "PROBLEM"}


def doctor(
    *,
    config: ConfigPath = None,
    env: Annotated[
        list[str] | None,
        typer.Option(
            "--env",
            "-e",
            metavar="NAME",
            help="An environment to look at. Repeatable. Default: the only one, or this machine alone.",
            autocompletion=environment_names,
        ),
    ] = None,
    url: TargetUrl = None,
    overrides: Overrides = None,
    as_json: AsJson = False,
) -> None:
    """Look whether all that a run needs is installed, reachable and permitted. Changes nothing.

    Each finding comes with its remedy. Exit code 3 when there is a problem.

    \b
    migrator doctor
    migrator doctor --env staging --env production --json
    """
    from migrator.cli.doctor import aws, machine, server
    from migrator.reports import wording

    loaded = opening.configuration(config, overrides=overrides, url=url, required=False)
    environments = [loaded.environment(name) for name in env or loaded.names[: len(loaded.names) == 1]]
    groups: dict[str, list[Finding]] = {"this machine": []}
    for finding in machine.of_machine(loaded):
        _add(groups, "this machine", finding, as_json=as_json)
    for environment in environments:
        for finding in server.of_environment(environment):
            _add(groups, environment.name, finding, as_json=as_json)
        for finding in aws.of_environment(loaded, environment):
            _add(groups, environment.name, finding, as_json=as_json)
    everything = [finding for group in groups.values() for finding in group]
    problems = sum(finding.status == "problem" for finding in everything)
    warnings = sum(finding.status == "warning" for finding in everything)
    if as_json:
        output.json_result(_document(groups, problems=problems, warnings=warnings))
    else:
        output.result(f"\n{wording.count(problems, 'problem')}, {wording.count(warnings, 'warning')}")
        if not environments and loaded.names:
            output.note(f"no environment was looked at: give --env with one of {', '.join(loaded.names)}")
    if problems:
        raise typer.Exit(Refused.exit_code)


def _add(groups: dict[str, list[Finding]], group: str, finding: Finding, *, as_json: bool) -> None:
    """The finding is kept, and told at once: the next may take its time."""
    from migrator.reports import wording

    findings = groups.setdefault(group, [])
    if not as_json:
        if not findings:
            output.result(group)
        output.result(f"  {_SIGNS[finding.status]}  {finding.name}: {wording.one_line(finding.detail)}")
        if finding.remedy:
            output.result(f"           -> {wording.one_line(finding.remedy)}")
    findings.append(finding)


def _document(groups: dict[str, list[Finding]], *, problems: int, warnings: int) -> dict[str, object]:
    return {
        "problems": problems,
        "warnings": warnings,
        "findings": [
            {
                "about": group,
                "name": finding.name,
                "status": finding.status,
                "detail": finding.detail,
                "remedy": finding.remedy,
            }
            for group, findings in groups.items()
            for finding in findings
        ],
    }
