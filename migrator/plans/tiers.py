"""The tiers of rights, by name."""

from __future__ import annotations

from enum import StrEnum


class Tier(StrEnum):
    """Each has what the one before it has, but for `plan`, which only reads."""

    PLAN = "plan"
    ONLINE = "online"
    FENCE = "fence"
    SWAP = "swap"
    RECOVER = "recover"

    @property
    def enough_for(self) -> str:
        return _ENOUGH_FOR[self]


_ENOUGH_FOR = {
    Tier.PLAN: "plan, drift, doctor: everything that only reads",
    Tier.ONLINE: "run and rollback under maintenance none, without a restore",
    Tier.FENCE: "runs under offline and read-only that need no copy and no restore",
    Tier.SWAP: "bluegreen, clone, and scratch databases on the same server",
    Tier.RECOVER: "everything: a backup restored beside the database and swapped in",
}
