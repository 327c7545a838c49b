"""The hard dry run: what a changelog does is told with its numbers, and nothing of it is left."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from psycopg import sql

from migrator.config.login import Login
from migrator.errors import Locked, Refused
from migrator.postgres import catalog, databases, row_fingerprint, schema_fingerprint, sequences
from migrator.postgres.connect import PgSession
from migrator.postgres.session import Session
from migrator.rehearsals.dry_run import Wish, dry_run
from migrator.rehearsals.dry_run_record import DryRunRecord, TriedChangeset
from migrator.rehearsals.origin import Origin
from migrator.rehearsals.places import Place
from migrator.reports import dry_run as report
from migrator.runs import opening
from migrator.runs.reporter import SilentReporter
from migrator.runs.run import Options, Run
from tests.conftest import Server
from tests.shop import ENVIRONMENT, Shop

TABLES = """
create table customer (id int primary key, name varchar(20));
create table orders (id int generated always as identity primary key, total int,
  customer_id int references customer on delete cascade);
create table untouched (id int primary key);
insert into customer select g, 'c' || g from generate_series(1, 100) g;
insert into orders (total, customer_id) select g, 1 + g % 100 from generate_series(1, {rows}) g;
insert into untouched select g from generate_series(1, 10) g;
analyze;
"""
CHANGES = (
    "\nalter table orders alter column total type bigint;",
    "\ndelete from customer where id <= 10;",
    "\ncreate table extra (id int primary key);\ninsert into orders (total, customer_id) values (1, 50);",
)


@pytest.fixture
def shop(server: Server, database: Login, tmp_path: Path) -> Shop:
    with server.session(database) as session:
        session.execute(TABLES.format(rows=1000))
    return Shop(server=server, login=database, folder=tmp_path)


def opened(shop: Shop, changelog: str, **settings: object) -> Run:
    config = shop.config({key.replace("__", "."): value for key, value in settings.items()})
    return opening.new(
        config,
        config.environment(ENVIRONMENT),
        Options(changelog=changelog, rehearsal=True),
        reporter=SilentReporter(),
    )


def tried(shop: Shop, changelog: str, on: str, place: Place | None = None, **settings: object) -> DryRunRecord:
    """The dry run has ended, and the target and its server are what they were."""
    origin = None if on == "target" else Origin.parse(on)
    before = witnessed(shop, with_sequences=origin is not None)
    record = dry_run(opened(shop, changelog, **settings), Wish(origin=origin, place=place))
    assert witnessed(shop, with_sequences=origin is not None) == before
    return record


def witnessed(shop: Shop, *, with_sequences: bool) -> object:
    """Schema, rows, sequences (which move on the target), locks of ours and databases: by the superuser."""
    with shop.server.session(shop.server.admin.to(shop.login.database)) as session:
        tables = catalog.tables(session)
        return (
            schema_fingerprint.of_schema(session).objects,
            {name: (one.rows, one.digest) for name, one in row_fingerprint.of_tables([session], tables).items()},
            sequences.read(session) if with_sequences else None,
            session.rows("select application_name from pg_stat_activity where application_name ~ '^mig:2'"),
            databases.run_databases(session),
        )


def by_id(record: DryRunRecord) -> dict[str, TriedChangeset]:
    return {one.id: one for one in record.changesets}


@pytest.mark.parametrize("on", [pytest.param("clone", marks=pytest.mark.slow), "target"])
def test_each_changeset_is_told_with_its_numbers_and_nothing_remains(shop: Shop, on: str) -> None:
    record = tried(shop, shop.sql(*CHANGES), on)
    assert (record.passed, record.exit_code, record.held) == (True, 0, True)
    found = by_id(record)
    assert [one.status for one in record.changesets] == ["executed"] * 3
    [rewritten] = found["1"].rewritten
    assert (rewritten.table, rewritten.target_rows) == ("public.orders", 1000)
    [lock] = [lock for lock in found["1"].locks if lock.mode == "AccessExclusiveLock"]
    assert (lock.relation, lock.keeps_out) == ("public.orders", "everybody")
    assert lock.held_s is not None
    cascaded = {rows.table: (rows.deleted, rows.named) for rows in found["2"].rows}
    assert cascaded == {"public.customer": (10, True), "public.orders": (100, False)}
    assert found["3"].created == ["public.extra"]
    assert all(one.duration_s is not None and one.wal_bytes is not None for one in record.changesets)
    text = report.as_text(record)
    assert "public.orders: 100 deleted (the changeset does not name it" in text
    assert max(map(len, text.splitlines())) <= 80
    assert "ACCESS EXCLUSIVE" in report.as_markdown(record).replace("\\", "")
    if on == "target":
        assert any("aborted" in one for one in record.proven)
        assert any("equal before and after, by fingerprint" in one for one in record.proven)
        assert any("public.orders_id_seq from 1000 to 1001" in one for one in record.remains)


def test_schema_copy_tells_all_but_seconds_and_the_sizes_of_the_target(shop: Shop) -> None:
    record = tried(shop, shop.sql(*CHANGES[:2]), "schema")
    assert record.passed
    assert not record.durations_known
    assert by_id(record)["1"].duration_s is None
    [rewritten] = by_id(record)["1"].rewritten
    assert rewritten.target_rows == 1000
    assert rewritten.target_bytes
    assert "unknown" in report.as_text(record)


@pytest.mark.slow
def test_what_fails_for_lack_of_rows_says_so(shop: Shop) -> None:
    record = tried(shop, shop.sql(CHANGES[2]), "schema")
    assert record.errors[0].sqlstate == "23503"
    assert "no rows in the copy" in (record.errors[0].hint or "")


def test_failing_changeset_is_told_with_its_place(shop: Shop) -> None:
    record = tried(shop, shop.sql(CHANGES[0], "\nalter table missing add column x int;"), "target")
    assert (record.passed, record.exit_code) == (False, 3)
    [error] = record.errors
    assert (error.file, error.line, error.sqlstate) == ("release.sql", 4, "42P01")
    assert [one.status for one in record.changesets] == ["executed", "failed"]
    assert by_id(record)["1"].rewritten
    told = " ".join(report.as_text(record).split())
    assert told.count("release.sql:4") == told.count("SQLSTATE 42P01") == 1


@pytest.mark.slow
def test_what_cannot_run_in_a_transaction_is_tried_on_copies_only(shop: Shop) -> None:
    changelog = shop.sql(" runInTransaction:false\ncreate index concurrently by_total on orders (total);")
    record = tried(shop, changelog, "clone")
    assert (record.passed, record.held) == (True, False)
    [index] = by_id(record)["1"].indexes
    assert (index.index, index.table) == ("public.by_total", "public.orders")
    with pytest.raises(Refused, match="cannot run in a transaction"):
        tried(shop, changelog, "target")


@pytest.mark.slow
def test_commit_in_a_changeset_never_reaches_the_target(shop: Shop) -> None:
    changelog = shop.sql("\ncreate table left_behind (id int);\ncommit;")
    with pytest.raises(Refused, match="could commit"):
        tried(shop, changelog, "target")
    record = tried(shop, changelog, "clone")
    assert not record.passed
    assert "ended the transaction itself" in record.errors[0].message


@pytest.mark.slow
def test_what_no_rollback_takes_back_never_reaches_the_target(shop: Shop) -> None:
    shop.sql("\ncopy customer to program 'true';", name="program.sql")
    with pytest.raises(Refused, match=r"runs a program on the server \(program\.sql:3\)") as refused:
        tried(shop, "program.sql", "target")
    assert refused.value.code == "outside_database"


@pytest.mark.slow
def test_what_reaches_the_whole_server_is_tried_on_another_one_only(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    changelog = shop.sql("\ncreate role made_in_a_dry_run;", "runInTransaction:false\nselect 1;")
    record = tried(shop, changelog, "schema")
    assert record.passed, record.findings
    assert "embedded" in (record.place or "")
    with pytest.raises(Refused, match=r"release\.sql:3") as refused:
        tried(shop, changelog, "schema", Place.OWN)
    assert (refused.value.code, refused.value.exit_code) == ("outside_database", 3)
    monkeypatch.setattr("migrator.rehearsals.places._embedded_hindrance", lambda _run: "there is none")
    login = shop.login
    url = f"postgresql://{login.user}@{login.host}:{login.port}/postgres"
    shop.toml = f'scratch = {{ url = "{url}", password = "${{env:SHOP_PASSWORD}}" }}\n'
    with pytest.raises(Refused, match=r"release\.sql:3") as refused:
        tried(shop, changelog, "schema")
    assert "scratch.url names the target's own server" in refused.value.message
    assert "--at embedded" in (refused.value.hint or "")
    with shop.server.session() as admin:
        assert admin.rows("select from pg_roles where rolname = 'made_in_a_dry_run'") == []


@pytest.mark.slow
def test_protected_environment_lets_nobody_try_on_it_unless_it_says_so(shop: Shop) -> None:
    changelog = shop.sql(*CHANGES)
    with pytest.raises(Refused, match="protected"):
        tried(shop, changelog, "target", protected=True)
    assert tried(shop, changelog, "target", protected=True, scratch__on_target=True).passed


def test_dry_run_on_the_target_is_ended_when_it_keeps_others_waiting(shop: Shop) -> None:
    changelog = shop.sql("\nalter table orders add column note text;", "\nselect pg_sleep(60);")
    with visitor(shop) as session:
        reads = threading.Thread(target=_count_when_locked, args=(shop, session), daemon=True)
        reads.start()
        record = tried(shop, changelog, "target", scratch__max_blocked_s=0.5)
        reads.join(30)
        assert not reads.is_alive(), "the session of the application still waits"
    assert not record.passed
    assert record.errors[0].code == "blocked_others"
    assert record.errors[0].changeset == "release.sql::2::ann"


@pytest.mark.slow
def test_dry_run_on_a_busy_target_gives_up_its_wait_for_a_lock(shop: Shop) -> None:
    changelog = shop.sql("\nalter table orders add column note text;")
    with visitor(shop) as session:
        session.execute("begin; select count(*) from orders")
        record = tried(shop, changelog, "target", limits__lock_timeout_s=0.5)
        session.execute("rollback")
    assert not record.passed
    assert record.errors[0].sqlstate == "55P03"
    [in_the_way] = [one for one in record.in_the_way if "visitor" in one.who]
    assert any("public.orders" in lock for lock in in_the_way.locks)


@pytest.mark.slow
def test_checks_that_keep_others_waiting_end_it_with_that_finding(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    def slow_checks(_run: Run, session: Session) -> list[str]:
        session.rows("select pg_sleep(60)")
        return ["check rows: the session is gone"]

    monkeypatch.setattr("migrator.rehearsals.trying.inspection.after", slow_checks)
    changelog = shop.sql("\nalter table orders add column note text;")
    with visitor(shop) as session:
        reads = threading.Thread(target=_count_when_locked, args=(shop, session), daemon=True)
        reads.start()
        record = tried(shop, changelog, "target", scratch__max_blocked_s=0.5)
        reads.join(30)
        assert not reads.is_alive(), "the session of the application still waits"
    assert (record.passed, record.exit_code) == (False, 3)
    assert [one.code for one in record.errors] == ["blocked_others"]
    assert any("aborted" in one for one in record.proven)


@pytest.mark.slow
def test_nothing_pending_is_no_failure(shop: Shop) -> None:
    changelog = shop.sql("context:other\ncreate table extra (id int);")
    record = tried(shop, changelog, "schema", contexts="staging")
    assert (record.exit_code, record.changesets) == (0, [])


@pytest.mark.slow
def test_run_at_work_is_not_disturbed(shop: Shop) -> None:
    from migrator.postgres import sessions

    with shop.server.session(shop.login.to("postgres"), role="lock") as holder:
        assert sessions.lock(holder, shop.login.database)
        with pytest.raises(Locked):
            dry_run(opened(shop, shop.sql(*CHANGES)), Wish(origin=None))


@pytest.mark.slow
def test_embedded_server_will_do_where_the_login_may_not_create_databases(shop: Shop) -> None:
    with shop.server.session() as admin:
        name = sql.Identifier(shop.login.database)
        admin.execute(sql.SQL("GRANT CONNECT ON DATABASE {} TO app").format(name).as_string())
    with shop.server.session(shop.login) as session:
        session.execute("grant select on all tables in schema public to app")
        session.execute("grant select on all sequences in schema public to app")
    changelog = shop.sql(*CHANGES[:2])
    shop.login = shop.server.app.to(shop.login.database)
    record = tried(shop, changelog, "schema")
    assert record.place is not None
    assert "embedded" in record.place
    assert "permission denied" in record.errors[0].message, "app may not do more there than on the target"


@pytest.mark.slow
def test_rewrite_of_a_million_rows_on_a_busy_table_is_told_before_any_run(server: Server, shop: Shop) -> None:
    with server.session(shop.login) as session:
        session.execute("create table measure (id int primary key, amount int, customer_id int references customer)")
        session.execute("insert into measure select g, g % 1000, 1 + g % 100 from generate_series(1, 1000000) g")
        session.execute("alter table measure add constraint cascades foreign key (customer_id) references customer")
        session.execute("analyze measure")
    changelog = shop.sql(
        "\nalter table measure alter column amount type bigint;",
        "\nlock table orders in access exclusive mode;",
        "\ncreate index measure_by_amount on measure (amount);",
    )
    with visitor(shop) as session:
        session.execute("begin; select count(*) from orders")
        record = tried(shop, changelog, "clone")
        session.execute("rollback")
    assert record.passed
    found = by_id(record)
    [rewritten] = found["1"].rewritten
    assert (rewritten.table, rewritten.target_rows) == ("public.measure", 1_000_000)
    assert (rewritten.target_bytes or 0) > 30e6
    assert rewritten.after_bytes > 30e6
    assert (found["1"].wal_bytes or 0) > 30e6
    assert ("public.orders", "AccessExclusiveLock") in {(lock.relation, lock.mode) for lock in found["2"].locks}
    assert any("visitor" in one.who and "public.orders" in one.locks[0] for one in record.in_the_way)
    assert [index.index for index in found["3"].indexes] == ["public.measure_by_amount"]


@pytest.mark.slow
def test_thousand_changesets_are_each_told(shop: Shop) -> None:
    record = tried(shop, shop.sql(*(f"\ncreate table t{n} (id int primary key);" for n in range(1000))), "target")
    assert record.passed
    assert [one.created for one in record.changesets] == [[f"public.t{n}"] for n in range(1000)]
    assert all(one.duration_s is not None for one in record.changesets)


@contextmanager
def visitor(shop: Shop) -> Iterator[PgSession]:
    with shop.server.session(shop.login, role="visitor") as session:
        session.execute("set application_name = 'visitor'")
        yield session


def _count_when_locked(shop: Shop, session: PgSession) -> None:
    """Reads as soon as the dry run has its lock, and so waits for it."""
    lock = "select from pg_locks where mode = 'AccessExclusiveLock' and granted and relation = 'orders'::regclass"
    with shop.server.session(shop.login, role="looker") as looker:
        while not looker.rows(lock):
            pass
    session.rows("select count(*) from orders")
