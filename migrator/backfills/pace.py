"""How many keys a batch takes, so that it lasts about as long as it is meant to."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

SMALLEST, LARGEST = 1, 100_000
_GROWS, _SHRINKS = 2.0, 0.25  # at most, from one batch to the next
_WINDOW_S = 10.0


@dataclass(kw_only=True)
class Pace:
    """Of one worker."""

    target_s: float
    size: int

    def took(self, duration_s: float, *, full: bool) -> None:
        """The last batch took so long; only one that was `full` says what a larger one would take."""
        factor = self.target_s / max(duration_s, 0.001)
        if not full:
            factor = min(factor, 1.0)
        self._resize(self.size * min(max(factor, _SHRINKS), _GROWS))

    def failed(self, *, by: int = 2) -> None:
        """The last batch was too long for others, or others for it: the next is smaller, by this factor."""
        self._resize(self.size / by)

    def _resize(self, size: float) -> None:
        self.size = max(SMALLEST, min(int(size), LARGEST))


@dataclass(kw_only=True)
class Tally:
    """What all workers have done together. Safe to use from several threads."""

    walked_before: int  # of earlier calls
    total: int | None
    clock: Callable[[], float] = time.monotonic
    rows: int = 0  # moved by this call
    batches: int = 0
    walked: int = 0
    written: set[str] = field(default_factory=set)
    writes: int | None = 0  # rows of these tables; None: the server counts none

    def __post_init__(self) -> None:
        self._lock = threading.Lock()
        self._recent: deque[tuple[float, int]] = deque([(self.clock(), 0)])

    def add(self, *, rows: int, walked: int, written: frozenset[str], writes: int | None) -> None:
        with self._lock:
            self.rows += rows
            self.walked += walked
            self.batches += 1 if walked else 0
            self.written |= written
            self.writes = None if self.writes is None or writes is None else self.writes + writes
            now = self.clock()
            self._recent.append((now, self.walked))
            while len(self._recent) > 2 and now - self._recent[0][0] > _WINDOW_S:
                self._recent.popleft()

    @property
    def rate(self) -> float:
        """Rows a second of late, those that `where` leaves out counted."""
        with self._lock:
            then, walked = self._recent[0]
            return (self.walked - walked) / max(self.clock() - then, 0.001)

    @property
    def eta_s(self) -> float | None:
        rate = self.rate
        left = None if self.total is None else self.total - self.walked_before - self.walked
        return None if left is None or rate <= 0 else max(0.0, left / rate)
