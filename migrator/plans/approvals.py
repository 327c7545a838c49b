"""Other people's word for a plan: given with a key of their own, and counted by key."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from datetime import datetime

from migrator.backups.signing import PublicKeys, SignatureInvalid, SigningKey
from migrator.errors import Refused
from migrator.plans.plan import Approval, Plan

_PLAN = "plan"
_APPROVAL = "approval"
_AGAIN = "Make the plan anew: migrator plan CHANGELOG --env ENV --out FILE"


@dataclass(frozen=True, kw_only=True)
class Counted:
    """What the approvals of a plan come to."""

    counts: tuple[Approval, ...] = ()  # one a key, the planner's and the run's own left out
    left_out: tuple[str, ...] = ()  # why others do not count, one sentence each


def sign(plan: Plan, key: SigningKey) -> Plan:
    """The plan says whose it is."""
    return plan.model_copy(update={"signature": key.sign(_signed(plan), purpose=_PLAN)})


def planner(plan: Plan, keys: PublicKeys) -> str | None:
    """The id of the key that made the plan; None where none of these did."""
    try:
        return keys.check(_signed(plan), plan.signature, purpose=_PLAN)
    except SignatureInvalid:
        return None


def require_whole(plan: Plan) -> None:
    """What the plan shows is what its digests stand for. Raises: Refused for one that was changed by hand."""
    if plan.computed_digest != plan.digest:
        raise Refused(
            f"The plan was changed after it was made: its content has the digest {plan.computed_digest[:12]}, and it "
            f"says {plan.digest[:12] or 'none'}.",
            hint=f"{_AGAIN}.",
            code="plan_damaged",
        )
    if plan.computed_document != plan.document:
        raise Refused(
            "The plan was changed after it was made: what it would do is the same, and what it shows beside that "
            "(findings, obstacles, gates and the like) is not.",
            hint=f"{_AGAIN}.",
            code="plan_damaged",
        )


def approve(plan: Plan, key: SigningKey, keys: PublicKeys, *, by: str, comment: str, at: datetime) -> Plan:
    """The plan with one approval more.

    Raises: Refused where this key's word would not count: it is unknown, the planner's, or was given already.
    """
    require_whole(plan)
    if key.id not in keys.keys:
        raise Refused(
            f"The key {key.id} is not among the public keys of this configuration, so its approval would not count.",
            hint="Put its public half among [signing] public_keys.",
            code="unknown_key",
        )
    if _made_by(plan, key):
        raise Refused(
            f"The key {key.id} made this plan: another person has to approve it.",
            hint="Hand the file to somebody else, who approves it with a key of their own (--key PATH).",
            code="own_plan",
        )
    if any(one.key == key.id for one in count(plan, keys, own=None).counts):
        raise Refused(f"The key {key.id} has approved this plan already.", code="approved_already")
    said = Approval(digest=plan.digest, document=plan.document, key=key.id, by=by, comment=comment, at=at)
    signed = said.model_copy(update={"signature": key.sign(_document(said), purpose=_APPROVAL)})
    kept = tuple(one for one in plan.approvals if one.key != key.id)
    return plan.model_copy(update={"approvals": (*kept, signed)})


def count(plan: Plan, keys: PublicKeys, *, own: str | None) -> Counted:
    """Which approvals count: of this very plan, by a known key, each key once. `own`: the key of the one who runs."""
    made_by = planner(plan, keys)
    found: dict[str, Approval] = {}
    left_out = []
    for one in plan.approvals:
        who = f"{one.by or 'somebody'} (key {one.key})"
        try:
            key = keys.check(_document(one), one.signature, purpose=_APPROVAL)
        except SignatureInvalid as error:
            left_out.append(f"the approval of {who} does not count: {error}")
            continue
        if key != one.key or (one.digest, one.document) != (plan.digest, plan.document):
            left_out.append(f"the approval of {who} is of another plan")
        elif key == made_by:
            left_out.append(f"the approval of {who} does not count: that key made the plan")
        elif key == own:
            left_out.append(f"the approval of {who} does not count: it is the key of this run")
        elif key not in found:
            found[key] = one
    return Counted(counts=tuple(found.values()), left_out=tuple(left_out))


def require(plan: Plan, keys: PublicKeys, *, required: int, own: str | None, file: str = "plan.json") -> Counted:
    """Enough people have approved the plan, none of them its maker.

    `file` is what the next command names. Raises: Refused naming how many are missing, and what does not count and
    why; and for a plan that is not whole.
    """
    require_whole(plan)
    if required and planner(plan, keys) is None:
        raise Refused(
            "The plan is not signed by a known key, so nobody can tell that its approvals are another person's.",
            hint="Make it with a [signing] key whose public half is among [signing] public_keys.",
            code="plan_unsigned",
        )
    found = count(plan, keys, own=own)
    if len(found.counts) < required:
        also = f"; {'; '.join(found.left_out)}" if found.left_out else ""
        raise Refused(
            f"The plan has {len(found.counts)} of the {required} approvals that are asked for{also}.",
            hint=f"Let another person type: migrator approve {shlex.quote(file)}",
            code="approvals_missing",
        )
    return found


def _made_by(plan: Plan, key: SigningKey) -> bool:
    return planner(plan, key.public) is not None


def _signed(plan: Plan) -> dict[str, object]:
    return {"digest": plan.digest, "document": plan.document}


def _document(approval: Approval) -> dict[str, object]:
    return approval.model_dump(mode="json", exclude={"signature"})
