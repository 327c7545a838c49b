"""The plan that a run is held to: it is still what would be done, and enough people have approved it."""

from __future__ import annotations

import shlex

from migrator.errors import Refused
from migrator.plans import approvals, changes
from migrator.plans.plan import Approval
from migrator.runs import stores
from migrator.runs.record import ApprovalRecord
from migrator.runs.run import Run
from migrator.runs.words import count

_SHOWN = 8


def holds(run: Run) -> str | None:
    """That the plan which the run was given is still what it would do; None where it was given none.

    Raises: Refused naming what has changed since.
    """
    given = run.options.plan
    if given is None:
        return None
    approvals.require_whole(given)
    now = run.plan
    found = ["it is a rollback"] if now is None else changes.between(given, now)
    if found:
        more = f"; and {len(found) - _SHOWN} more" if found[_SHOWN:] else ""
        raise Refused(
            f"The plan of {given.made_at:%Y-%m-%d %H:%M} UTC no longer holds: {'; '.join(found[:_SHOWN])}{more}.",
            hint=f"Make it anew, and read it: {_plan_command(run)}",
            code="plan_changed",
        )
    return f"the plan {given.digest[:12]} of {given.made_at:%Y-%m-%d %H:%M} UTC holds"


def is_approved(run: Run) -> str | None:
    """Who has approved the plan; None where nobody is asked to, and nobody has. A rollback needs nobody: it leads back.

    Raises: Refused with what is missing, and the next command.
    """
    required, given = run.environment.approvals.required, run.options.plan
    if run.undoes or (given is None and not required):
        return None
    keys = stores.public_keys(run)
    if required and (keys is None or len(keys.keys) < required):
        raise Refused(
            f"{run.environment.name} asks for {count(required, 'approval')}, and the configuration names "
            f"{count(len(keys.keys) if keys else 0, 'public key')} to check them with.",
            hint="Name the public keys of those who may approve: [signing] public_keys.",
            code="approval_keys",
        )
    if given is None:
        raise Refused(
            f"{run.environment.name} asks for a plan with {count(required, 'approval')}.",
            hint=f"Make one: {_plan_command(run)}; let another person type: migrator approve plan.json; "
            "then: migrator run --plan plan.json",
            code="no_plan",
        )
    if keys is None:
        return None
    own = stores.signing_key(run) if required else None
    found = approvals.require(
        given,
        keys,
        required=required,
        own=own.id if own is not None else None,
        file=str(run.options.plan_file or "plan.json"),
    )
    run.record.approvals = [
        ApprovalRecord(key=one.key, by=one.by, comment=one.comment, at=one.at) for one in found.counts
    ]
    if not found.counts:
        return None
    asked = f", {required} asked for" if required else ""
    return f"{count(len(found.counts), 'approval')}{asked}: " + "; ".join(_told(one) for one in found.counts)


def _told(one: Approval) -> str:
    said = f', "{one.comment}"' if one.comment else ""
    return f"{one.by or 'somebody'} (key {one.key}) at {one.at:%Y-%m-%d %H:%M} UTC{said}"


def _plan_command(run: Run) -> str:
    return f"migrator plan {shlex.quote(run.record.changelog)} --env {run.environment.name} --out plan.json"
