"""Backups in a bucket of S3: <prefix>/<id>/<file>, and <prefix>/<id>/manifest.json, which is written last.

Nothing is deleted but what an unfinished upload of the same id has left behind, and what `delete` is told to.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from migrator.backups import failures
from migrator.backups.records import FILE_NAME, FileEntry, Manifest, created
from migrator.backups.sealing import damaged, seal
from migrator.backups.signing import PublicKeys, SigningKey
from migrator.backups.store import Listed, require_id, room, unknown
from migrator.backups.store.bucket import Bucket
from migrator.backups.store.sealed import SealedManifest
from migrator.backups.store.spool import Spool
from migrator.backups.store.transfer import Transfer
from migrator.backups.store.uploads import MIB, size_of_piece
from migrator.errors import BackupFailed
from migrator.failpoints import Effect, doing

_LEFT_OVER = "left_over"  # a fact of the manifest: files of an earlier attempt that could not be deleted


def _silent(_text: str) -> None:
    pass


def _deaf() -> None:
    pass


@dataclass(frozen=True)
class S3Store:
    """Backups under the bucket's prefix; `spool` is a folder of this machine that dumps are made in."""

    bucket: Bucket
    spool: Path
    public_keys: PublicKeys | None = None
    timeout_s: float = 3600.0  # for sending a backup, and again for fetching one
    progress: Callable[[str], None] = _silent
    heed: Callable[[], None] = _deaf  # called while a backup is sent; ends that by raising

    @property
    def place(self) -> str:
        return str(self.bucket.address)

    def location(self, backup_id: str) -> str:
        """Raises: BackupFailed for an id that cannot be one."""
        return f"{self.place}/{require_id(backup_id)}"

    def check(self) -> None:
        """The bucket is there, where and whose it should be. Raises: BackupFailed with the remedy."""
        self.bucket.check()

    def new(self, backup_id: str) -> Path:
        """An empty folder of this machine; nothing of an unfinished backup of this id is in its way.

        Raises: BackupFailed when a finished one is there.
        """
        self._manifest(backup_id).refuse_finished()
        self.quarantine(backup_id)
        return Spool(self.spool).new(backup_id)

    def receive(self, backup_id: str, path: str, pieces: Iterator[bytes]) -> FileEntry:
        """The file `path` of this backup lies in the bucket: what the pieces are, without a copy on this machine.

        Raises: BackupFailed, and there is no such file; what the pieces raise.
        """
        return self._transfer(backup_id).receive(path, pieces)

    def size_of_piece(self, number: int) -> int:
        """The size of the Nth piece, from 0, that `receive` wants to be given."""
        return size_of_piece(self.bucket.settings.part_mb * MIB, number)

    def publish(self, manifest: Manifest, key: SigningKey | None = None) -> Manifest:
        """Every file lies in the bucket, then the manifest; nothing is left on this machine. Safe to repeat.

        Raises: BackupFailed when a file is not what the manifest says, or another backup of this id is there.
        """
        there = self._manifest(manifest.id)
        over = there.refuse_finished()
        folder = self.spool / manifest.id
        with failures.translated(f"Sending the backup {manifest.id} to {self.place} failed"):
            files = self._transfer(manifest.id).send(folder, manifest.files)
        left_over = sorted(self._there(manifest.id).keys() - {file.path for file in files})
        facts = manifest.facts | ({_LEFT_OVER: json.dumps(left_over)} if left_over else {})
        sealed, data = seal(manifest.model_copy(update={"files": files, "facts": facts}), key)
        there.write(data, over=over)
        Spool(self.spool).forget(manifest.id)
        return sealed

    def read(self, backup_id: str) -> Manifest:
        """The manifest of this backup; files are there with their sizes, contents are not read.

        Raises: BackupFailed naming every file that is not as it should be, or the ids that there are.
        """
        try:
            found = self._manifest(backup_id).read()
        except BackupFailed as error:
            if error.code != "absent":
                raise
            if not self._there(backup_id):
                raise unknown(backup_id, self.place, self.listing()) from error
            raise damaged(
                backup_id, self.place, [f"{FILE_NAME}: is missing, so the backup was never finished"]
            ) from error
        there = self._there(backup_id)
        problems = []
        for file in found.files:
            if file.path not in there:
                problems.append(f"{file.path}: is missing")
            elif there[file.path] != file.size_bytes:
                problems.append(f"{file.path}: has {there[file.path]} bytes instead of {file.size_bytes}")
        named = {file.path for file in found.files} | set(json.loads(found.facts.get(_LEFT_OVER, "[]")))
        problems += [f"{path}: is not in the manifest" for path in there.keys() - named]
        if problems:
            raise damaged(backup_id, self.place, sorted(problems))
        return found

    def verify(self, backup_id: str, *, jobs: int = 2) -> Manifest:  # noqa: ARG002  store.connections says how many
        """Every byte of this backup has been fetched and is what its manifest says; nothing of it is kept here.

        Raises: BackupFailed naming every file that is not as it should be.
        """
        found = self.read(backup_id)
        self._transfer(backup_id).verify(found.files)
        return found

    def stream(self, found: Manifest, file: FileEntry) -> Iterator[bytes]:
        """The file's bytes, one after another; the last are given only if all are what the manifest says.

        Raises: BackupFailed.
        """
        return self._transfer(found.id).stream(file)

    @contextmanager
    def opened(self, backup_id: str) -> Iterator[Path]:
        """A folder of this machine with the whole of this backup, every byte as its manifest says; gone afterwards.

        Raises: BackupFailed, also where this machine has not the room.
        """
        found = self.read(backup_id)
        folder = self.spool / f".fetched-{backup_id}"
        Spool(self.spool).require_room(found.size_bytes)
        try:
            with failures.translated(f"Fetching the backup {backup_id} from {self.place} failed"):
                self._transfer(backup_id).fetch(found.files, folder)
            yield folder
        finally:
            with doing(Effect.BACKUP_REMOVE):
                shutil.rmtree(folder, ignore_errors=True)

    def listing(self) -> tuple[Listed, ...]:
        """Every backup, the oldest first, then what does not count as one, and why. Raises: BackupFailed."""
        ids = sorted(self.bucket.folders(f"{self.bucket.address.prefix}/"))
        good, bad = [], []
        with ThreadPoolExecutor(self.bucket.settings.connections, thread_name_prefix="s3-list") as pool:
            for one, found in zip(ids, pool.map(self._listed, ids), strict=True):
                if isinstance(found, Manifest):
                    good.append(found)
                else:
                    bad.append(Listed(id=one, problem=found))
        return (*(Listed(id=item.id, manifest=item) for item in created(good)), *bad)

    def list(self) -> tuple[Manifest, ...]:
        """The manifests of all finished and undamaged backups, the oldest first. Raises: BackupFailed."""
        return tuple(item.manifest for item in self.listing() if item.manifest is not None)

    def free_bytes(self) -> int | None:
        """The room of the folder that dumps are made in; None where they are not. Raises: BackupFailed."""
        return room.free_bytes(self.spool) if self.bucket.settings.spool else None

    def quarantine(self, backup_id: str) -> str:
        """Uploads of this id are given up, and what is there does not count as a backup; says so.

        Its objects are deleted where these credentials may; else they stay, its manifest overwritten, and the next
        manifest of this id names them. Safe to repeat.
        """
        prefix, place = self._key(backup_id, ""), self.location(backup_id)
        Spool(self.spool).forget(backup_id)
        said = []
        try:
            given_up = self.bucket.abort_uploads(prefix)
            if given_up:
                said.append(f"{given_up} uploads to {place} were given up")
            if next(self.bucket.objects(prefix), None) is not None:
                said.append(self._cleared(backup_id))
        except BackupFailed as error:
            said.append(f"What is left of the backup at {place} is not known: {error.message}")
        return f"{'; '.join(said)}." if said else ""

    def _cleared(self, backup_id: str) -> str:
        """Says what became of the objects under this id. Raises: BackupFailed."""
        try:
            self.delete(backup_id)
        except BackupFailed as error:
            if error.code != "aws_denied":
                raise
            self._manifest(backup_id).put_aside()
            return f"what lies at {self.location(backup_id)} may not be deleted and counts for nothing"
        return f"what lay at {self.location(backup_id)} was deleted"

    def locked_until(self, backup_id: str) -> datetime | None:
        """Until when Object Lock keeps its manifest, which was written last. Raises: BackupFailed."""
        try:
            return self.bucket.locked_until(self._key(backup_id, FILE_NAME))
        except BackupFailed as error:
            if error.code == "absent":
                return None
            raise

    def delete(self, backup_id: str) -> None:
        """No version of any of its objects is left, the manifest's first. Safe to repeat. Raises: BackupFailed."""
        self.bucket.delete(self._key(backup_id, ""), first=self._key(backup_id, FILE_NAME))

    def _key(self, backup_id: str, path: str) -> str:
        return f"{self.bucket.address.prefix}/{require_id(backup_id)}/{path}"

    def _there(self, backup_id: str) -> dict[str, int]:
        """Path -> size of every object of this backup but its manifest."""
        prefix = self._key(backup_id, "")
        found = {one.key.removeprefix(prefix): one.size_bytes for one in self.bucket.objects(prefix)}
        found.pop(FILE_NAME, None)
        return found

    def _manifest(self, backup_id: str) -> SealedManifest:
        return SealedManifest(
            bucket=self.bucket, folder=self._key(backup_id, ""), backup_id=backup_id, public_keys=self.public_keys
        )

    def _listed(self, backup_id: str) -> Manifest | str:
        try:
            return self.read(backup_id)
        except BackupFailed as error:
            if error.code in ("aws_denied", "aws_expired", "aws_login", "aws_busy"):
                raise
            return error.message

    def _transfer(self, backup_id: str) -> Transfer:
        return Transfer(
            bucket=self.bucket,
            folder=self._key(backup_id, ""),
            backup_id=backup_id,
            timeout_s=self.timeout_s,
            progress=self.progress,
            heed=self.heed,
        )
