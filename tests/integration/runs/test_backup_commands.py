"""Backups by hand: made without maintenance, proven by a restore, thrown away by rule."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from migrator.postgres import databases, sessions
from migrator.runs import stores
from migrator.runs.run import Run
from tests.integration.runs.byhand import backup, call
from tests.shop import Shop


def stored(shop: Shop) -> Path:
    return shop.folder / "backups"


def made_by_runs(shop: Shop) -> list[str]:
    with shop.server.session() as admin:
        return [one.name for one in databases.run_databases(admin)]


def test_a_backup_is_made_while_others_write_and_restores_to_its_moment(shop: Shop) -> None:
    orders = shop.value("select count(*) from orders")
    made = call(shop, "backup", "create", "--json")
    assert made.code == 0, made.out
    shop.execute("delete from heartbeat; insert into heartbeat select from generate_series(1, 7)")
    told = made.json
    manifest = json.loads((stored(shop) / told["backup_id"] / "manifest.json").read_text())
    assert manifest["tables"]["public.orders"]["rows"] == orders
    assert manifest["tables"]["public.heartbeat"]["rows"] == 0
    assert told["others_may_write"]
    verified = call(shop, "backup", "verify", told["backup_id"], "--restore", "--json")
    assert (verified.code, verified.json["ok"], verified.json["differences"]) == (0, True, []), verified.out
    assert made_by_runs(shop) == []
    shop.app_writes()


@pytest.mark.slow
def test_a_copy_that_differs_is_not_excused_by_those_who_write_the_database(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop.settings = {"maintenance.database": "none"}
    restore = stores.restore

    def restored_otherwise(run: Run, backup_id: str, side: str) -> None:
        restore(run, backup_id, side)
        shop.execute("update customer set name = 'another' where id = 1", shop.superuser.to(side))

    monkeypatch.setattr(stores, "restore", restored_otherwise)
    verified = call(shop, "backup", "verify", backup(shop), "--restore", "--json")
    assert (verified.code, verified.json["ok"]) == (3, False), verified.out
    assert any("public.customer has other values" in one for one in verified.json["differences"]), verified.out


def test_create_says_that_others_may_write_and_how_to_prove_it(shop: Shop) -> None:
    made = call(shop, "backup", "create")
    assert made.code == 0, made.err
    assert "others may read and write" in made.err
    assert "nobody was held off" in made.out
    assert "migrator backup verify" in made.out


def test_there_is_no_newest_where_there_is_none(shop: Shop) -> None:
    found = call(shop, "backup", "verify", "newest")
    assert found.code == 3
    assert "no finished backup" in found.err


def test_create_waits_for_no_run_and_is_refused_while_one_holds_the_database(shop: Shop) -> None:
    with shop.server.session(shop.server.migrator) as other:
        assert sessions.lock(other, shop.login.database)
        refused = call(shop, "backup", "create", "--json")
    assert (refused.code, refused.json["error"]["code"]) == (4, "locked")
    assert not stored(shop).exists()


def test_a_flipped_byte_is_found_and_named(shop: Shop) -> None:
    backup_id = backup(shop)
    victim = next(path for path in sorted((stored(shop) / backup_id / "dump").iterdir()) if path.name != "toc.dat")
    data = bytearray(victim.read_bytes())
    data[len(data) // 2] ^= 1
    victim.write_bytes(data)
    found = call(shop, "backup", "verify", backup_id)
    assert found.code == 3
    assert victim.name in found.err


def test_list_and_show_name_what_there_is_and_what_does_not_count(shop: Shop) -> None:
    backup_id = backup(shop)
    (stored(shop) / "torn.partial").mkdir()
    listed = call(shop, "backup", "list")
    assert backup_id in listed.out
    assert "not a backup: torn.partial: it was never finished" in listed.err
    as_json = json.loads(call(shop, "backup", "list", "--json").out)
    assert [one["backup_id"] for one in as_json] == [backup_id, "torn.partial"]
    newest = call(shop, "backup", "verify", "newest")
    assert (newest.code, backup_id in newest.out) == (0, True), newest.err
    assert "torn.partial is newer, and no backup" in newest.err
    story = call(shop, "backup", "show", backup_id)
    assert (story.code, shop.login.database in story.out) == (0, True)
    assert call(shop, "backup", "show", backup_id, "--json").json["id"] == backup_id


def test_an_unknown_backup_is_refused_with_those_that_there_are(shop: Shop) -> None:
    backup_id = backup(shop)
    for command in ("show", "verify"):
        refused = call(shop, "backup", command, "nosuch")
        assert (refused.code, backup_id in refused.err) == (3, True), refused.err
    assert call(shop, "backup", "show", "../etc").code == 3


def test_prune_keeps_the_newest_and_deletes_only_after_a_yes(shop: Shop) -> None:
    first, second, third = (backup(shop) for _ in range(3))
    refused = call(shop, "backup", "prune", "--keep", "1")
    assert (refused.code, "--yes" in refused.err) == (3, True)
    assert all((stored(shop) / one).exists() for one in (first, second, third))
    assert call(shop, "backup", "prune", "--older-than", "1h", "--keep", "1", "--yes", "--json").json["deleted"] == []
    done = call(shop, "backup", "prune", "--keep", "2", "--yes", "--json")
    assert done.json["deleted"] == [first]
    assert sorted(path.name for path in stored(shop).iterdir()) == sorted([second, third])


def test_prune_without_a_rule_or_with_a_wrong_age_is_refused(shop: Shop) -> None:
    assert call(shop, "backup", "prune").code == 2
    assert call(shop, "backup", "prune", "--older-than", "30").code == 2
    assert call(shop, "backup", "prune", "--older-than", "0d").code == 2


def test_a_backup_is_tried_on_an_embedded_server(shop: Shop) -> None:
    tried = call(shop, "backup", "verify", backup(shop), "--restore", "--embedded", "--json")
    assert (tried.code, tried.json["ok"]) == (0, True), tried.out + tried.err
    assert "embedded" in tried.json["restored_on"]
