"""A command of Liquibase that changes the database: in the held transaction, or committed on its way."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

from migrator.liquibase.worker import verdict
from migrator.liquibase.worker.attached import Attached
from migrator.liquibase.worker.events import ChangesetListener
from migrator.liquibase.worker.failures import Failure, from_java
from migrator.liquibase.worker.held import HeldConnection
from migrator.liquibase.worker.status import may_fail_and_go_on
from migrator.liquibase.worker.watched import state


class Writing:
    """On one connection. Each changeset is told as it begins and ends, and measured where that is asked for."""

    def __init__(self, attached: Attached, emit: Callable[[dict[str, Any]], None]) -> None:
        self._attached = attached
        self._emit = emit

    def apply(self, name: str, changelog: str, **arguments: Any) -> dict[str, Any]:
        """The command ran changesets; the answer says which, and what they wrote. Raises: Failure."""
        return self._run(name, changelog, on_will_run=self._will_run, **arguments)

    def roll_back(self, name: str, changelogs: Sequence[str], **arguments: Any) -> dict[str, Any]:
        """As `apply`, for a command that undoes changesets."""
        return self._run(name, changelogs, on_will_run=self._will_roll_back, **arguments)

    def mark(self, name: str, changelog: str, **arguments: Any) -> dict[str, Any]:
        """As `apply`, for a command that writes the ledger alone, and tells of no changeset."""
        return self._run(name, changelog, on_will_run=None, **arguments)

    def _run(
        self,
        name: str,
        changelog: str | Sequence[str],
        *,
        on_will_run: Callable[[Any], None] | None,
        **arguments: Any,
    ) -> dict[str, Any]:
        import jpype

        attached = self._attached
        front, engine = attached.front, attached.engine
        listener = ChangesetListener(
            self._emit, on_will_run=on_will_run or (lambda _: None), on_closed=self._tell_measured
        )
        self._begin()
        try:
            with engine.scope():
                told = listener if on_will_run is not None else None
                engine.run(name, changelog, told, **arguments)
            listener.finish()
            if isinstance(front, HeldConnection):
                front.end_update()
        except (Failure, jpype.JException) as error:
            failure = verdict.of(error if isinstance(error, Failure) else from_java(error), front, listener)
            if isinstance(front, HeldConnection):
                front.really_roll_back()
            else:
                attached.real.rollback()
            raise failure from error
        return {
            "changesets": listener.results,
            "write_set": sorted(attached.write_set.tables),
            "counts": {name: asdict(count) for name, count in attached.write_set.counts.items()},
            "outside_transaction": [] if isinstance(front, HeldConnection) else listener.outside_transaction,
            "savepoints": front.savepoints if isinstance(front, HeldConnection) else 0,
        }

    def _begin(self) -> None:
        """Raises: Failure in held mode where the transaction was not begun."""
        attached = self._attached
        if isinstance(attached.front, HeldConnection):
            if not attached.is_held:
                raise Failure("usage", "begin() comes first in held mode")
            attached.front.begin_set_up()
            return
        attached.write_set.start(self._tell_written)
        if attached.measuring is not None:
            attached.measuring.start()
            attached.real.rollback()
            attached.measuring.forget_transaction()

    def _tell_written(self) -> None:
        """The parent knows what is about to be committed, also if nothing is heard of this process any more."""
        seen = self._attached.write_set
        self._emit({"kind": "wrote", "written": sorted(seen.tables), "changed": sorted(seen.counts)})

    def _tell_measured(self, names: dict[str, str]) -> None:
        """What the changeset has done goes to the parent, whatever becomes of the others."""
        attached, measuring = self._attached, self._attached.measuring
        if measuring is None:
            return
        if not isinstance(attached.front, HeldConnection):
            measuring.compare()
            if state(attached.real) == "OPEN":
                attached.real.commit()
                measuring.forget_transaction()
        self._emit({"kind": "measured", **names, "measured": measuring.end()})

    def _will_run(self, changeset: Any) -> None:
        self._begin_changeset(changeset, changeset.getChanges(), may_fail=may_fail_and_go_on(changeset))

    def _will_roll_back(self, changeset: Any) -> None:
        self._begin_changeset(changeset, changeset.getRollback().getChanges(), may_fail=False)

    def _begin_changeset(self, changeset: Any, changes: Any, *, may_fail: bool) -> None:
        front, measuring = self._attached.front, self._attached.measuring
        if measuring is not None:
            measuring.begin()
        if not isinstance(front, HeldConnection):
            return
        if not changeset.isRunInTransaction():
            raise Failure(
                "lost", 'the changeset says runInTransaction="false"', code="outside_transaction", committed=False
            )
        sql = [str(c.getSql()) for c in changes if hasattr(c, "getSql") and c.getSql() is not None]
        front.begin_changeset(may_fail=may_fail, sql=sql)
