"""`migrator backup prune`: old backups are deleted, by number and by age."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from migrator.cli import opening, output
from migrator.cli.confirm import confirm
from migrator.cli.options import AsJson, AssumeYes, ConfigPath, EnvironmentName, Overrides
from migrator.errors import UsageError

if TYPE_CHECKING:
    from datetime import timedelta

    from migrator.runs.byhand.prune import Decision


def prune(
    *,
    keep: Annotated[
        int | None, typer.Option("--keep", metavar="N", min=1, help="So many of the newest stay.", show_default=False)
    ] = None,
    older_than: Annotated[
        str | None,
        typer.Option("--older-than", metavar="AGE", help="Younger ones stay: 30d, 12h, 4w.", show_default=False),
    ] = None,
    config: ConfigPath = None,
    env: EnvironmentName = None,
    overrides: Overrides = None,
    yes: AssumeYes = False,
    as_json: AsJson = False,
) -> None:
    """Delete old backups of the environment's database: shows which, asks, and deletes them.

    With both rules a backup goes only where both let it. The newest of each kind always stays, and so does one that an
    unfinished run may need. What is unfinished or damaged is left alone.

    \b
    migrator backup prune --env production --keep 10 --older-than 30d
    migrator backup prune --env production --keep 10 --yes
    """
    from datetime import UTC, datetime

    from migrator.runs.byhand import prune as pruning
    from migrator.runs.byhand import refuse_if_at_work

    rules = pruning.Rules(keep=keep, older_than=_age(older_than))
    with opening.by_hand(config, env, overrides, doing="backup prune") as run:
        refuse_if_at_work(run)
        decisions = pruning.decide(pruning.of_database(run), rules, now=datetime.now(UTC), needed=pruning.needed(run))
        going = [one.manifest for one in decisions if one.kept_because is None]
        for line in _decided(decisions):
            output.note(line)
        if going:
            confirm(f"Delete {len(going)} of {len(decisions)} backups of {run.database}?", assume_yes=yes)
        for manifest in going:
            pruning.delete(run, manifest)
    if as_json:
        stayed = [{"backup_id": one.manifest.id, "why": one.kept_because} for one in decisions if one.kept_because]
        output.json_result({"deleted": [one.id for one in going], "kept": stayed})
    else:
        output.result(f"{len(going)} deleted, {len(decisions) - len(going)} kept")


def _age(text: str | None) -> timedelta | None:
    """Raises: UsageError."""
    from datetime import timedelta

    if text is None:
        return None
    units = {"h": timedelta(hours=1), "d": timedelta(days=1), "w": timedelta(weeks=1)}
    number, unit = text[:-1], text[-1:]
    if unit not in units or not number.isdecimal() or len(number) > 5 or int(number) == 0:
        raise UsageError(f"--older-than {text!r} is no age", hint="write 12h, 30d or 4w")
    return int(number) * units[unit]


def _decided(decisions: tuple[Decision, ...]) -> Iterator[str]:
    from migrator.reports import wording

    for one in decisions:
        about = f"{one.manifest.id} ({one.manifest.kind}, {wording.size(one.manifest.size_bytes)})"
        yield f"stays: {about}: {one.kept_because}" if one.kept_because else f"goes:  {about}"
