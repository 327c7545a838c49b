"""`migrator backup`: backups by hand, outside any run."""

from __future__ import annotations

import typer

from migrator.cli.backup import create, listing, prune, restore, swap, verify

app = typer.Typer(
    help="Make backups by hand, prove, restore and delete them.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
app.command(short_help="Make a backup now, of one moment.")(create.create)
app.command("list", short_help="List the backups in the environment's store.")(listing.list_)
app.command()(listing.show)
app.command(short_help="Read every byte of a backup, or prove that it restores.")(verify.verify)
app.command(short_help="Delete old backups: shows which, and asks.")(prune.prune)
app.command(short_help="Bring the database back to a backup.")(restore.restore)
app.command(short_help="Give what was restored at RDS the original's name.")(swap.swap)
