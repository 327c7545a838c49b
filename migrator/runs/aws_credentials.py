"""Whether this run's credentials of AWS outlast it: asked before users notice anything."""

from __future__ import annotations

from migrator.aws.account import account_of
from migrator.aws.policy import Where, statements
from migrator.config.models import Environment
from migrator.errors import AwsFailed, Refused
from migrator.runs.run import Run

_ANY = Where(account="*", region="*")
_INSTEAD = (
    "log in again just before the run, let the role's session last longer (aws sts get-session-token, the action's "
    "role-duration-seconds), or give migrator a role that it renews by itself: [aws] role_arn, or that of the machine"
)


def gate(run: Run) -> str | None:
    """How long the credentials hold out; None where the environment needs none. A run's gate: see `runs.gates`.

    Raises: Refused where they end before the run would, by its estimate.
    """
    if not is_needed(run.environment):
        return None
    try:
        term = account_of(run.environment.aws).term()
    except AwsFailed as error:
        raise Refused(error.message, hint=error.hint, code=error.code) from error
    said = term.said(run.now())
    left_s, takes_s = term.left_s(run.now()), _takes_s(run)
    if left_s is not None and left_s <= takes_s:
        raise Refused(
            f"The run would outlast its session at AWS: {said}; backup and proof alone take about {takes_s:.0f} s.",
            hint=f"So that users can be let in again: {_INSTEAD}.",
            code="aws_session",
        )
    if term.kind in ("ends", "unknown"):
        run.warn(
            f"A run that outlasts its session at AWS cannot let users in again by itself: {said}. By estimate it takes "
            f"{takes_s:.0f} s before the migration."
        )
    return said


def is_needed(environment: Environment) -> bool:
    """Whether the environment names anything at AWS that a run works with."""
    return bool(statements(environment, "migrate", _ANY))


def _takes_s(run: Run) -> float:
    """Seconds, by estimate; of an undo nothing is known."""
    estimate = None if run.plan is None else run.plan.estimate
    return run.rehearsed_s + (0.0 if estimate is None else estimate.before_s)
