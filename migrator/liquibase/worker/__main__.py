"""The child that holds the JVM: `python -m migrator.liquibase.worker SETTINGS`.

Requests come as JSON lines on standard input, answers go as JSON lines to what was standard output when it started;
from then on everything that anybody prints goes to standard error. It ends with its parent.
"""

from __future__ import annotations

import json
import os
import queue
import signal
import sys
import threading
from typing import Any, BinaryIO

from migrator.liquibase.worker.commands import Commands
from migrator.liquibase.worker.failures import Failure, from_java
from migrator.processes import die_with_parent

_OPERATIONS = (
    *("connect", "disconnect", "begin", "commit", "rollback", "rows", "execute", "query_typed"),
    *("changesets", "update", "update_sql", "snapshot", "changelog_sync"),
    *("undoable", "rollback_count", "rollback_count_sql", "offline_changesets"),
)


class Channel:
    """One JSON object a line to the parent."""

    def __init__(self, out: BinaryIO) -> None:
        self._out = out
        self._lock = threading.Lock()
        self.answering: int | None = None

    def send(self, message: dict[str, Any]) -> None:
        with self._lock:
            self._out.write(json.dumps(message).encode() + b"\n")
            self._out.flush()

    def event(self, event: dict[str, Any]) -> None:
        self.send({"id": self.answering, "event": event})


class Requests:
    """Read in a thread of their own, so that the end of input is noticed in the middle of an operation."""

    def __init__(self, source: BinaryIO) -> None:
        self._source = source
        self._queue: queue.SimpleQueue[dict[str, Any] | None] = queue.SimpleQueue()
        self._is_busy = False
        threading.Thread(target=self._read, name="requests", daemon=True).start()

    def next(self) -> dict[str, Any] | None:
        """The next request; None when there will be no more."""
        self._is_busy = False
        request = self._queue.get()
        self._is_busy = True
        return request

    def _read(self) -> None:
        for line in self._source:
            self._queue.put(json.loads(line))
        self._queue.put(None)
        if self._is_busy:
            halt()


def halt() -> None:
    """This process is gone at once: no shutdown hook can wait for a statement that never returns."""
    os._exit(0)


def start_jvm(settings: dict[str, Any]) -> None:
    """The one JVM of this process runs."""
    import jpype

    jpype.startJVM(
        *settings["flags"],
        jvmpath=settings["jvm"],
        classpath=settings["jars"],
        convertStrings=False,
        interrupt=False,
    )


def serve(requests: Requests, channel: Channel) -> None:
    """Every request is answered, in order, until there are no more."""
    import jpype

    commands = Commands(channel.event)
    operations = {name: getattr(commands, name) for name in _OPERATIONS}
    while (request := requests.next()) is not None:
        channel.answering = request["id"]
        try:
            answer = operations[request["op"]](request)
        except Failure as failure:
            channel.send({"id": request["id"], "error": failure.payload()})
        except jpype.JException as error:
            channel.send({"id": request["id"], "error": from_java(error).payload()})
        except Exception as error:  # noqa: BLE001  the parent must get an answer; it raises it as a bug
            channel.send({"id": request["id"], "error": Failure("bug", f"{type(error).__name__}: {error}").payload()})
            sys.excepthook(*sys.exc_info())
        else:
            channel.send({"id": request["id"], "ok": answer})
    commands.disconnect({})


def main() -> None:
    """Runs until the end of input."""
    die_with_parent()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    settings = json.loads(sys.argv[1])
    channel = Channel(os.fdopen(os.dup(1), "wb"))
    os.dup2(2, 1)
    if settings["train"]:
        from migrator.liquibase.worker.training import train

        start_jvm(settings)
        train(settings["jars"])
        return
    requests = Requests(sys.stdin.buffer)
    try:
        start_jvm(settings)
    except Exception as error:  # noqa: BLE001  JPype raises whatever the JVM said; the parent gets one readable line
        channel.send({"id": 0, "error": Failure("bug", f"the JVM did not start: {error}").payload()})
        halt()
    serve(requests, channel)
    halt()


if __name__ == "__main__":
    main()
