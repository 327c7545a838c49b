"""What is told while rows are moved, and the signal that ends it between two batches."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import typer

from migrator.cli import output
from migrator.errors import Interrupted

if TYPE_CHECKING:
    from migrator.backfills.mover import Progress

_STOPPED = 130
_EVERY_S = 10.0  # a line of progress where no terminal redraws it


@contextmanager
def stoppable(carry_on: str) -> Iterator[Callable[[], None]]:
    """A signal is heard when the batches under way are done, by the function that the block is given.

    Raises: typer.Exit with 130 then.
    """
    from migrator.runs.signals import Heard

    heard = Heard()
    try:
        with heard.installed():
            yield heard.check
    except Interrupted as error:
        output.note(f"{error.message}: stopped after its batches; go on with: {carry_on}")
        raise typer.Exit(_STOPPED) from error


def teller(*, silent: bool) -> Callable[[Progress], None]:
    """Progress on standard error: one line that is redrawn on a terminal, else a line every now and then."""
    if silent:
        return lambda _: None
    return _Teller(redraws=sys.stderr.isatty()).tell


class _Teller:
    def __init__(self, *, redraws: bool) -> None:
        self._redraws = redraws
        self._told_at = time.monotonic()
        self._waiting: str | None = None
        self._width = 0

    def tell(self, found: Progress) -> None:
        from migrator.reports import backfills as views

        text = views.progress(found)
        is_last = found.total is not None and found.rows >= found.total
        if self._redraws:
            text = text[: shutil.get_terminal_size().columns - 1]
            sys.stderr.write(f"\r{text.ljust(self._width)}" + ("\n" if is_last else ""))
            sys.stderr.flush()
            self._width = 0 if is_last else len(text)
            return
        now = time.monotonic()
        if is_last or now - self._told_at >= _EVERY_S or found.waiting_for != self._waiting:
            output.note(text)
            self._told_at, self._waiting = now, found.waiting_for
