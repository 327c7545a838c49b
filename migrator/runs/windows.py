"""The maintenance window, asked before a run begins: never on a way back, and never of a run that is resumed."""

from __future__ import annotations

from migrator.errors import Refused
from migrator.plans import window
from migrator.runs.run import Run

_ANNOUNCE = "announce one for this run alone: --window 2026-11-28T22:00/2026-11-29T04:00[Europe/Berlin]"


def gate(run: Run) -> str | None:
    """What the window says, when it is open; None where the environment has none.

    Raises: Refused with the next opening.
    """
    state = window.look(run.environment.maintenance_window, run.now())
    if state is None:
        return None
    if not state.is_open:
        wait = "Wait until then, or" if state.following is not None else "Wait no longer:"
        raise Refused(window.describe(state), hint=f"{wait} {_ANNOUNCE}", code="window_closed")
    return window.describe(state)


def refuse_overrun(run: Run, estimate_s: float) -> None:
    """It was told that the run, which would take `estimate_s` from now, would be at work past the window's end.

    Raises: Refused where on_overrun says so.
    """
    if run.options.rehearsal:
        return
    state = window.look(run.environment.maintenance_window, run.now())
    said = None if state is None else window.overrun(state, estimate_s)
    if said is None:
        return
    if run.environment.on_overrun == "refuse":
        raise Refused(
            said,
            hint=f"Wait for a longer window, or {_ANNOUNCE}; on_overrun = 'warn' would only tell.",
            code="window_too_short",
        )
    run.warn(said)
