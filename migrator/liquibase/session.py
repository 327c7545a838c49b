"""The parent's side of the worker: Liquibase on one connection at a time, with errors of our own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from migrator.config.login import Login
from migrator.errors import MigrationFailed, Refused, ToolFailed
from migrator.failpoints import Effect, doing, effect
from migrator.liquibase import answers, startup
from migrator.liquibase.answers import Answers
from migrator.liquibase.exchange import Exchange
from migrator.liquibase.jars import Jars
from migrator.liquibase.models import (
    Changeset,
    ChangesetEvent,
    Connected,
    Held,
    LiquibaseOptions,
    Measure,
    Mode,
    Undoable,
    Updated,
)
from migrator.postgres import write_set
from migrator.postgres.session import Row
from migrator.processes import Child

_START_S = 90.0  # a JVM on a busy machine, and a connection
_LONG_S = 6 * 3600.0  # reads of whole tables; the run's own watchdog is shorter
_READ_S = 600.0
_ROLLBACK_S = 120.0


class Liquibase:
    """One worker with one JVM, for one run. Also a `Session` on its connection. Not for several threads at once."""

    def __init__(self, child: Child) -> None:
        self._child = child
        self._answers = Answers()
        self._call = Exchange(child, self._answers.error).call

    @classmethod
    def start(cls, jars: Jars, java_home: Path, *, log: Path, heap_mb: int = 256) -> Liquibase:
        """The worker is starting; nothing waits for it until the first call. Raises: ToolFailed."""
        startup.train_in_background(jars, java_home)
        argv = startup.worker_argv(jars, java_home, heap_mb=heap_mb)
        return cls(Child.start(argv, env=startup.worker_env(java_home), log=log))

    @property
    def pid(self) -> int:
        return self._child.pid

    # -- connection ----------------------------------------------------------------------------------------------

    def connect(
        self,
        login: Login,
        *,
        application_name: str,
        options: LiquibaseOptions,
        mode: Mode,
        lock_timeout_s: float,
        measure: Measure | None = None,
    ) -> Connected:
        """Liquibase is connected; an earlier connection of this worker is closed, its open transaction rolled back.

        `measure`: an event of the kind `measured` follows every changeset.

        Raises: ConnectionFailed; ToolFailed when the worker is gone.
        """
        self._answers.find_files_below(options.root)
        secret = login.settled().secret()
        return self._call(
            "connect",
            Connected,
            timeout_s=_START_S,
            mode=mode,
            application_name=application_name,
            lock_timeout_s=lock_timeout_s,
            measure=measure,
            login={
                "host": login.host,
                "port": login.port,
                "database": login.database,
                "user": login.user,
                "password": secret.reveal() if secret else None,
                "options": dict(login.options),
            },
            options=_sent(options),
            write_set_sql=write_set.QUERY,
            counts_sql=write_set.COUNTS_QUERY,
        )

    def disconnect(self) -> None:
        """The connection is closed, an open transaction rolled back; with the worker gone it is so. Safe to repeat."""
        self._unless_gone("disconnect")

    def close(self) -> None:
        """The worker has ended. Safe to repeat."""
        self._child.close()

    def kill(self) -> None:
        """The worker is dead; the server may not have noticed yet. Safe to repeat."""
        self._child.kill()

    # -- the one transaction -------------------------------------------------------------------------------------

    @effect(Effect.HOLD)
    def begin(self) -> Held:
        """The one transaction is open (held mode): REPEATABLE READ, its snapshot exported before anything else."""
        return self._call("begin", Held, timeout_s=_ROLLBACK_S)

    @effect(Effect.COMMIT)
    def commit(self) -> None:
        """The held transaction is committed, and it was the one that was begun.

        Raises: MigrationFailed (a deferred constraint; code `commit_unknown` when the server did not answer);
        TransactionLost. In all cases the transaction is over.
        """
        self._call("commit", answers.Done, timeout_s=_LONG_S)

    @effect(Effect.ROLLBACK)
    def rollback(self) -> None:
        """The held transaction is rolled back, or its connection is gone. Safe to repeat."""
        self._unless_gone("rollback")

    # -- Session -------------------------------------------------------------------------------------------------

    def rows(self, sql: str) -> list[Row]:
        """As `Session.rows`; in a held transaction an error leaves it as it was."""
        return self._call("rows", answers.Rows, timeout_s=_LONG_S, sql=sql).rows

    @effect(Effect.STATEMENT)
    def execute(self, sql: str) -> None:
        """As `Session.execute`; committed at once unless a transaction is held, which an error makes useless."""
        self._call("execute", answers.Done, timeout_s=_LONG_S, sql=sql)

    def query_typed(
        self, sql: str, max_rows: int, *, timeout_s: float = 600.0
    ) -> tuple[list[tuple[str, int]], list[Row]]:
        """The result of a single SELECT or SHOW: columns (name, type OID) and rows. It cannot write.

        Raises: StepFailed, also for anything else than one query, for more than `max_rows` rows, and past `timeout_s`.
        """
        answer = self._call(
            "query_typed",
            answers.Table,
            timeout_s=timeout_s + _READ_S,
            sql=sql,
            max_rows=max_rows,
            statement_timeout_s=timeout_s,
        )
        return answer.columns, answer.rows

    # -- Liquibase -----------------------------------------------------------------------------------------------

    def changesets(self, changelog: str, *, preconditions: bool = False) -> list[Changeset]:
        """Every changeset of the changelog, in its order, then those that only the ledger knows. Writes nothing.

        `preconditions`: those of the pending ones are tried; in a read-only session, where there is a ledger.
        Raises: Refused when the changelog cannot be read or is not valid.
        """
        answer = self._call(
            "changesets", answers.Changesets, timeout_s=_READ_S, changelog=changelog, preconditions=preconditions
        )
        return self._answers.changesets(answer.changesets)

    def offline_changesets(self, changelog: str, *, options: LiquibaseOptions, server_major: int) -> list[Changeset]:
        """Every changeset of the changelog as an empty PostgreSQL of that version would see it. Needs no connection.

        Not on a worker that is connected. Raises: Refused when the changelog cannot be read or is not valid.
        """
        self._answers.find_files_below(options.root)
        answer = self._call(
            "offline_changesets",
            answers.Changesets,
            timeout_s=_START_S + _READ_S,
            changelog=changelog,
            options=_sent(options),
            server_major=server_major,
        )
        return self._answers.changesets(answer.changesets)

    @effect(Effect.UPDATE)
    def update(
        self,
        changelog: str,
        *,
        on_event: Callable[[ChangesetEvent], None],
        timeout_s: float,
        count: int | None = None,
    ) -> Updated:
        """Every pending changeset has run: inside the held transaction, or committed one by one (stepwise).

        With `count` only so many of them, the first. What stays pending although it was tried counts too.

        Raises: MigrationFailed, TransactionLost. A held transaction is then rolled back; past `timeout_s` (code
        `timeout`), when the worker is gone (`worker_gone`) or not understood (`protocol`) it is dead; the server's
        session may still be there.
        """
        return self._change("update", timeout_s=timeout_s, on_event=on_event, changelog=changelog, count=count)

    @effect(Effect.ROLLBACK_CHANGESETS)
    def rollback_count(
        self,
        changelog: str | Sequence[str],
        count: int,
        *,
        timeout_s: float,
        on_event: Callable[[ChangesetEvent], None] = lambda _: None,
    ) -> Updated:
        """The last `count` changesets of the ledger that these changelogs hold are undone, newest first.

        Inside the held transaction, or committed one by one (stepwise). Raises: as `update`; stepwise some may be
        undone by then.
        """
        return self._change(
            "rollback_count", timeout_s=timeout_s, on_event=on_event, changelogs=_several(changelog), count=count
        )

    @effect(Effect.CHANGELOG_SYNC)
    def changelog_sync(self, changelog: str, *, tag: str | None = None) -> None:
        """Every pending changeset (up to the one with `tag`) is marked as ran, inside the held transaction.

        Raises: MigrationFailed, TransactionLost; the transaction is rolled back then.
        """
        self._change("changelog_sync", timeout_s=_READ_S, changelog=changelog, tag=tag)

    def undoable(self, changelog: str | Sequence[str], count: int) -> list[Undoable]:
        """The `count` newest rows of the ledger, newest first, as these changelogs would undo them. Writes nothing.

        Raises: Refused when a changelog cannot be read.
        """
        return self._call(
            "undoable", answers.Undoables, timeout_s=_READ_S, changelogs=_several(changelog), count=count
        ).changesets

    def rollback_count_sql(self, changelog: str | Sequence[str], count: int) -> str:
        """The SQL that `rollback_count` would run. Writes nothing.

        Raises: MigrationFailed when a changeset cannot be undone.
        """
        return self._call(
            "rollback_count_sql", answers.Text, timeout_s=_READ_S, changelogs=_several(changelog), count=count
        ).text

    def update_sql(self, changelog: str) -> str:
        """The SQL that an update would run. Writes nothing."""
        return self._call("update_sql", answers.Text, timeout_s=_READ_S, changelog=changelog).text

    def snapshot(self, folder: Path | None = None) -> str:
        """Liquibase's own snapshot of the schema as JSON; also in `folder`/snapshot.json when one is given."""
        text = self._call("snapshot", answers.Text, timeout_s=_READ_S).text
        if folder is not None:
            with doing(Effect.WORK_FILE):
                (folder / "snapshot.json").write_text(text, encoding="utf-8")
        return text

    # -- inside --------------------------------------------------------------------------------------------------

    def _change(
        self,
        operation: str,
        *,
        timeout_s: float,
        on_event: Callable[[ChangesetEvent], None] = lambda _: None,
        **fields: Any,
    ) -> Updated:
        last = ChangesetEvent(kind="message")

        def note(event: ChangesetEvent) -> None:
            nonlocal last
            last = event if event.kind != "wrote" else last
            on_event(event)

        try:
            return self._call(operation, Updated, timeout_s=timeout_s, on_event=note, **fields)
        except ToolFailed as error:
            self.kill()  # also where it was `on_event` that did not understand it
            raise self._without_worker(error, last, timeout_s) from error
        except Refused as error:
            raise MigrationFailed(error.message, code=error.code) from error

    def _unless_gone(self, operation: str) -> None:
        try:
            self._call(operation, answers.Done, timeout_s=_ROLLBACK_S)
        except ToolFailed as error:
            if error.code != "gone":
                raise

    def _without_worker(self, error: ToolFailed, last: ChangesetEvent, timeout_s: float) -> MigrationFailed:
        place = self._answers.place(f"{last.path}::{last.id}::{last.author}" if last.kind == "will_run" else None)
        if error.code == "timeout":
            message = f"the migration took longer than {timeout_s:g} s and was stopped"
            return MigrationFailed(message, code="timeout", place=place)
        return MigrationFailed(
            f"Liquibase's worker died: {error.message}",
            code="protocol" if error.code == "protocol" else "worker_gone",
            hint=error.hint,
            place=place,
        )


def _sent(options: LiquibaseOptions) -> dict[str, Any]:
    return {
        "root": str(options.root),
        "contexts": options.contexts,
        "labels": options.labels,
        "parameters": dict(options.parameters),
        "default_schema": options.default_schema,
        "liquibase_schema": options.liquibase_schema,
        "ledger_table": options.ledger_table,
        "lock_table": options.lock_table,
    }


def _several(changelog: str | Sequence[str]) -> list[str]:
    return [changelog] if isinstance(changelog, str) else list(changelog)
