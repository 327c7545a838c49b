"""`migrator announce`: tells people of maintenance to come."""

from __future__ import annotations

from typing import Annotated

import typer

from migrator.cli import opening, output
from migrator.cli.options import AsJson, ConfigPath, EnvironmentName, Overrides
from migrator.errors import Refused


def announce(
    *,
    config: ConfigPath = None,
    env: EnvironmentName = None,
    begins: Annotated[str, typer.Option("--from", metavar="TIME", help="When it begins: +2h, 2026-11-24T22:00.")],
    ends: Annotated[str, typer.Option("--until", metavar="TIME", help="When it ends at the latest.")],
    reason: Annotated[str, typer.Option("--reason", help="What for.")] = "A database migration.",
    overrides: Overrides = None,
    as_json: AsJson = False,
) -> None:
    """Tell everybody whom notifications.urls names of maintenance to come. Nothing else happens.

    A run inside that time, and only then: migrator run ... --window FROM/UNTIL

    \b
    migrator announce --env staging --from 2026-11-24T22:00 --until 2026-11-24T23:00 --reason "New shipping tables"
    """
    from datetime import UTC, datetime

    from migrator.cli import moments
    from migrator.reports import notifications
    from migrator.reports.verdict import Tone

    now = datetime.now(UTC)
    first, last = moments.until(begins, now), moments.until(ends, now)
    if last <= first:
        raise Refused(f"--until {ends} is not after --from {begins}", hint="give the later time as --until")
    _, environment = opening.opened(config, env, overrides=overrides)
    settings = environment.notifications
    if not settings.urls:
        raise Refused(
            f"environment {environment.name} names nobody to tell",
            hint="set notifications.urls, each a reference such as ${env:SLACK_URL}",
        )
    fields = {
        "environment": environment.name,
        "begins": f"{first.astimezone():%Y-%m-%d %H:%M %Z}",
        "ends": f"{last.astimezone():%Y-%m-%d %H:%M %Z}",
        "reason": reason,
    }
    missed = notifications.tell(settings, "announced", fields, Tone.CAUTION)
    if as_json:
        output.json_result({"addresses": len(settings.urls), "missed": missed, **fields})
    if missed:
        raise Refused(
            f"{missed} of {len(settings.urls)} addresses could not be told",
            hint="look at notifications.urls: https://appriseit.com has the form of each service",
        )
    if not as_json:
        output.note(f"told {len(settings.urls)} addresses")
