"""What is done to a run, as one line that can be read, drawn by a seed, and given back to be done again.

stepwise/bad/offline/fence_up.after#1             killed there, then resumed
atomic/good/read-only/any#57/any#12               killed at the 57th fail point; the resume is killed at its 12th
bluegreen/good/offline/after:1.250                killed 1.25 s after its start
stepwise/restored/offline/jvm@update.before#1     the JVM is killed instead; or dump, restore, server
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from tests.sweep import moving

SELF = "self"
MOVING = ("moved", "unmoved")  # with a backfill: it migrates; a changeset behind the backfill fails
HARMS = (SELF, "jvm", "dump", "restore", "server")  # that are drawn; the network's: stall, drop, cut, slow


@dataclass(frozen=True, kw_only=True)
class Setting:
    """Which run comes to harm."""

    way: str
    outcome: str  # good: it migrates; bad: a changeset fails; restored: it fails and has no rollback; see MOVING
    mode: str

    def __str__(self) -> str:
        return f"{self.way}/{self.outcome}/{self.mode}"

    @property
    def moves(self) -> bool:
        """Whether there is a backfill between its changesets."""
        return self.outcome in MOVING

    @property
    def migrates(self) -> bool:
        return self.outcome in {"good", "moved"}

    @property
    def changelog(self) -> str:
        if self.moves:
            return moving.CHANGELOG
        return {"good": "good.sql", "bad": "bad.sql", "restored": "bad-without-rollback.sql"}[self.outcome]


SETTINGS = tuple(
    Setting(way=way, outcome=outcome, mode=mode)
    for way, outcome, mode in (
        ("atomic", "good", "offline"),
        ("atomic", "bad", "offline"),
        ("atomic", "good", "read-only"),
        ("atomic", "bad", "read-only"),
        ("stepwise", "good", "offline"),
        ("stepwise", "bad", "offline"),
        ("stepwise", "restored", "offline"),
        ("stepwise", "good", "read-only"),
        ("stepwise", "bad", "read-only"),
        ("bluegreen", "good", "offline"),
        ("bluegreen", "bad", "offline"),
        ("stepwise", "moved", "offline"),
        ("stepwise", "unmoved", "offline"),
        ("stepwise", "moved", "none"),
    )
)


@dataclass(frozen=True, kw_only=True)
class Blow:
    """One harm: who comes to it, and at which fail point, or how long after the start."""

    harm: str = SELF
    place: str = "any"
    number: int = 1
    after_s: float | None = None

    def __str__(self) -> str:
        harm = "" if self.harm == SELF else f"{self.harm}@"
        return harm + (f"after:{self.after_s:.3f}" if self.after_s is not None else f"{self.place}#{self.number}")

    @classmethod
    def parse(cls, text: str) -> Blow:
        harm, at, where = text.rpartition("@")
        if where.startswith("after:"):
            return cls(harm=harm or SELF, after_s=float(where.removeprefix("after:")))
        place, _, number = where.partition("#")
        return cls(harm=harm if at else SELF, place=place, number=int(number or 1))


@dataclass(frozen=True, kw_only=True)
class Case:
    setting: Setting
    first: Blow
    second: Blow | None = None  # inside the resume

    def __str__(self) -> str:
        return f"{self.setting}/{self.first}" + (f"/{self.second}" if self.second is not None else "")

    @classmethod
    def parse(cls, text: str) -> Case:
        way, outcome, mode, first, *second = text.split("/")
        return cls(
            setting=Setting(way=way, outcome=outcome, mode=mode),
            first=Blow.parse(first),
            second=Blow.parse(second[0]) if second else None,
        )


def at_every_place(setting: Setting, reached: Sequence[str]) -> Iterator[Case]:
    """Killed at the first and at the last time that a run like this comes to each fail point."""
    for place, times in Counter(reached).items():
        for number in sorted({1, times}):
            yield Case(setting=setting, first=Blow(place=place, number=number))


def killed_twice(draw: random.Random, cases: Sequence[Case], places: int) -> Iterator[Case]:
    """A tenth of the cases once more, with a kill at any of so many places of the resume, which is resumed too."""
    for case in draw.sample(cases, len(cases) // 10):
        yield replace(case, second=Blow(number=draw.randint(1, max(1, places))))


def at_random(
    draw: random.Random, setting: Setting, reached: Sequence[str], lasts_s: float, *, harm: str | None = None
) -> Case:
    """One case: half of them at a fail point, half by the clock; every third is killed twice. The harm is drawn too."""
    harm = harm or draw.choices(HARMS, weights=(10, 3, 2, 2, 1))[0]
    if draw.random() < 0.5 or harm in {"dump", "restore"}:
        first = Blow(harm=harm, number=draw.randint(1, max(1, len(reached))))
    else:
        first = Blow(harm=harm, after_s=round(draw.uniform(0.3, max(0.4, lasts_s)), 3))
    second = Blow(number=draw.randint(1, max(1, len(reached)))) if draw.random() < 1 / 3 else None
    return Case(setting=setting, first=first, second=second)
