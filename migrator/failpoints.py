"""Places at which a build under test comes to harm: one before and one after every effect on the world.

An effect is what outlives the process: in a database, in a file, in the journal, at a provider, a child process.
The function that has it is marked with `@effect`; a test walks the source for those that are not. Nothing happens
at these places unless `arm` was called, which the command line does when both of its variables say so:

    MIGRATOR_FAIL_POINTS=enabled MIGRATOR_FAIL_AT='crash@fence_up.after'

    crash            the process is killed with SIGKILL, by itself
    raise            the effect fails with a StepFailed; `bug` with an error that nobody foresaw
    stall=SECONDS    nothing happens for so long
    stall=FILE       FILE.reached appears, and nothing happens until FILE.go does
    trace=FILE       a line with the time and the place is added to FILE, and everything goes on

Each is followed by `@` and a place, `any`, or either with `#N` for the Nth time; several are separated by `;`.
"""

from __future__ import annotations

import functools
import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import ParamSpec, TypeVar

from migrator.errors import StepFailed, UsageError

_P = ParamSpec("_P")
_R = TypeVar("_R")
_ANY = "any"
_POLL_S = 0.01


class Effect(StrEnum):
    """Everything that a run does to the world, by name."""

    # the database
    RUN_LOCK = "run_lock"
    FENCE_UP = "fence_up"
    FENCE_NOTE = "fence_note"
    FENCE_DOWN = "fence_down"
    PROPERTIES = "properties"
    GRANTS = "grants"
    SETTINGS = "settings"
    COMMIT_OURS = "commit_ours"  # of a transaction of our own: fence, swap, properties
    SESSION_END = "session_end"
    DATABASE_CREATE = "database_create"
    DATABASE_OPENNESS = "database_openness"
    DATABASE_RENAME = "database_rename"
    DATABASE_DROP = "database_drop"
    DATABASE_MARK = "database_mark"
    EXTENSION_CREATE = "extension_create"
    ROLE_CREATE = "role_create"
    SEQUENCES_BACK = "sequences_back"
    LEDGER_BACK = "ledger_back"
    LEDGER_RELEASE = "ledger_release"
    LEDGER_PATHS = "ledger_paths"
    INDEX_DROP = "index_drop"
    ANALYZE = "analyze"
    CAPTURE_ON = "capture_on"
    CAPTURE_OFF = "capture_off"
    # Liquibase
    HOLD = "hold"
    UPDATE = "update"
    ROLLBACK_CHANGESETS = "rollback_changesets"
    CHANGELOG_SYNC = "changelog_sync"
    COMMIT = "commit"
    ROLLBACK = "rollback"
    STATEMENT = "statement"  # that the worker carries out on the migration's own connection
    # data migrations
    BACKFILL_LEDGER = "backfill_ledger"
    BACKFILL_LOCK = "backfill_lock"
    BACKFILL_STATE = "backfill_state"
    BACKFILL_TRIAL = "backfill_trial"  # undone at once
    BACKFILL_BATCH = "backfill_batch"
    BACKFILL_COMMIT = "backfill_commit"
    BACKFILL_CANCEL = "backfill_cancel"  # of a batch that holds others up
    # files
    BACKUP_FOLDER = "backup_folder"
    BACKUP_FILE = "backup_file"
    DUMP = "dump"
    RESTORE = "restore"
    MANIFEST = "manifest"
    BACKUP_QUARANTINE = "backup_quarantine"
    BACKUP_REMOVE = "backup_remove"
    PASSFILE = "passfile"
    PASSFILE_REMOVE = "passfile_remove"
    REPORT = "report"
    RUN_FOLDER = "run_folder"
    LOG = "log"
    WORK_FILE = "work_file"
    # the journal
    JOURNAL_CREATE = "journal_create"
    JOURNAL_BEGIN = "journal_begin"
    JOURNAL_STEP_STARTED = "journal_step_started"
    JOURNAL_STEP_ENDED = "journal_step_ended"
    JOURNAL_SAVE = "journal_save"
    JOURNAL_RENEW = "journal_renew"
    JOURNAL_TAKE_OVER = "journal_take_over"
    JOURNAL_CLOSE = "journal_close"
    # processes and providers
    PROCESS_START = "process_start"
    OUTSIDE_ON = "outside_on"
    OUTSIDE_OFF = "outside_off"
    OUTSIDE_WRITE = "outside_write"  # the file of a flag
    PROVIDER_CALL = "provider_call"  # AWS


@dataclass(frozen=True, kw_only=True)
class Fate:
    """What is to happen, where, and at the how manieth time (None: every time)."""

    deed: str
    argument: str
    place: str
    number: int | None


class Harm:
    """The fates of this process. Safe to use from several threads."""

    def __init__(self, fates: Sequence[Fate]) -> None:
        self._fates = fates
        self._lock = threading.Lock()
        self._seen: Counter[str] = Counter()

    def reach(self, place: str) -> None:
        with self._lock:
            self._seen.update((place, _ANY))
            due = [fate for fate in self._fates if self._is_due(fate, place)]
        for fate in due:
            _DEEDS[fate.deed](fate, place)

    def _is_due(self, fate: Fate, place: str) -> bool:
        return fate.place in (place, _ANY) and fate.number in (None, self._seen[fate.place])


_harm: Harm | None = None


def arm(text: str) -> None:
    """From now on these fates happen in this process. Raises: UsageError for what is none."""
    global _harm  # noqa: PLW0603  one switch a process, looked at by every effect
    _harm = Harm([_fate(one.strip()) for one in text.split(";") if one.strip()])


def disarm() -> None:
    """Nothing happens any more."""
    global _harm  # noqa: PLW0603
    _harm = None


def places() -> list[str]:
    """Every place at which something may happen."""
    return [f"{effect}.{side}" for effect in Effect for side in ("before", "after")]


def effect(name: Effect) -> Callable[[Callable[_P, _R]], Callable[_P, _R]]:
    """Marks a function that has this effect: before it and after it something may happen."""

    def mark(function: Callable[_P, _R]) -> Callable[_P, _R]:
        @functools.wraps(function)
        def marked(*args: _P.args, **kwargs: _P.kwargs) -> _R:
            harm = _harm
            if harm is None:
                return function(*args, **kwargs)
            harm.reach(f"{name}.before")
            result = function(*args, **kwargs)
            harm.reach(f"{name}.after")
            return result

        return marked

    return mark


@contextmanager
def doing(name: Effect) -> Iterator[None]:
    """The block has this effect."""
    if _harm is not None:
        _harm.reach(f"{name}.before")
    yield
    if _harm is not None:
        _harm.reach(f"{name}.after")


def _fate(text: str) -> Fate:
    deed_and_argument, _, where = text.rpartition("@")
    deed, _, argument = deed_and_argument.partition("=")
    place, _, number = where.partition("#")
    known = deed in _DEEDS and (place == _ANY or place in places()) and (not number or number.isdecimal())
    if not known:
        raise UsageError(
            f"{text!r} is no fate at a fail point.",
            hint=f"Write DEED@PLACE or DEED@PLACE#N; deeds: {', '.join(_DEEDS)}; places: {_ANY}, {', '.join(places())}",
        )
    return Fate(deed=deed, argument=argument, place=place, number=int(number) if number else None)


def _crash(_fate: Fate, _place: str) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _raise(_fate: Fate, place: str) -> None:
    raise StepFailed(f"The fail point {place} was told to fail.", code="fail_point")


def _bug(_fate: Fate, place: str) -> None:
    raise RuntimeError(f"the fail point {place} was told to fail")


def _stall(fate: Fate, _place: str) -> None:
    if fate.argument.replace(".", "", 1).isdecimal():
        time.sleep(float(fate.argument))
        return
    Path(fate.argument + ".reached").touch()
    while not Path(fate.argument + ".go").exists():
        time.sleep(_POLL_S)


def _trace(fate: Fate, place: str) -> None:
    with open(fate.argument, "a", encoding="utf-8") as file:
        file.write(f"{time.time():.6f} {place}\n")


_DEEDS: dict[str, Callable[[Fate, str], None]] = {
    "crash": _crash,
    "raise": _raise,
    "bug": _bug,
    "stall": _stall,
    "trace": _trace,
}
