"""The operations of the worker: one database connection, and Liquibase on it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from migrator.liquibase import connection, offline, verdict
from migrator.liquibase.engine import Engine
from migrator.liquibase.events import ChangesetListener
from migrator.liquibase.failures import Failure, from_java
from migrator.liquibase.held import HeldConnection
from migrator.liquibase.measured import Measuring
from migrator.liquibase.preconditions import Preconditions
from migrator.liquibase.status import Status, may_fail_and_go_on
from migrator.liquibase.undoing import Undoing
from migrator.liquibase.watched import WatchedConnection, WriteSet, state


class Commands:
    """One connection at a time; `connect` comes first, each public method below is an operation of the protocol."""

    def __init__(self, emit: Callable[[dict[str, Any]], None]) -> None:
        self._emit = emit
        self._real: Any = None
        self._front: HeldConnection | WatchedConnection | None = None
        self._write_set: WriteSet | None = None
        self._engine: Engine | None = None
        self._mode = ""
        self._measuring: Measuring | None = None

    # -- connection ----------------------------------------------------------------------------------------------

    def connect(self, request: dict[str, Any]) -> dict[str, Any]:
        import jpype

        self.disconnect({})
        self._mode = request["mode"]
        self._real = connection.open_connection(request)
        self._write_set = WriteSet(self._real, write_set_sql=request["write_set_sql"], counts_sql=request["counts_sql"])
        self._measuring = (
            Measuring(self._real, true_sizes=request["measure"] == "copy") if request.get("measure") else None
        )
        self._front = (
            HeldConnection(self._real, self._write_set, self._measuring)
            if self._mode == "held"
            else WatchedConnection(self._real, self._write_set, self._measuring)
        )
        self._engine = Engine(self._front, options=request["options"], writes=self._mode != "read_only")
        self._real.rollback()
        return {
            "pid": int(self._real.getBackendPID()),
            "liquibase_version": str(jpype.JClass("liquibase.util.LiquibaseUtil").getBuildVersion()),
            "java_version": str(jpype.JClass("java.lang.System").getProperty("java.version")),
        }

    def disconnect(self, _request: dict[str, Any]) -> dict[str, Any]:
        import jpype

        if self._real is not None:
            try:
                if not self._real.getAutoCommit():
                    self._real.rollback()
                self._real.close()
            except jpype.JException:
                self._real.abort(_SameThread.proxy())
        self._real = self._front = self._engine = self._write_set = self._measuring = None
        return {}

    def begin(self, _request: dict[str, Any]) -> dict[str, Any]:
        xid, snapshot = self._held().begin()
        return {"xid": xid, "snapshot": snapshot}

    def commit(self, _request: dict[str, Any]) -> dict[str, Any]:
        front = self._held()
        try:
            front.really_commit()
        except Failure:
            front.really_roll_back()
            raise
        return {}

    def rollback(self, _request: dict[str, Any]) -> dict[str, Any]:
        self._held().really_roll_back()
        return {}

    # -- SQL -----------------------------------------------------------------------------------------------------

    def rows(self, request: dict[str, Any]) -> dict[str, Any]:
        with self._statement():
            _, found = connection.rows(self._connection(), request["sql"])
        return {"rows": found}

    def execute(self, request: dict[str, Any]) -> dict[str, Any]:
        if self._is_held():
            connection.execute(self._connection(), request["sql"])
        else:
            with self._statement():
                connection.execute(self._connection(), request["sql"])
        return {}

    def query_typed(self, request: dict[str, Any]) -> dict[str, Any]:
        """One SELECT or SHOW, which cannot write and leaves nothing behind."""
        sql, real = request["sql"], self._connection()
        connection.need_single_query(sql)
        timeout_ms = round(request["statement_timeout_s"] * 1000)
        savepoint = real.setSavepoint()
        try:
            connection.execute(
                real, f"SET LOCAL transaction_read_only = on; SET LOCAL statement_timeout = {timeout_ms}"
            )
            columns, found = connection.rows(real, sql, max_rows=request["max_rows"])
        finally:
            real.rollback(savepoint)
            real.releaseSavepoint(savepoint)
            if not self._is_held():
                real.rollback()
        return {"columns": [[column.name, column.type_oid] for column in columns], "rows": found}

    # -- Liquibase -----------------------------------------------------------------------------------------------

    def changesets(self, request: dict[str, Any]) -> dict[str, Any]:
        with self._liquibase().scope(), self._reading():
            engine = self._liquibase()
            changelog = engine.parsing.parse(request["changelog"])
            contexts, labels = engine.parsing.filters()
            tried = Preconditions(self._real, engine.database, changelog) if request["preconditions"] else None
            try:
                status = Status(engine.database, contexts=contexts, labels=labels, preconditions=tried)
                return {"changesets": status.of(changelog)}
            finally:
                engine.forget()

    def offline_changesets(self, request: dict[str, Any]) -> dict[str, Any]:
        """Needs no connection."""
        return {
            "changesets": offline.changesets(
                request["changelog"], options=request["options"], server_major=request["server_major"]
            )
        }

    def update(self, request: dict[str, Any]) -> dict[str, Any]:
        import jpype

        quiet = jpype.JClass("liquibase.UpdateSummaryEnum").OFF
        if request["count"] is None:
            return self._write("update", request["changelog"], self._will_run, showSummary=quiet)
        count = jpype.JClass("java.lang.Integer").valueOf(request["count"])
        return self._write("updateCount", request["changelog"], self._will_run, showSummary=quiet, count=count)

    def rollback_count(self, request: dict[str, Any]) -> dict[str, Any]:
        import jpype

        count = jpype.JClass("java.lang.Integer").valueOf(request["count"])
        return self._write("rollbackCount", request["changelogs"], self._will_roll_back, count=count)

    def changelog_sync(self, request: dict[str, Any]) -> dict[str, Any]:
        self._held()
        if request["tag"] is None:
            return self._write("changelogSync", request["changelog"], None)
        return self._write("changelogSyncToTag", request["changelog"], None, tag=request["tag"])

    def undoable(self, request: dict[str, Any]) -> dict[str, Any]:
        with self._liquibase().scope(), self._reading():
            engine = self._liquibase()
            changelog = engine.parsing.parse_all(request["changelogs"])
            contexts, labels = engine.parsing.filters()
            try:
                status = Status(engine.database, contexts=contexts, labels=labels)
                return {"changesets": Undoing(engine.database, changelog, status).of(request["count"])}
            finally:
                engine.forget()

    def rollback_count_sql(self, request: dict[str, Any]) -> dict[str, Any]:
        import jpype

        count = jpype.JClass("java.lang.Integer").valueOf(request["count"])
        return {"text": self._text("rollbackCountSql", request["changelogs"], count=count)}

    def update_sql(self, request: dict[str, Any]) -> dict[str, Any]:
        return {"text": self._text("updateSql", request["changelog"])}

    def snapshot(self, _request: dict[str, Any]) -> dict[str, Any]:
        return {"text": self._text("snapshot", None, snapshotFormat="json")}

    # -- inside --------------------------------------------------------------------------------------------------

    def _write(
        self,
        name: str,
        changelog: str | Sequence[str],
        on_will_run: Callable[[Any], None] | None,
        **arguments: Any,
    ) -> dict[str, Any]:
        """A command that changes the database: in the held transaction, or committed on its way.

        `on_will_run` is called before each changeset; None where the command tells of none.
        """
        import jpype

        front = self._connection_in_front()
        write_set = self._writes()
        listener = ChangesetListener(
            self._emit, on_will_run=on_will_run or (lambda _: None), on_closed=self._tell_measured
        )
        if isinstance(front, HeldConnection):
            self._need_transaction()
            front.begin_set_up()
        else:
            write_set.start()
            if self._measuring is not None:
                self._measuring.start()
                self._real.rollback()
                self._measuring.forget_transaction()
        try:
            with self._liquibase().scope():
                told = listener if on_will_run is not None else None
                self._liquibase().run(name, changelog, told, **arguments)
            listener.finish()
            if isinstance(front, HeldConnection):
                front.end_update()
        except (Failure, jpype.JException) as error:
            failure = verdict.of(error if isinstance(error, Failure) else from_java(error), front, listener)
            if isinstance(front, HeldConnection):
                front.really_roll_back()
            else:
                self._real.rollback()
            raise failure from error
        return {
            "changesets": listener.results,
            "write_set": sorted(write_set.tables),
            "counts": {
                name: [count.inserted, count.updated, count.deleted] for name, count in write_set.counts.items()
            },
            "outside_transaction": [] if isinstance(front, HeldConnection) else listener.outside_transaction,
            "savepoints": front.savepoints if isinstance(front, HeldConnection) else 0,
        }

    def _text(self, name: str, changelog: str | Sequence[str] | None, **arguments: Any) -> str:
        import jpype

        with self._liquibase().scope(), self._reading():
            try:
                return self._liquibase().run(name, changelog, **arguments)
            except jpype.JException as error:
                raise from_java(error) from error

    @contextmanager
    def _reading(self) -> Iterator[None]:
        """What is tried meanwhile leaves no open transaction, and in a held one no trace."""
        front = self._connection_in_front()
        if isinstance(front, HeldConnection) and front.is_held:
            front.begin_set_up()
            try:
                yield
            finally:
                front.rollback()
                front.end_reading()
        else:
            try:
                yield
            finally:
                self._real.rollback()

    @contextmanager
    def _statement(self) -> Iterator[None]:
        """A statement that fails does not take the held transaction with it."""
        real = self._connection()
        if not self._is_held():
            try:
                yield
            finally:
                if not real.getAutoCommit():
                    real.commit() if state(real) == "OPEN" else real.rollback()
            return
        savepoint = real.setSavepoint()
        try:
            yield
        except Failure:
            real.rollback(savepoint)
            real.releaseSavepoint(savepoint)
            raise
        real.releaseSavepoint(savepoint)

    def _tell_measured(self, names: dict[str, str]) -> None:
        """What the changeset has done goes to the parent, whatever becomes of the others."""
        if self._measuring is None:
            return
        if not isinstance(self._front, HeldConnection):
            self._measuring.compare()
            if state(self._real) == "OPEN":
                self._real.commit()
                self._measuring.forget_transaction()
        self._emit({"kind": "measured", **names, "measured": self._measuring.end()})

    def _will_run(self, changeset: Any) -> None:
        self._begin_changeset(changeset, changeset.getChanges(), may_fail=may_fail_and_go_on(changeset))

    def _will_roll_back(self, changeset: Any) -> None:
        self._begin_changeset(changeset, changeset.getRollback().getChanges(), may_fail=False)

    def _begin_changeset(self, changeset: Any, changes: Any, *, may_fail: bool) -> None:
        front = self._front
        if self._measuring is not None:
            self._measuring.begin()
        if not isinstance(front, HeldConnection):
            return
        if not changeset.isRunInTransaction():
            raise Failure(
                "lost", 'the changeset says runInTransaction="false"', code="outside_transaction", committed=False
            )
        sql = [str(c.getSql()) for c in changes if hasattr(c, "getSql") and c.getSql() is not None]
        front.begin_changeset(may_fail=may_fail, sql=sql)

    def _connection(self) -> Any:
        if self._real is None:
            raise Failure("usage", "the worker is not connected to a database")
        return self._real

    def _connection_in_front(self) -> HeldConnection | WatchedConnection:
        self._connection()
        if self._front is None:
            raise Failure("bug", "connected, and nothing stands in front")
        return self._front

    def _liquibase(self) -> Engine:
        self._connection()
        if self._engine is None:
            raise Failure("bug", "connected, and Liquibase is not")
        return self._engine

    def _writes(self) -> WriteSet:
        if self._write_set is None:
            raise Failure("bug", "connected, and nothing watches what is written")
        return self._write_set

    def _held(self) -> HeldConnection:
        front = self._connection_in_front()
        if not isinstance(front, HeldConnection):
            raise Failure("usage", f"there is no held transaction in mode {self._mode}")
        return front

    def _need_transaction(self) -> None:
        if not self._is_held():
            raise Failure("usage", "begin() comes first in held mode")

    def _is_held(self) -> bool:
        return isinstance(self._front, HeldConnection) and self._front.is_held


class _SameThread:
    @staticmethod
    def proxy() -> Any:
        import jpype

        return jpype.JProxy("java.util.concurrent.Executor", dict={"execute": lambda task: task.run()})
