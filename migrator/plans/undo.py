"""Which rows of the ledger a person wants undone, and why that would be refused."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from migrator.errors import Refused
from migrator.liquibase.ledger import LedgerRow
from migrator.liquibase.models import Undoable
from migrator.plans import way
from migrator.plans.obstacles import Obstacle
from migrator.plans.way import Applicable, Choice

_SHOWN = 5


def last(rows: Sequence[LedgerRow], count: int) -> list[LedgerRow]:
    """The `count` rows that were executed last, newest first. `rows` are in the order of execution.

    Raises: Refused when there are not so many.
    """
    if count > len(rows):
        raise Refused(f"The ledger holds {len(rows)} changesets: {count} cannot be undone.", code="not_so_many")
    return list(reversed(rows[len(rows) - count :]))


def after_tag(rows: Sequence[LedgerRow], tag: str) -> list[LedgerRow]:
    """What was executed after the row with that tag, newest first.

    Raises: Refused when no row has the tag, or several have it.
    """
    tagged = [number for number, row in enumerate(rows) if row.columns.get("tag") == tag]
    if not tagged:
        known = [text for row in rows if (text := row.columns.get("tag")) is not None]
        listed = f"Its tags, the newest first: {', '.join(known[::-1][:_SHOWN])}." if known else "It has no tags."
        raise Refused(f"The ledger has no tag {tag}.", hint=f"{listed} `--count N` needs none.", code="no_tag")
    if len(tagged) > 1:
        raise Refused(
            f"{len(tagged)} rows of the ledger have the tag {tag}, so it does not say how far back.",
            hint="Say it with --count N.",
            code="tag_twice",
        )
    return list(reversed(rows[tagged[0] + 1 :]))


def of_run(
    rows: Sequence[LedgerRow], run_id: str, *, executed: Collection[tuple[str, str, str]], again: Collection[str]
) -> list[LedgerRow]:
    """The rows of a run's changesets, newest first; they are the newest of the ledger.

    `executed` are the keys that the run added, `again` names those that it ran once more (runAlways, runOnChange).
    Raises: Refused when part of them is gone, when others came later, and for a changeset that ran once more.
    """
    if again:
        raise Refused(
            f"{next(iter(again))} had run before run {run_id} and was run again by it: undoing it would undo more than "
            "that run.",
            hint="Undo by number, knowing that: --count N.",
            code="ran_before",
        )
    wanted = [number for number, row in enumerate(rows) if row.key in executed]
    found = {rows[number].key for number in wanted}
    gone = ["::".join(key) for key in executed if key not in found]
    if gone:
        raise Refused(
            f"The ledger does not hold {gone[0]} any more"
            + (f" (nor {len(gone) - 1} others)" if gone[1:] else "")
            + f", which run {run_id} had executed: it was undone already, in part or whole.",
            hint="What is left can be undone by number: --count N.",
            code="undone_already",
        )
    later = [row for row in rows[min(wanted, default=0) :] if row.key not in executed]
    if later:
        named = ", ".join(f"{'::'.join(row.key)} (at {row.columns['dateexecuted']})" for row in later[:_SHOWN])
        raise Refused(
            f"Run {run_id} is not the newest of this database any more: {named}"
            f"{' ...' if later[_SHOWN:] else ''} came later.",
            hint=f"Undo what came later first, or all of it at once: --count {len(rows) - min(wanted)}.",
            code="not_newest",
        )
    return [rows[number] for number in reversed(wanted)]


def hindrances(rows: Sequence[LedgerRow], found: Sequence[Undoable], changelogs: Sequence[str]) -> list[Obstacle]:
    """Why Liquibase would not undo exactly these rows by these changelogs; empty when it would."""
    named = ", ".join(changelogs)
    other_version = "take the version of the files that was run here, or name another changelog with --changelog"
    obstacles = []
    if [(row.id, row.author) for row in rows] != [(one.id, one.author) for one in found]:
        obstacles.append(
            Obstacle(
                what="Liquibase orders the ledger's rows otherwise, and would undo others than these",
                remedy="look at dateexecuted and orderexecuted in the ledger",
            )
        )
    for row, one in zip(rows, found, strict=False):
        key = "::".join(row.key)
        if not one.is_known:
            obstacles.append(Obstacle(what=f"changeset {key} is not in {named}", remedy=other_version))
        elif one.left_out is not None:
            obstacles.append(
                Obstacle(
                    what=f"changeset {key} is left out here ({one.left_out})",
                    remedy="use the contexts and labels it ran with",
                )
            )
        elif one.changed:
            obstacles.append(Obstacle(what=f"changeset {key} was edited after it ran", remedy=other_version))
        elif one.marked_only:
            obstacles.append(
                Obstacle(
                    what=f"changeset {key} was only marked as ran, so its rollback would undo what was never done",
                    remedy="take its row out of the ledger by hand, if that is what is meant",
                )
            )
        elif not one.has_rollback:
            obstacles.append(
                Obstacle(
                    what=f"changeset {key} has no rollback",
                    remedy="write one into the changelog, as the changeset's rollback",
                )
            )
    return obstacles


def refuse_without_way_back(
    choice: Choice, undone: Sequence[Applicable], *, maintenance: str, has_dump: bool, restore: str, accepted: bool
) -> list[str]:
    """What a person should know about the way back; empty when nothing is missing.

    Raises: Refused where a failure could leave the database between two states for good: only a restore leads back
    from a rollback that commits on its way.
    """
    if choice.way != "stepwise" or way.is_restorable(maintenance=maintenance, has_dump=has_dump, restore=restore):
        return []
    if accepted:
        return ["accepted: no way back if this fails halfway (no restore is possible)"]
    raise Refused(
        f"Undoing {len(undone)} changesets would be stepwise ({choice.reason}), and a restore, the only "
        "way back if that fails halfway, is not possible here.",
        hint="Use maintenance offline with a dump and a backup.restore other than never, or pass --accept-no-way-back.",
    )
