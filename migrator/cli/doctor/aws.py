"""What is found at AWS: who we are there, what is missing in the policy, and what stands in maintenance's way."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from migrator.cli.doctor.finding import Finding, failed
from migrator.errors import AwsFailed, MigratorError

if TYPE_CHECKING:
    from migrator.aws import Account
    from migrator.aws.permissions import Missing
    from migrator.aws.policy import Where
    from migrator.config.configuration import Config
    from migrator.config.models import Environment

_RUN = "doctor"
_SHOWN = 6
_LONGEST = 160


def of_environment(config: Config, environment: Environment) -> Iterator[Finding]:
    """Everything that the environment needs of AWS, asked without changing anything; nothing where it needs none."""
    from migrator.aws import Account
    from migrator.aws.policy import Where
    from migrator.cli.aws_commands import needed

    if not needed(config, environment, "migrate", Where(account="*", region="*")):
        return
    account = Account(environment.aws)
    try:
        identity = account.identity()
        region = account.region
    except MigratorError as error:
        yield failed("aws", error)
        return
    yield Finding(name="aws", status="ok", detail=f"{identity.arn} in {region}")
    yield _term(account)
    yield from _permissions(config, environment, account, Where(account=identity.account, region=region))
    yield from _providers(config, environment)
    yield from _servers(environment)


def _term(account: Account) -> Finding:
    """How long the credentials hold out."""
    from datetime import UTC, datetime

    term = account.term()
    ends = term.kind in ("ends", "unknown")
    return Finding(
        name="aws credentials",
        status="warning" if ends else "ok",
        detail=term.said(datetime.now(UTC)),
        remedy="a role that migrator renews by itself does not end in mid-run: [aws] role_arn, or the machine's own"
        if ends
        else None,
    )


def _permissions(config: Config, environment: Environment, account: Account, where: Where) -> Iterator[Finding]:
    from migrator.aws.permissions import missing
    from migrator.cli.aws_commands import needed

    for role, status in (("migrate", "problem"), ("recover", "warning")):
        try:
            found = missing(account, needed(config, environment, role, where))
        except AwsFailed as error:
            # The calls that only read say for themselves, further down, what they are not allowed.
            yield Finding(
                name="aws permissions",
                status="ok",
                detail=f"not simulated, only what reads is tried ({_short(error.message)})",
            )
            return
        yield _permission(role, found, environment.name, is_problem=status == "problem")


def _permission(role: str, found: Sequence[Missing], environment: str, *, is_problem: bool) -> Finding:
    if not found:
        return Finding(name="aws permissions", status="ok", detail=f"everything that {role} needs, by IAM's simulation")
    shown = "; ".join(f"{one.action} on {one.resource}" for one in found[:_SHOWN])
    more = f"; and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
    return Finding(
        name="aws permissions",
        status="problem" if is_problem else "warning",
        detail=f"{role} lacks {shown}{more}",
        remedy=f"`migrator aws policy --env {environment} --role {role}` prints the policy that the role needs",
    )


def _providers(config: Config, environment: Environment) -> Iterator[Finding]:
    from migrator import maintenance
    from migrator.cli import outside
    from migrator.config.models import CommandProvider, FlagProvider

    around = outside.surroundings(config, environment)
    for settings in environment.maintenance.outside:
        if isinstance(settings, (FlagProvider, CommandProvider)):
            continue
        provider = maintenance.of(settings, around)
        try:
            provider.standing(_RUN)
            now = provider.status()
        except MigratorError as error:
            yield failed(provider.name, error)
            continue
        yield Finding(name=provider.name, status="ok", detail=now.detail)


def _servers(environment: Environment) -> Iterator[Finding]:
    from migrator.runs import rds_identity, server_backups

    kinds = server_backups.wanted(environment)
    if not kinds:
        return
    try:
        server = server_backups.server_of(environment)
        found = server.described()
        seen = server_backups.refuse_unfit(environment, server, found)
    except MigratorError as error:
        yield failed(", ".join(kinds), error)
        return
    yield Finding(name=", ".join(kinds), status="ok", detail=f"{found.id} ({found.summary}): {seen}")
    if environment.login is not None and not rds_identity.is_reached_by(environment.login, found):
        yield Finding(
            name=", ".join(kinds),
            status="warning",
            detail=f"that {environment.login.host}, which the url names, is {found.id}, its name does not say",
            remedy="`migrator plan` asks the server itself, and refuses another one",
        )


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _LONGEST else f"{line[:_LONGEST]} ..."
