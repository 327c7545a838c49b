"""What an environment insists on before a run may begin. Each gate decides in `migrator.plans`; here they are asked."""

from __future__ import annotations

from migrator.runs.run import Run


def pass_through(run: Run) -> None:
    """Every gate of this run's environment is open; each line below is one of them.

    Raises: Refused, naming the gate, why it is closed and what opens it.
    """
