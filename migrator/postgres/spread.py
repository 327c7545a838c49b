"""Work spread over several sessions, one thread each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from itertools import count
from typing import TypeVar

from migrator.postgres.session import Session

Item = TypeVar("Item")
Result = TypeVar("Result")


def spread(sessions: Sequence[Session], items: Sequence[Item], do: Callable[[Session, Item], Result]) -> list[Result]:
    """Every item was done in one of the sessions; results are in the order of the items.

    The first error, or an interrupt, ends the work: statements that still run are cancelled, and it is raised when
    all threads have come to rest. One session alone is used in the calling thread.
    """
    if len(sessions) == 1:
        return [do(sessions[0], item) for item in items]
    results: dict[int, Result] = {}
    errors: list[BaseException] = []
    turns = count()
    stopped = False

    def work(session: Session) -> None:
        while not stopped and (turn := next(turns)) < len(items):
            try:
                results[turn] = do(session, items[turn])
            except BaseException as error:
                errors.append(error)  # the first is the cause; cancellations that it brings about come after it
                raise

    with ThreadPoolExecutor(max_workers=len(sessions), thread_name_prefix="session") as pool:
        futures = [pool.submit(work, session) for session in sessions]
        try:
            wait(futures, return_when=FIRST_EXCEPTION)
        finally:
            stopped = True
            for session, future in zip(sessions, futures, strict=True):
                if not future.done():
                    _cancel(session)
    if errors:
        raise errors[0]
    return [results[turn] for turn in range(len(items))]


def _cancel(session: Session) -> None:
    cancel = getattr(session, "cancel", None)
    if cancel is not None:
        cancel()
