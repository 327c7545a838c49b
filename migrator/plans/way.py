"""How the pending changesets are applied, and what the run may fall back to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from migrator.errors import Refused
from migrator.plans.obstacles import Obstacle, refuse

MAX_SAVEPOINTS_WHILE_OTHERS_WORK = 60  # from the 65th subtransaction on every snapshot must search pg_subtrans

_TWO_RELEASES = (
    "For atomic runs part it in two releases: one with what comes before the backfill, one with what needs it "
    "(migrator:requires)"
)


class Applicable(Protocol):
    """What the choice depends on."""

    @property
    def path(self) -> str: ...
    @property
    def id(self) -> str: ...
    @property
    def author(self) -> str: ...
    @property
    def run_in_transaction(self) -> bool: ...
    @property
    def needs_savepoint(self) -> bool: ...
    @property
    def has_rollback(self) -> bool: ...


class Moving(Protocol):
    """A backfill between the changesets, as far as the choice depends on it."""

    @property
    def name(self) -> str: ...
    @property
    def inside(self) -> bool: ...


@dataclass(frozen=True, kw_only=True)
class Choice:
    way: str  # atomic, bluegreen or stepwise
    fallback: str | None
    reason: str


def choose(
    wanted: str,
    pending: Sequence[Applicable],
    *,
    protected: bool,
    maintenance: str,
    hindrances: Sequence[Obstacle] | None = None,
    backfills: Sequence[Moving] = (),
) -> Choice:
    """The way for these changesets, and the backfills between them.

    `hindrances`: what keeps the database from being copied and swapped; None where nobody asks for that.
    Raises: Refused when the wanted way cannot do them.
    """
    outside = [_key(c) for c in pending if not c.run_in_transaction]
    apart = [one.name for one in backfills if not one.inside]
    if wanted == "bluegreen":
        refuse([replace(one, what=f"way = bluegreen, but {one.what}") for one in hindrances or ()])
        return Choice(way="bluegreen", fallback=None, reason="the configuration asks for it")
    second = "bluegreen" if hindrances is not None and not hindrances else "stepwise"
    if wanted == "stepwise":
        return Choice(way="stepwise", fallback=None, reason="the configuration asks for it")
    if apart and wanted == "atomic":
        raise Refused(
            f"way = atomic, but backfill {apart[0]} commits batch by batch, so it cannot be part of one transaction.",
            hint=f"{_TWO_RELEASES}. Or set way = 'auto' or 'stepwise'; inside = true is for few rows.",
        )
    if outside and wanted == "atomic":
        raise Refused(
            f"way = atomic, but {outside[0]} says runInTransaction=false, so it cannot be part of one transaction.",
            hint="Set way = 'auto' or 'stepwise', or move that changeset into a changelog of its own.",
        )
    if outside or apart:
        reason = f"{outside[0]} has runInTransaction=false" if outside else f"backfill {apart[0]} commits in batches"
        if hindrances:
            reason += f"; not blue/green, because {hindrances[0].what}"
        if not outside:
            reason += f". {_TWO_RELEASES}"
        return Choice(way=second, fallback=None, reason=reason)
    savepoints = sum(1 for c in pending if c.needs_savepoint)
    if maintenance == "none" and savepoints > MAX_SAVEPOINTS_WHILE_OTHERS_WORK:
        raise Refused(
            f"{savepoints} changesets may fail and go on, and need a savepoint each; more than "
            f"{MAX_SAVEPOINTS_WHILE_OTHERS_WORK} of them slow down every other session of the server.",
            hint="Split the changelog, or run it under maintenance.",
        )
    # Without a fence a half-applied changelog is seen by users: then a failed transaction is the end of the run.
    fallback = second if wanted == "auto" and not protected and maintenance == "offline" else None
    return Choice(way="atomic", fallback=fallback, reason="every changeset may run in a transaction")


def refuse_without_way_back(
    choice: Choice, pending: Sequence[Applicable], *, maintenance: str, has_dump: bool, restore: str, accepted: bool
) -> list[str]:
    """What a person should know about the way back; empty when nothing is missing.

    Raises: Refused where a failure could leave the database between two states for good.
    """
    if choice.way != "stepwise" and choice.fallback != "stepwise":
        return []
    missing = [_key(c) for c in pending if not c.has_rollback]
    if not missing or is_restorable(maintenance=maintenance, has_dump=has_dump, restore=restore):
        return []
    if choice.way == "atomic" and not accepted:
        return [f"no way back for a stepwise fallback ({missing[0]} has no rollback): the run stays atomic or ends"]
    if accepted:
        return [f"accepted: no way back if {missing[0]} fails (it has no rollback, and no restore is possible)"]
    why = "no backup of kind dump is made" if not has_dump else f"maintenance is {maintenance}, so others may write"
    if restore == "never":
        why = "backup.restore is never"
    raise Refused(
        f"{len(missing)} pending changesets have no rollback ({', '.join(missing[:3])}"
        f"{' ...' if len(missing) > 3 else ''}) and a restore is not possible: {why}.",
        hint="Write the rollbacks, use maintenance offline with a dump, or pass --accept-no-way-back.",
    )


def without_hopeless_fallback(
    choice: Choice, pending: Sequence[Applicable], *, maintenance: str, has_dump: bool, restore: str, accepted: bool
) -> Choice:
    """The choice, without a fallback that could leave the database between two states for good."""
    hopeless = any(not c.has_rollback for c in pending) and not is_restorable(
        maintenance=maintenance, has_dump=has_dump, restore=restore
    )
    return replace(choice, fallback=None) if choice.fallback == "stepwise" and hopeless and not accepted else choice


def is_restorable(*, maintenance: str, has_dump: bool, restore: str) -> bool:
    """Whether a run that went wrong may restore its own backup by itself."""
    return maintenance == "offline" and has_dump and restore != "never"


def _key(changeset: Applicable) -> str:
    return f"{changeset.path}::{changeset.id}::{changeset.author}"
