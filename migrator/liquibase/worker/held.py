"""The connection that Liquibase is given for one transaction: it holds every commit back."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from migrator.liquibase.worker import connection
from migrator.liquibase.worker.failures import Failure, causes, sqlstate_of
from migrator.liquibase.worker.measured import Measuring
from migrator.liquibase.worker.watched import PassedOn, WriteSet, state

NOT_IN_ONE_TRANSACTION = {
    "25001": 'it must run outside a transaction block; such a changeset says runInTransaction="false"',
    "55P04": "it uses a new enum value before it is committed",
    "55006": "the table has work of this transaction pending, or is in use",
    "53200": "the server's lock table is full (max_locks_per_transaction)",
}
_IN_FAILED_TRANSACTION = "25P02"

# After ALL DEFERRED these must be set back. The other way round (ALL IMMEDIATE, then the initially deferred by name)
# would take every constraint that a later changeset creates for an immediate one.
_INITIALLY_IMMEDIATE = """
SELECT string_agg(DISTINCT quote_ident(n.nspname) || '.' || quote_ident(c.conname), ', ')
FROM pg_catalog.pg_constraint c JOIN pg_catalog.pg_namespace n ON n.oid = c.connamespace
WHERE c.condeferrable AND NOT c.condeferred AND pg_catalog.has_schema_privilege(n.oid, 'USAGE')
"""


class HeldConnection(PassedOn):
    """Nothing is committed until `really_commit`; the transaction is watched to stay the same one and sound.

    Until the first changeset Liquibase finds out by failing statements what is there, so a savepoint is kept. From then
    on there is none, save around a changeset that may fail and go on: every written savepoint is a subtransaction.
    """

    def __init__(self, real: Any, write_set: WriteSet, measuring: Measuring | None = None) -> None:
        super().__init__(real)
        self._write_set = write_set
        self._measuring = measuring
        self._xid: str | None = None
        self._savepoint: Any = None
        self._in_set_up = False
        self._unchecked = False  # a changeset has run since constraints and write set were last looked at
        self.sql: list[str] = []  # of the changesets since the transaction was last seen to be the same
        self.savepoints = 0
        self.lost: Failure | None = None

    @property
    def is_held(self) -> bool:
        return self._xid is not None

    # -- what Liquibase calls ------------------------------------------------------------------------------------

    def setAutoCommit(self, _on: bool) -> None:  # noqa: N802  Java's name
        """There is one transaction."""

    def commit(self) -> None:
        self._raise_if_lost()
        if self._in_set_up:
            self._release()
            self._savepoint = self._real.setSavepoint()
            return
        self._look_for_end()
        if state(self._real) == "FAILED" and self._savepoint is None:
            self._lose_by_error()
            self._raise_if_lost()
        if self._unchecked:
            self._check_constraints()
            self._look()
        self._release()

    def rollback(self, savepoint: Any = None) -> None:
        if self.lost is not None:
            return
        if savepoint is not None:
            self._real.rollback(savepoint)
        elif self._savepoint is not None:
            self._look_for_end()
            if self.lost is None:
                self._real.rollback(self._savepoint)
        elif state(self._real) == "FAILED":
            self._lose_by_error()
        else:
            self._look_for_end()

    # -- what the worker calls -----------------------------------------------------------------------------------

    def begin(self) -> tuple[str, str]:
        """The transaction is open at REPEATABLE READ: its id, and its exported snapshot."""
        self._real.rollback()
        self._real.setAutoCommit(False)
        self._real.setTransactionIsolation(self._real.TRANSACTION_REPEATABLE_READ)
        _, found = connection.rows(
            self._real, "SELECT pg_catalog.pg_export_snapshot(), pg_catalog.pg_current_xact_id()::text"
        )
        snapshot, xid = str(found[0][0]), str(found[0][1])
        self._xid, self.lost, self.savepoints = xid, None, 0
        self._write_set.start()
        if self._measuring is not None:
            self._measuring.start()
        return xid, snapshot

    def begin_set_up(self) -> None:
        """Liquibase may try statements that fail."""
        self._in_set_up = True
        self._savepoint = self._real.setSavepoint()

    def begin_changeset(self, *, may_fail: bool, sql: list[str]) -> None:
        """Set-up is over; a savepoint stands before a changeset that may fail and go on."""
        self._release()
        self._in_set_up = False
        self._unchecked = True
        self.sql += sql
        if may_fail:
            self._savepoint = self._real.setSavepoint()
            self.savepoints += 1

    def end_update(self) -> None:
        """No savepoint is left, and the write set is read. Raises: Failure when the transaction is lost or unsound."""
        self._raise_if_lost_as_failure()
        self._look_for_end()
        if self.lost is None and state(self._real) == "FAILED" and self._savepoint is None:
            self._lose_by_error()
        self._raise_if_lost_as_failure()
        if self._in_set_up and state(self._real) == "FAILED":
            self._real.rollback(self._savepoint)
        self._release()
        self._in_set_up = False
        self._look()
        if self._measuring is not None:  # the locks are all still there
            self._write_set.observe()
        self._write_set.count()
        self._raise_if_lost_as_failure()

    def end_reading(self) -> None:
        """No savepoint is left of what was only tried."""
        self._release()
        self._in_set_up = False

    def really_commit(self) -> None:
        """Everything is committed, in the transaction that was begun. Raises: Failure; then it is rolled back."""
        import jpype

        self._raise_if_lost_as_failure()
        if state(self._real) == "FAILED":
            self._lose_by_error()
        self._look_for_end()
        self._raise_if_lost_as_failure()
        connection.execute(self._real, "SET CONSTRAINTS ALL IMMEDIATE")
        self._look_for_change()
        self._raise_if_lost_as_failure()
        try:
            self._real.commit()
        except jpype.JException as error:
            raise Failure(
                "migration",
                f"the server did not confirm the commit: {error.getMessage()}",
                code="commit_unknown",
                sqlstate=sqlstate_of(error),
            ) from error
        self._xid = None

    def really_roll_back(self) -> None:
        """The transaction is rolled back, or the connection is gone, which comes to the same. Safe to repeat."""
        import jpype

        with suppress(jpype.JException):
            self._real.rollback()
        self._xid, self._savepoint, self._in_set_up = None, None, False

    def status_of_transaction(self) -> str | None:
        """committed, aborted or in progress, by the server; None where it cannot be asked any more."""
        if self._xid is None:
            return None
        with suppress(Failure):
            return connection.one(self._real, f"SELECT pg_catalog.pg_xact_status('{int(self._xid)}'::xid8)") or None
        return None

    def status_of_transaction_after_failure(self) -> str | None:
        """As `status_of_transaction`, after the failed transaction was rolled back."""
        import jpype

        with suppress(jpype.JException):
            self._real.rollback()
        return self.status_of_transaction()

    # -- inside --------------------------------------------------------------------------------------------------

    def _release(self) -> None:
        if self._savepoint is not None:
            self._real.releaseSavepoint(self._savepoint)
            self._savepoint = None

    def _check_constraints(self) -> None:
        # A real commit would check the deferred ones here, and DDL on their tables would be possible afterwards.
        self._passing_java(
            lambda: connection.execute(self._real, "SET CONSTRAINTS ALL IMMEDIATE; SET CONSTRAINTS ALL DEFERRED")
        )
        names = connection.one(self._real, _INITIALLY_IMMEDIATE)
        if names:
            connection.execute(self._real, f"SET CONSTRAINTS {names} IMMEDIATE")

    def _look(self) -> None:
        if self._measuring is not None:
            self._require_same(self._measuring.look())
        else:
            self._look_for_change()
            self._raise_if_lost()
            self._write_set.observe()
        self._unchecked = False
        self.sql = []

    def _look_for_end(self) -> None:
        if self.lost is None and state(self._real) == "IDLE":
            self._lose_by_control()

    def _look_for_change(self) -> None:
        self._compare(connection.one(self._real, "SELECT pg_catalog.pg_current_xact_id()::text"))

    def _require_same(self, xid: str) -> None:
        self._compare(xid)
        self._raise_if_lost()

    def _compare(self, xid: str) -> None:
        if xid != self._xid:
            self._lose_by_control()

    def _lose_by_control(self) -> None:
        status = self.status_of_transaction()
        # After a ROLLBACK in a changeset something may still have been committed by a COMMIT that followed it.
        committed = status != "aborted" or any(_names_commit(text) for text in self.sql)
        what = "committed" if committed else "rolled back"
        self.lost = Failure(
            "lost",
            f"a changeset ended the transaction itself; what ran before is {what}",
            code="transaction_ended",
            committed=committed,
        )
        self._real.rollback()

    def _lose_by_error(self) -> None:
        """The driver keeps the error that made the transaction fail, and names it as the cause of the next one."""
        import jpype

        try:
            statement = self._real.createStatement()
            statement.execute("SELECT 1")
            raise Failure("bug", "the transaction was reported as failed and is not")
        except jpype.JException as error:
            first = causes(error)[-1]
        self.lost = Failure("migration", str(first.getMessage()), sqlstate=sqlstate_of(first))

    def _raise_if_lost(self) -> None:
        """Raises what Liquibase understands."""
        if self.lost is not None:
            import jpype

            raise jpype.JClass("java.sql.SQLException")(self.lost.message, self.lost.sqlstate or _IN_FAILED_TRANSACTION)

    def _raise_if_lost_as_failure(self) -> None:
        if self.lost is not None:
            raise self.lost

    @staticmethod
    def _passing_java(action: Any) -> None:
        """Liquibase gets the driver's own exception."""
        try:
            action()
        except Failure as failure:
            if failure.__cause__ is not None:
                raise failure.__cause__ from None
            raise


def _names_commit(sql: str) -> bool:
    words = sql.upper().replace(";", " ").split()
    return any(word in {"COMMIT", "END", "PREPARE"} for word in words)
