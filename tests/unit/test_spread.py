from __future__ import annotations

import threading

import pytest

from migrator.errors import StepFailed
from migrator.postgres.session import Row
from migrator.postgres.spread import spread


class Waiting:
    """A session whose work ends when it is cancelled, and not before."""

    def __init__(self) -> None:
        self.cancelled = threading.Event()

    def rows(self, sql: str) -> list[Row]:
        assert self.cancelled.wait(30)
        raise StepFailed(f"{sql} was cancelled")

    def execute(self, sql: str) -> None:
        raise NotImplementedError

    def cancel(self) -> None:
        self.cancelled.set()


def test_results_are_in_the_order_of_the_items() -> None:
    assert spread([Waiting(), Waiting()], list(range(50)), lambda _, item: item * 2) == [item * 2 for item in range(50)]


def test_the_first_error_is_raised_and_ends_the_others() -> None:
    patient, broken = Waiting(), Waiting()

    def do(session: Waiting, item: int) -> None:
        if item == 0:
            session.rows("the long one")
        raise StepFailed("the cause")

    with pytest.raises(StepFailed, match="the cause"):
        spread([patient, broken], [0, 1, 2], do)  # type: ignore[arg-type]
    assert patient.cancelled.is_set() or broken.cancelled.is_set()


def test_one_session_works_in_the_calling_thread() -> None:
    assert spread([Waiting()], [1, 2], lambda *_: threading.current_thread()) == [threading.current_thread()] * 2


def test_nothing_to_do_is_done() -> None:
    assert spread([Waiting(), Waiting()], [], lambda *_: 1) == []
