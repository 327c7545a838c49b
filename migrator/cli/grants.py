"""`migrator grants`: the rights that a login needs, as SQL."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING, Annotated

import typer

from migrator.cli import opening, output
from migrator.cli.options import AsJson, ConfigPath, EnvironmentName, Overrides, TargetUrl
from migrator.plans.tiers import Tier

if TYPE_CHECKING:
    from migrator.plans.rights import Need


def grants(
    *,
    config: ConfigPath = None,
    env: EnvironmentName = None,
    url: TargetUrl = None,
    tier: Annotated[
        Tier | None,
        typer.Option("--tier", help="What the login is for. Default: what the environment's runs need."),
    ] = None,
    role: Annotated[
        str | None,
        typer.Option("--role", metavar="NAME", help="Another login than the environment's. It need not exist yet."),
    ] = None,
    missing: Annotated[bool, typer.Option("--missing", help="Only the rights that it lacks.")] = False,
    overrides: Overrides = None,
    as_json: AsJson = False,
) -> None:
    """Print the SQL of the rights that a login needs, in tiers. Grants nothing itself.

    \b
    plan      reads: plan, drift, doctor
    online    owns the tables: runs under maintenance none
    fence     owns the database, ends sessions: runs under offline and read-only
    swap      makes databases: bluegreen, clone, scratch copies
    recover   all of it: a backup restored beside the database and swapped in

    \b
    migrator grants --env staging
    migrator grants --env production --tier online --role mig_online
    migrator grants --env production --tier plan --missing | psql -U postgres shop
    """
    from migrator.plans import rights as plan
    from migrator.postgres import connect, rights
    from migrator.runs import opening as runs

    loaded, environment = opening.opened(config, env, overrides=overrides, url=url)
    login = runs.login_of(loaded, environment)
    wanted = tier or plan.tier_of(environment)
    timeout_s = environment.limits.connect_timeout_s
    with closing(
        connect.connect(login, role="grants", run_id="grants", read_only=True, connect_timeout_s=timeout_s)
    ) as session:
        databases = (login.database, environment.maintenance_database)
        found = rights.read(session, role or login.user, databases=databases)
    needs = [one for one in plan.of(wanted, found) if not (missing and one.held)]
    lacking = sum(not one.held and not one.helpful for one in needs)
    if as_json:
        output.json_result(
            {
                "environment": environment.name,
                "database": login.database,
                "role": found.role,
                "tier": wanted.value,
                "enough_for": wanted.enough_for,
                "missing": lacking,
                "rights": [_as_json(one) for one in needs],
                "notes": plan.notes(wanted, found),
            }
        )
        return
    output.result(f"-- tier {wanted.value}: {wanted.enough_for}")
    output.result(f"-- for {found.role}; to be run by a superuser in the database {login.database}")
    for line in _lines(needs):
        output.result(line)
    for note in plan.notes(wanted, found):
        output.result(f"-- {note}")
    output.result(f"-- {lacking} missing" if lacking else "-- nothing is missing")


def _lines(needs: list[Need]) -> list[str]:
    width = min(60, max((len(one.sql) for one in needs), default=0))
    return [f"{one.sql:<{width}}  -- {_state(one)}" for one in needs]


def _state(need: Need) -> str:
    if need.held:
        return "has it"
    return "missing, it helps" if need.helpful else "MISSING"


def _as_json(need: Need) -> dict[str, object]:
    return {"sql": need.sql, "held": need.held, "needed": not need.helpful, "lacks": need.lacks}
