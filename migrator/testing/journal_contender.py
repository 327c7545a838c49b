"""Another process that begins a run in a journal, at the moment when it is told to."""

from __future__ import annotations

import sys
from pathlib import Path

from migrator.processes import Child

_ANSWER_S = 120.0
_PROGRAM = """
import json, os, socket, sys
from datetime import UTC, datetime
from pathlib import Path
from migrator.errors import MigratorError
from migrator.runs.journal import Journal
from migrator.runs.record import RunRecord

def say(text):
    print(json.dumps({"said": text}), flush=True)

run_id, target, base = sys.argv[1:4]
url = json.loads(sys.stdin.readline())["url"]
say("ready")
sys.stdin.readline()
try:
    journal = Journal.open(url, Path(base))
    now = datetime.now(UTC)
    record = RunRecord(run_id=run_id, environment="dev", database="shop", changelog="a.sql", started_at=now)
    journal.begin(record, target=target, host=socket.gethostname(), pid=os.getpid(), lease_s=600)
    say("began")
except MigratorError as error:
    say(f"{type(error).__name__} {error.message}")
sys.stdin.readline()
os._exit(9)
"""


class Contender:
    """It has loaded everything and waits for `go`; then it begins the run, says what came of it, and lives on."""

    def __init__(self, url: str, base: Path, run_id: str, *, target: str) -> None:
        argv = [sys.executable, "-c", _PROGRAM, run_id, target, str(base)]
        self._child = Child.start(argv, log=base / f"{run_id}.log")
        self._child.send({"url": url})
        if self.answer() != "ready":
            raise RuntimeError(f"{run_id} is not ready: see its log in {base}")

    @property
    def pid(self) -> int:
        return self._child.pid

    def go(self) -> None:
        self._child.send({})

    def answer(self) -> str:
        """`began`, or the error's name and message."""
        return str(self._child.receive(_ANSWER_S)["said"])

    def die(self) -> None:
        """It is killed, and no zombie is left. Safe to repeat."""
        self._child.kill()
