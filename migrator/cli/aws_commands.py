"""`migrator aws`: what AWS has to allow, and runs inside of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from migrator.cli import opening, output
from migrator.cli.options import AsJson, ConfigPath, EnvironmentName
from migrator.errors import AwsFailed, Refused, UsageError

if TYPE_CHECKING:
    from migrator.aws.policy import Statement, Where
    from migrator.aws.task import Task
    from migrator.config.configuration import Config
    from migrator.config.models import Environment

app = typer.Typer(help="What AWS has to allow, and runs inside of it.", no_args_is_help=True, rich_markup_mode=None)

AccountId = Annotated[
    str | None,
    typer.Option("--account", metavar="ID", help="The account's twelve digits. Default: that of the credentials here."),
]


@app.command(short_help="Print the least that a role must be allowed.")
def policy(
    *,
    role: Annotated[
        str,
        typer.Option(
            "--role",
            metavar="ROLE",
            help="plan, migrate, recover, prune (deletes old backups) or start (of run-task).",
        ),
    ],
    account: AccountId = None,
    config: ConfigPath = None,
    env: EnvironmentName = None,
) -> None:
    """Print the least that a role must be allowed for this environment, as an IAM policy. Changes nothing.

    A role can do no more than its work: who plans cannot write, who migrates cannot delete a backup.

    \b
    migrator aws policy --env production --role migrate > migrate.json
    aws iam put-role-policy --role-name migrator --policy-name migrate --policy-document file://migrate.json
    """
    from migrator.aws.policy import ROLES, document

    if role not in ROLES:
        raise UsageError(f"there is no role {role!r}", hint=f"give --role with one of: {', '.join(ROLES)}")
    loaded, environment = opening.opened(config, env, shown_only=True)
    found = needed(loaded, environment, role, where(environment, account))
    if not found:
        raise Refused(
            f"environment {environment.name} needs nothing of AWS for {role}",
            hint="it names no provider, store, backup, task or reference there",
        )
    output.json_result(document(found))


def needed(loaded: Config, environment: Environment, role: str, at: Where) -> tuple[Statement, ...]:
    """What the role must be allowed for the environment."""
    from migrator.aws.policy import ROLES, statements

    journal = loaded.journal
    texts = (loaded.signing.key_reference, journal.reference)
    user = journal.login.user if journal.by_token and journal.login is not None else None
    [chosen] = [one for one in ROLES if one == role]
    return statements(environment, chosen, at, also=tuple(text for text in texts if text), journal=user)


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


@app.command(
    name="run-task",
    short_help="Run migrator as a task of ECS, and follow its log.",
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True},
)
def run_task(
    context: typer.Context,
    *,
    config: ConfigPath = None,
    env: EnvironmentName = None,
    as_json: AsJson = False,
) -> None:
    """Start migrator as a task of ECS, follow its log, and end with its exit code.

    For machines that do not reach the database. What comes after -- is the command that runs in the task. Its log is
    shown here; with --json the command gets --json too, and its document is all that is on standard output. Ctrl-C
    asks the task to stop: the run in it goes back by itself, and is followed to its end.

    \b
    migrator aws run-task --env production -- run changelogs/release.xml --env production --yes
    migrator aws run-task --env production -- recover --expired --env production
    """
    from uuid import uuid4

    from migrator.aws import Account
    from migrator.aws.task import Task

    command = [argument for argument in context.args if argument != "--"]
    if not command:
        raise UsageError("nothing is said to be run", hint="write it behind --, as: -- run changelogs/release.xml")
    _, environment = opening.opened(config, env, shown_only=True)
    task = Task(account=Account(environment.aws), settings=environment.task, token=uuid4().hex, warn=output.note)
    wants_json = as_json and "--json" not in command
    arn = task.start([*command, "--json"] if wants_json else command)
    output.note(f"task {arn.rpartition('/')[2]}: migrator {' '.join(command)}")
    told = _followed(task, as_json=as_json)
    code = task.exit_code()
    if as_json:
        output.result(_document(told))
    output.note(f"the task ended with exit code {code}")
    raise typer.Exit(code)


def _followed(task: Task, *, as_json: bool) -> list[str]:
    """Every line of the task's log, each of which was told at once. Ctrl-C once stops the task, not us."""
    told: list[str] = []
    tell = output.note if as_json else output.result
    has_asked = False
    while True:
        try:
            for line in task.lines(lambda status: output.note(f"task: {status.lower()}")):
                told.append(line)
                tell(line)
            return told
        except KeyboardInterrupt:
            if has_asked:
                raise
            has_asked = True
            output.note("the task is asked to stop; the run in it goes back by itself (Ctrl-C again: leave it alone)")
            task.stop("interrupted by a person")


def _document(lines: list[str]) -> str:
    """The last JSON document among the lines of a log, as `--json` prints it; {} where there is none."""
    starts = [number for number, line in enumerate(lines) if line.rstrip() == "{"]
    ends = [number for number, line in enumerate(lines) if line.rstrip() == "}"]
    return "\n".join(lines[starts[-1] : ends[-1] + 1]) if starts and ends else "{}"
