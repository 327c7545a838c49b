"""Stops a server when the process that wanted it is gone, however that ended: `python -m migrator.postgres.keeper`.

Reads its standard input to the end, which comes when the other process closes it or dies. Then the server (a process
id) is stopped at once and the folder, where one is named, removed.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
import time
from contextlib import suppress

from migrator.processes import is_running


def main(arguments: list[str]) -> None:
    pid, folder = int(arguments[0]), arguments[1] if len(arguments) > 1 else None
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    sys.stdin.buffer.read()
    for number, patience_s in ((signal.SIGQUIT, 10.0), (signal.SIGKILL, 5.0)):
        if _ended(pid, number, patience_s):
            break
    if folder is not None:
        shutil.rmtree(folder, ignore_errors=True)


def _ended(pid: int, number: signal.Signals, patience_s: float) -> bool:
    deadline = time.monotonic() + patience_s
    with suppress(ProcessLookupError, PermissionError):
        os.kill(pid, number)
    while is_running(pid):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


if __name__ == "__main__":
    main(sys.argv[1:])
