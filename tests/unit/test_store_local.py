from __future__ import annotations

import stat
from datetime import UTC, datetime
from pathlib import Path

import pytest

from migrator.backups import digests, manifest
from migrator.backups.manifest import Manifest
from migrator.backups.store.local import LocalStore
from migrator.errors import BackupFailed


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    return LocalStore(tmp_path / "deep" / "backups")


def finished(store: LocalStore, backup_id: str, *, hour: int = 1) -> Path:
    folder = store.new(backup_id)
    (folder / "data").write_bytes(b"x" * 1000)
    store.publish(
        Manifest(
            id=backup_id,
            kind="dump",
            run_id="r",
            environment="e",
            created_at=datetime(2026, 1, 1, hour, tzinfo=UTC),
            system_identifier="1",
            database="d",
            database_oid=1,
            server_version="18.4",
            files=manifest.entries(folder, digests.of_files([folder / "data"], jobs=1)),
        )
    )
    return folder


def test_folders_are_for_the_owner_only(store: LocalStore) -> None:
    folder = store.new("a")
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert stat.S_IMODE(store.root.stat().st_mode) == 0o700


def test_finished_backups_are_listed_the_oldest_first_and_others_say_why_not(store: LocalStore) -> None:
    assert store.list() == ()
    finished(store, "a", hour=3)
    finished(store, "b", hour=2)
    (finished(store, "c") / "data").unlink()
    store.new("d")
    assert [found.id for found in store.list()] == ["b", "a"]
    assert [(item.id, item.manifest is not None) for item in store.listing()] == [
        ("b", True),
        ("a", True),
        ("c", False),
        ("d", False),
    ]
    assert "data: is missing" in (store.listing()[2].problem or "")
    assert "never finished" in (store.listing()[3].problem or "")


def test_unfinished_backup_is_quarantined_by_the_next_try(store: LocalStore) -> None:
    for attempt in range(3):
        (store.new("a") / "data").write_text(str(attempt))
    assert {path.name: (path / "data").read_text() for path in store.root.iterdir()} == {
        "a.partial": "0",
        "a.partial.2": "1",
        "a": "2",
    }
    assert store.list() == ()
    assert {item.problem for item in store.listing() if "partial" in item.id} == {"it was never finished"}


def test_finished_backup_is_never_replaced(store: LocalStore) -> None:
    finished(store, "a")
    with pytest.raises(BackupFailed, match="already has"):
        store.new("a")
    assert store.verify("a").id == "a"


@pytest.mark.parametrize(
    "name", ["", ".", "..", "../a", "a/b", "/etc", "-rf", ".hidden", "a.partial", "a\n", "a" * 129, "a..b"]
)
def test_id_that_is_none_is_refused(store: LocalStore, name: str) -> None:
    for act in (store.new, store.read, store.verify):
        with pytest.raises(BackupFailed, match="not the id of a backup"):
            act(name)


def test_unknown_id_lists_the_known_ones(store: LocalStore) -> None:
    finished(store, "a")
    with pytest.raises(BackupFailed, match="has no backup b; it has: a") as caught:
        store.read("b")
    assert caught.value.code == "no_such_backup"


def test_verify_reads_every_byte(store: LocalStore) -> None:
    folder = finished(store, "a")
    (folder / "data").write_bytes(b"x" * 999 + b"y")
    assert store.read("a").id == "a"
    with pytest.raises(BackupFailed, match="data: its content differs"):
        store.verify("a")


def test_backup_under_another_name_is_refused(store: LocalStore) -> None:
    finished(store, "a").rename(store.root / "b")
    with pytest.raises(BackupFailed, match="holds the backup a, not b"):
        store.read("b")


def test_free_space_is_known_before_the_store_exists(store: LocalStore) -> None:
    assert store.free_bytes() > 0
    assert not store.root.exists()


def test_store_that_is_a_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(BackupFailed, match="file"):
        LocalStore(tmp_path / "file").new("a")
