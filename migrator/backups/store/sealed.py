"""The manifest of a backup in a bucket: the object that is written last, and read before anything else."""

from __future__ import annotations

from dataclasses import dataclass

from migrator.backups.records import FILE_NAME, Manifest
from migrator.backups.sealing import MAX_BYTES, damaged, unseal
from migrator.backups.signing import PublicKeys
from migrator.backups.store.bucket import Bucket
from migrator.errors import BackupFailed

_PUT_ASIDE = b'{"put_aside": true}\n'  # in place of one that may not be deleted


@dataclass(frozen=True, kw_only=True)
class SealedManifest:
    """The manifest of one backup; it need not be there."""

    bucket: Bucket
    folder: str  # of the backup in the bucket, with a slash at its end
    backup_id: str
    public_keys: PublicKeys | None

    @property
    def key(self) -> str:
        return f"{self.folder}{FILE_NAME}"

    def read(self) -> Manifest:
        """Raises: BackupFailed, code `absent` where there is none."""
        place = str(self.bucket.address)
        if self.bucket.size_of(self.key) > MAX_BYTES:
            raise damaged(self.backup_id, place, [f"{FILE_NAME}: is larger than {MAX_BYTES} bytes"])
        data = self.bucket.get(self.key)
        if data == _PUT_ASIDE:
            raise damaged(self.backup_id, place, [f"{FILE_NAME}: was put aside, so the backup counts for nothing"])
        found = unseal(data, self.backup_id, place, self.public_keys)
        if found.id != self.backup_id:
            raise BackupFailed(f"{place}/{self.backup_id} holds the backup {found.id}, not {self.backup_id}.")
        return found

    def refuse_finished(self) -> str:
        """What stands where it will be: nothing, or the ETag of one that was put aside. Raises: BackupFailed."""
        try:
            etag = self.bucket.etag(self.key)
            count = min(self.bucket.size_of(self.key), len(_PUT_ASIDE))
            if self.bucket.get(self.key, first=0, count=count) == _PUT_ASIDE:
                return etag
        except BackupFailed as error:
            if error.code == "absent":
                return ""
            raise
        raise BackupFailed(f"The store {self.bucket.address} already has a backup {self.backup_id}.")

    def write(self, data: bytes, *, over: str) -> None:
        """It holds these bytes; `over` is what `refuse_finished` said. Raises: BackupFailed where another is there."""
        try:
            self.bucket.put(self.key, data, only_over=over)
        except BackupFailed as error:
            # An attempt whose answer was lost wrote the very same bytes.
            if error.code != "exists" or self.bucket.get(self.key) != data:
                raise

    def put_aside(self) -> None:
        """One that may not be deleted does not count any more. Raises: BackupFailed."""
        try:
            self.bucket.size_of(self.key)
        except BackupFailed as error:
            if error.code == "absent":
                return
            raise
        self.bucket.put(self.key, _PUT_ASIDE)
