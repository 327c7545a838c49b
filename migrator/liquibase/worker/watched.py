"""Connections in front of the driver's own (JPype proxies of `java.sql.Connection`) that watch the commits."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from migrator.liquibase.worker import connection
from migrator.liquibase.worker.measured import Measuring
from migrator.postgres.write_set import Counts


class WriteSet:
    """What this connection's transactions have written so far, read from the server before each commit."""

    def __init__(self, real: Any, *, write_set_sql: str, counts_sql: str) -> None:
        self._real = real
        self._write_set_sql = write_set_sql
        self._counts_sql = counts_sql
        self._baseline: dict[str, Counts] = {}
        self._tell: Callable[[], None] = lambda: None
        self.tables: set[str] = set()
        self.counts: dict[str, Counts] = {}

    def start(self, tell: Callable[[], None] = lambda: None) -> None:
        """Nothing is known as written; what the server has counted before now is not ours.

        `tell` is called before each commit, when what it commits is known.
        """
        self._tell = tell
        self.tables = set()
        self.counts = {}
        self._baseline = self._counted()

    def observe(self) -> None:
        """The tables that the current transaction has written up to now are known."""
        _, found = connection.rows(self._real, self._write_set_sql)
        self.tables |= {row[0] for row in found if row[0] is not None}

    def count(self) -> None:
        """The rows that were changed since the last count are added up."""
        for name, now in self._counted().items():
            before = self._baseline.get(name, Counts())
            if now.inserted < before.inserted or now.updated < before.updated or now.deleted < before.deleted:
                before = Counts()  # the server has flushed in between
            known = self.counts.get(name, Counts())
            new = now - before
            total = Counts(
                inserted=known.inserted + new.inserted,
                updated=known.updated + new.updated,
                deleted=known.deleted + new.deleted,
            )
            if total != Counts():
                self.counts[name] = total
            self._baseline[name] = now

    def tell(self) -> None:
        """Who asked for it has heard what is known."""
        self._tell()

    def _counted(self) -> dict[str, Counts]:
        _, found = connection.rows(self._real, self._counts_sql)
        return {
            row[0]: Counts(inserted=int(row[1] or 0), updated=int(row[2] or 0), deleted=int(row[3] or 0))
            for row in found
            if row[0] is not None
        }


class PassedOn:
    """Everything is passed on to the driver's connection, save what a subclass does itself."""

    def __init__(self, real: Any) -> None:
        self._real = real

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)

    def close(self) -> None:
        """Liquibase closes what it is given; the connection is ours."""

    def hashCode(self) -> int:  # noqa: N802  Java's name
        return id(self) & 0x7FFFFFFF

    def equals(self, other: Any) -> bool:
        return other is self


class WatchedConnection(PassedOn):
    """Commits are real; before each, the write set is read (stepwise)."""

    def __init__(self, real: Any, write_set: WriteSet, measuring: Measuring | None = None) -> None:
        super().__init__(real)
        self._write_set = write_set
        self._measuring = measuring
        self._can_flush = int(connection.one(real, "SHOW server_version_num")) >= 150000

    def commit(self) -> None:
        if not self._real.getAutoCommit() and state(self._real) == "OPEN":
            self._write_set.observe()
            self._write_set.count()
            self._write_set.tell()
            if self._measuring is not None:
                self._measuring.look()
            if self._can_flush:  # so that the next transaction's counts begin at zero
                connection.execute(self._real, "DO $$BEGIN PERFORM pg_catalog.pg_stat_force_next_flush(); END$$")
        self._real.commit()
        if self._measuring is not None:
            self._measuring.forget_transaction()


def state(real: Any) -> str:
    """IDLE, OPEN or FAILED, as the driver knows from the server's last answer."""
    return str(real.getTransactionState().name())
