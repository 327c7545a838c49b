"""The watch ends what must not go on, and never the way back, nor what users wait for."""

from __future__ import annotations

import threading
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from migrator.errors import StepFailed
from migrator.runs.record import Way
from migrator.runs.watch import LockLost, Watch


class Worker:
    killed = False

    def kill(self) -> None:
        self.killed = True


class Journal:
    """Says of a lease what the test says."""

    def __init__(self) -> None:
        self.answer: bool | StepFailed = True

    def renew(self, _run_id: str, _lease_s: float) -> bool:
        if isinstance(self.answer, StepFailed):
            raise self.answer
        return self.answer


class Session:
    """The session of the watch, and that of the lock: nobody is on the server."""

    closed = False

    def rows(self, _text: str) -> list[tuple[str, ...]]:
        return []

    def execute(self, _text: str) -> None:
        pass

    def close(self) -> None:
        self.closed = True


class Setting:
    def __init__(self) -> None:
        self.now_s = 0.0
        self.journal, self.worker, self.lock = Journal(), Worker(), Session()
        limits = SimpleNamespace(lease_s=60.0, max_downtime_s=100.0, max_blocked_s=None)
        self.run: Any = SimpleNamespace(
            id="20260101t000000_0001",
            database="shop",
            work_login=SimpleNamespace(database="shop"),
            lock=self.lock,
            journal=self.journal,
            liquibase=self.worker,
            environment=SimpleNamespace(limits=limits),
            record=SimpleNamespace(environment="staging", way=Way.ATOMIC),
            facts=SimpleNamespace(committed=False, breaches=[]),
            warn=lambda _text: None,
            now=lambda: datetime(2026, 1, 1, tzinfo=UTC),
            folder=Path("/nonexistent"),
        )
        self.watch = Watch(cast("Any", self.run), cast("Any", Session()), monotonic=lambda: self.now_s)

    def look_after(self, seconds: float) -> None:
        """One turn of the thread, later."""
        from migrator.postgres.fence import Mode

        self.watch.fenced(Mode.NONE)
        self.now_s += seconds
        turns = iter([False, True])
        cast("Any", self.watch)._stop = SimpleNamespace(wait=lambda _timeout: next(turns))
        self.watch._loop()


@pytest.fixture
def setting() -> Setting:
    return Setting()


def test_too_long_a_downtime_ends_the_work(setting: Setting) -> None:
    setting.look_after(101.0)
    assert setting.worker.killed
    with pytest.raises(StepFailed, match="max_downtime_s"):
        setting.watch.check()


def test_too_long_a_downtime_does_not_end_the_way_back(setting: Setting) -> None:
    setting.watch.going_back()
    setting.look_after(101.0)
    assert not setting.worker.killed
    setting.watch.check()


def test_after_the_commit_an_alarm_keeps_no_user_waiting(setting: Setting) -> None:
    setting.look_after(101.0)
    setting.run.facts.committed = True
    setting.watch.check()


def test_a_lost_lease_stops_everything_even_after_the_commit(setting: Setting) -> None:
    setting.run.facts.committed = True
    setting.journal.answer = False
    setting.look_after(16.0)
    assert setting.worker.killed
    setting.journal.answer = True
    with pytest.raises(LockLost, match="taken over"):
        setting.watch.check()


def test_a_journal_in_trouble_ends_the_work_only_when_the_lease_is_about_to_end(setting: Setting) -> None:
    setting.journal.answer = StepFailed("the disk is full", code="journal")
    setting.look_after(16.0)
    assert setting.watch.alarm is None
    setting.look_after(16.0)
    assert setting.watch.alarm is not None
    assert setting.worker.killed


def test_the_way_back_begins_when_the_alarm_has_ended_its_sessions(setting: Setting) -> None:
    """Else the alarm ends the sessions of the way back, too."""
    killing, go_on, begun = threading.Event(), threading.Event(), threading.Event()

    def kill() -> None:
        killing.set()
        go_on.wait(10.0)

    def go_back() -> None:
        setting.watch.going_back()
        begun.set()

    cast("Any", setting.worker).kill = kill
    watching = threading.Thread(target=setting.look_after, args=(101.0,))
    watching.start()
    assert killing.wait(10.0)
    returning = threading.Thread(target=go_back)
    returning.start()
    assert not begun.wait(0.2)
    go_on.set()
    assert begun.wait(10.0)
    watching.join()
    returning.join()
