"""Objects on their way into a bucket: in parts, several at a time, in memory that does not grow with them."""

from __future__ import annotations

import base64
import hashlib
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

from migrator.aws.refusals import code_of
from migrator.backups import failures
from migrator.backups.digests import Digest
from migrator.backups.store.bucket import Bucket, checksum, version_of
from migrator.errors import BackupFailed, MigratorError
from migrator.failpoints import Effect, doing

MIB = 1024 * 1024
_MOST_PARTS = 10_000
_GROWS_EVERY = 1000  # parts of an object whose size is not known
_TELL_EVERY_S = 1.0
_HEED_EVERY_S = 0.5

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Sent:
    """An object that is there, as S3 confirmed it."""

    digest: Digest
    version_id: str | None


@dataclass
class _Object:
    """One of many parts, under way."""

    key: str
    upload_id: str
    parts: list[Future[dict[str, Any]]]
    digests: list[bytes]


class Uploads:
    """Sends objects by several connections; leaving the block with an error gives up what is not finished.

    Each part has its SHA-256, which S3 compares before it takes it. At most as many parts as there are connections
    are in memory, and one more. `heed` is called all the while in the thread that waits, and ends it by raising.
    """

    def __init__(
        self,
        bucket: Bucket,
        *,
        timeout_s: float,
        progress: Callable[[str], None],
        heed: Callable[[], None],
        total: int | None,
    ) -> None:
        count = bucket.settings.connections
        self._stopped = threading.Event()
        self._bucket = replace(bucket, pause=self._pause)
        self._timeout_s = timeout_s
        self._progress = progress
        self._heed = heed
        self._total = total  # bytes to be sent in all; None: not known
        self._began_at = self._told_at = time.monotonic()
        self._pool = ThreadPoolExecutor(count, thread_name_prefix="s3-upload")
        self._room = threading.Semaphore(count)
        self._sent_bytes = 0
        self._lock = threading.Lock()
        self._open: dict[str, str] = {}  # key -> upload id
        self._small: dict[str, tuple[Future[str | None], Digest]] = {}

    def __enter__(self) -> Uploads:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self._pool.shutdown(wait=True)
            return
        self._stopped.set()
        self._pool.shutdown(wait=True, cancel_futures=True)
        bucket = replace(self._bucket, pause=None)  # giving up has attempts of its own
        for key, upload_id in self._open.items():
            try:
                bucket.abort_upload(key, upload_id)
            except MigratorError as left:
                failures.tell(error, f"The parts of {bucket.url(key)} could not be given up: {left.message}")
            else:
                failures.tell(error, f"The upload of {bucket.url(key)} was given up.")

    def begin(self, key: str, pieces: Iterable[bytes]) -> Sent | None:
        """The object is there; or, when it is of one part, on its way: see `finish`.

        The upload is completed only when the pieces came to their end: an error of theirs leaves no object.
        Raises: BackupFailed; what the pieces raise.
        """
        whole = hashlib.sha256()
        size = 0
        under_way: _Object | None = None
        for piece, is_last in _with_last(pieces):
            whole.update(piece)
            size += len(piece)
            self._wait_for_room()
            if under_way is None and is_last:
                digest = Digest(size_bytes=size, sha256=whole.hexdigest())
                self._small[key] = (self._pool.submit(self._put, key, piece), digest)
                return None
            if under_way is None:
                under_way = self._create(key)
            number = len(under_way.parts) + 1
            under_way.digests.append(hashlib.sha256(piece).digest())
            under_way.parts.append(self._pool.submit(self._send, under_way, number, piece))
            _raise_first(under_way.parts)
        if under_way is None:
            raise BackupFailed(f"There is nothing to be written to {self._bucket.url(key)}.")
        return Sent(
            digest=Digest(size_bytes=size, sha256=whole.hexdigest()), version_id=self._complete(under_way, size)
        )

    def finish(self) -> dict[str, Sent]:
        """Every object of one part is there, by key. Raises: BackupFailed of the first that is not."""
        return {
            key: Sent(digest=digest, version_id=self._answer(future)) for key, (future, digest) in self._small.items()
        }

    def _pause(self, seconds: float) -> None:
        if self._stopped.wait(seconds):
            raise BackupFailed("The backup is not sent any more.")

    def _wait_for_room(self) -> None:
        while (left_s := self._timeout_s - (time.monotonic() - self._began_at)) > 0:
            self._heed()
            if self._room.acquire(timeout=min(left_s, _HEED_EVERY_S)):
                return
        raise BackupFailed(
            f"Sending the backup to {self._bucket.address} has not ended after {self._timeout_s:g} s.",
            hint="Raise limits.backup_timeout_s, or store.connections.",
            code="timeout",
        )

    def _answer(self, future: Future[T]) -> T:
        while not wait([future], timeout=_HEED_EVERY_S).done:
            self._heed()
        return future.result()

    def _put(self, key: str, data: bytes) -> str | None:
        try:
            return self._bucket.put(key, data)
        finally:
            self._passed(len(data))

    def _send(self, under_way: _Object, number: int, data: bytes) -> dict[str, Any]:
        bucket, expected = self._bucket, checksum(data)
        try:
            with doing(Effect.PROVIDER_CALL):
                answer = bucket.s3.idempotent(
                    lambda s3: s3.upload_part(
                        **bucket.ours,
                        Key=under_way.key,
                        UploadId=under_way.upload_id,
                        PartNumber=number,
                        Body=data,
                        ChecksumSHA256=expected,
                    ),
                    doing=f"Sending part {number} of {bucket.url(under_way.key)}",
                )
        finally:
            self._passed(len(data))
        return {"PartNumber": number, "ETag": answer["ETag"], "ChecksumSHA256": expected}

    def _passed(self, count: int) -> None:
        self._room.release()
        with self._lock:
            self._sent_bytes += count
            now = time.monotonic()
            if now - self._told_at < _TELL_EVERY_S:
                return
            self._told_at = now
            of = f" of {self._total / 1e6:.0f}" if self._total is not None else ""
            self._progress(f"sending to {self._bucket.address}: {self._sent_bytes / 1e6:.0f}{of} MB")

    def _create(self, key: str) -> _Object:
        bucket = self._bucket
        with doing(Effect.PROVIDER_CALL):
            # Safe to repeat: one whose answer was lost is given up with everything else under the backup's id.
            answer = bucket.s3.idempotent(
                lambda s3: s3.create_multipart_upload(
                    **bucket.ours, **bucket.kept(), Key=key, ChecksumAlgorithm="SHA256"
                ),
                doing=f"Beginning the upload of {bucket.url(key)}",
            )
        self._open[key] = answer["UploadId"]
        return _Object(key=key, upload_id=answer["UploadId"], parts=[], digests=[])

    def _complete(self, under_way: _Object, size: int) -> str | None:
        """The object is there, of this size and of these parts. Raises: BackupFailed."""
        bucket, key = self._bucket, under_way.key
        parts = [self._answer(future) for future in under_way.parts]
        answered: list[dict[str, Any]] = []

        def complete(s3: Any) -> None:
            with doing(Effect.PROVIDER_CALL):
                answer = s3.complete_multipart_upload(
                    **bucket.ours, Key=key, UploadId=under_way.upload_id, MultipartUpload={"Parts": parts}
                )
            answered.append(answer)

        try:
            bucket.s3.idempotent(complete, doing=f"Completing the upload of {bucket.url(key)}")
        except BackupFailed as error:
            # The answer to an attempt that did it may have been lost; what is there says whether it was.
            if code_of(error) != "NoSuchUpload":
                raise
        there = bucket.size_of(key)
        told = answered[-1].get("ChecksumSHA256") if answered else None
        expected = _composite(under_way.digests)
        if there != size or (told is not None and told != expected):
            raise BackupFailed(
                f"{bucket.url(key)} is not what was sent: it has {there} bytes, {size} were sent.",
                hint="Take the backup again; if it comes back, look at what lies between here and S3.",
                code="backup_damaged",
            )
        self._open.pop(key, None)
        return version_of(answered[-1]) if answered else None


def pieces_of(path: Path, part_bytes: int) -> Iterator[bytes]:
    """The file in pieces, of which there are at most as many as S3 takes. Raises: OSError."""
    size = max(part_bytes, -(-path.stat().st_size // _MOST_PARTS))
    with path.open("rb", buffering=0) as file:
        while piece := _filled(file, size):
            yield piece


def size_of_piece(part_bytes: int, number: int) -> int:
    """The size of the Nth piece, from 0, where the whole is not known: it grows, so that S3 takes them all.

    Of 16 MiB it is 880 GiB in 10,000 parts.
    """
    return part_bytes * (1 + number // _GROWS_EVERY)


def _filled(file: Any, size: int) -> bytes:
    piece = bytearray()
    while len(piece) < size and (more := file.read(size - len(piece))):
        piece += more
    return bytes(piece)


def _with_last(pieces: Iterable[bytes]) -> Iterator[tuple[bytes, bool]]:
    """Each piece, and whether it is the last. Of nothing it is one piece without bytes."""
    iterator = iter(pieces)
    held = next(iterator, b"")
    for following in iterator:
        yield held, False
        held = following
    yield held, True


def _composite(digests: list[bytes]) -> str:
    """What S3 makes of the checksums of the parts."""
    return f"{base64.b64encode(hashlib.sha256(b''.join(digests)).digest()).decode()}-{len(digests)}"


def _raise_first(futures: list[Future[dict[str, Any]]]) -> None:
    """A part that failed fails the whole at once, and not at its end."""
    for future in futures:
        if future.done() and not future.cancelled():
            future.result()
