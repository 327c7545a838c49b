"""Liquibase on one connection: its view of the database, its scope, its commands. Runs in the worker."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from migrator.liquibase.worker.failures import from_java
from migrator.liquibase.worker.held import HeldConnection
from migrator.liquibase.worker.parsing import Parsing
from migrator.liquibase.worker.watched import WatchedConnection


@contextmanager
def project_scope(root: str, database: Any = None) -> Iterator[None]:
    """Liquibase finds the files below `root`, reports through its log, and knows the database if one is given."""
    import jpype

    scope = jpype.JClass("liquibase.Scope")
    values = jpype.JClass("java.util.HashMap")()
    folder = jpype.JClass("java.io.File")(root)
    values.put("resourceAccessor", jpype.JClass("liquibase.resource.DirectoryResourceAccessor")(folder))
    values.put("ui", jpype.JClass("liquibase.ui.LoggerUIService")())
    if database is not None:
        values.put("database", database)
    entered = scope.enter(None, values)
    try:
        yield
    finally:
        scope.exit(entered)


class Engine:
    """Everything but `scope` is used inside one. `options` are those of the request that connected."""

    def __init__(self, front: HeldConnection | WatchedConnection, *, options: dict[str, Any], writes: bool) -> None:
        self._front = front
        self._options = options
        self._writes = writes
        self.database: Any = None
        with self.scope():
            self.database = self._open()
        self.parsing = Parsing(self.database, options)

    @contextmanager
    def scope(self) -> Iterator[None]:
        """Liquibase finds the project's files, and reports through its log."""
        # An include creates the ledger of the database that the scope knows.
        known = self.database is not None and (self._writes or self._has_ledger())
        with project_scope(self._options["root"], self.database if known else None):
            yield

    def run(self, name: str, changelog: str | Sequence[str] | None, listener: Any = None, **arguments: Any) -> str:
        """The command has run; what it wrote to its output. Several changelogs are taken for one.

        Raises: a Java exception.
        """
        import jpype

        command = jpype.JClass("liquibase.command.CommandScope")(name)
        command.addArgumentValue("database", self.database)
        if changelog is not None:
            several = [changelog] if isinstance(changelog, str) else changelog
            command.addArgumentValue("changelogFile", several[0])
            command.addArgumentValue("databaseChangelog", self.parsing.parse_all(several))
            command.addArgumentValue("changelogParameters", self.parsing.parameters())
            command.addArgumentValue("contextFilter", self._options["contexts"])
            command.addArgumentValue("labelFilter", self._options["labels"])
        if listener is not None:
            interface = "liquibase.changelog.visitor.ChangeExecListener"
            command.addArgumentValue("changeExecListener", jpype.JProxy(interface, inst=listener))
        for argument, value in arguments.items():
            command.addArgumentValue(argument, value)
        output = jpype.JClass("java.io.ByteArrayOutputStream")()
        command.setOutput(output)
        try:
            command.execute()
        finally:
            self.forget()
        return str(output.toString("UTF-8"))

    def forget(self) -> None:
        """Liquibase keeps what it has read of the ledger and the lock; the next operation reads anew."""
        import jpype

        scope = jpype.JClass("liquibase.Scope").getCurrentScope()
        histories = scope.getSingleton(jpype.JClass("liquibase.changelog.ChangeLogHistoryServiceFactory"))
        histories.getChangeLogService(self.database).reset()
        jpype.JClass("liquibase.lockservice.LockServiceFactory").getInstance().resetAll()
        scope.getSingleton(jpype.JClass("liquibase.changelog.FastCheckService")).clearCache()

    def _open(self) -> Any:
        import jpype

        proxy = jpype.JProxy("java.sql.Connection", inst=self._front)
        jdbc_connection = jpype.JClass("liquibase.database.jvm.JdbcConnection")(proxy)
        factory = jpype.JClass("liquibase.database.DatabaseFactory").getInstance()
        try:
            database = factory.findCorrectDatabaseImplementation(jdbc_connection)
            options = self._options
            database.setOutputDefaultSchema(True)
            database.setOutputDefaultCatalog(True)
            if options["default_schema"]:
                database.setDefaultSchemaName(options["default_schema"])
            if options["liquibase_schema"]:
                database.setLiquibaseSchemaName(options["liquibase_schema"])
            if options["ledger_table"]:
                database.setDatabaseChangeLogTableName(options["ledger_table"])
            if options["lock_table"]:
                database.setDatabaseChangeLogLockTableName(options["lock_table"])
            if options["default_schema"]:
                jpype.JClass("liquibase.database.core.DatabaseUtils").initializeDatabase(
                    None, database.getDefaultSchemaName(), database
                )
        except jpype.JException as error:
            raise from_java(error, kind="connection") from error
        return database

    def _has_ledger(self) -> bool:
        import jpype

        snapshots = jpype.JClass("liquibase.snapshot.SnapshotGeneratorFactory").getInstance()
        try:
            return bool(snapshots.hasDatabaseChangeLogTable(self.database))
        except jpype.JException as error:
            raise from_java(error) from error
