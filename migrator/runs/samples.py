"""`waits.jsonl`: once a second, what a run held and who waited for it. Drawn in its report."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path

from migrator.postgres.waits import HeldLock, Waiter

NAME = "waits.jsonl"
_KEEPS_WRITERS_OUT = {"ShareLock", "ShareRowExclusiveLock", "ExclusiveLock", "AccessExclusiveLock"}


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One moment of a run."""

    at: datetime
    waiting: int  # sessions of others that waited for this run's locks
    longest_s: float  # how long the first of them had been waiting
    locked: int  # relations that others could not write, or not even read
    unreadable: int  # those of them that others could not read either

    @classmethod
    def of(cls, at: datetime, waiting: Sequence[Waiter], held: Sequence[HeldLock]) -> Sample:
        return cls(
            at=at,
            waiting=len(waiting),
            longest_s=round(max((waiter.waiting_s for waiter in waiting), default=0.0), 3),
            locked=len({(lock.database, lock.relation_oid) for lock in held if lock.mode in _KEEPS_WRITERS_OUT}),
            unreadable=len({(lock.database, lock.relation_oid) for lock in held if lock.mode == "AccessExclusiveLock"}),
        )


def append(folder: Path, sample: Sample) -> None:
    """The sample is the last line of the file. A file that cannot be written is given up: it is a picture, no proof."""
    line = json.dumps({**asdict(sample), "at": sample.at.isoformat()})
    with suppress(OSError):
        descriptor = os.open(folder / NAME, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        with open(descriptor, "a", encoding="ascii") as file:
            file.write(line + "\n")


def read(folder: Path) -> Iterator[Sample]:
    """Every sample that was written, in order; none where there is no file. A line that was cut off is left out."""
    try:
        text = (folder / NAME).read_text(encoding="ascii", errors="replace")
    except OSError:
        return
    for line in text.splitlines():
        with suppress(ValueError, TypeError):
            fields = json.loads(line)
            yield Sample(**{**fields, "at": datetime.fromisoformat(fields["at"])})
