"""`migrator backfill`: data migrations by hand, while the application is at work."""

from __future__ import annotations

import typer

from migrator.cli.backfill import holding, looking, moving

app = typer.Typer(help="Move data in batches, while others work.", no_args_is_help=True, rich_markup_mode=None)
app.command()(looking.plan)
app.command()(moving.run)
app.command()(moving.resume)
app.command()(looking.status)
app.command()(holding.pause)
app.command()(looking.verify)
app.command()(moving.undo)
app.command()(holding.finish)
