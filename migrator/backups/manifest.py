"""What a backup consists of and what it must restore to; written last, so that a backup with a manifest is whole."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path, PurePosixPath

from migrator.backups import digests
from migrator.backups.records import (
    FILE_NAME,
    ExtensionState,
    FileEntry,
    Manifest,
    SequenceState,
    TableState,
    created,
)
from migrator.backups.sealing import MAX_BYTES, damaged, seal, unseal
from migrator.backups.signing import PublicKeys, SigningKey
from migrator.errors import BackupFailed
from migrator.failpoints import Effect, effect

__all__ = [
    "FILE_NAME",
    "ExtensionState",
    "FileEntry",
    "Manifest",
    "SequenceState",
    "TableState",
    "created",
    "entries",
    "extra_files",
    "read",
    "verify",
    "write",
]


@effect(Effect.MANIFEST)
def write(folder: Path, manifest: Manifest, key: SigningKey | None = None) -> Manifest:
    """The manifest stands in `folder`, signed where there is a key, and is on disk; so is every file it names.

    Safe to repeat: the manifest is replaced whole. Returns it as it was written.
    Raises: BackupFailed when a file is not there with its size, or the disk is full.
    """
    _refuse(folder, _problems(folder, manifest.files))
    sealed, data = seal(manifest, key)
    temporary = folder / f".{FILE_NAME}.new"
    try:
        for file in manifest.files:
            _sync(folder / file.path)
        for inner in {(folder / file.path).parent for file in manifest.files}:
            _sync(inner)
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
        with open(descriptor, "wb") as out:
            out.write(data)
            out.flush()
            os.fsync(out.fileno())
        temporary.replace(folder / FILE_NAME)
        _sync(folder)
        _sync(folder.parent)
    except OSError as error:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise BackupFailed(
            f"The manifest of the backup {folder} could not be written: {error.strerror or error}.",
            hint="Make room at the backup store and run again; the backup without a manifest does not count.",
        ) from error
    return sealed


def read(folder: Path, public_keys: PublicKeys | None = None) -> Manifest:
    """The manifest of the backup in `folder`, which has exactly its files, with their sizes; contents are not read.

    Raises: BackupFailed naming every file that is not as it should be.
    """
    manifest = unseal(_data(folder), folder.name, str(folder.parent), public_keys)
    _refuse(folder, _problems(folder, manifest.files))
    return manifest


def verify(folder: Path, public_keys: PublicKeys | None = None, *, jobs: int = 2) -> Manifest:
    """The manifest of the backup in `folder`, every byte of which has been read and is what the manifest says.

    Raises: BackupFailed naming every file that is not as it should be.
    """
    manifest = read(folder, public_keys)
    try:
        found = digests.of_files((folder / file.path for file in manifest.files), jobs=jobs)
    except OSError as error:
        raise _damaged(folder, [f"{error.filename}: cannot be read: {error.strerror}"]) from error
    wrong = [
        f"{file.path}: its content differs from its SHA-256"
        for file in manifest.files
        if found[folder / file.path] != digests.Digest(size_bytes=file.size_bytes, sha256=file.sha256)
    ]
    _refuse(folder, wrong)
    return manifest


def entries(folder: Path, found: Mapping[Path, digests.Digest]) -> tuple[FileEntry, ...]:
    """These files' digests as entries of the manifest in `folder`, in the order of their paths."""
    return tuple(
        FileEntry(path=path.relative_to(folder).as_posix(), size_bytes=digest.size_bytes, sha256=digest.sha256)
        for path, digest in sorted(found.items())
    )


def extra_files(folder: Path, paths: Iterable[Path], *, jobs: int = 1) -> tuple[FileEntry, ...]:
    """Entries for files that the run put into the backup's folder beside the dump.

    Raises: BackupFailed when one cannot be read or lies elsewhere.
    """
    listed = list(paths)
    for path in listed:
        if not path.is_relative_to(folder):
            raise BackupFailed(f"{path} does not lie in the backup's folder {folder}.")
    try:
        return entries(folder, digests.of_files(listed, jobs=jobs))
    except OSError as error:
        raise BackupFailed(f"{error.filename} cannot be read: {error.strerror}.") from error


def _data(folder: Path) -> bytes:
    try:
        descriptor = os.open(folder / FILE_NAME, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
        with open(descriptor, "rb") as file:
            return file.read(MAX_BYTES + 1)
    except FileNotFoundError as error:
        raise _damaged(folder, [f"{FILE_NAME}: is missing, so the backup was never finished"]) from error
    except OSError as error:
        raise _damaged(folder, [f"{FILE_NAME}: cannot be read: {error.strerror}"]) from error


def _problems(folder: Path, files: Sequence[FileEntry]) -> list[str]:
    """What is missing, of another size, of another kind or not named. Nothing is followed out of the folder."""
    expected = {file.path: file.size_bytes for file in files}
    folders = {str(parent) for path in expected for parent in PurePosixPath(path).parents} - {"."}
    problems = []
    present: set[str] = set()
    for path, mode, size_bytes in _walk(folder, folder):
        if path in (FILE_NAME, f".{FILE_NAME}.new"):
            continue
        if stat.S_ISDIR(mode):
            if path not in folders:
                problems.append(f"{path}: is a folder that the manifest does not name")
            continue
        if path not in expected:
            problems.append(f"{path}: is not in the manifest")
            continue
        present.add(path)
        if stat.S_ISLNK(mode):
            problems.append(f"{path}: is a symbolic link")
        elif not stat.S_ISREG(mode):
            problems.append(f"{path}: is not a regular file")
        elif size_bytes != expected[path]:
            problems.append(f"{path}: has {size_bytes} bytes instead of {expected[path]}")
    problems += [f"{path}: is missing" for path in expected if path not in present]
    return sorted(problems)


def _walk(folder: Path, top: Path) -> list[tuple[str, int, int]]:
    found = []
    try:
        with os.scandir(folder) as listing:
            for item in listing:
                status = item.stat(follow_symlinks=False)
                found.append((Path(item.path).relative_to(top).as_posix(), status.st_mode, status.st_size))
                if stat.S_ISDIR(status.st_mode):
                    found += _walk(Path(item.path), top)
    except OSError as error:
        raise _damaged(top, [f"{error.filename}: cannot be read: {error.strerror}"]) from error
    return found


def _refuse(folder: Path, problems: Sequence[str]) -> None:
    if problems:
        raise _damaged(folder, problems)


def _damaged(folder: Path, problems: Sequence[str]) -> BackupFailed:
    return damaged(folder.name, str(folder.parent), problems)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
