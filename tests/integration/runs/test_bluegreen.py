"""The blue/green way: the copy is migrated, the original stands by, and the names are swapped after the proof."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from migrator.backups import Made, Source
from migrator.backups.dump import Dump
from migrator.backups.store.local import LocalStore
from migrator.config.login import Login
from migrator.errors import BackupFailed
from migrator.postgres import disk, fence
from migrator.postgres.connect import connect
from migrator.postgres.session import Session
from migrator.runs import byhand, since, swap_back
from migrator.runs.journal import Journal
from migrator.runs.record import Outcome, RunRecord, StepName, Way
from migrator.runs.run import Run
from tests import shop as shops
from tests.acceptance.stage import Stage, crash_template, staged
from tests.conftest import Server
from tests.integration.runs.conftest import Template
from tests.shop import ENVIRONMENT, Shop, conninfo

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


def test_all_that_belongs_to_a_database_goes_with_its_name(shop: Shop) -> None:
    name = f'"{shop.login.database}"'
    shop.execute(
        f"comment on database {name} is 'the books'; alter database {name} set work_mem = '5MB';"
        f"alter role migrator in database {name} set statement_timeout = '1h';"
        f"revoke connect on database {name} from public; grant connect, temporary on database {name} to app;"
        f"alter database {name} connection limit 40",
        shop.superuser,
    )
    shop.execute(
        "alter default privileges grant select on tables to app; select lo_from_bytea(4711, 'a manual');"
        "grant select on large object 4711 to app; create sequence tickets start 5; select nextval('tickets');"
        "create publication news for table orders; create unlogged table scratch as select 1 as n; analyze"
    )
    before, statistics = shop.dump(), shop.value("select sum(reltuples)::bigint from pg_class where reltuples > 0")
    record = shop.run(shop.sql(CONCURRENTLY), ASKED_FOR)  # its properties are compared by the shop
    assert (record.error, record.outcome, record.way) == (None, Outcome.MIGRATED, Way.BLUEGREEN)
    gone = set(before) - set(shop.dump())
    assert all("databasechangelog" in line or "\t" in line for line in gone), gone
    assert shop.value("select last_value from tickets") == 5
    assert shop.value("select convert_from(lo_get(4711), 'UTF8')") == "a manual"
    assert shop.value("select count(*) from scratch") == 1
    assert shop.value("select sum(reltuples)::bigint from pg_class where reltuples > 0") >= statistics  # type: ignore[operator]
    with shop.server.session() as admin:
        [(comment,)] = admin.rows(f"select shobj_description({shop.oid()}, 'pg_database')")
    assert comment == "the books"


def test_the_dump_of_the_original_is_made_meanwhile(shop: Shop) -> None:
    record = shop.run(shop.sql(CONCURRENTLY), ASKED_FOR)
    assert record.outcome is Outcome.MIGRATED, record.error
    [backup] = record.backups
    found = LocalStore(Path(backup.location).parent).verify(backup.id)
    assert "order_by_placed_at" not in str(found.schema_objects)
    notes = {step.name: step.note or "" for step in record.steps}
    assert "pg_dump works on" in notes[StepName.BACK_UP]
    assert "dump of" in notes[StepName.SWAP]


@pytest.mark.parametrize(("late", "exit_code"), [(False, 5), (True, 6)])
def test_a_dump_that_fails_leaves_the_original_in_place(
    shop: Shop, monkeypatch: pytest.MonkeyPatch, late: bool, exit_code: int
) -> None:
    before, original, verified = shop.dump(), shop.oid(), threading.Event()
    remember = since.remember

    def remembers(run: Run, session: Session) -> None:
        remember(run, session)
        verified.set()

    def fails(*_: object) -> Made:
        assert not late or verified.wait(60)
        raise BackupFailed("the disk is full")

    monkeypatch.setattr(since, "remember", remembers)
    monkeypatch.setattr(Dump, "create", fails)
    record = shop.run(shop.sql(CONCURRENTLY), ASKED_FOR)
    assert record.exit_code == exit_code
    assert record.error is not None
    assert record.error.message == "the disk is full"
    assert (shop.oid(), run_databases(shop, record), shop.dump()) == (original, {}, before)


def test_a_failed_migration_does_not_wait_for_the_dump(shop: Shop) -> None:
    before = shop.dump()
    started = time.monotonic()
    create = Dump.create

    def waits(self: Dump, source: Source, folder: Path) -> Made:
        with connect(source.login, role="pg_dump", run_id=source.run_id) as session:
            session.execute("select pg_sleep(600)")
        return create(self, source, folder)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Dump, "create", waits)
        record = shop.run(shop.sql(CONCURRENTLY, "\nselect 1 / 0"), ASKED_FOR)
    assert (record.outcome, record.exit_code) == (Outcome.ROLLED_BACK, 6)
    assert time.monotonic() - started < 120
    assert shop.dump() == before
    assert record.backups == []


def test_auto_falls_back_to_the_copy_where_one_transaction_is_not_possible(shop: Shop) -> None:
    original = shop.oid()
    record = shop.run(shop.sample("broken/enum-at-once.sql"), AUTO)
    assert (record.error, record.outcome, record.way) == (None, Outcome.MIGRATED, Way.BLUEGREEN)
    assert "not possible in one transaction" in (record.way_reason or "")
    assert shop.value("select tier from customer where id = 1") == "platinum"
    assert run_databases(shop, record) == {"old": original}


def test_a_login_that_is_only_a_member_of_the_owner_can_do_it(shop: Shop) -> None:
    name = f'"{shop.login.database}"'
    shop.execute("create role keeper; grant keeper to migrator", shop.superuser)
    shop.execute(f"alter database {name} owner to keeper", shop.superuser)
    record = shop.run(shop.sql(CONCURRENTLY), ASKED_FOR)
    try:
        assert (record.error, record.outcome) == (None, Outcome.MIGRATED)
        assert len(run_databases(shop, record)) == 1
    finally:
        for database in (name, *(f'"mig_{record.run_id}_{kind}"' for kind in run_databases(shop, record))):
            with psycopg.connect(conninfo(shop.server.admin), autocommit=True) as admin:
                admin.execute(f"alter database {database} owner to migrator".encode())
        shop.execute("drop role keeper", shop.superuser)


@pytest.mark.slow
def test_what_a_swap_would_break_is_refused_and_left_to_another_way(shop: Shop) -> None:
    shop.execute("select pg_create_logical_replication_slot('feed', 'pgoutput')", shop.superuser)
    try:
        refused = shop.run(shop.sql(CONCURRENTLY), ASKED_FOR)
        assert refused.outcome is Outcome.REFUSED
        assert refused.error is not None
        assert 'logical slot "feed" would stay behind' in refused.error.message
        other = shop.run(
            shop.sql(f"{CONCURRENTLY}\n--rollback drop index order_by_placed_at"), {**AUTO, "backup.restore": "never"}
        )
        assert (other.outcome, other.way) == (Outcome.MIGRATED, Way.STEPWISE)
        assert "feed" in (other.way_reason or "")
    finally:
        shop.execute("select pg_drop_replication_slot('feed')", shop.superuser)


@pytest.mark.parametrize("mode", ["read-only", "none"])
def test_a_copy_is_not_migrated_while_others_write(shop: Shop, mode: str) -> None:
    record = shop.run(shop.sql(CONCURRENTLY), {**ASKED_FOR, "maintenance.database": mode})
    assert record.outcome is Outcome.REFUSED
    assert record.error is not None
    assert f"maintenance.database is {mode}" in record.error.message


@pytest.mark.parametrize(("free", "said"), [(1_000_000, "1 MB free"), (None, "is not known")])
@pytest.mark.slow
def test_room_on_the_server_is_looked_at(
    shop: Shop, monkeypatch: pytest.MonkeyPatch, free: int | None, said: str
) -> None:
    monkeypatch.setattr(disk, "free_bytes", lambda *_, **__: free)
    text = f"{CONCURRENTLY}\n--rollback drop index order_by_placed_at"
    left_to_itself = shop.run(shop.sql(text), AUTO)
    assert (left_to_itself.way, left_to_itself.outcome) == (Way.STEPWISE, Outcome.MIGRATED)
    assert said in (left_to_itself.way_reason or "")
    asked_for = shop.run(shop.sql(text.replace("order_by_placed_at", "another"), name="b.sql"), ASKED_FOR)
    assert asked_for.outcome is (Outcome.MIGRATED if free is None else Outcome.REFUSED), asked_for.error


def taken_back(shop: Shop, record: RunRecord, *, accept_loss: bool = False) -> RunRecord:
    config = shop.config()
    journal = Journal.open(config.journal.url, config.base)
    run = byhand.opened(config, config.environment(ENVIRONMENT), doing=record.changelog, journal=journal)
    assert swap_back.can_be(journal.get(record.run_id))
    swap_back.swap_back(run, record.run_id, accept_loss=accept_loss)
    return run.record


def test_a_run_is_taken_back_by_swapping_the_names_again(shop: Shop) -> None:
    before, original = shop.dump(), shop.oid()
    record = shop.run(shop.sql(CONCURRENTLY, *ENUM_AT_ONCE), AUTO)
    migrated = shop.oid()
    shop.app_writes()  # and takes it back: nothing of it stays
    back = taken_back(shop, record)
    assert (back.error, back.outcome, back.exit_code) == (None, Outcome.BROUGHT_BACK, 0)
    assert shop.oid() == original
    assert shop.dump() == before
    assert run_databases(shop, record) == {}
    assert run_databases(shop, back) == {"old": migrated}
    assert any(one.startswith("Nobody has written since") for one in back.proof.proven)
    shop.app_writes()
    again = taken_back(shop, record)
    assert (again.outcome, again.exit_code) == (Outcome.REFUSED, 3)
    assert again.error is not None
    assert "cannot be swapped back" in again.error.message


def test_what_was_written_since_is_named_and_not_thrown_away(shop: Shop) -> None:
    original = shop.oid()
    record = shop.run(shop.sql(CONCURRENTLY), AUTO)
    migrated = shop.oid()
    shop.execute(
        "insert into heartbeat default values; update product set price = price + 1 where id = 1", shop.superuser
    )
    refused = taken_back(shop, record)
    assert (refused.outcome, refused.exit_code) == (Outcome.REFUSED, 3)
    assert refused.error is not None
    assert refused.error.code == "written_since"
    assert "public.heartbeat has 1 rows (had 0 when the run ended)" in refused.error.message
    assert "public.product has" in refused.error.message
    assert StepName.MAINTAIN not in steps(refused)
    assert shop.oid() == migrated
    shop.app_writes()
    accepted = taken_back(shop, record, accept_loss=True)
    assert (accepted.outcome, accepted.exit_code) == (Outcome.BROUGHT_BACK, 0)
    assert shop.oid() == original
    assert any("Accepted as lost" in warning for warning in accepted.warnings)
    assert run_databases(shop, accepted) == {"old": migrated}
    shop.app_writes()


def test_somebody_who_writes_before_the_fence_stands_keeps_the_migrated_database(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = shop.run(shop.sql(CONCURRENTLY), AUTO)
    migrated, put_up = shop.oid(), fence.put_up

    def late(*args: Any, **kwargs: Any) -> Any:
        shop.execute("insert into heartbeat default values", shop.superuser)
        return put_up(*args, **kwargs)

    monkeypatch.setattr(fence, "put_up", late)
    back = taken_back(shop, record)
    assert (back.outcome, back.exit_code) == (Outcome.FAILED_BEFORE, 5)
    assert back.error is not None
    assert back.error.code == "written_since"
    assert shop.oid() == migrated
    shop.app_writes()


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
        pytest.param("before:migrator.postgres.databases:_create", "kill-soon", id="while it is copied", marks=slow),
        pytest.param("before:migrator.postgres.databases:_open_for_us", "kill", id="copied, nobody knows", marks=slow),
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
@pytest.mark.parametrize("journal", [pytest.param("kept", marks=slow), "deleted"])
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


_TAKES_BACK = """
import os, signal, sys
from pathlib import Path
from migrator.config.load import load
from migrator.postgres import databases
from migrator.runs import byhand, swap_back
from migrator.runs.journal import Journal

folder, run_id, moment = sys.argv[1:]
config = load(Path(folder) / "migrator.toml", os.environ, {})
journal = Journal.open(config.journal.url, config.base)
run = byhand.opened(config, config.environment("crash"), doing="good.sql", journal=journal)
swap = databases.swap

def dies(*args, **kwargs):
    if moment == "after":
        swap(*args, **kwargs)
    os.kill(os.getpid(), signal.SIGKILL)

databases.swap = dies
print(run.id, flush=True)
swap_back.swap_back(run, run_id)
"""


@pytest.mark.parametrize("moment", ["before", "after"])
@pytest.mark.parametrize("journal", ["kept", "deleted"])
def test_swap_back_that_is_killed_around_the_swap_is_ended(stage: Stage, moment: str, journal: str) -> None:
    done = stage.migrator("run", "good.sql", "--way", "bluegreen", "--json")
    assert done.code == 0, done.err
    migrated = stage.now().oid
    argv = [sys.executable, "-c", _TAKES_BACK, str(stage.folder), done.json["run_id"], moment]
    killed = subprocess.run(argv, capture_output=True, text=True, timeout=120, check=False)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    if journal == "deleted":
        for file in (stage.folder / ".migrator").glob("journal.db*"):
            file.unlink()
        answer = stage.migrator("recover")
    else:
        answer = stage.migrator("resume", killed.stdout.strip())
    assert answer.code == (5 if (moment, journal) == ("before", "deleted") else 0), answer.err
    assert not stage.is_fenced()
    original = stage.properties.oid
    assert stage.now().oid == (migrated if answer.code == 5 else original)
    assert [name.rsplit("_", 1)[1] for name in stage.databases()] == ["old"]
    if answer.code == 0:
        assert stage.picture() == stage.pictured


@pytest.mark.slow
def test_a_run_on_16_swaps_too(server16: Server, template: Template, tmp_path: Path) -> None:
    with shops.database(server16, template=template(server16)) as login:
        shop = Shop(server=server16, login=login, folder=tmp_path)
        original = shop.oid()
        record = shop.run(shop.sql(CONCURRENTLY, *ENUM_AT_ONCE), AUTO)
        assert (record.error, record.outcome, record.way) == (None, Outcome.MIGRATED, Way.BLUEGREEN)
        assert run_databases(shop, record) == {"old": original}
