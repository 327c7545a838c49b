"""What runs have kept is listed with its date, and dropped after its retention, never earlier."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from datetime import datetime, timedelta

import pytest
from psycopg import sql

from migrator.postgres import databases, fence, sessions
from migrator.postgres.session import Session
from migrator.postgres.transactions import statement
from migrator.runs.byhand import kept as keeping
from tests.integration.runs.byhand import backup, call
from tests.shop import ENVIRONMENT, Shop


def old_databases(shop: Shop) -> list[str]:
    with shop.server.session() as admin:
        return [one.name for one in databases.run_databases(admin)]


def restored(shop: Shop) -> str:
    """The name of the database that a restore has replaced."""
    done = call(shop, "backup", "restore", backup(shop), "--confirm", ENVIRONMENT)
    assert done.code == 0, done.err
    [old] = old_databases(shop)
    return old


def later(monkeypatch: pytest.MonkeyPatch, **passed: float) -> None:
    def now_of(admin: Session) -> datetime:
        return now(admin) + timedelta(**passed)

    now = keeping.now_of
    monkeypatch.setattr(keeping, "now_of", now_of)


def test_an_old_database_is_dropped_after_its_retention_and_never_earlier(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = restored(shop)
    with monkeypatch.context() as six_days:
        later(six_days, days=6, hours=23)
        early = call(shop, "clean", "--yes", "--json")
        assert (early.code, early.json["dropped"]) == (0, [])
        status = call(shop, "status")
        assert f"kept old database {old}, put aside" in status.out
        assert "clean may drop it from" in status.out
    assert old_databases(shop) == [old]
    later(monkeypatch, days=7, minutes=1)
    [told] = call(shop, "status", "--json").json["kept"]
    assert (told["name"], told["may_go"]) == (old, True)
    assert call(shop, "clean", "--dry-run", "--json").json["would_drop"] == [old]
    refused = call(shop, "clean")
    assert (refused.code, old_databases(shop)) == (3, [old])
    assert call(shop, "clean", "--yes", "--json").json["dropped"] == [old]
    assert old_databases(shop) == []
    shop.app_writes()


def test_the_retention_counts_without_the_journal_too(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    old = restored(shop)
    for path in (shop.folder / ".migrator").glob("journal.db*"):
        path.unlink()
    [told] = call(shop, "clean", "--yes", "--json").json["kept"]
    assert (told["name"], told["droppable_from"] is not None) == (old, True)
    with shop.server.session() as admin:
        standing = fence.read(admin, old)
    assert standing is not None
    assert told["since"] == standing.facts["put_aside"]
    later(monkeypatch, days=7, minutes=1)
    assert call(shop, "clean", "--yes", "--json").json["dropped"] == [old]


def test_what_is_another_databases_or_nobodys_is_left_alone(shop: Shop) -> None:
    shop.settings["backup.keep_days"] = 0
    name = "mig_20200101t000000_abcd_old"
    with shop.server.session() as admin:
        admin.execute(statement("CREATE DATABASE {} OWNER migrator", sql.Identifier(name)))
        try:
            nobodys = call(shop, "clean", "--yes", "--json")
            assert (nobodys.code, nobodys.json["dropped"]) == (0, [])
            [told] = nobodys.json["kept"]
            assert "neither its comment nor the journal" in told["why_not"]
            fence.put_up(admin, name, run_id="20200101t000000_abcd", mode=fence.Mode.OFFLINE, environment=ENVIRONMENT)
            fence.note(admin, name, target="another_shop")
            anothers = call(shop, "clean", "--yes", "--json").json
            assert (anothers["dropped"], anothers["kept"]) == ([], [])
        finally:
            admin.execute(statement("DROP DATABASE {} WITH (FORCE)", sql.Identifier(name)))


@pytest.mark.slow
def test_a_clone_is_dropped_with_its_manifest(shop: Shop) -> None:
    shop.toml = '[environments.staging.backup]\nkinds = ["dump", "clone"]\n'
    record = shop.run(shop.sql("x\ncreate table later (n int);"))
    assert record.exit_code == 0, record.error
    [clone] = [backup.location for backup in record.backups if backup.kind == "clone"]
    assert call(shop, "clean", "--yes", "--json").json["dropped"] == []
    shop.settings["backup.keep_days"] = 0
    done = call(shop, "clean", "--yes", "--json")
    assert done.json["dropped"] == [clone], done.err
    with shop.server.session() as admin:
        assert databases.oid_of(admin, clone) is None
    assert [path.name.endswith("-clone") for path in (shop.folder / "backups").iterdir()] == [False]


@pytest.mark.slow
def test_a_clone_is_restored_by_hand_and_used_up(shop: Shop) -> None:
    was = shop.dump()
    shop.toml = '[environments.staging.backup]\nkinds = ["dump", "clone"]\n'
    record = shop.run(shop.sql("x\ncreate table later (n int);"))
    [clone] = [backup.id for backup in record.backups if backup.kind == "clone"]
    done = call(shop, "backup", "restore", clone, "--confirm", ENVIRONMENT)
    assert done.code == 0, done.err
    assert "is used up by this" in " ".join(done.err.split())
    assert shop.dump() == was
    shop.app_writes()


def test_what_a_killed_verification_left_is_dropped_at_once(shop: Shop) -> None:
    script = (
        "import os, signal, sys\n"
        "from migrator.cli import boundary\n"
        "from migrator.cli.app import app\n"
        "from migrator.runs.byhand import verify\n"
        "verify.state.differences = lambda *_: os.kill(os.getpid(), signal.SIGKILL)\n"
        "sys.exit(boundary.run(app, sys.argv[1:]))\n"
    )
    argv = ["backup", "verify", backup(shop), "--restore", "--env", ENVIRONMENT, "--config", str(shop.write_config())]
    done = subprocess.run(
        [sys.executable, "-c", script, *argv], env={**os.environ, **shop.environ()}, timeout=120, check=False
    )
    assert done.returncode == -signal.SIGKILL
    [side] = old_databases(shop)
    with shop.server.session() as admin:
        sessions.terminate_run(admin, databases.run_databases(admin)[0].run_id)
    assert call(shop, "clean", "--yes", "--json").json["dropped"] == [side]
    assert old_databases(shop) == []
