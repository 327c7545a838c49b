"""`migrator backup`: backups by hand, outside any run."""

from __future__ import annotations

import typer

from migrator.cli.backup import create, listing, prune, restore, swap, verify

app = typer.Typer(
    help="Make backups by hand, prove them, restore them, throw old ones away.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
app.command()(create.create)
app.command("list")(listing.list_)
app.command()(listing.show)
app.command()(verify.verify)
app.command()(prune.prune)
app.command()(restore.restore)
app.command()(swap.swap)
