"""A plan as a file, to be handed round, approved and run."""

from __future__ import annotations

from pathlib import Path

from pydantic import ValidationError

from migrator.errors import Refused, UsageError
from migrator.plans.plan import Plan

_MAX_BYTES = 512 * 1024 * 1024


def render(plan: Plan) -> str:
    """The plan as its file holds it."""
    return plan.model_dump_json(indent=2) + "\n"


def read(path: Path) -> Plan:
    """The plan in the file; whether it is whole is another question.

    Raises: UsageError when the file cannot be read, Refused when it is no plan.
    """
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise Refused(f"{path} is no plan: it is larger than {_MAX_BYTES // 1024**2} MB.", code="no_plan")
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise UsageError(
            f"The plan {path} cannot be read: {reason}.", hint="Make one: migrator plan CHANGELOG --env ENV --out FILE"
        ) from error
    try:
        return Plan.model_validate_json(text)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(str(part) for part in first["loc"]) or "the file"
        raise Refused(
            f"{path} is not a plan that this migrator can read: {place}: {first['msg']}.",
            hint="Make it anew: migrator plan CHANGELOG --env ENV --out FILE",
            code="no_plan",
        ) from None
