"""Which proof the budget allows, and which tables it hashes before anything changes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar


class Sized(Protocol):
    @property
    def qualified(self) -> str: ...


T = TypeVar("T", bound=Sized)


@dataclass(frozen=True, kw_only=True)
class ProofPlan:
    level: str  # full, touched, write_set
    tables: frozenset[str]  # qualified names; hashed before (and after, where they changed)
    estimate_s: float
    reason: str


def choose(
    wanted: str,
    tables: Sequence[T],
    named: frozenset[str],
    *,
    budget_s: float,
    jobs: int,
    estimate_s: Callable[[Sequence[T]], float],
) -> ProofPlan:
    """The strongest proof whose scan fits `budget_s`; `wanted` other than auto is taken as it is.

    `estimate_s` tells how long one session needs for the tables given.
    """
    touched = [table for table in tables if table.qualified in named]
    full_s = estimate_s(tables) / jobs
    touched_s = estimate_s(touched) / jobs
    if wanted == "full" or (wanted == "auto" and full_s <= budget_s):
        why = "asked for" if wanted == "full" else f"about {full_s:.1f} s, within {budget_s:g} s"
        names = frozenset(table.qualified for table in tables)
        return ProofPlan(level="full", tables=names, estimate_s=full_s, reason=why)
    if wanted == "touched" or (wanted == "auto" and touched_s <= budget_s):
        why = "asked for" if wanted == "touched" else f"all tables would take about {full_s:.0f} s of {budget_s:g} s"
        names = frozenset(table.qualified for table in touched)
        return ProofPlan(level="touched", tables=names, estimate_s=touched_s, reason=why)
    why = "asked for" if wanted == "write_set" else f"hashing would take about {touched_s:.0f} s of {budget_s:g} s"
    return ProofPlan(level="write_set", tables=frozenset(), estimate_s=0.0, reason=why)
