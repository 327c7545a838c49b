"""SHA-256 of files, in threads, in bounded memory."""

from __future__ import annotations

import hashlib
import os
import threading
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

_CHUNK_BYTES = 1024 * 1024
_SETTLED_S = 1.0
_LOOK_EVERY_S = 0.25


@dataclass(frozen=True, kw_only=True)
class Digest:
    size_bytes: int
    sha256: str  # hexadecimal


class _Stopped(Exception):
    pass


def of_file(path: Path, stop: threading.Event | None = None) -> Digest:
    """The digest of one regular file; a symbolic link is not followed.

    Raises: OSError.
    """
    digest = hashlib.sha256()
    size = 0
    buffer = memoryview(bytearray(_CHUNK_BYTES))
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    with open(descriptor, "rb", buffering=0) as file:
        while count := file.readinto(buffer):
            if stop is not None and stop.is_set():
                raise _Stopped
            digest.update(buffer[:count])
            size += count
    return Digest(size_bytes=size, sha256=digest.hexdigest())


def of_files(paths: Iterable[Path], *, jobs: int) -> dict[Path, Digest]:
    """The digests of these files, the largest started first; an interrupt stops the threads at once.

    Raises: OSError of the first file that cannot be read.
    """
    ordered = sorted(paths, key=lambda path: path.lstat().st_size, reverse=True)
    stop = threading.Event()
    with ThreadPoolExecutor(max_workers=max(jobs, 1), thread_name_prefix="sha256") as pool:
        try:
            pending = {path: pool.submit(of_file, path, stop) for path in ordered}
            return {path: future.result() for path, future in pending.items()}
        finally:
            stop.set()
            pool.shutdown(cancel_futures=True)


@dataclass(frozen=True)
class _Seen:
    inode: int
    size_bytes: int
    modified_ns: int

    @classmethod
    def of(cls, path: Path) -> _Seen:
        stat = path.lstat()
        return cls(stat.st_ino, stat.st_size, stat.st_mtime_ns)


class Ahead:
    """Hashes the files of a folder while another program still writes others.

    A file is hashed as soon as it has been left alone for a second; a digest counts only if the file is the same, by
    inode, size and time of change, when the program has ended. What was too early is hashed again, never trusted.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._stop = threading.Event()
        self._digests: dict[Path, tuple[_Seen, Digest]] = {}
        self._thread = threading.Thread(target=self._run, name="sha256-ahead", daemon=True)

    def __enter__(self) -> Ahead:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()

    def finish(self, *, jobs: int) -> dict[Path, Digest]:
        """The digests of every file in the folder, which nobody writes any more.

        Raises: OSError.
        """
        self._stop.set()
        self._thread.join()
        files = [path for path in self._folder.rglob("*") if not path.is_dir() or path.is_symlink()]
        known = {}
        for path in files:
            seen = self._digests.get(path)
            if seen is not None and seen[0] == _Seen.of(path):
                known[path] = seen[1]
        return known | of_files((path for path in files if path not in known), jobs=jobs)

    def look(self) -> None:
        """What has settled by now is hashed. The thread calls this all the time."""
        for path in self._settled():
            try:
                seen = _Seen.of(path)
                self._digests[path] = (seen, of_file(path, self._stop))
            except OSError:
                continue  # finish() meets the same file and says so
            except _Stopped:
                return

    def _run(self) -> None:
        while not self._stop.wait(_LOOK_EVERY_S):
            self.look()

    def _settled(self) -> list[Path]:
        if not self._folder.is_dir():
            return []
        now_ns = time.time_ns()
        settled = []
        try:
            for path in self._folder.iterdir():
                if path.is_symlink() or not path.is_file():
                    continue
                seen = _Seen.of(path)
                known = self._digests.get(path)
                if now_ns - seen.modified_ns > _SETTLED_S * 1e9 and (known is None or known[0] != seen):
                    settled.append(path)
        except OSError:
            return []  # a file went away while we looked
        return settled
