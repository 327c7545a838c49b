"""SIGINT, SIGTERM and SIGHUP end a run in an orderly way: once, and never in the middle of what must not be torn."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from migrator.errors import Interrupted

_SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))


class Signals:
    """Turns the first signal into `Interrupted`; later ones only repeat a notice.

    While `shielded()`, a signal waits until the block is over. The state is per process, as signals are.
    """

    def __init__(self) -> None:
        self._shields = 0
        self._pending: str | None = None
        self._raised = False
        self.deaf = False  # the run goes back already, or is past its proof: to stop would only do harm

    @contextmanager
    def installed(self) -> Iterator[None]:
        if threading.current_thread() is not threading.main_thread():
            yield  # only the main thread may install handlers; an embedding program keeps its own
            return
        self._pending, self._raised, self.deaf = None, False, False
        before = {number: signal.signal(number, self._handle) for number in _SIGNALS}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    @contextmanager
    def shielded(self) -> Iterator[None]:
        self._shields += 1
        try:
            yield
        finally:
            self._shields -= 1
        self.check()

    def check(self) -> None:
        """Raises: Interrupted when a signal has arrived while it could not be heard."""
        if self._pending is not None and not self._shields and not self._raised and not self.deaf:
            self._raised = True
            raise Interrupted(f"{self._pending} arrived")

    def _handle(self, number: int, _frame: FrameType | None) -> None:
        self._pending = _named(number)
        self.check()


class Heard(Signals):
    """A signal is only remembered, for whoever asks between two pieces of work."""

    def check(self) -> None:
        """Raises: Interrupted when a signal has arrived, however often it is asked."""
        if self._pending is not None:
            raise Interrupted(f"{self._pending} arrived")

    def _handle(self, number: int, _frame: FrameType | None) -> None:
        self._pending = _named(number)


def _named(number: int) -> str:
    return "Ctrl-C (SIGINT)" if number == signal.SIGINT else signal.Signals(number).name


signals = Signals()
