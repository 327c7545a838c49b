"""Scratch databases: filled, closed to others, gone at the end, and found again after a kill."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from psycopg import sql

from migrator.config.load import load
from migrator.config.login import Login
from migrator.errors import BackupFailed, Refused, UsageError
from migrator.postgres import databases, properties, schema_fingerprint, throwaway
from migrator.postgres.throwaway import Mark
from migrator.rehearsals import scratch
from migrator.rehearsals.scratch import Origin, Place
from migrator.runs import byhand
from migrator.runs.byhand import create, kept
from migrator.runs.journal import Journal
from migrator.runs.run import Run
from tests.conftest import Server
from tests.shop import ENVIRONMENT, Shop

TABLES = """
create table orders (id bigint generated always as identity primary key, note text);
insert into orders (note) select 'n' || g from generate_series(1, 500) g;
analyze orders;
create view recent as select * from orders where id > 400;
grant select on orders to app;
create table databasechangelog (id text, author text, filename text, dateexecuted timestamp, orderexecuted int,
  exectype text, md5sum text, description text, comments text, tag text, liquibase text, contexts text, labels text,
  deployment_id text);
insert into databasechangelog values ('1', 'ann', 'base.sql', now(), 1, 'EXECUTED');
create table databasechangeloglock (id int primary key, locked boolean, lockgranted timestamp, lockedby text);
insert into databasechangeloglock values (1, true, now(), 'a job');
"""


@pytest.fixture
def shop(server: Server, database: Login, tmp_path: Path) -> Shop:
    with server.session(database) as session:
        session.execute(TABLES)
    return Shop(server=server, login=database, folder=tmp_path)


@pytest.fixture
def run(shop: Shop) -> Iterator[Run]:
    with closing(opened(shop)) as run:
        yield run


def opened(shop: Shop, **settings: object) -> Run:
    config = load(shop.write_config(), shop.environ(), settings)
    return byhand.opened(config, config.environment(ENVIRONMENT), doing="test")


def made_databases(server: Server) -> list[str]:
    with server.session() as admin:
        return [one.name for one in databases.run_databases(admin) if one.name.endswith("_scratch")]


def test_schema_copy_has_the_schema_and_the_statistics_and_no_row(run: Run, server: Server) -> None:
    with closing(run.session("test")) as target:
        schema = schema_fingerprint.of_schema(target).as_restored()
    with scratch.made(run, Origin.parse("schema")) as copy:
        assert copy.place is Place.OWN
        with closing(copy.session("test")) as session:
            assert session.rows("select count(*) from orders") == [("0",)]
            assert session.rows("select id from databasechangelog") == [("1",)]
            assert session.rows("select reltuples from pg_class where relname = 'orders'") == [("500",)]
            assert session.rows("select last_value from orders_id_seq") == [("500",)]
            assert not schema.diff(schema_fingerprint.of_schema(session).as_restored())
        assert any("rows" in one for one in copy.not_represented)
        mark = throwaway.read(properties.read(run.the_admin(), copy.name).comment)
        assert mark is not None
        assert (mark.target, mark.origin) == (run.database, "schema")
        now = properties.read(run.the_admin(), copy.name)
        assert now.owner == properties.read(run.the_admin(), run.database).owner
        may_connect = {grant.grantee for grant in now.effective_acl if grant.privilege == "CONNECT"}
        assert may_connect == {run.login.user}
    assert made_databases(server) == []


def test_clone_is_made_while_the_target_stays_open(run: Run, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_args: object, **_named: object) -> None:
        raise AssertionError("the target was closed")

    monkeypatch.setattr("migrator.postgres.databases.copy", never)
    with server.session(run.login, role="visitor") as visitor:
        with scratch.made(run, Origin.parse("clone")) as copy, closing(copy.session("test")) as session:
            assert copy.place is Place.OWN
            assert session.rows("select locked from databasechangeloglock") == [("f",)]
            assert session.rows("select count(*) from orders") == [("500",)]
        assert visitor.rows("select 1") == [("1",)], "a session of the application was ended"
    assert made_databases(server) == []


def test_copy_is_not_begun_where_the_server_has_no_room_for_it(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("migrator.rehearsals.places.disk.free_bytes", lambda *_args, **_named: 2_000_000)
    monkeypatch.setattr("migrator.rehearsals.places._embedded_hindrance", lambda _run: "there is none")
    with (
        pytest.raises(Refused, match=r"has 2\.0 MB free, and the copy needs \d") as refused,
        scratch.made(run, Origin.parse("clone")),
    ):
        raise AssertionError
    assert refused.value.code == "no_scratch_server"
    with scratch.made(run, Origin.parse("schema")) as copy:
        assert copy.place is Place.OWN


@pytest.mark.slow
def test_embedded_server_stands_in_with_the_roles_of_the_target(run: Run) -> None:
    with scratch.made(run, Origin.parse("schema"), place=Place.EMBEDDED) as copy:
        assert copy.login.port != run.login.port
        with closing(copy.session("test")) as session:
            assert session.rows("select current_user, pg_get_userbyid(relowner) from pg_class where relname='orders'")
            assert session.rows("select has_table_privilege('app', 'orders', 'SELECT')") == [("t",)]
            [(superuser,)] = session.rows("select rolsuper from pg_roles where rolname = current_user")
            assert superuser == "f"
    assert not list(run.folder.glob("scratch-*"))


@pytest.mark.slow
def test_login_that_may_not_create_databases_gets_the_embedded_server_or_a_clear_word(
    shop: Shop, server: Server
) -> None:
    with server.session() as admin:
        admin.execute(
            sql.SQL("GRANT ALL ON DATABASE {} TO app").format(sql.Identifier(shop.login.database)).as_string()
        )
    shop.login = server.app.to(shop.login.database)
    with closing(opened(shop)) as run:
        with scratch.made(run, Origin.parse("empty")) as copy:
            assert copy.place is Place.EMBEDDED
        with (
            pytest.raises(Refused, match="app may not create databases"),
            scratch.made(run, Origin.parse("empty"), place=Place.OWN),
        ):
            raise AssertionError


@pytest.mark.slow
def test_dump_file_is_loaded_and_anything_else_is_refused(run: Run, tmp_path: Path) -> None:
    from migrator import processes
    from migrator.postgres import client_tools

    tools = client_tools.find(run.the_admin().conn.info.server_version // 10000)
    file = tmp_path / "shop.dump"
    with client_tools.passfile(run.login, tmp_path) as passfile:
        env = client_tools.environment(run.login, passfile=passfile, application_name="test", tools=tools)
        processes.run([str(tools.pg_dump), "--format=custom", f"--file={file}"], timeout_s=60, env=env)
    with scratch.made(run, Origin.parse(f"dump {file}")) as copy, closing(copy.session("test")) as session:
        assert session.rows("select count(*) from orders") == [("500",)]
    plain = tmp_path / "shop.sql"
    plain.write_text("\\! echo hello\n", encoding="utf-8")
    with pytest.raises(BackupFailed, match="no archive"), scratch.made(run, Origin.parse(f"dump {plain}")):
        raise AssertionError


def test_what_a_killed_process_left_is_dropped_by_the_next(run: Run, server: Server) -> None:
    left, foreign = "mig_20260101t000000_aaaa_scratch", "mig_20260101t000000_bbbb_scratch"
    mark = Mark(environment=ENVIRONMENT, target=run.database, origin="schema", since="2026-01-01T00:00:00+00:00")
    with server.session() as admin:
        for name in (left, foreign):
            admin.execute(f'create database "{name}" owner migrator')
        throwaway.put(admin, left, mark)
        throwaway.put(admin, foreign, Mark(environment="x", target="another", origin="schema", since=mark.since))
        assert [(one.name, one.kind) for one in kept_of(run)] == [(left, "scratch")]
        with scratch.made(run, Origin.parse("empty")) as copy:
            assert copy.name not in [one.name for one in kept_of(run)], "what is in use is not for clean"
            assert left not in made_databases(server)
            assert foreign in made_databases(server)
        databases.drop(admin, foreign)


@pytest.mark.slow
def test_server_that_the_configuration_names_takes_backups_and_dumps(shop: Shop) -> None:
    login = shop.login
    shop.toml = (
        f'scratch = {{ url = "postgresql://{login.user}@{login.host}:{login.port}/postgres", '
        'password = "${env:SHOP_PASSWORD}" }\n'
    )
    with closing(opened(shop)) as run:
        journal = Journal.open(run.config.journal.url, run.config.base)
        with closing(byhand.opened(run.config, run.environment, doing="backup", journal=journal)) as backing_up:
            made = create.create(backing_up)
        with scratch.made(run, Origin.parse(f"backup {made.id}")) as copy, closing(copy.session("test")) as session:
            assert copy.place is Place.SERVER
            assert session.rows("select count(*) from orders") == [("500",)]
            assert any("since" in one for one in copy.not_represented)
        with scratch.made(run, Origin.parse("schema")) as copy:
            assert copy.place is Place.OWN
        with scratch.made(run, Origin.parse("schema"), place=Place.SERVER) as copy:
            assert copy.place is Place.SERVER


@pytest.mark.slow
def test_server_that_hands_no_statistics_over_is_told(server16: Server, database16: Login, tmp_path: Path) -> None:
    with server16.session(database16) as session:
        session.execute(TABLES)
    shop = Shop(server=server16, login=database16, folder=tmp_path)
    with closing(opened(shop)) as run, scratch.made(run, Origin.parse("schema")) as copy:
        with closing(copy.session("test")) as session:
            assert session.rows("select count(*) from orders") == [("0",)]
        assert any("statistics" in one for one in copy.not_represented)


def kept_of(run: Run) -> tuple[kept.Kept, ...]:
    return kept.listing(
        run.config, run.environment, run.the_admin(), database=run.database, system_identifier="unknown"
    )


@pytest.mark.parametrize("text", ["", "schema x", "backup", "dump:", "nothing", "clone:"])
def test_origin_that_there_is_not_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        Origin.parse(text)
