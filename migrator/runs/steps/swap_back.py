"""A blue/green run is taken back: the database from before it gets its name again, if nobody has written since."""

from __future__ import annotations

from collections.abc import Sequence

from migrator.errors import Refused
from migrator.plans import obstacles
from migrator.plans.obstacles import Obstacle
from migrator.postgres import databases, fence
from migrator.postgres import obstacles as swap_obstacles
from migrator.runs import since
from migrator.runs.facts import Facts
from migrator.runs.record import StepName, Way
from migrator.runs.run import Run

_SHOWN = 8


class SwapBackPreflightStep:
    name = StepName.PREFLIGHT
    title = "preflight"
    undo_title: str | None = None

    def run(self, run: Run) -> str | None:
        """Both databases are known by their OIDs, nothing stands in the way, and nobody has written so far.

        Raises: Refused, code `written_since` naming what would be lost.
        """
        left = _left(run)
        facts, admin = run.facts, run.the_admin()
        if run.environment.maintenance.database != "offline":
            raise Refused(
                "A swap back needs maintenance offline: what others write meanwhile would be lost.",
                hint="Set maintenance.database = 'offline'.",
            )
        facts.copy_name, facts.copy_oid = databases.name_of(facts.takes_back or "", "old"), left.database_oid
        facts.database_oid = left.copy_oid
        found = (databases.oid_of(admin, run.database), databases.oid_of(admin, facts.copy_name))
        if None in found or found != (left.copy_oid, left.database_oid):
            raise Refused(
                f"Run {facts.takes_back} cannot be swapped back: {run.database} has the OID {found[0]} and the "
                f"database from before, {facts.copy_name}, {found[1] or 'is not there'}; they were {left.copy_oid} and "
                f"{left.database_oid} when the run ended.",
                hint="Restore the run's backup instead: migrator backup list",
                code="no_original",
            )
        obstacles.refuse([Obstacle(what=one, remedy="mend it") for one in swap_obstacles.to_swap(admin, run.database)])
        _require_unwritten(run, left)
        return f"{facts.copy_name} is there"

    def undo(self, run: Run) -> str | None:
        """Nothing: preflight only looks."""
        return None


class UnwrittenStep:
    name = StepName.VERIFY
    title = "compare with what the run left"
    undo_title: str | None = None

    def run(self, run: Run) -> str | None:
        """Behind the fence, nobody has written since the run ended; or it was accepted that what they wrote is lost.

        Raises: Refused, code `written_since`.
        """
        facts = run.facts
        fence.note(
            run.the_admin(),
            run.database,
            phase="comparing",
            way=Way.SWAP_BACK.value,
            copy=facts.copy_name or "",
            copy_oid=str(facts.copy_oid or ""),
        )
        return _require_unwritten(run, _left(run))

    def undo(self, run: Run) -> str | None:
        """Nothing: comparing only reads."""
        return None


def _left(run: Run) -> Facts:
    """What the earlier run left. Raises: Refused when it is none that can be swapped back."""
    earlier = run.journal.get(run.facts.takes_back or "")
    left = Facts.model_validate(earlier.facts)
    if earlier.record.way is not Way.BLUEGREEN or not left.swapped:
        raise Refused(
            f"Run {earlier.record.run_id} swapped no database in ({earlier.record.way or 'no way'}, "
            f"{earlier.record.outcome or 'not ended'}).",
            hint="Only a blue/green run that has migrated can be swapped back.",
            code="not_bluegreen",
        )
    return left


def _require_unwritten(run: Run, left: Facts) -> str:
    """Raises: Refused naming what was written since, with counts, unless it was accepted that it is lost."""
    run.progress(StepName.VERIFY, "fingerprints")
    found: Sequence[object] = since.written(run, left)
    unknown = since.not_known(left)
    if not found and not unknown:
        sentence = (
            f"Nobody has written since run {run.facts.takes_back} ended (schema, rows, sequences, large objects)."
        )
        run.prove(sentence)
        return sentence
    lost = [str(one) for one in found]
    if unknown:
        lost.append(f"nothing is known of {', '.join(unknown[:_SHOWN])}, which the run's proof left out")
    text = "; ".join(lost[:_SHOWN]) + (f" (and {len(lost) - _SHOWN} more)" if lost[_SHOWN:] else "")
    if run.facts.accept_loss:
        run.warn(f"Accepted as lost, and kept in the database that is swapped out: {text}")
        run.not_proven(f"That nobody has written since run {run.facts.takes_back} ended: {text}.")
        return f"{len(lost)} differences, accepted"
    raise Refused(
        f"What was written since run {run.facts.takes_back} ended would be lost: {text}.",
        hint="Roll back by changesets, which keeps it, or accept the loss: the migrated database is kept either way.",
        code="written_since",
    )
