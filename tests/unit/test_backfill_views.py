"""What a person reads of a backfill fits the terminal and ends with what to type next."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from migrator.backfills.capture import Captured
from migrator.backfills.definition import Backfill
from migrator.backfills.inspection import Looked, Problem
from migrator.backfills.ledger import Entry, State
from migrator.backfills.lock import AtWork
from migrator.backfills.mover import Moved, Progress
from migrator.backfills.throttle import Lag
from migrator.backfills.verifying import Verdict
from migrator.errors import Place
from migrator.reports import backfills as views
from migrator.runs.byhand.backfilling import Done, Planned, Standing

BEGUN = datetime(2026, 11, 23, 12, tzinfo=UTC)
PROGRESS = Progress(
    name="split-name", rows=1_200_000, total=2_000_000, rate=45_000.4, eta_s=17.8, lag_bytes=None, waiting_for=None
)
ENTRY = Entry(
    name="split-name",
    checksum="1:abc",
    table="public.member",
    state=State.RUNNING,
    run_id="r",
    rows_done=500,
    batches=5,
    total=2000,
    started_at=BEGUN,
)
CAPTURED = Captured(
    backfill="split-name", checksum="1:abc", table="public.member", function="f", back=False, complete=True
)
STANDING = Standing(entry=ENTRY, at_work=None, captured=CAPTURED, lag=Lag(wal=1), now=BEGUN + timedelta(seconds=10))
AT_WORK = AtWork(pid=7, application_name="mig:r:backfill")
BACKFILL = Backfill.model_validate(
    {
        "name": "split-name",
        "after": "1::ann",
        "table": "member",
        "key": ["id"],
        "statement": "update member m\nset a = 1 from batch b where m.id = b.id",
        "verify": "select 1 where false",
        "capture": "trigger",
        "file": Path("c/split-name.backfill.toml"),
    }
)


def test_progress_is_one_line_of_a_terminal() -> None:
    line = views.progress(PROGRESS)
    assert line == "split-name  1,200,000 of 2,000,000 rows (60%), 45,000 rows/s, 17.8 s left"
    assert len(line) <= 80
    assert "lag 3.2 MB" in views.progress(replace(PROGRESS, lag_bytes=3_200_000))
    waiting = views.progress(replace(PROGRESS, waiting_for="a person: paused by ann on laptop"))
    assert waiting.endswith("waiting for a person: paused by ann on laptop")
    assert views.progress(replace(PROGRESS, total=None, rate=0.0, eta_s=None)) == "split-name  1,200,000 rows"


@pytest.mark.parametrize(
    ("state", "at_work", "captured", "following"),
    [
        (State.RUNNING, None, CAPTURED, "resume"),
        (State.RUNNING, AT_WORK, CAPTURED, None),
        (State.PAUSED, AT_WORK, CAPTURED, "resume"),
        (State.MOVED, None, CAPTURED, "verify"),
        (State.VERIFIED, None, CAPTURED, "finish"),
        (State.VERIFIED, None, None, None),
        (State.UNDOING, None, CAPTURED, "undo"),
        (State.UNDONE, None, None, None),
    ],
)
def test_status_says_what_to_type_next(
    state: State, at_work: AtWork | None, captured: Captured | None, following: str | None
) -> None:
    standing = replace(STANDING, entry=replace(ENTRY, state=state), at_work=at_work, captured=captured)
    command = None if following is None else f"migrator backfill {following} split-name --env prod"
    assert views.next_command(standing, env="prod") == command
    assert views.status_json(standing, env="prod")["next_command"] == command
    text = "\n".join(views.status([standing], env="prod"))
    assert (f"next: {command}" in text) is (command is not None)


def test_status_tells_rate_and_what_is_not_caught() -> None:
    found = views.status_json(STANDING, env="prod")
    assert (found["rate"], found["eta_s"]) == (50.0, 30.0)
    text = "\n".join(views.status([STANDING], env="prod"))
    assert "running, and nobody is at work on it" in text
    assert "500 of 2,000 rows (25%) of public.member" in text
    broken = replace(STANDING, captured=replace(CAPTURED, complete=False), lag=Lag(wal=1, hidden=True))
    text = "\n".join(views.status([broken], env="prod"))
    assert "NOT caught" in text
    assert "replication lag is unknown: this login is not in pg_monitor" in text
    assert views.status([], env="prod") == ["no backfill has begun in this database"]


def test_plan_tells_what_is_in_the_way() -> None:
    looked = Looked(problems=(), table=None, rows=20_000)
    planned = Planned(backfill=BACKFILL, has_come=True, looked=looked, entry=None)
    text = "\n".join(views.plan(planned, env="prod"))
    assert "after     1::ann, which has run here" in text
    assert "member, about 20,000 rows, by id" in text
    assert "none but the backup: there is no undo" in text
    assert "next: migrator backfill run split-name --env prod" in text
    assert max(map(len, text.splitlines())) <= 80
    problem = Problem(code="key_nullable", message="f: key is nullable", hint="Make it NOT NULL.", place=Place())
    planned = replace(planned, looked=replace(looked, problems=(problem,)))
    lines = views.plan(planned, env="prod")
    assert lines[-2:] == ["  refused: f: key is nullable", "    Make it NOT NULL."]
    assert views.plan_json(planned)["problems"] == [
        {"code": "key_nullable", "message": "f: key is nullable", "hint": "Make it NOT NULL."}
    ]


def test_result_tells_violations_before_it_tells_what_to_do() -> None:
    moved = Moved(
        name="split-name",
        rows=2000,
        batches=4,
        duration_s=2.0,
        waited_s=0.5,
        max_lag_bytes=1000,
        written=frozenset({"public.member"}),
        writes=1990,
        tells_nothing=True,
    )
    clean = Verdict(violations=0, sample=(), seconds=0.1)
    done = Done(backfill=BACKFILL, moved=moved, verdict=clean, captured=True)
    assert views.done(done, env="prod") == [
        "split-name: 2,000 rows moved in 2.0 s (4 batches, 1,000 rows/s)",
        "  that wrote 1,990 rows",
        "  held back for 0.5 s of it",
        "  largest replication lag: 1.0 kB",
        "split-name: verified, no violation (0.1 s)",
        "  warning: verify found nothing before the first batch either: it cannot tell",
        "    moved rows from unmoved ones, or they were all right already",
        "  its trigger stays on member until the contract, or until:",
        "  migrator backfill finish split-name --env prod",
    ]
    wrong = Verdict(violations=11, sample=("1, Ada", "2, Bo"), seconds=0.1)
    assert views.done(replace(done, moved=None, verdict=wrong), env="prod") == [
        "split-name: nothing was left",
        "split-name: 11 violations (0.1 s), such as",
        "  1, Ada",
        "  2, Bo",
    ]
