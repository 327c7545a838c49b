"""Rows that nobody named, or that somebody wrote through the fence: found, never called what they were, never lost."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import psycopg
import pytest

from migrator.config.login import Login
from migrator.runs.record import ChangesetRecord, Outcome, RunRecord, StepName
from migrator.runs.reporter import SilentReporter
from migrator.runs.run import Run
from tests.shop import Shop, conninfo

slow = pytest.mark.slow

FAMILY = """
create table parent (id int primary key);
create table kid (id int primary key, parent int references parent on delete cascade);
insert into parent select generate_series(1, 2);
insert into kid select n, 1 + n % 2 from generate_series(1, 10) as n;
create function tidy() returns void language sql as 'delete from kid where parent = 1';
"""
DELETES = "\ndelete from parent where id = 1;\n--rollback insert into parent values (1)"
CALLS = "\nselect tidy();\n--rollback empty"
CALLS_OUTSIDE = "runInTransaction:false\nselect tidy();\n--rollback empty"
FAILS = "\nselect 1 / 0"
FAILS_EMPTY = "\nselect 1 / 0;\n--rollback empty"
ALTERS = "\nalter table customer add column nickname text;\n--rollback alter table customer drop column nickname"
INDEXES = (
    "runInTransaction:false\ncreate index concurrently by_placed on orders (placed_at);\n"
    "--rollback drop index by_placed"
)
ALTERS_ONCE = "\nalter table customer add column nickname text"
STEPWISE = {"way": "stepwise"}


def kids(shop: Shop) -> object:
    return shop.value("select count(*) from kid")


def beats(shop: Shop) -> object:
    return shop.value("select count(*) from heartbeat")


@pytest.fixture
def family(shop: Shop) -> Shop:
    """A shop with a table whose rows go where those of another are deleted, or a function is called."""
    shop.execute(FAMILY)
    return shop


class At(SilentReporter):
    """Does something once, when a step or a changeset begins."""

    run: Run

    def __init__(self, moment: StepName | int, act: Callable[[Run], None]) -> None:
        self._moment: StepName | int | None = moment
        self._act = act

    def step_started(self, name: StepName, title: str) -> None:
        self._reached(name)

    def changeset(self, changeset: ChangesetRecord, number: int, total: int) -> None:
        if changeset.status == "running":
            self._reached(number)

    def _reached(self, moment: StepName | int) -> None:
        if moment == self._moment:
            self._moment = None
            self._act(self.run)


def run_with(shop: Shop, reporter: At, changelog: str, settings: Mapping[str, object]) -> RunRecord:
    run = shop.open(changelog, settings, reporter=reporter)
    reporter.run = run
    return shop._carried_out(run)


def writes_as(login: Login) -> Callable[[Run], None]:
    """Comes, writes a row and is gone: too short for a look once a second."""

    def write(run: Run) -> None:
        with psycopg.connect(conninfo(login.to(run.database))) as connection:
            connection.execute("insert into heartbeat default values")

    return write


@slow
@pytest.mark.parametrize(
    ("changeset", "proof"),
    [
        (DELETES, "touched"),
        (CALLS, "write_set"),
        (CALLS_OUTSIDE, "touched"),
    ],
)
def test_rows_lost_where_nothing_was_hashed_are_brought_back(family: Shop, changeset: str, proof: str) -> None:
    record = family.run(family.sql(changeset, FAILS), {**STEPWISE, "proof": proof})
    assert (record.outcome, record.exit_code) == (Outcome.RESTORED, 7), (record.error, record.warnings)
    assert kids(family) == 10
    if changeset != CALLS_OUTSIDE:
        assert "public.kid" in record.write_set


@slow
def test_a_surprise_is_not_forgotten_on_the_way_back(family: Shop) -> None:
    record = family.run(family.sql(DELETES), {**STEPWISE, "proof": "touched"})
    assert record.error is not None
    assert "public.kid" in record.error.message
    assert (record.outcome, kids(family)) == (Outcome.RESTORED, 10), record.warnings


@slow
def test_a_loss_that_was_seen_is_never_put_down_to_users(family: Shop) -> None:
    record = family.run(family.sql(DELETES, FAILS_EMPTY), {**STEPWISE, "proof": "full", "maintenance.database": "none"})
    assert (record.outcome, record.exit_code) == (Outcome.HALTED, 9)
    assert not any("what they were" in one for one in record.proof.proven)
    assert any("public.kid" in one for one in record.warnings)


@slow
@pytest.mark.parametrize("changeset", [ALTERS, INDEXES])
def test_users_that_write_what_the_run_did_not_are_no_reason_to_halt(shop: Shop, changeset: str) -> None:
    record = run_with(
        shop,
        At(2, writes_as(shop.app)),
        shop.sql(changeset, FAILS_EMPTY),
        {**STEPWISE, "proof": "write_set", "maintenance.database": "none"},
    )
    assert (record.outcome, record.exit_code) == (Outcome.ROLLED_BACK, 6), record.warnings


@slow
def test_where_users_write_and_the_write_set_is_not_known_nothing_is_called_what_it_was(family: Shop) -> None:
    record = family.run(
        family.sql(CALLS_OUTSIDE, FAILS_EMPTY), {**STEPWISE, "proof": "touched", "maintenance.database": "none"}
    )
    assert (record.outcome, record.exit_code) == (Outcome.HALTED, 9), record.warnings
    assert any("public.kid" in one for one in record.warnings)


@slow
def test_large_objects_that_were_not_hashed_are_brought_back(shop: Shop) -> None:
    shop.execute(
        "select lo_from_bytea(4711, 'a manual'); create function clear() returns void language sql as"
        " 'select lo_unlink(oid) from pg_catalog.pg_largeobject_metadata'"
    )
    before = shop.value("select count(*) from pg_largeobject_metadata")
    record = shop.run(shop.sql("\nselect clear();\n--rollback empty", FAILS), {**STEPWISE, "proof": "touched"})
    assert (record.outcome, record.exit_code) == (Outcome.RESTORED, 7), (record.error, record.warnings)
    assert shop.value("select count(*) from pg_largeobject_metadata") == before


@slow
def test_what_a_killed_worker_had_committed_is_known(family: Shop) -> None:
    def kill(run: Run) -> None:
        assert run.liquibase is not None
        run.liquibase.kill()

    slow_one = "\nselect pg_sleep(60)"
    record = run_with(family, At(2, kill), family.sql(CALLS, slow_one), {**STEPWISE, "proof": "touched"})
    assert (record.outcome, kids(family)) == (Outcome.RESTORED, 10), (record.error, record.warnings)
    assert "public.kid" in record.write_set


@pytest.mark.parametrize("who", ["own", pytest.param("superuser", marks=slow)])
def test_a_short_write_to_the_original_keeps_the_copy_from_being_swapped_in(shop: Shop, who: str) -> None:
    by = shop.login if who == "own" else shop.superuser
    rows, oid = beats(shop), shop.oid()
    record = run_with(shop, At(StepName.VERIFY, writes_as(by)), shop.sql(ALTERS), {"way": "bluegreen"})
    assert (record.outcome, record.exit_code) == (Outcome.ROLLED_BACK, 6), record.warnings
    assert record.error is not None
    assert record.error.code == "fence_breached"
    assert "public.heartbeat" in record.error.message
    assert any("public.heartbeat" in one for one in record.proof.not_proven)
    assert any("the fence does not hold" in one and shop.login.user in one for one in record.proof.not_proven)
    assert (shop.oid(), beats(shop)) == (oid, rows + 1)  # type: ignore[operator]


@slow
@pytest.mark.parametrize("way", ["atomic", "bluegreen"])
def test_a_short_write_before_the_change_is_a_breach(shop: Shop, way: str) -> None:
    rows = beats(shop)
    record = run_with(shop, At(StepName.BACK_UP, writes_as(shop.login)), shop.sql(ALTERS), {"way": way})
    assert (record.outcome, record.exit_code) == (Outcome.FAILED_BEFORE, 5), (record.error, record.warnings)
    assert record.error is not None
    assert record.error.code == "fence_breached"
    assert "public.heartbeat" in record.error.message
    assert beats(shop) == rows + 1  # type: ignore[operator]


@slow
@pytest.mark.parametrize("changeset", [ALTERS_ONCE, CALLS_OUTSIDE])
def test_nothing_is_restored_over_a_short_write_to_a_table_that_the_run_did_not_write(
    family: Shop, changeset: str
) -> None:
    """Where the write set is not known, what nobody named may be the migration's: it is restored, and said."""
    rows, oid = beats(family), family.oid()
    record = run_with(
        family,
        At(StepName.APPLY, writes_as(family.login)),
        family.sql(changeset, FAILS),
        {**STEPWISE, "proof": "touched"},
    )
    said = [one for one in (*record.proof.not_proven, *record.warnings) if "public.heartbeat" in one]
    assert said, record.warnings
    if changeset == ALTERS_ONCE:
        assert (record.outcome, record.exit_code) == (Outcome.HALTED, 9), record.warnings
        assert (family.oid(), beats(family)) == (oid, rows + 1)  # type: ignore[operator]
    else:
        assert (record.outcome, record.exit_code) == (Outcome.RESTORED, 7), record.warnings
        assert any("pg_dump" in one and f"mig_{record.run_id}_old" in one for one in said)


@slow
def test_nothing_is_swapped_in_over_a_write_that_came_during_the_restore(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    from migrator.runs import stores

    restore, rows, oid = stores.restore, beats(shop), shop.oid()

    def restores(run: Run, *arguments: object, **named: object) -> object:
        writes_as(shop.login)(run)
        return restore(run, *arguments, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(stores, "restore", restores)
    record = shop.run(shop.sql(ALTERS_ONCE, FAILS), STEPWISE)
    assert (record.outcome, record.exit_code) == (Outcome.HALTED, 9), record.warnings
    assert any("public.heartbeat" in one for one in record.warnings)
    assert (shop.oid(), beats(shop)) == (oid, rows + 1)  # type: ignore[operator]


def test_another_session_of_the_runs_own_login_refuses_an_offline_run(shop: Shop) -> None:
    with psycopg.connect(conninfo(shop.login), application_name="the books") as connection:
        record = shop.run(shop.sql(ALTERS))
        assert (record.outcome, record.exit_code) == (Outcome.REFUSED, 3), record.error
        assert record.error is not None
        assert "the books" in record.error.message
        assert f"pid {connection.info.backend_pid}" in record.error.message
        assert "login of its own" in (record.error.hint or "")


@slow
@pytest.mark.parametrize("proof", ["write_set", "full"])
def test_a_restore_says_which_rows_were_not_compared(family: Shop, proof: str) -> None:
    record = family.run(family.sql("\nupdate kid set parent = 2", FAILS), {**STEPWISE, "proof": proof})
    assert record.exit_code == 7, (record.error, record.warnings)
    [sentence] = [one for one in record.proof.proven if "found equal to the state before" in one]
    assert "0 tables" not in sentence
    uncompared = [one for one in record.proof.not_proven if "not hashed" in one and "public." in one]
    assert bool(uncompared) is (proof != "full")
    assert any("public.kid" in one and "behind the fence" in one for one in record.proof.not_proven)


@slow
def test_a_fallback_after_a_rolled_back_transaction_is_not_taken_for_somebody_elses_write(shop: Shop) -> None:
    record = shop.run(
        shop.sql(
            "\nupdate orders set total = total + 1",
            "\nalter type customer_tier add value 'gilt'",
            "\nupdate customer set tier = 'gilt' where id = 1",
        ),
        {"proof": "full"},
    )
    assert (record.error, record.outcome) == (None, Outcome.MIGRATED)
    assert record.way == "stepwise"


@slow
def test_an_unwritten_table_need_not_be_hashed_for_a_way_back(shop: Shop) -> None:
    before = shop.dump()
    record = shop.run(shop.sql(ALTERS, FAILS), {**STEPWISE, "proof": "write_set"})
    assert (record.outcome, record.exit_code) == (Outcome.ROLLED_BACK, 6), record.warnings
    assert any("counters" in one for one in record.proof.proven)
    assert not any("0 tables" in one for one in record.proof.proven)
    assert shop.dump() == before


@slow
def test_rows_that_a_function_takes_outside_a_transaction_are_a_surprise(family: Shop) -> None:
    record = family.run(family.sql(CALLS_OUTSIDE), {**STEPWISE, "proof": "touched"})
    assert record.surprises == ["public.kid"]
    assert (record.outcome, kids(family)) == (Outcome.RESTORED, 10), record.warnings


@slow
def test_a_short_write_that_a_success_leaves_in_place_is_told(shop: Shop) -> None:
    rows = beats(shop)
    record = run_with(
        shop, At(StepName.APPLY, writes_as(shop.login)), shop.sql(ALTERS), STEPWISE | {"proof": "touched"}
    )
    assert (record.error, record.outcome) == (None, Outcome.MIGRATED)
    assert any("public.heartbeat" in one for one in record.warnings)
    assert any("public.heartbeat" in one for one in record.proof.not_proven)
    assert beats(shop) == rows + 1  # type: ignore[operator]


@slow
def test_a_first_changeset_that_was_rolled_back_whole_needs_no_restore(shop: Shop) -> None:
    before = shop.dump()
    record = shop.run(
        shop.sql("\nupdate orders set total = total + 1; select 1 / 0"), {**STEPWISE, "proof": "write_set"}
    )
    assert (record.outcome, record.exit_code) == (Outcome.ROLLED_BACK, 6), record.warnings
    assert any("public.orders" in one for one in record.proof.not_proven)
    assert shop.dump() == before
