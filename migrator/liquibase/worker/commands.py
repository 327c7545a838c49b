"""The operations of the worker: one database connection, and Liquibase on it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import Any

from migrator.liquibase.worker import connection, offline
from migrator.liquibase.worker.attached import Attached, attach
from migrator.liquibase.worker.failures import Failure, from_java
from migrator.liquibase.worker.preconditions import Preconditions
from migrator.liquibase.worker.status import Status
from migrator.liquibase.worker.undoing import Undoing
from migrator.liquibase.worker.writing import Writing


class Commands:
    """One connection at a time; `connect` comes first, each public method below is an operation of the protocol."""

    def __init__(self, emit: Callable[[dict[str, Any]], None]) -> None:
        self._emit = emit
        self._attached: Attached | None = None

    # -- connection ----------------------------------------------------------------------------------------------

    def connect(self, request: dict[str, Any]) -> dict[str, Any]:
        import jpype

        self.disconnect({})
        self._attached = attach(request)
        return {
            "pid": int(self._attached.real.getBackendPID()),
            "liquibase_version": str(jpype.JClass("liquibase.util.LiquibaseUtil").getBuildVersion()),
            "java_version": str(jpype.JClass("java.lang.System").getProperty("java.version")),
        }

    def disconnect(self, _request: dict[str, Any]) -> dict[str, Any]:
        attached, self._attached = self._attached, None
        if attached is not None:
            attached.close()
        return {}

    def begin(self, _request: dict[str, Any]) -> dict[str, Any]:
        xid, snapshot = self._connected().held().begin()
        return {"xid": xid, "snapshot": snapshot}

    def commit(self, _request: dict[str, Any]) -> dict[str, Any]:
        front = self._connected().held()
        try:
            front.really_commit()
        except Failure:
            front.really_roll_back()
            raise
        return {}

    def rollback(self, _request: dict[str, Any]) -> dict[str, Any]:
        self._connected().held().really_roll_back()
        return {}

    # -- SQL -----------------------------------------------------------------------------------------------------

    def rows(self, request: dict[str, Any]) -> dict[str, Any]:
        attached = self._connected()
        with attached.statement():
            _, found = connection.rows(attached.real, request["sql"])
        return {"rows": found}

    def execute(self, request: dict[str, Any]) -> dict[str, Any]:
        attached = self._connected()
        with nullcontext() if attached.is_held else attached.statement():
            connection.execute(attached.real, request["sql"])
        return {}

    def query_typed(self, request: dict[str, Any]) -> dict[str, Any]:
        """One SELECT or SHOW, which cannot write and leaves nothing behind."""
        attached, sql = self._connected(), request["sql"]
        real = attached.real
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
            if not attached.is_held:
                real.rollback()
        return {"columns": [[column.name, column.type_oid] for column in columns], "rows": found}

    # -- Liquibase -----------------------------------------------------------------------------------------------

    def changesets(self, request: dict[str, Any]) -> dict[str, Any]:
        attached = self._connected()
        engine = attached.engine
        with engine.scope(), attached.reading():
            changelog = engine.parsing.parse(request["changelog"])
            contexts, labels = engine.parsing.filters()
            tried = Preconditions(attached.real, engine.database, changelog) if request["preconditions"] else None
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
            return self._writing().apply("update", request["changelog"], showSummary=quiet)
        count = jpype.JClass("java.lang.Integer").valueOf(request["count"])
        return self._writing().apply("updateCount", request["changelog"], showSummary=quiet, count=count)

    def rollback_count(self, request: dict[str, Any]) -> dict[str, Any]:
        import jpype

        count = jpype.JClass("java.lang.Integer").valueOf(request["count"])
        return self._writing().roll_back("rollbackCount", request["changelogs"], count=count)

    def changelog_sync(self, request: dict[str, Any]) -> dict[str, Any]:
        self._connected().held()
        if request["tag"] is None:
            return self._writing().mark("changelogSync", request["changelog"])
        return self._writing().mark("changelogSyncToTag", request["changelog"], tag=request["tag"])

    def undoable(self, request: dict[str, Any]) -> dict[str, Any]:
        attached = self._connected()
        engine = attached.engine
        with engine.scope(), attached.reading():
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

    def _connected(self) -> Attached:
        if self._attached is None:
            raise Failure("usage", "the worker is not connected to a database")
        return self._attached

    def _writing(self) -> Writing:
        return Writing(self._connected(), self._emit)

    def _text(self, name: str, changelog: str | Sequence[str] | None, **arguments: Any) -> str:
        import jpype

        attached = self._connected()
        with attached.engine.scope(), attached.reading():
            try:
                return attached.engine.run(name, changelog, **arguments)
            except jpype.JException as error:
                raise from_java(error) from error
