"""Suites are run by Great Expectations in a child process: a crash, a hang or 250 MB of memory are its own."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, Protocol, Self

from migrator.checks.documents import complaint
from migrator.checks.heard import (
    Done,
    Failed,
    NotChecked,
    Query,
    Ready,
    Verdict,
    Working,
    listen,
    not_understood,
)
from migrator.checks.readonly import read_only, sqlstate
from migrator.checks.redaction import hides
from migrator.checks.results import CheckResult, Phase
from migrator.checks.suites import Suite
from migrator.checks.transports import MAX_ROWS
from migrator.config.login import Login
from migrator.errors import ConnectionFailed, StepFailed, TransactionLost
from migrator.postgres.session import Row, Session
from migrator.postgres.statement import NotOneStatement, single
from migrator.processes import Child

_START_S = 180.0  # importing takes 3 s; a cold disk and a busy machine take longer
_THINK_S = 120.0  # between two messages, beyond what a statement may take


class TypedSession(Session, Protocol):
    """A session that tells the types of its columns too: the transaction that holds the migration."""

    def query_typed(
        self, sql: str, max_rows: int, *, timeout_s: float
    ) -> tuple[Sequence[tuple[str, int]], Sequence[Row]]:
        """Columns (name, type OID) and rows (text) of one SELECT or SHOW, run behind a savepoint.

        Raises: StepFailed, also when there are more than `max_rows` rows, and past `timeout_s`.
        """
        ...


class SuiteRunner:
    """The child process and the questions that it asks. To be used from one thread, and started from the main one."""

    def __init__(self, log: Path) -> None:
        self._log = log
        self._child: Child | None = None
        self._ready = False

    @classmethod
    def start(cls, log: Path) -> SuiteRunner:
        """The child is importing; nobody waits for it. Its standard error goes to `log`.

        Raises: ToolFailed when it cannot be started.
        """
        runner = cls(log)
        runner._launch()
        return runner

    @property
    def pid(self) -> int | None:
        """The child's process id; None when there is none."""
        return self._child.pid if self._child else None

    def validate(self, suites: Sequence[Suite]) -> None:
        """Great Expectations takes every expectation of these suites; no database is asked.

        Raises: ConfigError with file and line of the first that it does not; ToolFailed when the child fails.
        """
        if not suites:
            return
        with self._conversation() as child:
            child.send({"op": "validate", "suites": [_wire(suite) for suite in suites]})
            answer = listen(child, _THINK_S)
            if not isinstance(answer, Done) or answer.problems is None:
                raise not_understood("it was asked what is wrong with the suites")
            if any(not _exists(suites, found.suite, found.index) for found in answer.problems):
                raise not_understood("it complains of an expectation that there is not")
        for found in answer.problems:
            suite = suites[found.suite]
            expectation = suite.expectations[found.index]
            raise complaint(
                suite.path,
                expectation.line,
                f"{expectation.type}: {found.message}",
                hint="Great Expectations refuses these kwargs; its gallery describes them.",
            )

    def run(
        self,
        suites: Sequence[Suite],
        *,
        phase: Phase,
        via: Login | TypedSession,
        run_id: str,
        statement_timeout_s: float,
        on_result: Callable[[CheckResult], None] | None = None,
        snapshot: str | None = None,
    ) -> list[CheckResult]:
        """Every expectation that belongs to the phase was looked at, at one snapshot, or its result says why not.

        Via a login the child opens a session of its own that only reads, at the exported `snapshot` if there is one.
        Via a session its SQL runs there, behind a savepoint that is rolled back, and sees what is not committed yet.
        `on_result` hears each result at once. Safe to repeat; a child that died is started anew by the next call.

        Raises: ToolFailed when the child dies, hangs or is not understood; ConnectionFailed; TransactionLost when a
        check ended the transaction; StepFailed when the session does not let itself be fenced.
        """
        due = [suite for suite in suites if phase in suite.when]
        if not due:
            return []
        message = {
            "op": "run",
            "suites": [_wire(suite) for suite in due],
            "login": _login_fields(via) if isinstance(via, Login) else None,
            "run_id": run_id,
            "snapshot": snapshot,
            "statement_timeout_s": statement_timeout_s,
        }
        collected = _Collected(due, phase, on_result)
        with self._conversation() as child:
            fence = nullcontext() if isinstance(via, Login) else read_only(via, timeout_s=statement_timeout_s)
            with fence:
                child.send(message)
                ended = self._hear_out(child, collected, via, statement_timeout_s)
        if isinstance(ended, Failed):
            raise _failure(ended)
        return collected.complete()

    def close(self) -> None:
        """The child has ended. Safe to repeat."""
        child, self._child = self._child, None
        if child is not None:
            # One that is still importing would take its time to see the end of its input.
            if self._ready:
                child.close()
            else:
                child.kill()

    def kill(self) -> None:
        """The child is dead. Safe to repeat, and to call from another thread."""
        child, self._child = self._child, None
        if child is not None:
            child.kill()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @staticmethod
    def _hear_out(
        child: Child, collected: _Collected, via: Login | TypedSession, statement_timeout_s: float
    ) -> Done | Failed:
        """Raises: ToolFailed, code `protocol`, also when there is no end of its statements."""
        for _ in range(collected.most_statements):
            # The time of a statement counts here only where the child runs it.
            heard = listen(child, _THINK_S + (statement_timeout_s if isinstance(via, Login) else 0))
            while isinstance(heard, Verdict | NotChecked):
                collected.hear(heard)
                heard = listen(child, _THINK_S)
            match heard:
                case Query() if not isinstance(via, Login):
                    child.send(_answer(via, heard.sql, min(heard.max_rows, MAX_ROWS), statement_timeout_s))
                case Working() if isinstance(via, Login):
                    pass
                case Done(problems=None) | Failed():
                    return heard
                case _:
                    raise not_understood(f"it was asked for verdicts, not for {type(heard).__name__}")
        raise not_understood("there is no end of its statements")

    def _launch(self) -> Child:
        self._ready = False
        self._child = Child.start([sys.executable, "-m", "migrator.checks.child"], log=self._log)
        return self._child

    @contextmanager
    def _conversation(self) -> Iterator[Child]:
        """Left by an exception, the child is dead: nobody knows where it stands."""
        child = self._child or self._launch()
        try:
            if not self._ready:
                if not isinstance(listen(child, _START_S), Ready):
                    raise not_understood("it is not ready")
                self._ready = True
            yield child
        except BaseException:
            self.kill()
            raise


class _Collected:
    """What the child has said, as results; what it has not said is a failure."""

    def __init__(self, suites: Sequence[Suite], phase: Phase, on_result: Callable[[CheckResult], None] | None) -> None:
        self._suites = suites
        self._labels = [suite.labels for suite in suites]
        self._phase = phase
        self._on_result = on_result
        self._found: dict[tuple[int, int], CheckResult] = {}
        self._not_checked: set[int] = set()

    @property
    def most_statements(self) -> int:
        """More than any suites of this size need: each expectation is looked at three times at most."""
        return 1000 + 100 * sum(len(suite.expectations) for suite in self._suites)

    def hear(self, heard: Verdict | NotChecked) -> None:
        """What was said stands. Raises: ToolFailed, code `protocol`, for what is said of nothing, or said twice."""
        index = heard.index if isinstance(heard, Verdict) else None
        if not _exists(self._suites, heard.suite, index):
            raise not_understood("it tells of an expectation that there is not")
        if heard.suite in self._not_checked or (heard.suite, index) in self._found:
            raise not_understood("it tells of the same expectation again")
        if isinstance(heard, Verdict):
            self._add(heard.suite, index, success=heard.success, detail=heard.detail)
        else:
            self._not_checked.add(heard.suite)
            self._add(heard.suite, None, success=False, detail=heard.detail)

    def complete(self) -> list[CheckResult]:
        for i, suite in enumerate(self._suites):
            for j in range(len(suite.expectations)):
                if i not in self._not_checked and (i, j) not in self._found:
                    self._add(i, j, success=False, detail="the process that runs the suites gave no verdict")
        return [self._found[key] for key in sorted(self._found)]

    def _add(self, i: int, j: int | None, *, success: bool, detail: str | None) -> None:
        suite = self._suites[i]
        result = CheckResult(
            name=suite.name if j is None else self._labels[i][j],
            phase=self._phase,
            success=success,
            severity=suite.severity if j is None else suite.expectations[j].severity,
            table=None if suite.table is None else str(suite.table),
            detail=detail,
        )
        self._found[(i, -1 if j is None else j)] = result
        if self._on_result is not None:
            self._on_result(result)


def _answer(session: TypedSession, sql: str, max_rows: int, timeout_s: float) -> dict[str, Any]:
    try:
        columns, rows = session.query_typed(single(sql), max_rows, timeout_s=timeout_s)
    except NotOneStatement as error:
        return {"error": f"the check's SQL {error}", "sqlstate": "42601"}
    except (TransactionLost, ConnectionFailed):
        raise  # no later check can be right
    except StepFailed as error:
        return {"error": error.message, "sqlstate": sqlstate(error)}
    return {"columns": [list(column) for column in columns], "rows": [list(row) for row in rows]}


def _failure(heard: Failed) -> StepFailed:
    kind = ConnectionFailed if heard.connection else StepFailed
    return kind(heard.message, code=heard.code, hint=heard.hint)


def _exists(suites: Sequence[Suite], suite: int, index: int | None) -> bool:
    return 0 <= suite < len(suites) and (index is None or 0 <= index < len(suites[suite].expectations))


def _wire(suite: Suite) -> dict[str, Any]:
    table = suite.table
    return {
        "name": suite.name,
        "table": None if table is None else {"schema": table.schema, "name": table.name},
        "query": suite.query,
        "allow_empty": suite.allow_empty,
        "parameters": dict(suite.parameters),
        "expectations": [
            {
                "type": e.type,
                "kwargs": dict(e.kwargs),
                "severity": e.severity,
                "hidden": hides(
                    suite.redact,
                    e.columns,
                    table=None if table is None else table.name,
                    schema=None if table is None else table.schema,
                ),
            }
            for e in suite.expectations
        ],
    }


def _login_fields(login: Login) -> dict[str, Any]:
    secret = login.settled().secret()
    return {
        "host": login.host,
        "port": login.port,
        "database": login.database,
        "user": login.user,
        "password": None if secret is None else secret.reveal(),
        "options": dict(login.options),
    }
