"""Takes a blue/green run back by swapping in again the database that it kept."""

from __future__ import annotations

from migrator.runs import engine
from migrator.runs.facts import Facts
from migrator.runs.journal_entries import StoredRun
from migrator.runs.record import Way
from migrator.runs.run import Run


def can_be(found: StoredRun) -> bool:
    """Whether the run swapped a copy in and kept the original. Whether it is there still is asked by the swap back."""
    return found.record.way is Way.BLUEGREEN and Facts.model_validate(found.facts).swapped


def swap_back(run: Run, run_id: str, *, accept_loss: bool = False) -> None:
    """`run` has ended, and its outcome says how: the database from before `run_id` has its name again, or not.

    `run` is new, has an id of its own, and was not begun; `can_be` holds for `run_id`. It refuses before anybody is
    held off, and again behind the fence, when somebody has written since `run_id` ended: then the record's error has
    the code `written_since` and names what would be lost, tables with counts. With `accept_loss` it swaps all the same.
    What is swapped out is kept, closed.
    """
    run.record.way, run.record.way_reason = Way.SWAP_BACK, "the database from before is kept on the server"
    run.facts.takes_back, run.facts.accept_loss = run_id, accept_loss
    engine.execute(run)
