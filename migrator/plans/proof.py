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


def not_proven(level: str, *, maintenance: str, has_checks: bool, unhashed: int) -> list[str]:
    """What a run with this proof will not say, one sentence each. `unhashed`: how many tables are not hashed."""
    found = []
    if level == "write_set":
        found.append("No row is hashed: that other tables keep theirs rests on the locks of this run alone.")
    elif unhashed:
        found.append(
            f"The rows of {unhashed} tables that no changeset names are not hashed: that they stay rests on "
            "the locks of this run alone."
        )
    found.append("What goes through dblink, foreign tables or functions in C leaves no lock that could be seen.")
    if maintenance == "none":
        found.append("Users go on writing: what changes beside the migration is theirs, and is not compared.")
    elif maintenance == "read-only":
        found.append("That nobody else wrote: read-only is a service to readers, and no fence.")
    if not has_checks:
        found.append("That the data makes sense: checks.suites and checks.invariants name no check.")
    return found
