"""Waiting for AWS: with an end, and with a word now and then."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from migrator.errors import AwsFailed, StepFailed

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Wait:
    """How long something may take, and how often it is looked at."""

    limit_s: float
    every_s: float = 5.0
    progress: Callable[[str], None] = lambda _text: None
    sleep: Callable[[float], None] = time.sleep
    clock: Callable[[], float] = time.monotonic

    def until(
        self, look: Callable[[], tuple[T | None, str]], *, doing: str, setting: str, kind: type[StepFailed] = AwsFailed
    ) -> T:
        """What `look` found at last; it gives None as long as it is not there, and says how things stand.

        Raises: `kind`, code `timeout`, with the last word, after `limit_s`; `setting` names what limits it.
        """
        began_at = self.clock()
        while True:
            found, standing = look()
            if found is not None:
                return found
            waited_s = self.clock() - began_at
            if waited_s >= self.limit_s:
                raise kind(
                    f"{doing} has not ended after {self.limit_s:g} s: {standing}",
                    hint=f"look at it in the console of AWS; {setting} is the limit",
                    code="timeout",
                )
            self.progress(f"{doing}: {standing} ({waited_s:.0f} s)")
            self.sleep(min(self.every_s, self.limit_s - waited_s))
