"""Every changeset of a changelog, and how it stands in one database. Reads only; runs in the worker."""

from __future__ import annotations

from collections import Counter
from typing import Any

from migrator.liquibase.worker.changes import Changes
from migrator.liquibase.worker.events import identity, key
from migrator.liquibase.worker.failures import Failure, from_java
from migrator.liquibase.worker.preconditions import Preconditions
from migrator.liquibase.worker.rollbacks import Rollbacks

_SQL_PRECONDITIONS = {"sqlCheck", "rowCount", "tableIsEmpty", "customPrecondition", "expectedQuotingStrategy"}
_COMPOSITE = {"not", "or"}


class Status:
    """Answers for one changelog against one database; without a ledger nothing has run there.

    `preconditions`: those of pending changesets are tried by it.
    """

    def __init__(
        self,
        database: Any,
        *,
        contexts: Any,
        labels: Any,
        has_ledger: bool = True,
        preconditions: Preconditions | None = None,
    ) -> None:
        import jpype

        self._database = database
        filters = "liquibase.changelog.filter."
        self._context = jpype.JClass(filters + "ContextChangeSetFilter")(contexts)
        self._label = jpype.JClass(filters + "LabelChangeSetFilter")(labels)
        self._dbms = jpype.JClass(filters + "DbmsChangeSetFilter")(database)
        self._ignore = jpype.JClass(filters + "IgnoreChangeSetFilter")()
        self._should_run = jpype.JClass(filters + "ShouldRunChangeSetFilter")(database) if has_ledger else None
        self._changes = Changes(database)
        self._rollbacks = Rollbacks(database, self._changes)
        self._preconditions = preconditions
        self._ran = {str(row.toString()): row for row in database.getRanChangeSetList()} if has_ledger else {}

    def of(self, changelog: Any) -> list[dict[str, Any]]:
        """In the changelog's order; what only the ledger knows comes last. Raises: Failure for duplicates."""
        changesets = list(changelog.getChangeSets())
        counted = Counter(key(identity(changeset)) for changeset in changesets)
        twice = [name for name, count in counted.items() if count > 1]
        if twice:
            raise Failure(
                "changelog", f"the changelog holds {twice[0]} more than once", code="duplicate", changeset=twice[0]
            )
        known = {str(changeset.toNormalizedString()) for changeset in changesets}
        return [self._one(changeset) for changeset in changesets] + [
            self._unknown(row) for name, row in self._ran.items() if name not in known
        ]

    def _one(self, changeset: Any) -> dict[str, Any]:
        state, reason, ran_at = self._state(changeset)
        answer: dict[str, Any] = {
            **identity(changeset),
            "state": state,
            "reason": reason,
            "ran_at": ran_at,
            "checksum": _text(changeset.generateCheckSum(_latest_checksum_version())),
            "run_in_transaction": bool(changeset.isRunInTransaction()),
            "fail_on_error": not fails_quietly(changeset),
            "run_always": bool(changeset.shouldAlwaysRun()),
            "run_on_change": bool(changeset.shouldRunOnChange()),
            "has_preconditions": changeset.getPreconditions() is not None,
            "needs_savepoint": may_fail_and_go_on(changeset),
            "comment": _text(changeset.getComments()),
            "file": physical_path(changeset),
            "changes": [str(change.getSerializedObjectName()) for change in changeset.getChanges()],
        }
        if state == "pending":
            answer |= self._detail(changeset)
            if self._preconditions is not None:
                answer |= self._preconditions.of(changeset)
        return answer

    def _state(self, changeset: Any) -> tuple[str, str | None, str | None]:
        row = self._ran.get(str(changeset.toNormalizedString()))
        ran_at = None if row is None else _text(row.getDateExecuted())
        denied = self._denied(changeset)
        if denied is not None:
            state, why = denied
            return ("ran" if row is not None else state), why, ran_at
        if self._should_run is None:
            return "pending", None, None
        answer = self._should_run.accepts(changeset)
        if answer.isAccepted():
            return "pending", _text(answer.getMessage()), ran_at
        if row is not None and not changeset.isCheckSumValid(row.getLastCheckSum()):
            return "changed", f"the ledger holds checksum {row.getLastCheckSum()}", ran_at
        return "ran", None, ran_at

    def _denied(self, changeset: Any) -> tuple[str, str | None] | None:
        """Which filter leaves it out here, and why; None when none does."""
        filters = (
            (self._context, "other_context"),
            (self._label, "other_label"),
            (self._dbms, "other_dbms"),
            (self._ignore, "ignored"),
        )
        for check, state in filters:
            answer = check.accepts(changeset)
            if not answer.isAccepted():
                return state, _text(answer.getMessage())
        return None

    def left_out(self, changeset: Any) -> str | None:
        """Why a filter (context, label, dbms, ignore) leaves it out here; None when none does."""
        denied = self._denied(changeset)
        return None if denied is None else denied[1] or denied[0]

    def _detail(self, changeset: Any) -> dict[str, Any]:
        self._validate(changeset)
        written = self._changes.written(changeset.getChanges())
        return {
            "has_rollback": self._rollbacks.exist(changeset),
            "statements": [statement for _, statement in written],
            "origins": [change for change, _ in written],
            "rollback": self._rollbacks.of(changeset)[0],
            "tables": sorted(self._changes.tables(changeset.getChanges())),
        }

    def _validate(self, changeset: Any) -> None:
        import jpype

        for change in changeset.getChanges():
            try:
                change.finishInitialization()
                errors = [str(message) for message in change.validate(self._database).getErrorMessages()]
            except jpype.JException as error:
                failure = from_java(error, kind="changelog")
                failure.changeset = key(identity(changeset))
                raise failure from error
            if errors:
                raise Failure("changelog", "; ".join(errors), changeset=key(identity(changeset)))

    @staticmethod
    def _unknown(row: Any) -> dict[str, Any]:
        return {
            "id": str(row.getId()),
            "author": str(row.getAuthor()),
            "path": str(row.getChangeLog()),
            "checksum": _text(row.getLastCheckSum()),
            "state": "not_known",
            "reason": "in the ledger, not in this changelog",
            "ran_at": _text(row.getDateExecuted()),
            "comment": _text(row.getComments()),
        }


def physical_path(changeset: Any) -> str | None:
    """The file that holds the changeset, relative to the root."""
    changelog = changeset.getChangeLog()
    return None if changelog is None else _text(changelog.getPhysicalFilePath())


def fails_quietly(changeset: Any) -> bool:
    """Whether an error in it is swallowed (failOnError="false")."""
    value = changeset.getFailOnError()
    return value is not None and not bool(value)


def may_fail_and_go_on(changeset: Any) -> bool:
    """Whether a statement of it may fail and Liquibase carries on all the same."""
    if fails_quietly(changeset):
        return True
    preconditions = changeset.getPreconditions()
    if preconditions is None:
        return False
    goes_on = str(preconditions.getOnError().name()) != "HALT"
    return _runs_sql(preconditions, inside=goes_on)


def _runs_sql(precondition: Any, *, inside: bool) -> bool:
    name = str(precondition.getName()) if hasattr(precondition, "getName") else "and"
    if inside and name in _SQL_PRECONDITIONS:
        return True
    inside = inside or name in _COMPOSITE
    nested = precondition.getNestedPreconditions() if hasattr(precondition, "getNestedPreconditions") else ()
    return any(_runs_sql(child, inside=inside) for child in nested)


def _latest_checksum_version() -> Any:
    import jpype

    return jpype.JClass("liquibase.ChecksumVersion").latest()


def _text(value: Any) -> str | None:
    return None if value is None else str(value)
