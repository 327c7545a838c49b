"""`migrator backfill`: data migrations by hand, while the application is at work."""

from __future__ import annotations

import typer

from migrator.cli.backfill import holding, looking, moving

app = typer.Typer(help="Move data in batches, while others work.", no_args_is_help=True, rich_markup_mode=None)
app.command()(looking.plan)
app.command(short_help="Move the rows in batches, and prove the end state.")(moving.run)
app.command()(moving.resume)
app.command(short_help="Say how far each backfill is, and what to type next.")(looking.status)
app.command(short_help="Let the batches under way end, and begin no other.")(holding.pause)
app.command(short_help="Ask over all rows whether the end state is right.")(looking.verify)
app.command(short_help="Take back what was moved, in batches.")(moving.undo)
app.command(short_help="Verify once more, and catch no more writes.")(holding.finish)
app.command(short_help="Let the database forget one that cannot be undone.")(holding.forget)
