"""A process that moves, to be killed on the way; what it is to do is JSON on standard input."""

from __future__ import annotations

import json
import sys

from migrator import failpoints
from migrator.backfills import mover, undoing
from migrator.backfills.definition import Backfill
from migrator.backfills.mover import Progress, Work
from migrator.config.login import Login, Secret
from migrator.postgres.connect import PgSession, connect


def main() -> None:
    given = json.load(sys.stdin)
    login = Login(**{**given["login"], "password": Secret(given["password"])})
    if given["fate"]:
        failpoints.arm(given["fate"])

    def session(role: str) -> PgSession:
        return connect(login, role=role, run_id="hurry")

    def tell(progress: Progress) -> None:
        print(progress.rows, flush=True)

    work = Work(login=login, schema=None, run_id="hurry", connect=session)
    do = undoing.undo if given["back"] else mover.move
    do(Backfill.model_validate(given["backfill"]), work, on_progress=tell, check=lambda: None)


if __name__ == "__main__":
    main()
