"""Applications that write numbered rows through ordinary connections all the time, and note what was confirmed."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager

import psycopg

from migrator.config.login import Login
from migrator.postgres.connect import connect
from tests.shop import conninfo

TABLE = "written"
PRELUDE = f"""
create table {TABLE} (writer int, number int, at timestamptz not null default clock_timestamp(),
                      primary key (writer, number));
grant select, insert on {TABLE} to app;
"""
# From one of these on nobody is let in, until the fence is about to go: the run is past its draining.
_BEHIND_FENCE = {"hold.before", "dump.before", "update.before", "database_create.before"}
_WAIT_S = 20.0


class Writers:
    """`attempted` may have been committed, `confirmed` was; both hold (writer, number)."""

    def __init__(self, login: Login, count: int) -> None:
        self._login = login
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._loop, args=(n,), daemon=True) for n in range(count)]
        self.attempted: set[tuple[int, int]] = set()
        self.confirmed: dict[tuple[int, int], float] = {}  # when the server wrote it, seconds since 1970
        self.refused = 0

    def wait_for_more(self) -> None:
        """A row that was begun after this call was confirmed."""
        seen, deadline = len(self.confirmed), time.monotonic() + _WAIT_S
        while len(self.confirmed) <= seen + len(self._threads):
            assert time.monotonic() < deadline, "the application cannot write"
            time.sleep(0.01)

    def _loop(self, writer: int) -> None:
        number = 0
        while not self._stop.is_set():
            try:
                with psycopg.connect(conninfo(self._login), autocommit=True, connect_timeout=5) as connection:
                    while not self._stop.is_set():
                        number += 1
                        row = (writer, number)
                        self.attempted.add(row)
                        [(at,)] = connection.execute(
                            f"insert into {TABLE} values (%s, %s) returning extract(epoch from at)::float8", row
                        )
                        self.confirmed[row] = at
                        self._stop.wait(0.01)
            except psycopg.Error:
                self.refused += 1
                self._stop.wait(0.01)

    def stop(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(30.0)


@contextmanager
def writing(login: Login, *, count: int = 2) -> Iterator[Writers]:
    writers = Writers(login, count)
    for thread in writers._threads:
        thread.start()
    try:
        writers.wait_for_more()
        yield writers
    finally:
        writers.stop()


def assert_none_lost(writers: Writers, login: Login) -> None:
    """Every row that was confirmed is there, and none that nobody wrote."""
    with closing(connect(login, role="look", run_id="test")) as session:
        there = {(int(w or 0), int(n or 0)) for w, n in session.rows(f"select writer, number from {TABLE}")}
    lost = writers.confirmed.keys() - there
    assert not lost, f"{len(lost)} confirmed rows are lost, such as {min(lost)}"
    assert there <= writers.attempted, "there are rows that nobody wrote"


def assert_none_admitted(writers: Writers, trace: Sequence[tuple[float, str]]) -> None:
    """No row was written while the fence was up and drained, by the fail points that the runs passed."""
    for since, until in closed_times(trace):
        inside = [row for row, at in writers.confirmed.items() if since <= at < until]
        assert not inside, f"{len(inside)} rows were written behind the fence, such as {min(inside)}"


def closed_times(trace: Sequence[tuple[float, str]]) -> Iterator[tuple[float, float]]:
    """From the first effect behind the fence until it is about to be taken down."""
    fenced, since = False, None
    for at, place in sorted(trace):
        if place == "fence_up.after":
            fenced = True
        elif fenced and since is None and place in _BEHIND_FENCE:
            since = at
        elif place == "fence_down.before":
            if since is not None:
                yield since, at
            fenced, since = False, None
