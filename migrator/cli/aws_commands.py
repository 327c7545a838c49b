"""`migrator aws`: what AWS has to allow, and runs inside of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from migrator.cli import opening, output
from migrator.cli.options import ConfigPath, EnvironmentName
from migrator.errors import AwsFailed, Refused, UsageError

if TYPE_CHECKING:
    from migrator.aws.policy import Statement, Where
    from migrator.config.configuration import Config
    from migrator.config.models import Environment

app = typer.Typer(help="What AWS has to allow, and runs inside of it.", no_args_is_help=True, rich_markup_mode=None)

AccountId = Annotated[
    str | None,
    typer.Option("--account", metavar="ID", help="The account's twelve digits. Default: that of the credentials here."),
]


@app.command()
def policy(
    *,
    role: Annotated[
        str,
        typer.Option(
            "--role", metavar="ROLE", help="plan reads. migrate runs. recover goes back. prune deletes old backups."
        ),
    ],
    account: AccountId = None,
    config: ConfigPath = None,
    env: EnvironmentName = None,
) -> None:
    """Print the least that a role must be allowed for this environment, as an IAM policy. Changes nothing.

    Four roles, so that none can do more than its work: who plans cannot write, who migrates cannot delete a backup.

    \b
    migrator aws policy --env production --role migrate > migrate.json
    aws iam put-role-policy --role-name migrator --policy-name migrate --policy-document file://migrate.json
    """
    from migrator.aws.policy import ROLES, document

    if role not in ROLES:
        raise UsageError(f"there is no role {role!r}", hint=f"give --role with one of: {', '.join(ROLES)}")
    loaded = opening.configuration(config, required=False, shown_only=True)
    environment = opening.environment(loaded, env)
    found = needed(loaded, environment, role, where(environment, account))
    if not found:
        raise Refused(
            f"environment {environment.name} needs nothing of AWS for {role}",
            hint="it names no provider, store, backup or reference there",
        )
    output.json_result(document(found))


def needed(loaded: Config, environment: Environment, role: str, at: Where) -> tuple[Statement, ...]:
    """What the role must be allowed for the environment."""
    from migrator.aws.policy import ROLES, statements

    texts = (loaded.signing.key_reference,)
    [chosen] = [one for one in ROLES if one == role]
    return statements(environment, chosen, at, also=tuple(text for text in texts if text))


def where(environment: Environment, account: str | None) -> Where:
    """The account and the region that the environment is in. Raises: Refused where nothing says."""
    from migrator.aws import Account
    from migrator.aws.policy import Where
    from migrator.config.aws_maintenance import AlbProvider
    from migrator.config.rds import endpoint

    login = environment.login
    arns = [one.listener.split(":") for one in environment.maintenance.outside if isinstance(one, AlbProvider)]
    told = endpoint(login.host) if login is not None else None
    here = Account(environment.aws)
    try:
        region = environment.aws.region or (arns[0][3] if arns else None) or (told.region if told else here.region)
        return Where(account=account or (arns[0][4] if arns else here.identity().account), region=region)
    except AwsFailed as error:
        raise Refused(
            f"nothing says which account, or region, of AWS is meant: {error.message}",
            hint="give --account 123456789012, and [aws] region in migrator.toml",
        ) from error
