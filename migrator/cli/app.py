"""The program `migrator`. A command family is one line here; what it needs is imported when it is called."""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

from migrator import __version__
from migrator.cli import (
    adopt,
    announce,
    approve,
    attestation,
    aws_commands,
    backfill,
    backup,
    boundary,
    check,
    clean,
    config_commands,
    demo,
    doctor,
    drift,
    dry_run,
    github_commands,
    grants,
    history,
    init,
    lint,
    liquibase_commands,
    maintenance,
    plan,
    recovery,
    rehearse,
    rollback,
    run,
    status,
)

# Plain help: rich would cost more time than everything else together.
app = typer.Typer(
    name="migrator",
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"migrator {__version__}")
        raise typer.Exit


@app.callback()
def migrator(
    *,
    _: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Takes a PostgreSQL database safely through a Liquibase changelog, or brings it back.

    \b
    migrator demo                                  see it work, on a sample database
    migrator init                                  write a migrator.toml to start from
    migrator doctor --env staging                  is everything there that a run needs?
    migrator plan changelogs/release.xml -e staging what a run would do
    migrator run changelogs/release.xml -e staging the main job
    migrator status --env staging                  what is under way, and what to type next
    """


app.command()(run.run)
app.command()(plan.plan)
app.command()(approve.approve)
app.command()(recovery.resume)
app.command()(recovery.recover)
app.command()(rollback.rollback)
app.command()(adopt.adopt)
app.command("dry-run")(dry_run.dry_run)
app.command()(rehearse.rehearse)
app.command()(status.status)
app.command()(check.check)
app.command()(announce.announce)
app.command()(lint.lint)
app.command()(drift.drift)
app.command()(clean.clean)
app.command()(init.init)
app.command()(doctor.doctor)
app.command()(grants.grants)
app.command()(history.history)
app.command()(history.show)
app.command()(demo.demo)
app.add_typer(backup.app, name="backup")
app.add_typer(backfill.app, name="backfill")
app.add_typer(attestation.app, name="attestation")
app.add_typer(maintenance.app, name="maintenance")
app.add_typer(aws_commands.app, name="aws")
app.add_typer(config_commands.app, name="config")
app.add_typer(github_commands.app, name="github")
app.add_typer(liquibase_commands.app, name="liquibase")


def main() -> None:
    """The console script: runs a command and exits with its code."""
    os.umask(0o077)  # backups, logs and reports are nobody else's business
    sys.exit(boundary.run(app, sys.argv[1:]))
