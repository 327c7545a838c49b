from __future__ import annotations

import hashlib
import json
import os
import stat
import tracemalloc
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from migrator.backups import digests, manifest
from migrator.backups.manifest import FileEntry, Manifest, SequenceState, TableState
from migrator.backups.signing import PublicKeys, SigningKey, canonical
from migrator.errors import BackupFailed


def new_key() -> SigningKey:
    private = Ed25519PrivateKey.generate()
    return SigningKey("k" * 16, private)


KEY = new_key()


def of(files: tuple[FileEntry, ...] = (), **overrides: Any) -> Manifest:
    given: dict[str, Any] = {
        "id": "20260101-aaaa",
        "kind": "dump",
        "run_id": "20260101-aaaa",
        "environment": "shop",
        "created_at": datetime(2026, 1, 1, 12, 30, 0, 123456, tzinfo=UTC),
        "system_identifier": "7000000000000000001",
        "database": 'sh"op ü',
        "database_oid": 16384,
        "server_version": "18.4",
        "files": files,
        "tables": {"public.orders": TableState(rows=3, digest="-12", columns={"id": "integer"})},
        "sequences": {"public.orders_id_seq": SequenceState(last_value=3, is_called=True)},
        "schema_objects": {"table public.orders": "CREATE ..."},
        "properties": {"settings": ((None, "work_mem=1MB"),), "connection_limit": -1},
    }
    return Manifest(**{**given, **overrides})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A finished and signed backup of three files."""
    top = tmp_path / "20260101-aaaa"
    (top / "dump").mkdir(parents=True)
    (top / "dump" / "toc.dat").write_bytes(os.urandom(100))
    (top / "dump" / "2574.dat.gz").write_bytes(os.urandom(3_000_000))
    (top / "liquibase.json").write_text("{}")
    found = digests.of_files([p for p in top.rglob("*") if p.is_file()], jobs=2)
    manifest.write(top, of(manifest.entries(top, found)), KEY)
    return top


def test_what_was_written_is_read_again(folder: Path) -> None:
    read = manifest.verify(folder, KEY.public)
    assert read == of(read.files, checksum=read.checksum, signature=read.signature)
    assert [file.path for file in read.files] == ["dump/2574.dat.gz", "dump/toc.dat", "liquibase.json"]
    assert read.size_bytes == 3_000_102
    assert stat.S_IMODE((folder / manifest.FILE_NAME).stat().st_mode) == 0o600


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def grow(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"\n")


def link(path: Path) -> None:
    path.rename(path.parent.parent.parent / "elsewhere")
    path.symlink_to(path.parent.parent.parent / "elsewhere")


def pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


@pytest.mark.parametrize("name", ["dump/2574.dat.gz", "dump/toc.dat"])
@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (flip, "its content differs"),
        (truncate, "bytes instead of"),
        (grow, "bytes instead of"),
        (lambda path: path.write_bytes(b""), "has 0 bytes instead of"),
        (Path.unlink, "is missing"),
        (link, "symbolic link"),
        (pipe, "not a regular file"),
    ],
)
def test_every_damage_is_found_and_named(folder: Path, name: str, damage: Callable[[Path], None], said: str) -> None:
    damage(folder / name)
    with pytest.raises(BackupFailed, match=f"{name}: .*{said}|{name}: {said}") as caught:
        manifest.verify(folder, KEY.public)
    assert caught.value.code == "backup_damaged"


def test_every_damaged_file_is_named_at_once(folder: Path) -> None:
    flip(folder / "dump/2574.dat.gz")
    flip(folder / "dump/toc.dat")
    with pytest.raises(BackupFailed, match=r"2574\.dat\.gz: .*toc\.dat: "):
        manifest.verify(folder, KEY.public)


@pytest.mark.parametrize("name", ["dump/9.dat.gz", "extra", ".hidden"])
def test_extra_file_is_named(folder: Path, name: str) -> None:
    (folder / name).write_text("x")
    with pytest.raises(BackupFailed, match=f"{name}: is not in the manifest"):
        manifest.read(folder, KEY.public)


def test_extra_folder_and_link_to_a_folder_are_named(folder: Path) -> None:
    (folder / "more").mkdir()
    (folder / "away").symlink_to("/")
    with pytest.raises(BackupFailed, match=r"away: is not in the manifest; more: is a folder"):
        manifest.read(folder, KEY.public)


def test_folder_that_became_a_link_is_not_followed(folder: Path) -> None:
    (folder / "dump").rename(folder.parent / "elsewhere")
    (folder / "dump").symlink_to(folder.parent / "elsewhere")
    with pytest.raises(BackupFailed, match="dump: is not in the manifest"):
        manifest.verify(folder, KEY.public)


def rewrite(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """As somebody would who knows the format, but has no key."""
    path = folder / manifest.FILE_NAME
    document = json.loads(path.read_text())
    change(document)
    covered = {name: value for name, value in document.items() if name not in ("checksum", "signature")}
    document["checksum"] = hashlib.sha256(canonical(covered)).hexdigest()
    path.write_text(json.dumps(document))


def test_damage_to_the_manifest_itself_is_found_without_a_key(folder: Path) -> None:
    path = folder / manifest.FILE_NAME
    good = path.read_text()
    for old, new in (('"rows": 3', '"rows": 2'), ('"checksum": "', '"checksum": "0'), ('"checksum"', '"checkmate"')):
        path.write_text(good.replace(old, new))
        with pytest.raises(BackupFailed, match=r"manifest\.json: its content differs from its checksum"):
            manifest.read(folder)


@pytest.mark.parametrize(
    "path",
    ["../outside", "dump/../../outside", "/etc/passwd", "dump//toc.dat", "./x", "", "dump\\x", "a\nb", "manifest.json"],
)
def test_path_that_leads_elsewhere_is_refused(folder: Path, path: str) -> None:
    rewrite(folder, lambda document: document["files"][0].update(path=path))
    with pytest.raises(BackupFailed, match=r"files\.0\.path"):
        manifest.read(folder)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda d: d.update(format_version=2), "format version 2"),
        (lambda d: d.pop("format_version"), "format version None"),
        (lambda d: d.update(format_version=True), "format version True"),
        (lambda d: d.update(surprise=1), "surprise"),
        (lambda d: d.pop("database"), "database"),
        (lambda d: d["files"][0].update(size_bytes=-1), r"files\.0\.size_bytes"),
        (lambda d: d["files"][0].update(sha256="A" * 64), r"files\.0\.sha256"),
        (lambda d: d["files"].append(d["files"][0]), "named twice"),
        (lambda d: d.update(created_at="2026-01-01T00:00:00"), "created_at"),
    ],
)
def test_manifest_that_is_not_understood_is_refused(
    folder: Path, change: Callable[[dict[str, Any]], object], said: str
) -> None:
    rewrite(folder, change)
    with pytest.raises(BackupFailed, match=said):
        manifest.read(folder)


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b"null", b"\xff\xfe", b"[" * 200_000, b'{"id": NaN}', b'{"id": 1, "id": 1}', b'"x"'],
)
def test_broken_json_is_refused(folder: Path, content: bytes) -> None:
    (folder / manifest.FILE_NAME).write_bytes(content)
    for keys in (None, KEY.public):
        with pytest.raises(BackupFailed, match=r"manifest\.json"):
            manifest.read(folder, keys)


def test_backup_without_manifest_was_never_finished(folder: Path) -> None:
    (folder / manifest.FILE_NAME).unlink()
    with pytest.raises(BackupFailed, match="never finished"):
        manifest.read(folder)


def test_manifest_that_is_a_link_or_a_pipe_is_not_read(folder: Path) -> None:
    path = folder / manifest.FILE_NAME
    path.rename(folder.parent / "elsewhere.json")
    path.symlink_to(folder.parent / "elsewhere.json")
    with pytest.raises(BackupFailed, match=r"manifest\.json: cannot be read"):
        manifest.read(folder)
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(BackupFailed, match=r"manifest\.json"):
        manifest.read(folder)


def test_changed_or_missing_signature_is_refused_where_keys_are_configured(folder: Path) -> None:
    rewrite(folder, lambda document: document.update(database="other"))
    with pytest.raises(BackupFailed, match="does not fit") as caught:
        manifest.read(folder, KEY.public)
    assert caught.value.code == "backup_signature"
    assert manifest.read(folder).database == "other"
    assert manifest.read(folder, PublicKeys()).database == "other"
    for signature in (None, 5):
        rewrite(folder, lambda document, s=signature: document.update(signature=s))
        with pytest.raises(BackupFailed, match="not signed"):
            manifest.read(folder, KEY.public)
    rewrite(folder, lambda document: document.pop("signature"))
    with pytest.raises(BackupFailed, match="not signed"):
        manifest.read(folder, KEY.public)


def test_signature_by_an_unknown_key_is_refused(folder: Path) -> None:
    other = SigningKey("o" * 16, Ed25519PrivateKey.generate())
    with pytest.raises(BackupFailed, match="not among the public keys"):
        manifest.read(folder, other.public)


def test_manifest_is_not_written_over_files_that_are_not_there(tmp_path: Path) -> None:
    entry = FileEntry(path="dump/toc.dat", size_bytes=1, sha256="0" * 64)
    with pytest.raises(BackupFailed, match=r"dump/toc\.dat: is missing"):
        manifest.write(tmp_path, of((entry,)))
    assert list(tmp_path.iterdir()) == []


def test_manifest_that_cannot_be_written_leaves_the_old_one(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = manifest.read(folder, KEY.public)

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(BackupFailed, match="No space left on device"):
        manifest.write(folder, before.model_copy(update={"database": "other"}), KEY)
    monkeypatch.undo()
    assert manifest.read(folder, KEY.public) == before


def test_hashing_needs_little_memory(tmp_path: Path) -> None:
    paths = []
    for number in range(3):
        paths.append(tmp_path / str(number))
        with paths[-1].open("wb") as out:
            out.truncate(50_000_000)
    tracemalloc.start()
    found = digests.of_files(paths, jobs=2)
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len({digest.sha256 for digest in found.values()}) == 1
    assert peak_bytes < 8_000_000


def test_file_that_changed_after_it_was_hashed_ahead_is_hashed_again(tmp_path: Path) -> None:
    old_ns = 1_700_000_000_000_000_000
    for name in ("same", "changed", "new"):
        (tmp_path / name).write_text("first")
        os.utime(tmp_path / name, ns=(old_ns, old_ns))
    (tmp_path / "new").unlink()
    with digests.Ahead(tmp_path) as ahead:
        ahead.look()
        (tmp_path / "changed").write_text("later")
        (tmp_path / "new").write_text("new")
        found = ahead.finish(jobs=2)
    assert found == {path: digests.of_file(path) for path in tmp_path.iterdir()}
    assert len(found) == 3


def test_extra_file_must_lie_in_the_folder(folder: Path, tmp_path: Path) -> None:
    assert manifest.extra_files(folder, [folder / "liquibase.json"])[0].size_bytes == 2
    (tmp_path / "outside").write_text("x")
    with pytest.raises(BackupFailed, match="does not lie"):
        manifest.extra_files(folder, [tmp_path / "outside"])
    with pytest.raises(BackupFailed, match="absent"):
        manifest.extra_files(folder, [folder / "absent"])
