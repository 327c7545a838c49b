"""A restore by hand: what it would lose is shown, what it replaces is kept, a kill leaves one database of the name."""

from __future__ import annotations

import base64
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from unittest import mock

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from psycopg import sql

from migrator.backups.records import FILE_NAME
from migrator.backups.sealing import seal, unseal
from migrator.postgres import databases, fence, properties
from migrator.postgres.transactions import statement
from tests.integration.runs.byhand import Answer, backup, call
from tests.shop import ENVIRONMENT, Shop


def made_by_runs(shop: Shop) -> list[str]:
    with shop.server.session() as admin:
        return [one.name for one in databases.run_databases(admin)]


def standing(shop: Shop) -> fence.Fence | None:
    with shop.server.session() as admin:
        return fence.read(admin, shop.login.database)


def restore(shop: Shop, backup_id: str, *arguments: str) -> Answer:
    return call(shop, "backup", "restore", backup_id, "--confirm", ENVIRONMENT, *arguments)


def damage(shop: Shop) -> None:
    """What an application, or a person, has done since."""
    shop.execute("delete from orders where id % 3 = 0; update customer set name = 'x' where id = 1")
    shop.execute("create table made_since (n int); insert into made_since select generate_series(1, 5)")


def test_a_restore_brings_everything_back_and_keeps_what_it_replaces(shop: Shop) -> None:
    with shop.server.session() as admin:
        before = properties.read(admin, shop.login.database)
    was, oid = shop.dump(), shop.oid()
    backup_id = backup(shop)
    damage(shop)
    left, damaged = shop.value("select count(*) from orders"), shop.dump()
    done = restore(shop, backup_id)
    assert done.code == 0, done.err
    assert f"public.orders has {left} rows and would have" in done.err
    assert "public.made_since is not in the backup: 5 rows would be gone with it" in done.err
    assert "public.customer has other values" in done.err
    assert "Brought back from the backup" in done.err
    assert shop.dump() == was
    assert shop.oid() != oid
    with shop.server.session() as admin:
        assert properties.differences(properties.read(admin, shop.login.database), before) == []
    [old] = made_by_runs(shop)
    assert old.endswith("_old")
    assert old in done.err
    assert "DROP DATABASE" in done.err
    shop.app_writes()
    # The way back that was printed: the names, then the fence of what was kept.
    go_back(shop, old)
    assert shop.dump() == damaged


def go_back(shop: Shop, old: str) -> None:
    name = shop.login.database
    assert call(shop, "maintenance", "on", "--reason", "back again", "--yes").code == 0
    with shop.server.session(shop.server.migrator) as admin:
        for one, other in ((name, f"{name}_restored"), (old, name)):
            admin.execute(statement("ALTER DATABASE {} RENAME TO {}", sql.Identifier(one), sql.Identifier(other)))
    ended = call(shop, "maintenance", "off", "--force")
    assert ended.code == 0, ended.err
    shop.app_writes()


def test_the_journal_and_the_report_tell_of_it(shop: Shop) -> None:
    backup_id = backup(shop)
    damage(shop)
    told = restore(shop, backup_id, "--json").json
    assert (told["outcome"], told["exit_code"], told["way"]) == ("brought_back", 0, "restore")
    assert {"public.customer", "public.made_since", "public.orders"} <= {table["name"] for table in told["tables"]}
    shown = call(shop, "show", told["run_id"])
    assert backup_id in shown.out
    history = json.loads(call(shop, "history", "--json").out)
    assert [one["outcome"] for one in history] == ["brought_back"]
    status = call(shop, "status", "--json").json
    assert (status["open_run"], status["maintenance"], status["next_command"]) == (None, None, None)
    [kept] = status["kept"]
    assert (kept["run_id"], kept["may_go"]) == (told["run_id"], False)


def test_without_the_right_name_nothing_is_touched(shop: Shop) -> None:
    backup_id, oid = backup(shop), shop.oid()
    assert call(shop, "backup", "restore", backup_id).code == 3
    wrong = call(shop, "backup", "restore", backup_id, "--confirm", "production")
    assert (wrong.code, "not the environment's name" in wrong.err) == (3, True)
    assert (shop.oid(), made_by_runs(shop), standing(shop)) == (oid, [], None)


def test_another_databases_backup_is_refused(shop: Shop) -> None:
    backup_id = backup(shop)
    manifest = shop.folder / "backups" / backup_id / "manifest.json"
    other = shop.login
    name = f"{other.database}_two"
    with shop.server.session() as admin:
        admin.execute(statement("CREATE DATABASE {} OWNER migrator", sql.Identifier(name)))
        try:
            refused = call(shop, "backup", "restore", backup_id, "--confirm", ENVIRONMENT, "--set", url_of(shop, name))
        finally:
            admin.execute(statement("DROP DATABASE {} WITH (FORCE)", sql.Identifier(name)))
    assert (refused.code, f"is of the database {other.database}" in refused.err) == (3, True), refused.err
    assert manifest.exists()


def url_of(shop: Shop, database: str) -> str:
    login = shop.login
    return f"url=postgresql://{login.user}@{login.host}:{login.port}/{database}"


@pytest.mark.slow
def test_another_servers_backup_is_refused(shop: Shop) -> None:
    backup_id, oid = backup(shop), shop.oid()
    forge(shop, backup_id, system_identifier="7000000000000000001")
    refused = restore(shop, backup_id)
    assert (refused.code, "of another server" in refused.err) == (3, True), refused.err
    assert (shop.oid(), made_by_runs(shop), standing(shop)) == (oid, [], None)


@pytest.mark.slow
def test_a_manifest_that_somebody_wrote_without_the_key_is_refused(shop: Shop) -> None:
    private = Ed25519PrivateKey.generate()
    public, key = private.public_key().public_bytes_raw(), base64.b64encode(private.private_bytes_raw()).decode()
    shop.write("keys/team.pub", base64.b64encode(public).decode() + "\n")
    shop.toml = '[signing]\nkey = "${env:TEAM_KEY}"\npublic_keys = ["keys/*.pub"]\n'
    with mock.patch.dict(os.environ, {"TEAM_KEY": key}):
        backup_id, oid = backup(shop), shop.oid()
        assert call(shop, "backup", "verify", backup_id).code == 0
        forge(shop, backup_id, environment="elsewhere")
        refused = restore(shop, backup_id)
    assert refused.code == 3, refused.err
    assert "signed" in refused.err
    assert (shop.oid(), made_by_runs(shop), standing(shop)) == (oid, [], None)


def forge(shop: Shop, backup_id: str, **changed: str) -> None:
    """As somebody would who knows the format, but has no key: checksum and files are right."""
    path = shop.folder / "backups" / backup_id / FILE_NAME
    found = unseal(path.read_bytes(), backup_id, "here")
    path.write_bytes(seal(found.model_copy(update=changed))[1])


def test_a_damaged_backup_is_found_before_anybody_is_held_off(shop: Shop) -> None:
    backup_id = backup(shop)
    victim = next(path for path in (shop.folder / "backups" / backup_id / "dump").iterdir() if path.name != "toc.dat")
    data = bytearray(victim.read_bytes())
    data[-1] ^= 1
    victim.write_bytes(data)
    refused = restore(shop, backup_id)
    assert (refused.code, victim.name in refused.err) == (3, True), refused.err
    assert (made_by_runs(shop), standing(shop)) == ([], None)


def test_a_copy_that_is_not_what_was_backed_up_is_not_swapped_in(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    backup_id, oid = backup(shop), shop.oid()
    damage(shop)
    monkeypatch.setattr("migrator.runs.state.differences", lambda *_: ["public.orders has 1 row, had 2"])
    failed = restore(shop, backup_id)
    assert failed.code == 5, failed.err
    assert "public.orders has 1 row, had 2" in " ".join(failed.err.split())
    assert "Nothing was restored" in failed.err
    assert (shop.oid(), made_by_runs(shop), standing(shop)) == (oid, [], None)
    shop.app_writes()


VICTIM = """
import os, signal, sys
from migrator.cli import boundary
from migrator.cli.app import app
from migrator.postgres import databases
from migrator.runs.steps import restore as step
from migrator.runs import bluegreen
where = sys.argv[1]
def die(*_a, **_k): os.kill(os.getpid(), signal.SIGKILL)
if where == "restoring":
    step.state.differences = die
elif where == "before swap":
    bluegreen.swap = die
else:
    swap = bluegreen.swap
    bluegreen.swap = lambda run: (swap(run), die())
sys.exit(boundary.run(app, sys.argv[2:]))
"""


def killed(shop: Shop, where: str, backup_id: str) -> None:
    argv = ["backup", "restore", backup_id, "--confirm", ENVIRONMENT, "--env", ENVIRONMENT]
    done = subprocess.run(
        [sys.executable, "-c", VICTIM, where, *argv, "--config", str(shop.write_config())],
        env={**os.environ, **shop.environ()},
        cwd=Path(__file__).parents[3],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == -signal.SIGKILL, done.stderr


@pytest.mark.parametrize("command", ["resume", "recover"])
@pytest.mark.parametrize("where", ["restoring", "before swap", "after swap"])
def test_a_killed_restore_is_ended_by_resume_and_by_recover(shop: Shop, where: str, command: str) -> None:
    was = shop.dump()
    backup_id = backup(shop)
    damage(shop)
    damaged = shop.dump()
    killed(shop, where, backup_id)
    assert standing(shop) is not None
    run_id = call(shop, "status", "--json").json["open_run"]
    ended = call(shop, *([command, run_id] if command == "resume" else [command]))
    brought_back = where == "after swap" or command == "resume"
    assert ended.code == (0 if brought_back else 5), ended.err
    assert shop.dump() == (was if brought_back else damaged)
    assert [name.rsplit("_", 1)[1] for name in made_by_runs(shop)] == (["old"] if brought_back else [])
    assert standing(shop) is None
    shop.app_writes()


@pytest.mark.parametrize("where", ["before swap", "after swap"])
def test_a_killed_restore_is_ended_without_its_journal(shop: Shop, where: str) -> None:
    was = shop.dump()
    backup_id = backup(shop)
    damage(shop)
    damaged = shop.dump()
    killed(shop, where, backup_id)
    for path in (shop.folder / ".migrator").glob("journal.db*"):
        path.unlink()
    ended = call(shop, "recover")
    assert ended.code == (0 if where == "after swap" else 5), ended.err
    assert shop.dump() == (was if where == "after swap" else damaged)
    assert standing(shop) is None
    shop.app_writes()
