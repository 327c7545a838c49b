"""The files of one backup on their way to its folder in a bucket, and back: what arrives is what was meant."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from migrator.backups.digests import Digest
from migrator.backups.records import FILE_NAME, FileEntry
from migrator.backups.sealing import damaged
from migrator.backups.store.bucket import Bucket
from migrator.backups.store.downloads import Downloads
from migrator.backups.store.uploads import MIB, Sent, Uploads, pieces_of
from migrator.errors import BackupFailed
from migrator.failpoints import Effect, effect


@dataclass(frozen=True, kw_only=True)
class Transfer:
    bucket: Bucket
    folder: str  # of the backup in the bucket, with a slash at its end
    backup_id: str
    timeout_s: float  # for sending all, and again for fetching
    progress: Callable[[str], None]
    heed: Callable[[], None]  # called while something is sent; ends that by raising

    def receive(self, path: str, pieces: Iterator[bytes]) -> FileEntry:
        """The file lies in the bucket: what the pieces are, without a copy on this machine.

        Raises: BackupFailed, and there is no such file; what the pieces raise.
        """
        with self._uploads(total=None) as uploads:
            key = self.folder + path
            sent = uploads.begin(key, pieces) or uploads.finish()[key]
        return _entry(path, sent)

    def send(self, here: Path, files: Sequence[FileEntry]) -> tuple[FileEntry, ...]:
        """The files of the folder `here` are in the bucket, as it has them now. What was streamed is there already.

        Raises: BackupFailed, OSError.
        """
        waiting = [file for file in files if (here / file.path).exists()]
        streamed = [file for file in files if file not in waiting]
        for file in streamed:
            there = self.bucket.size_of(self.folder + file.path, version_id=file.version_id)
            if there != file.size_bytes:
                raise self._damaged([f"{file.path}: has {there} bytes instead of {file.size_bytes}"])
        sent: dict[str, Sent] = {}
        with self._uploads(total=sum(file.size_bytes for file in waiting)) as uploads:
            for file in sorted(waiting, key=lambda one: one.size_bytes, reverse=True):
                key = self.folder + file.path
                done = uploads.begin(key, pieces_of(here / file.path, self.bucket.settings.part_mb * MIB))
                if done is not None:
                    sent[key] = done
            sent |= uploads.finish()
        entries = []
        for file in waiting:
            entry = _entry(file.path, sent[self.folder + file.path])
            if (entry.size_bytes, entry.sha256) != (file.size_bytes, file.sha256):
                raise damaged(self.backup_id, str(here.parent), [f"{file.path}: changed while it was sent"])
            entries.append(entry)
        return tuple(sorted((*entries, *streamed), key=lambda entry: entry.path))

    def stream(self, file: FileEntry) -> Iterator[bytes]:
        """The file's bytes, one after another; the last are given only if all are what the manifest says.

        Raises: BackupFailed.
        """
        digest = hashlib.sha256()
        held = b""
        for _, pieces in self._files([file]):
            for piece in pieces:
                yield held
                digest.update(piece)
                held = piece
        if digest.hexdigest() != file.sha256:
            raise self._damaged([_differs(file)])
        yield held

    def verify(self, files: Sequence[FileEntry]) -> None:
        """Every byte has been fetched and is what the manifest says; nothing of it is kept here.

        Raises: BackupFailed naming every file that is not as it should be.
        """
        wrong = [_differs(file) for file, pieces in self._files(files) if not _is(file, pieces)]
        if wrong:
            raise self._damaged(wrong)

    @effect(Effect.BACKUP_FILE)
    def fetch(self, files: Sequence[FileEntry], into: Path) -> None:
        """The folder `into` holds the files and the manifest, and nothing else. Raises: as `verify`, and OSError."""
        shutil.rmtree(into, ignore_errors=True)
        into.mkdir(mode=0o700, parents=True)
        wrong = []
        for file, pieces in self._files(files):
            path = into / file.path
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            with path.open("xb") as out:
                if not _is(file, pieces, out.write):
                    wrong.append(_differs(file))
        if wrong:
            raise self._damaged(wrong)
        (into / FILE_NAME).write_bytes(self.bucket.get(self.folder + FILE_NAME))

    def _damaged(self, problems: Sequence[str]) -> BackupFailed:
        return damaged(self.backup_id, str(self.bucket.address), problems)

    def _uploads(self, *, total: int | None) -> Uploads:
        return Uploads(self.bucket, timeout_s=self.timeout_s, progress=self.progress, heed=self.heed, total=total)

    def _files(self, files: Sequence[FileEntry]) -> Iterator[tuple[FileEntry, Iterator[bytes]]]:
        """See `Downloads.files`. Raises: BackupFailed."""
        downloads = Downloads(bucket=self.bucket, folder=self.folder, timeout_s=self.timeout_s, progress=self.progress)
        return downloads.files(files)


def _entry(path: str, sent: Sent) -> FileEntry:
    return FileEntry(
        path=path, size_bytes=sent.digest.size_bytes, sha256=sent.digest.sha256, version_id=sent.version_id
    )


def _is(file: FileEntry, pieces: Iterator[bytes], write: Callable[[bytes], object] | None = None) -> bool:
    """Whether the pieces are the file; each is written too, where that is asked for."""
    digest, size = hashlib.sha256(), 0
    for piece in pieces:
        digest.update(piece)
        size += len(piece)
        if write is not None:
            write(piece)
    found = Digest(size_bytes=size, sha256=digest.hexdigest())
    return found == Digest(size_bytes=file.size_bytes, sha256=file.sha256)


def _differs(file: FileEntry) -> str:
    return f"{file.path}: its content differs from its SHA-256"
