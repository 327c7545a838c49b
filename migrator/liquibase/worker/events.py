"""What Liquibase reports while it runs, turned into messages for the parent."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from migrator.liquibase.worker.failures import Failure, from_java

_STATUS = {"EXECUTED": "executed", "RERAN": "reran", "MARK_RAN": "mark_ran", "FAILED": "failed_ignored"}


class ChangesetListener:
    """A `liquibase.changelog.visitor.ChangeExecListener`; keeps the results and which changeset is running."""

    def __init__(
        self,
        emit: Callable[[dict[str, Any]], None],
        *,
        on_will_run: Callable[[Any], None] = lambda _: None,
        on_closed: Callable[[dict[str, str]], None] = lambda _: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._emit = emit
        self._on_will_run = on_will_run
        self._on_closed = on_closed
        self._clock = clock
        self._started_s = 0.0
        self._note: str | None = None
        self.current: dict[str, str] | None = None
        self.results: list[dict[str, Any]] = []
        self.outside_transaction: list[str] = []
        self.refused: Failure | None = None

    def willRun(self, subject: Any, *_rest: Any) -> None:  # noqa: N802  Java's name
        if not _is_changeset(subject):
            return
        self._close_skipped()
        self._begin(subject)

    def ran(self, subject: Any, *rest: Any) -> None:
        if not _is_changeset(subject):
            return
        status = _STATUS.get(str(rest[-1].name()), str(rest[-1].name()).lower())
        message = self._note
        if status == "failed_ignored":
            message = str(subject.getErrorMsg() or "")
        self._close({"kind": "ran", **identity(subject), "status": status, "message": message})

    def runFailed(self, changeset: Any, _changelog: Any, _database: Any, error: Any) -> None:  # noqa: N802
        self._emit(
            {
                "kind": "failed",
                **identity(changeset),
                "duration_s": self._clock() - self._started_s,
                "message": from_java(error).message,
            }
        )

    def preconditionFailed(self, error: Any, on_fail: Any) -> None:  # noqa: N802
        self._precondition(error, on_fail)

    def preconditionErrored(self, error: Any, on_error: Any) -> None:  # noqa: N802
        self._precondition(error, on_error)

    def willRollback(self, changeset: Any, *_rest: Any) -> None:  # noqa: N802
        self._begin(changeset)

    def rolledBack(self, changeset: Any, *_rest: Any) -> None:  # noqa: N802
        self._close({"kind": "rolled_back", **identity(changeset), "status": "rolled_back", "message": None})

    def rollbackFailed(self, changeset: Any, _changelog: Any, _database: Any, error: Any) -> None:  # noqa: N802
        self.runFailed(changeset, None, None, error)

    def finish(self) -> None:
        """The last changeset is accounted for."""
        self._close_skipped()

    def _begin(self, changeset: Any) -> None:
        self.current = identity(changeset)
        self._note = None
        self._started_s = self._clock()
        if not changeset.isRunInTransaction():
            self.outside_transaction.append(key(self.current))
        try:
            self._on_will_run(changeset)
        except Failure as failure:
            failure.changeset = key(self.current)
            self.refused = failure
            raise
        self._emit({"kind": "will_run", **self.current})

    def _precondition(self, error: Any, consequence: Any) -> None:
        self._note = f"precondition: {error.getMessage()} ({consequence.toString()!s})"
        self._emit({"kind": "precondition_failed", **(self.current or {}), "message": self._note})

    def _close_skipped(self) -> None:
        # Liquibase says nothing about a changeset whose precondition told it to go on without it
        if self.current is not None:
            self._close({"kind": "skipped", **self.current, "status": "skipped", "message": self._note})

    def _close(self, event: dict[str, Any]) -> None:
        event["duration_s"] = self._clock() - self._started_s
        self.results.append({name: value for name, value in event.items() if name != "kind"})
        self.current = None
        self._emit(event)
        self._on_closed({name: str(event[name]) for name in ("id", "author", "path")})


def identity(changeset: Any) -> dict[str, str]:
    return {
        "id": str(changeset.getId()),
        "author": str(changeset.getAuthor()),
        "path": str(changeset.getFilePath()),
    }


def key(names: dict[str, str]) -> str:
    return f"{names['path']}::{names['id']}::{names['author']}"


def _is_changeset(subject: Any) -> bool:
    import jpype

    return isinstance(subject, jpype.JClass("liquibase.changelog.ChangeSet"))
