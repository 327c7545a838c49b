"""A bucket of S3, or of what speaks its language: objects by key, and what must be so before it can be used."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

from migrator.aws import Account, Service
from migrator.aws.refusals import code_of
from migrator.config.store import S3Address, StoreSettings
from migrator.errors import BackupFailed
from migrator.failpoints import Effect, doing

T = TypeVar("T")

_ABSENT = ("404", "NoSuchKey", "NoSuchBucket", "NotFound", "NoSuchVersion", "NoSuchUpload")
_AT_ONCE = 1000  # keys that one request deletes


@dataclass(frozen=True, kw_only=True)
class Found:
    """An object, as a listing shows it."""

    key: str
    size_bytes: int


@dataclass(frozen=True, kw_only=True)
class Bucket:
    address: S3Address
    settings: StoreSettings
    account: Account
    pause: Callable[[float], None] | None = None  # between two attempts; None: the account's own

    @property
    def s3(self) -> Service:
        service = self.account.service("s3", BackupFailed)
        return service if self.pause is None else replace(service, pauses=replace(service.pauses, sleep=self.pause))

    @property
    def ours(self) -> dict[str, Any]:
        """What every call says: the bucket, and whose it must be."""
        owner = self.settings.bucket_owner
        return {"Bucket": self.address.bucket} | ({"ExpectedBucketOwner": owner} if owner else {})

    def kept(self) -> dict[str, Any]:
        """How an object that is written now is encrypted and locked."""
        settings = self.settings
        how: dict[str, Any] = {}
        if settings.kms_key is not None:
            how |= {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": settings.kms_key}
        if settings.retain_days is not None:
            until = datetime.now(UTC) + timedelta(days=settings.retain_days)
            how |= {"ObjectLockMode": settings.retain_mode, "ObjectLockRetainUntilDate": until}
        return how

    def url(self, key: str) -> str:
        return f"s3://{self.address.bucket}/{key}"

    def check(self) -> None:
        """The bucket is there, in the region and of the account that the configuration says, and can lock if it must.

        Raises: BackupFailed with the remedy.
        """
        name = self.address.bucket
        asking = f"Asking for the bucket {name}"
        try:
            answer = self.s3.idempotent(lambda s3: s3.head_bucket(**self.ours), doing=asking)
        except BackupFailed as error:
            raise self._unusable(error) from error
        there = answer["ResponseMetadata"]["HTTPHeaders"].get("x-amz-bucket-region")
        here = self.account.session.region_name
        if there is not None and here is not None and there != here:
            raise BackupFailed(
                f"The bucket {name} of backup.store is in the region {there}, and AWS is worked with in {here}.",
                hint=f'write region = "{there}" under [aws], or name a bucket in {here} as backup.store',
                code="wrong_region",
            )
        if self.settings.retain_days is not None and not self._locks():
            raise BackupFailed(
                f"store.retain_days is set, and the bucket {name} has no Object Lock.",
                hint="turn Object Lock on for the bucket, or leave store.retain_days out",
                code="no_object_lock",
            )

    def put(self, key: str, data: bytes, *, only_over: str | None = None) -> str | None:
        """The object holds these bytes; its version, where the bucket keeps versions.

        `only_over` is "" or an ETag: an object that is there, or another one than that, stays, and the error has the
        code `exists`. Raises: BackupFailed.
        """
        condition: dict[str, Any] = {}
        if only_over is not None:
            condition = {"IfMatch": only_over} if only_over else {"IfNoneMatch": "*"}
        try:
            with doing(Effect.PROVIDER_CALL):
                answer = self.s3.idempotent(
                    lambda s3: s3.put_object(
                        **self.ours,
                        **self.kept(),
                        **condition,
                        Key=key,
                        Body=data,
                        ChecksumAlgorithm="SHA256",
                        ChecksumSHA256=checksum(data),
                    ),
                    doing=f"Writing {self.url(key)}",
                )
        except BackupFailed as error:
            if code_of(error) in ("PreconditionFailed", "ConditionalRequestConflict"):
                raise BackupFailed(f"{self.url(key)} is there already.", code="exists") from error
            raise
        return version_of(answer)

    def get(self, key: str, *, first: int = 0, count: int | None = None, version_id: str | None = None) -> bytes:
        """The object's bytes from `first` on, `count` of them or all. An answer that breaks off is asked for again.

        Raises: BackupFailed, code `absent` where there is none.
        """
        if count == 0:
            return b""
        part = {} if count is None else {"Range": f"bytes={first}-{first + count - 1}"}
        version = {} if version_id is None else {"VersionId": version_id}

        def read(s3: Any) -> bytes:
            from botocore.exceptions import IncompleteReadError

            data: bytes = s3.get_object(**self.ours, **part, **version, Key=key)["Body"].read()
            if count is not None and len(data) != count:
                raise IncompleteReadError(actual_bytes=len(data), expected_bytes=count)
            return data

        return self._unless_absent(lambda: self.s3.idempotent(read, doing=f"Reading {self.url(key)}"), key)

    def size_of(self, key: str, *, version_id: str | None = None) -> int:
        """The object's size. Raises: BackupFailed, code `absent` where there is none."""
        return int(self._head(key, version_id)["ContentLength"])

    def etag(self, key: str) -> str:
        """The object's ETag: another one, another content. Raises: BackupFailed, code `absent` where there is none."""
        return str(self._head(key, None)["ETag"])

    def locked_until(self, key: str) -> datetime | None:
        """Until when the object cannot be deleted; far in the future under a legal hold. Raises: BackupFailed."""
        head = self._head(key, None)
        if head.get("ObjectLockLegalHoldStatus") == "ON":
            return datetime.max.replace(tzinfo=UTC)
        until: datetime | None = head.get("ObjectLockRetainUntilDate")
        return until

    def objects(self, prefix: str) -> Iterator[Found]:
        """Every object whose key begins so. Raises: BackupFailed."""
        for page in self._pages("list_objects_v2", prefix, {}):
            for one in page.get("Contents", []):
                yield Found(key=one["Key"], size_bytes=one["Size"])

    def folders(self, prefix: str) -> Iterator[str]:
        """What stands between the prefix and the next slash, once each. Raises: BackupFailed."""
        for page in self._pages("list_objects_v2", prefix, {"Delimiter": "/"}):
            for one in page.get("CommonPrefixes", []):
                yield one["Prefix"].removeprefix(prefix).removesuffix("/")

    def abort_uploads(self, prefix: str) -> int:
        """No upload of many parts is left open under the prefix; says how many were. Safe to repeat.

        Raises: BackupFailed.
        """
        count = 0
        for page in self._pages("list_multipart_uploads", prefix, {}):
            for one in page.get("Uploads", []):
                self.abort_upload(one["Key"], one["UploadId"])
                count += 1
        return count

    def abort_upload(self, key: str, upload_id: str) -> None:
        """The upload is over, and its parts are gone. Safe to repeat. Raises: BackupFailed."""

        def abort(s3: Any) -> None:
            with doing(Effect.PROVIDER_CALL):
                s3.abort_multipart_upload(**self.ours, Key=key, UploadId=upload_id)

        try:
            self.s3.idempotent(abort, doing=f"Giving up the upload of {self.url(key)}")
        except BackupFailed as error:
            if code_of(error) not in _ABSENT:
                raise

    def delete(self, prefix: str, *, first: str | None = None) -> None:
        """No object is left whose key begins so, in no version; the one called `first` goes before all others.

        Safe to repeat. Raises: BackupFailed, code `aws_denied` where these credentials may not.
        """
        going = [
            {"Key": one["Key"], "VersionId": one["VersionId"]}
            for page in self._pages("list_object_versions", prefix, {})
            for one in (*page.get("Versions", []), *page.get("DeleteMarkers", []))
        ]
        going.sort(key=lambda one: one["Key"] != first)
        split = sum(one["Key"] == first for one in going)
        for group in (going[:split], going[split:]):
            for at in range(0, len(group), _AT_ONCE):
                self._delete(group[at : at + _AT_ONCE], prefix)

    def _delete(self, going: list[dict[str, str]], prefix: str) -> None:
        place = self.url(prefix)
        with doing(Effect.PROVIDER_CALL):
            answer = self.s3.idempotent(
                lambda s3: s3.delete_objects(**self.ours, Delete={"Objects": going, "Quiet": True}),
                doing=f"Deleting {place}",
            )
        refused = [one for one in answer.get("Errors", []) if one.get("Code") not in _ABSENT]
        if refused:
            said = refused[0]
            raise BackupFailed(
                f"Deleting {place} failed: {len(refused)} objects stay, the first is {said.get('Key')}: "
                f"{said.get('Message') or said.get('Code')}",
                hint="allow s3:DeleteObject and s3:DeleteObjectVersion; what Object Lock holds stays until its date",
                code="aws_denied",
            )

    def _locks(self) -> bool:
        try:
            answer = self.s3.idempotent(
                lambda s3: s3.get_object_lock_configuration(**self.ours), doing="Asking for the bucket's Object Lock"
            )
        except BackupFailed as error:
            if code_of(error) == "ObjectLockConfigurationNotFoundError":
                return False
            raise
        return bool(answer.get("ObjectLockConfiguration", {}).get("ObjectLockEnabled") == "Enabled")

    def _head(self, key: str, version_id: str | None) -> dict[str, Any]:
        version = {} if version_id is None else {"VersionId": version_id}
        call = self.s3.idempotent

        def head() -> dict[str, Any]:
            return call(lambda s3: s3.head_object(**self.ours, **version, Key=key), doing=f"Asking for {self.url(key)}")

        return self._unless_absent(head, key)

    def _unless_absent(self, call: Callable[[], T], key: str) -> T:
        try:
            return call()
        except BackupFailed as error:
            if code_of(error) in _ABSENT:
                raise BackupFailed(f"There is no {self.url(key)}.", hint=error.hint, code="absent") from error
            raise

    def _pages(self, operation: str, prefix: str, options: dict[str, Any]) -> Iterator[dict[str, Any]]:
        """The answers to a listing, page by page; each is tried again by itself."""
        token: dict[str, Any] = {}
        next_names = _NEXT[operation]
        while True:
            page: dict[str, Any] = self.s3.idempotent(
                lambda s3: getattr(s3, operation)(**self.ours, Prefix=prefix, **options, **token),  # noqa: B023
                doing=f"Listing {self.url(prefix)}",
            )
            yield page
            token = {to: page[name] for name, to in next_names.items() if page.get(name)}
            if not page.get("IsTruncated") or not token:
                return

    def _unusable(self, error: BackupFailed) -> BackupFailed:
        name, owner = self.address.bucket, self.settings.bucket_owner
        if code_of(error) in _ABSENT:
            return BackupFailed(
                f"There is no bucket {name}.",
                hint="make it, or correct backup.store and [aws] region",
                code="no_bucket",
            )
        if error.code == "aws_denied":
            whose = f", or that it belongs to another account than store.bucket_owner = {owner}" if owner else ""
            return BackupFailed(
                f"AWS lets these credentials see nothing of the bucket {name} of backup.store.",
                hint=f"either s3:ListBucket on it is missing{whose}; see: migrator aws policy",
                code="aws_denied",
            )
        return error


_NEXT = {
    "list_objects_v2": {"NextContinuationToken": "ContinuationToken"},
    "list_multipart_uploads": {"NextKeyMarker": "KeyMarker", "NextUploadIdMarker": "UploadIdMarker"},
    "list_object_versions": {"NextKeyMarker": "KeyMarker", "NextVersionIdMarker": "VersionIdMarker"},
}


def version_of(answer: Mapping[str, Any]) -> str | None:
    """The version that was written, where the bucket keeps versions."""
    version: str | None = answer.get("VersionId")
    return None if version == "null" else version


def checksum(data: bytes) -> str:
    """SHA-256 as S3 writes it."""
    return base64.b64encode(hashlib.sha256(data).digest()).decode()
