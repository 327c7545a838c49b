"""Objects on their way out of a bucket: fetched ahead by several connections, in order, in memory that has a limit."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field

from migrator.backups.records import FileEntry
from migrator.backups.store.bucket import Bucket
from migrator.backups.store.uploads import MIB
from migrator.errors import BackupFailed

_TELL_EVERY_S = 1.0


@dataclass(kw_only=True)
class Downloads:
    """The files of one backup, under `folder` of the bucket."""

    bucket: Bucket
    folder: str  # with a slash at its end
    timeout_s: float
    progress: Callable[[str], None]
    _passed_bytes: int = field(default=0, init=False)
    _began_at: float = field(default_factory=time.monotonic, init=False)
    _told_at: float = field(default_factory=time.monotonic, init=False)

    def files(self, files: Sequence[FileEntry]) -> Iterator[tuple[FileEntry, Iterator[bytes]]]:
        """Each file with its bytes in pieces; those of one must have been taken before the next is asked for.

        Raises: BackupFailed, code `absent` for an object that is not there.
        """
        size, count = self.bucket.settings.part_mb * MIB, self.bucket.settings.connections
        total = sum(file.size_bytes for file in files)
        waiting = iter(
            [
                (file, first, min(size, file.size_bytes - first))
                for file in files
                for first in range(0, max(file.size_bytes, 1), size)
            ]
        )
        ahead: list[Future[bytes]] = []
        with ThreadPoolExecutor(count, thread_name_prefix="s3-fetch") as pool:

            def following() -> bytes:
                while len(ahead) < count and (task := next(waiting, None)) is not None:
                    ahead.append(pool.submit(self._fetch, *task))
                data = ahead.pop(0).result()
                self._passed(len(data), total)
                return data

            try:
                for file in files:
                    yield file, (following() for _ in range(max(1, -(-file.size_bytes // size))))
            finally:
                pool.shutdown(wait=True, cancel_futures=True)

    def _fetch(self, file: FileEntry, first: int, count: int) -> bytes:
        return self.bucket.get(self.folder + file.path, first=first, count=count, version_id=file.version_id)

    def _passed(self, count: int, total: int) -> None:
        self._passed_bytes += count
        now, place = time.monotonic(), self.bucket.url(self.folder)
        if now - self._began_at > self.timeout_s:
            raise BackupFailed(
                f"Fetching {place} has not ended after {self.timeout_s:g} s.",
                hint="Raise limits.backup_timeout_s, or store.connections.",
                code="timeout",
            )
        if now - self._told_at >= _TELL_EVERY_S:
            self._told_at = now
            self.progress(f"reading {place}: {self._passed_bytes / 1e6:.0f} of {total / 1e6:.0f} MB")
