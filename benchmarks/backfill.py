"""A backfill beside one hand-written statement over the same rows, in pairs, on an embedded PostgreSQL of its own.

    python benchmarks/backfill.py --rows 2000000 --pairs 2

Each of a pair begins with a fresh copy of the same table. The statement holds every row until its end; the backfill
lets others write between its batches, and can be stopped and carried on. Read the ratios.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from guarded_run import say, server

from migrator.backfills import mover, verifying
from migrator.backfills.definition import Backfill
from migrator.backfills.mover import Moved, Work
from migrator.config.login import Login
from migrator.postgres.connect import PgSession, connect

_AIM = 1.3
_TABLE = """
DROP TABLE IF EXISTS customer;
CREATE TABLE customer (id bigint PRIMARY KEY, name text NOT NULL, email text NOT NULL, note text,
                       first_name text, last_name text);
INSERT INTO customer (id, name, email, note)
SELECT n * 3, 'First' || n || ' Last' || n, n || '@example.com', repeat('x', n % 60) FROM generate_series(1, {rows}) n;
"""
_SET = "first_name = split_part(c.name, ' ', 1), last_name = split_part(c.name, ' ', 2)"
_BY_HAND = f"UPDATE customer c SET {_SET}"
_BACKFILL = {
    "name": "split-name",
    "after": "1::bench",
    "table": "customer",
    "key": ["id"],
    "statement": f"UPDATE customer c SET {_SET} FROM batch b WHERE c.id = b.id",
    "verify": "SELECT id FROM customer WHERE (first_name, last_name) IS DISTINCT FROM"
    " (split_part(name, ' ', 1), split_part(name, ' ', 2))",
}


@dataclass(frozen=True, kw_only=True)
class Pair:
    by_hand_s: float
    backfill_s: float
    batches: int
    verify_s: float

    @property
    def ratio(self) -> float:
        return self.backfill_s / self.by_hand_s


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--rows", type=int, default=2_000_000, help="rows of the table (default 2,000,000)")
    arguments.add_argument("--pairs", type=int, default=2, help="how often both are measured (default 2)")
    arguments.add_argument("--jobs", type=int, default=2, help="workers of the backfill (default 2)")
    arguments.add_argument("--json", action="store_true", help="the result as JSON on standard output")
    chosen = arguments.parse_args()
    if min(chosen.rows, chosen.pairs, chosen.jobs) < 1:
        arguments.error("--rows, --pairs and --jobs are to be positive")
    with server() as (running, _):
        with connect(running.admin, role="bench", run_id="bench") as admin:
            admin.execute(f"CREATE DATABASE bench OWNER {running.migrator.user}")
            admin.execute(f"GRANT pg_checkpoint TO {running.migrator.user}")
        pairs = [
            measured(running.migrator.to("bench"), chosen.rows, chosen.jobs, first=number % 2)
            for number in range(chosen.pairs)
        ]
    if chosen.json:
        json.dump(to_json(pairs, chosen.rows, chosen.jobs), sys.stdout, indent=2)
        print()
    else:
        print("\n".join(table(pairs, chosen.rows, chosen.jobs)))


def measured(login: Login, rows: int, jobs: int, *, first: int) -> Pair:
    """Both were measured, in the order that `first` says: 0 the statement, 1 the backfill."""
    backfill = Backfill.model_validate({**_BACKFILL, "jobs": jobs})
    times: dict[int, float] = {}
    batches, verify_s = 0, 0.0
    for turn in (first, 1 - first):
        with connect(login, role="bench", run_id="bench") as session:
            prepared(session, rows)
            say("the statement" if turn == 0 else "the backfill")
            start = time.perf_counter()
            if turn == 0:
                session.execute(_BY_HAND)
                times[turn] = time.perf_counter() - start
                continue
            batches = moved(login, backfill).batches
            times[turn] = time.perf_counter() - start
            verdict = verifying.verify(session, backfill, None)
            if verdict.violations:
                raise SystemExit(f"{verdict.violations} rows are wrong: {verdict.sample}")
            verify_s = verdict.seconds
    return Pair(by_hand_s=times[0], backfill_s=times[1], batches=batches, verify_s=verify_s)


def prepared(session: PgSession, rows: int) -> None:
    """The table is new, its statistics and visibility are known, and no checkpoint is due."""
    say(f"filling {rows:,} rows")
    session.execute("DROP TABLE IF EXISTS migrator_backfills, migrator_backfill_ranges")
    session.execute(_TABLE.format(rows=rows))
    session.execute("VACUUM ANALYZE customer")
    session.execute("CHECKPOINT")


def moved(login: Login, backfill: Backfill) -> Moved:
    def session(role: str) -> PgSession:
        return connect(login, role=role, run_id="bench")

    work = Work(login=login, schema=None, run_id="bench", connect=session)
    return mover.move(backfill, work, on_progress=lambda _: None, check=lambda: None)


def to_json(pairs: Sequence[Pair], rows: int, jobs: int) -> dict[str, Any]:
    return {
        "rows": rows,
        "jobs": jobs,
        "cores": os.cpu_count(),
        "pairs": [{**asdict(pair), "ratio": round(pair.ratio, 3)} for pair in pairs],
        "median_ratio": round(statistics.median(pair.ratio for pair in pairs), 3),
        "aim": _AIM,
    }


def table(pairs: Sequence[Pair], rows: int, jobs: int) -> list[str]:
    lines = [
        f"{rows:,} rows, {jobs} workers, {os.cpu_count()} cores",
        "",
        "  statement   backfill   ratio   batches   proof of every row",
    ]
    lines += [
        f"{pair.by_hand_s:9.1f} s {pair.backfill_s:8.1f} s {pair.ratio:7.2f} {pair.batches:9} {pair.verify_s:18.1f} s"
        for pair in pairs
    ]
    median = statistics.median(pair.ratio for pair in pairs)
    return [*lines, "", f"median ratio {median:.2f}; the aim is {_AIM:g} at most{'' if median <= _AIM else ': missed'}"]


if __name__ == "__main__":
    main()
