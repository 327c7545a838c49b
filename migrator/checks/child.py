"""The child process that holds Great Expectations: `python -m migrator.checks.child`, started by `SuiteRunner`.

One JSON message a line. Its standard input and output belong to the protocol alone: a library that prints, prints
to the log. Messages of the parent: `validate`, `run`, and the answer to a `query`. Messages of the child: `ready`,
`working` (before each statement on a session of its own), `query`, `verdict`, `not_checked`, `done`, `failed`.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import time
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import IO, Any

from migrator.checks.dbapi import Transport
from migrator.config.login import Login, Secret
from migrator.errors import ConnectionFailed, StepFailed
from migrator.processes import die_with_parent


class _Parent:
    """The two ends of the pipe to the parent."""

    def __init__(self, incoming: IO[str], outgoing: IO[str]) -> None:
        self._incoming = incoming
        self._outgoing = outgoing

    def tell(self, message: dict[str, Any]) -> None:
        self._outgoing.write(json.dumps(message, default=str) + "\n")
        self._outgoing.flush()

    def listen(self) -> dict[str, Any]:
        """The next message. When the parent is gone this process ends, whatever library stands between."""
        line = self._incoming.readline()
        if not line:
            raise SystemExit(0)
        message: dict[str, Any] = json.loads(line)
        return message

    def ask(self, message: dict[str, Any]) -> dict[str, Any]:
        self.tell(message)
        return self.listen()


def main() -> None:
    """Serves until the parent closes the pipe."""
    die_with_parent()
    parent = _take_pipe()
    os.environ["GX_ANALYTICS_ENABLED"] = "false"
    warnings.simplefilter("ignore")
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr)
    started = time.monotonic()
    from great_expectations import __version__

    from migrator.checks import expectations

    parent.tell({"event": "ready", "version": __version__, "import_s": round(time.monotonic() - started, 2)})
    while True:
        message = parent.listen()
        if message["op"] == "validate":
            problems = [
                {"suite": i, "index": j, "message": said}
                for i, suite in enumerate(message["suites"])
                for j, expectation in enumerate(suite["expectations"])
                if (said := expectations.problem(expectation)) is not None
            ]
            parent.tell({"event": "done", "problems": problems})
        else:
            _run(parent, message)


def _run(parent: _Parent, message: Mapping[str, Any]) -> None:
    from migrator.checks.expectations import NotChecked, evaluate

    try:
        with _transport(parent, message) as transport:
            for i, suite in enumerate(message["suites"]):
                try:
                    for verdict in evaluate(suite, transport):
                        parent.tell(
                            {
                                "event": "verdict",
                                "suite": i,
                                "index": verdict.index,
                                "success": verdict.success,
                                "detail": verdict.detail,
                            }
                        )
                except NotChecked as reason:
                    parent.tell({"event": "not_checked", "suite": i, "detail": str(reason)})
    except StepFailed as error:
        connection = isinstance(error, ConnectionFailed)
        parent.tell(
            {
                "event": "failed",
                "message": error.message,
                "code": error.code,
                "hint": error.hint,
                "connection": connection,
            }
        )
        return
    parent.tell({"event": "done"})


@contextmanager
def _transport(parent: _Parent, message: Mapping[str, Any]) -> Iterator[Transport]:
    from migrator.checks.transports import Piped, own

    login = message["login"]
    if login is None:
        yield Piped(parent.ask)
        return
    with own(
        _login(login),
        run_id=message["run_id"],
        snapshot=message["snapshot"],
        statement_timeout_s=message["statement_timeout_s"],
        progress=lambda: parent.tell({"event": "working"}),
    ) as transport:
        yield transport


def _login(fields: Mapping[str, Any]) -> Login:
    password = fields["password"]
    return Login(
        host=fields["host"],
        port=fields["port"],
        database=fields["database"],
        user=fields["user"],
        password=None if password is None else Secret(password),
        options=fields["options"],
    )


def _take_pipe() -> _Parent:
    incoming, outgoing = os.dup(0), os.dup(1)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.dup2(2, 1)
    return _Parent(os.fdopen(incoming, encoding="utf-8"), os.fdopen(outgoing, "w", encoding="utf-8"))


if __name__ == "__main__":
    main()
