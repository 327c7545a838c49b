"""The blue/green way: the copy is migrated, the original stands by, and the names are swapped after the proof."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from migrator.config.login import Login
from migrator.runs.record import Outcome, RunRecord, StepName, Way
from tests.acceptance.stage import Stage, crash_template, staged
from tests.conftest import Server
from tests.shop import Shop

__all__ = ["crash_template"]

slow = pytest.mark.slow

CONCURRENTLY = "runInTransaction:false\ncreate index concurrently order_by_placed_at on orders (placed_at);"
ENUM_AT_ONCE = (
    "runInTransaction:false\nalter type customer_tier add value if not exists 'diamond';",
    "\nupdate customer set tier = 'diamond' where id = 1;",
)
AUTO = {"bluegreen": True}
ASKED_FOR = {"way": "bluegreen"}


def run_databases(shop: Shop, record: RunRecord) -> dict[str, int]:
    found = shop.query(f"select datname, oid from pg_database where datname like 'mig_{record.run_id}%'")
    return {str(name).rsplit("_", 1)[1]: int(str(oid)) for name, oid in found}


def steps(record: RunRecord) -> list[StepName]:
    return [step.name for step in record.steps if step.status == "done"]


def test_what_cannot_be_atomic_is_applied_to_a_copy_that_takes_the_name(shop: Shop) -> None:
    original = shop.oid()
    record = shop.run(shop.sql(CONCURRENTLY, *ENUM_AT_ONCE), AUTO)
    assert (record.error, record.outcome, record.way) == (None, Outcome.MIGRATED, Way.BLUEGREEN)
    assert "runInTransaction=false" in (record.way_reason or "")
    assert shop.oid() != original
    assert run_databases(shop, record) == {"old": original}
    assert any(f"mig_{record.run_id}_old" in kept for kept in record.kept)
    assert shop.value("select indisvalid from pg_index where indexrelid = 'order_by_placed_at'::regclass") is True
    assert shop.value("select tier from customer where id = 1") == "diamond"
    assert steps(record)[2:] == ["maintain", "copy", "back_up", "apply", "verify", "swap", "lift"]


def test_failure_after_what_no_rollback_undoes_costs_nothing(shop: Shop) -> None:
    before, original = shop.dump(), shop.oid()
    record = shop.run(shop.sql(CONCURRENTLY, *ENUM_AT_ONCE, "\nselect 1 / 0;"), AUTO)
    assert (record.outcome, record.way, record.exit_code) == (Outcome.ROLLED_BACK, Way.BLUEGREEN, 6)
    assert record.error is not None
    assert record.error.sqlstate == "22012"
    assert shop.oid() == original
    assert run_databases(shop, record) == {}
    assert shop.dump() == before
    assert any(f"OID {original}" in proven for proven in record.proof.proven)


@pytest.fixture
def stage(server: Server, crash_template: Login, tmp_path: Path) -> Iterator[Stage]:
    with staged(server, crash_template, tmp_path) as made:
        yield made


def killed(stage: Stage, moment: str, changelog: str = "good.sql", *, deed: str = "kill") -> str:
    run = stage.killed(moment, "run", changelog, "--way", "bluegreen", deed=deed)
    with stage.server.session() as admin:
        named = admin.rows(f"select oid from pg_database where datname = '{stage.database}'")
    assert len(named) == 1
    stage.assert_blocked(run)
    return run


@pytest.mark.parametrize(
    ("moment", "deed"),
    [
        pytest.param("before:migrator.runs.bluegreen:databases.copy", "kill", id="before the copy", marks=slow),
        pytest.param("before:migrator.postgres.databases:_create", "kill-soon", id="while it is copied"),
        pytest.param("before:migrator.postgres.databases:_open_for_us", "kill", id="copied, nobody knows"),
        pytest.param("ended:copy", "kill", id="copied", marks=slow),
        pytest.param("ended:back_up", "kill", id="while it is dumped", marks=slow),
        pytest.param("changeset:3:running", "kill", id="while it is migrated"),
        pytest.param("ended:verify", "kill", id="verified", marks=slow),
        pytest.param("before:migrator.postgres.databases:_rename", "kill", id="closed for the swap"),
    ],
)
def test_run_killed_before_the_swap_begins_again(stage: Stage, moment: str, deed: str) -> None:
    run = killed(stage, moment, deed=deed)
    answer = stage.migrator("resume", run)
    assert answer.code == 0, answer.err
    stage.assert_migrated(kept=("old",))


@pytest.mark.parametrize(
    "moment",
    [
        pytest.param("after:migrator.runs.bluegreen:databases.swap", id="nobody knows"),
        pytest.param("ended:swap", marks=slow),
        pytest.param("after:migrator.runs.steps.maintain:fence.take_down", id="the fence is down", marks=slow),
    ],
)
@pytest.mark.parametrize("back", [False, pytest.param(True, marks=slow)])
def test_run_killed_after_the_swap_is_migrated(stage: Stage, moment: str, back: bool) -> None:
    run = killed(stage, moment)
    answer = stage.migrator("resume", run, *(["--back"] if back else []))
    assert answer.code == 0, answer.err
    stage.assert_migrated(kept=("old",))


@pytest.mark.parametrize(
    ("moment", "code"),
    [
        pytest.param("before:migrator.postgres.databases:_open_for_us", 5, id="copied, nobody knows"),
        pytest.param("changeset:3:running", 6, id="while it is migrated"),
        pytest.param("before:migrator.postgres.databases:_rename", 6, id="closed for the swap"),
        pytest.param("after:migrator.runs.bluegreen:databases.swap", 0, id="swapped"),
    ],
)
@pytest.mark.parametrize("journal", ["kept", "deleted"])
def test_killed_run_is_recovered_by_its_environment(stage: Stage, moment: str, code: int, journal: str) -> None:
    killed(stage, moment)
    if journal == "deleted":
        for file in (stage.folder / ".migrator").glob("journal.db*"):
            file.unlink()
    answer = stage.migrator("recover")
    assert answer.code == code, answer.err
    if code == 0:
        stage.assert_migrated(kept=("old",))
    else:
        stage.assert_as_it_was()


@pytest.mark.parametrize(
    "moment", ["title:take the changes back", "before:migrator.runs.ladder:bluegreen.prove_untouched"]
)
def test_run_killed_on_its_way_back_is_as_it_was(stage: Stage, moment: str) -> None:
    run = killed(stage, moment, "bad-without-rollback.sql")
    answer = stage.migrator("resume", run)
    assert answer.code == 6, answer.err
    stage.assert_as_it_was()
