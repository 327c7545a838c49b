"""Whether the preconditions of changesets hold just now. Reads only; runs in the worker."""

from __future__ import annotations

import time
from typing import Any

_BUDGET_S = 10.0  # a precondition may look at the whole schema, and a changelog may hold thousands


class Preconditions:
    """Answers for one changelog against one database, in a session that cannot write."""

    def __init__(self, real: Any, database: Any, changelog: Any) -> None:
        self._real = real
        self._database = database
        self._changelog = changelog
        self._until = time.monotonic() + _BUDGET_S

    def of(self, changeset: Any) -> dict[str, str | None]:
        """`precondition`: none, holds, fails or unknown; and what it says, and what Liquibase does where it fails.

        As the database is now: what earlier changesets of the same changelog will have changed is not seen.
        """
        preconditions = changeset.getPreconditions()
        if preconditions is None:
            return {"precondition": "none"}
        verdict, says = self._checked(preconditions, changeset)
        on_fail = str(preconditions.getOnFail().name())
        return {"precondition": verdict, "precondition_says": says, "on_fail": on_fail}

    def _checked(self, preconditions: Any, changeset: Any) -> tuple[str, str | None]:
        import jpype

        if time.monotonic() > self._until:
            return "unknown", f"not looked at: the others took {_BUDGET_S:g} s"
        try:
            preconditions.check(self._database, self._changelog, changeset, None)
        except jpype.JClass("liquibase.exception.PreconditionFailedException") as failed:
            return "fails", "; ".join(str(one.getMessage()) for one in failed.getFailedPreconditions()) or None
        except jpype.JException as error:
            cause = error
            while cause.getCause() is not None:
                cause = cause.getCause()
            return "unknown", str(cause.getMessage())
        finally:
            self._real.rollback()
        return "holds", None
