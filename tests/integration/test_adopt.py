"""A database that was migrated otherwise is taken over: only its ledger is written, and only where it is sure."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from migrator.runs.record import Outcome
from tests import shop as shops
from tests.conftest import Server
from tests.shop import Shop

ONE = "\ncreate table one (id int primary key)"
TWO = "\ncreate table two (id int references one);\n--rollback drop table two"
TAGGED = (
    "databaseChangeLog:\n"
    "- changeSet: {id: '1', author: ann, changes: [{sql: {sql: 'create table one (id int)'}}]}\n"
    "- changeSet: {id: v1, author: ann, changes: [{tagDatabase: {tag: v1}}]}\n"
    "- changeSet: {id: '2', author: ann, changes: [{sql: {sql: 'create table two (id int)'}}]}\n"
)


@pytest.fixture
def shop(server: Server, tmp_path: Path) -> Iterator[Shop]:
    with shops.database(server) as login:
        yield Shop(server=server, login=login, folder=tmp_path)


@pytest.fixture
def spring(shop: Shop) -> Shop:
    """Two changesets ran as Spring Boot runs them: under src/main/resources, which it calls the class path."""
    assert shop.run(shop.sql(ONE, TWO, name="db/changelog/release.sql")).outcome is Outcome.MIGRATED
    shop.execute("update databasechangelog set filename = 'classpath:com/shop/' || filename")
    return shop


def adopt(shop: Shop, *arguments: str, code: int = 0) -> Any:
    shop.write_config()
    env = {**os.environ, **shop.environ()}
    argv = [Path(sys.executable).with_name("migrator"), "adopt", *arguments, "--env", "staging", "--json"]
    done = subprocess.run(argv, cwd=shop.folder, env=env, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == code, done.stdout + done.stderr
    return json.loads(done.stdout)


def history(shop: Shop) -> list[tuple[object, ...]]:
    return shop.query("select * from databasechangelog order by orderexecuted")


def test_rows_under_another_path_get_this_one_and_nothing_else_changes(spring: Shop) -> None:
    before = history(spring)
    refused = spring.run("db/changelog/release.sql")
    assert refused.error is not None
    assert refused.error.code == "other_path"
    shown = adopt(spring, "db/changelog/release.sql", "--dry-run")
    assert shown["written"] is False
    assert history(spring) == before
    assert adopt(spring, "db/changelog/release.sql", code=3)["error"]["code"] == "unconfirmed"
    assert history(spring) == before
    done = adopt(spring, "db/changelog/release.sql", "--yes")
    assert done["moved"] == [
        {"changeset": f"db/changelog/release.sql::{n}::ann", "from": "classpath:com/shop/db/changelog/release.sql"}
        for n in (1, 2)
    ]
    path = spring.query(
        "select ordinal_position - 1 from information_schema.columns "
        "where table_name = 'databasechangelog' and column_name = 'filename'"
    )[0][0]
    assert isinstance(path, int)
    assert history(spring) == [(*row[:path], "db/changelog/release.sql", *row[path + 1 :]) for row in before]
    kept = json.loads(Path(done["ledger_before"]).read_text())
    assert [row["filename"] for row in kept] == ["classpath:com/shop/db/changelog/release.sql"] * 2
    assert Path(done["ledger_before"]).stat().st_mode & 0o777 == 0o600
    assert spring.run("db/changelog/release.sql").outcome is Outcome.NOTHING_TO_DO
    assert adopt(spring, "db/changelog/release.sql")["moved"] == []


@pytest.mark.slow
def test_what_has_not_run_stays_pending(spring: Shop) -> None:
    changelog = spring.sql(ONE, TWO, "\ncreate table three (id int)", name="db/changelog/release.sql")
    other = spring.sql("\ncreate table other (id int)", name="db/changelog/other.sql")
    assert adopt(spring, changelog, "--yes")["pending"] == ["db/changelog/release.sql::3::ann"]
    assert adopt(spring, other, "--yes")["pending"] == ["db/changelog/other.sql::1::ann"]
    assert spring.run(changelog).outcome is Outcome.MIGRATED
    assert {"one", "two", "three"} <= spring.tables()


@pytest.mark.slow
def test_where_it_is_not_sure_it_refuses_and_writes_nothing(spring: Shop) -> None:
    before = history(spring)
    edited = spring.sql(ONE, TWO.replace("two (id", "two (no"), name="db/changelog/release.sql")
    assert adopt(spring, edited, "--yes", code=3)["error"]["code"] == "checksum"
    assert history(spring) == before
    changelog = spring.sql(ONE, TWO, name="db/changelog/release.sql")
    spring.execute("update databasechangelog set md5sum = null where id = '2'")
    assert adopt(spring, changelog, "--yes", code=3)["error"]["code"] == "unsure"
    spring.execute(
        "insert into databasechangelog select id, author, 'old/' || filename, dateexecuted, orderexecuted, exectype,"
        " md5sum from databasechangelog where id = '1'"
    )
    before = history(spring)
    assert adopt(spring, changelog, "--yes", code=3)["error"]["code"] == "unsure"
    assert history(spring) == before


def test_a_database_without_a_ledger_gets_one(shop: Shop) -> None:
    changelog = shop.sql(ONE, TWO)
    shop.execute("create table one (id int primary key); create table two (id int references one)")
    marked = ["release.sql::1::ann", "release.sql::2::ann"]
    assert adopt(shop, changelog, "--dry-run")["marked"] == marked
    assert "databasechangelog" not in shop.tables()
    done = adopt(shop, changelog, "--yes")
    assert (done["marked"], done["written"]) == (marked, True)
    assert [row[0] for row in shop.ledger()] == ["1", "2"]
    assert shop.query("select locked from databasechangeloglock") in ([(False,)], [])
    assert shop.run(changelog).outcome is Outcome.NOTHING_TO_DO
    assert adopt(shop, changelog, "--to-tag", "v1", code=3)["error"]["code"] == "has_ledger"


@pytest.mark.slow
def test_only_what_is_there_is_marked(shop: Shop) -> None:
    changelog = shop.write("master.yaml", TAGGED)
    assert adopt(shop, changelog, "--yes", code=3)["error"]["code"] == "has_not_run"
    shop.execute("create table one (id int)")
    refused = adopt(shop, changelog, "--yes", code=3)
    assert "no table two (master.yaml::2::ann)" in refused["error"]["message"]
    assert "databasechangelog" not in shop.tables()
    done = adopt(shop, changelog, "--yes", "--to-tag", "v1")
    assert (done["marked"], done["pending"]) == (
        ["master.yaml::1::ann", "master.yaml::v1::ann"],
        ["master.yaml::2::ann"],
    )
    assert shop.run(changelog).outcome is Outcome.MIGRATED
    assert {"one", "two"} <= shop.tables()


def test_nothing_is_written_while_a_run_is_at_work(spring: Shop, server: Server) -> None:
    from migrator.postgres import sessions

    with server.session(spring.login.to("postgres"), role="lock") as holder:
        assert sessions.lock(holder, spring.login.database)
        assert adopt(spring, "db/changelog/release.sql", "--yes", code=4)["error"]["code"] == "locked"
