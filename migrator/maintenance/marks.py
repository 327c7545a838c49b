"""Tags by which a resource at AWS says that a run holds it, and what it was: enough to go back without a journal.

The values of tags may hold little else than letters and digits, so what does not fit is written in another way.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from migrator.errors import MaintenanceFailed

RUN = "migrator:run"
ENVIRONMENT = "migrator:environment"
_BEFORE = "migrator:before:"
_PLAIN = re.compile(r"[\w .:/=+@-]{0,100}", re.ASCII)
_CODED = "b64:"
_LONGEST_KEY, _LONGEST_VALUE = 128, 256  # AWS's own limits


@dataclass(frozen=True, kw_only=True)
class Mark:
    """Whose a resource is at the moment."""

    run_id: str
    before: dict[str, str] = field(default_factory=dict)  # what it was


def read(tags: Mapping[str, str]) -> Mark | None:
    """The mark among a resource's tags; None where no run holds it."""
    run_id = tags.get(RUN)
    if run_id is None:
        return None
    before = {_plain(key.removeprefix(_BEFORE)): _plain(tags[key]) for key in tags if key.startswith(_BEFORE)}
    return Mark(run_id=run_id, before=before)


def tags_of(mark: Mark, *, environment: str) -> dict[str, str]:
    """The tags that say so. Raises: MaintenanceFailed for what no tag can hold."""
    before = {f"{_BEFORE}{_coded(key)}": _coded(value) for key, value in mark.before.items()}
    for key, value in before.items():
        if len(key) > _LONGEST_KEY or len(value) > _LONGEST_VALUE:
            raise MaintenanceFailed(
                f"What stands now is too long for the tags of AWS: {_plain(key.removeprefix(_BEFORE))}.",
                hint="Hold users off in another way.",
            )
    return {RUN: mark.run_id, ENVIRONMENT: environment, **before}


def keys(tags: Iterable[str]) -> list[str]:
    """Those of the keys that are of a mark."""
    return [key for key in tags if key in (RUN, ENVIRONMENT) or key.startswith(_BEFORE)]


def foreign(what: str, run_id: str, *, environment: str) -> MaintenanceFailed:
    """The error for what another run holds."""
    return MaintenanceFailed(
        f"{what} is held by another run, {run_id}.",
        hint=f"See: migrator show {run_id}. Once it is over: migrator maintenance off --env {environment}",
        code="maintenance_foreign",
    )


def drifted(what: str, found: Iterable[str]) -> MaintenanceFailed:
    """The error for what somebody else changed meanwhile, and which is therefore left as it is."""
    return MaintenanceFailed(
        f"{what} was changed by somebody else during the run, and is left as it is: {'; '.join(found)}.",
        hint="Everything else is as it was before. Look whether this is what it should be; the same command, again, "
        "takes it as it is.",
        code="maintenance_drift",
    )


def _coded(text: str) -> str:
    if _PLAIN.fullmatch(text) and not text.startswith(_CODED):
        return text
    return _CODED + base64.urlsafe_b64encode(text.encode()).decode()


def _plain(text: str) -> str:
    if not text.startswith(_CODED):
        return text
    return base64.urlsafe_b64decode(text.removeprefix(_CODED)).decode()
