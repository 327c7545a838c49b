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


# A summary of its own wherever the first sentence of the help is too long for one line of 80 columns.
app.command(short_help="See the main job done, on a sample database.")(demo.demo)
app.command()(init.init)
app.command(short_help="Look whether all is there that a run needs.")(doctor.doctor)
app.command(short_help="Find what a changelog should not do, without a database.")(lint.lint)
app.command()(plan.plan)
app.command("dry-run", short_help="Execute a changelog, measure it, and roll it back.")(dry_run.dry_run)
app.command(short_help="Apply, roll back and apply again, on a scratch copy.")(rehearse.rehearse)
app.command()(approve.approve)
app.command(short_help="Take a database through a changelog, or bring it back.")(run.run)
app.command(short_help="Say what is under way or left behind, and what to type.")(status.status)
app.command(short_help="End a run that was left behind: carry on, or go back.")(recovery.resume)
app.command(short_help="Bring back a database whose run was left behind.")(recovery.recover)
app.command(short_help="Undo a run, all after a tag, or the last changesets.")(rollback.rollback)
app.command()(history.history)
app.command()(history.show)
app.command(short_help="Look at the data with the suites and invariants.")(check.check)
app.command(short_help="Compare the schema with what the last run left.")(drift.drift)
app.command(short_help="Take over a database that was migrated otherwise.")(adopt.adopt)
app.command()(grants.grants)
app.command(short_help="Tell people of maintenance to come.")(announce.announce)
app.command(short_help="Drop the databases that were kept, in their time.")(clean.clean)
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
