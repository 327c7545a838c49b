"""An application that writes all the time, and comes back whenever it is thrown out."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import psycopg

from migrator.config.login import Login
from tests.shop import conninfo


class Writer:
    """Writes rows into `heartbeat`, each with the moment at which the server wrote it; `refused` counts the rest."""

    def __init__(self, login: Login, *, prelude: str = "") -> None:
        self._login = login
        self._prelude = prelude
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._loop, name="writer", daemon=True)
        self.written = 0
        self.refused: list[str] = []

    def wait_for_more(self, timeout_s: float = 10.0) -> None:
        """It has written again since this was called."""
        seen, deadline = self.written, time.monotonic() + timeout_s
        while self.written == seen:
            assert time.monotonic() < deadline, f"the application cannot write: {self.refused[-1:]}"
            time.sleep(0.01)

    def _loop(self) -> None:
        while not self._stop.is_set():
            try:
                with psycopg.connect(conninfo(self._login), autocommit=True) as connection:
                    if self._prelude:
                        connection.execute(self._prelude.encode())
                    self._write(connection)
            except psycopg.Error as error:
                self.refused.append(str(error).strip())
                self._stop.wait(0.01)

    def _write(self, connection: psycopg.Connection) -> None:
        while not self._stop.is_set():
            connection.execute("insert into heartbeat default values")
            self.written += 1
            self._stop.wait(0.005)


@contextmanager
def writing(login: Login, *, prelude: str = "") -> Iterator[Writer]:
    """A writer at work for the length of the block."""
    writer = Writer(login, prelude=prelude)
    writer._thread.start()
    try:
        writer.wait_for_more()
        yield writer
    finally:
        writer._stop.set()
        with suppress(RuntimeError):
            writer._thread.join(10.0)
