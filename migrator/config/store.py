"""Where backups go, when that is S3: the address, and how they are kept there."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, StringConstraints

from migrator.config.settings import Flag, Settings, Text

S3 = "s3://"
_BUCKET = re.compile(r"(?=.{3,63}\Z)[a-z0-9]([a-z0-9.-]*[a-z0-9])?")
_PART = re.compile(r"[A-Za-z0-9!_.*'()=@-]+")
_LONGEST_PREFIX = 512  # a key has 1024 bytes


@dataclass(frozen=True, kw_only=True)
class S3Address:
    """A bucket and what all keys in it begin with, without a slash at its end."""

    bucket: str
    prefix: str

    def __str__(self) -> str:
        return f"{S3}{self.bucket}/{self.prefix}"


def is_s3(store: str) -> bool:
    return store.startswith(S3)


def s3_address(store: str) -> S3Address:
    """The address that s3://bucket/prefix means. Raises: ValueError that says what is wrong and what to write."""
    bucket, _, prefix = store.removeprefix(S3).partition("/")
    prefix = prefix.removesuffix("/")
    if not _BUCKET.fullmatch(bucket) or ".." in bucket:
        raise ValueError(f"{bucket!r} is not the name of a bucket; write s3://bucket/prefix")
    if not prefix:
        raise ValueError(f"{S3}{bucket} names no prefix; write {S3}{bucket}/migrator")
    if len(prefix) > _LONGEST_PREFIX:
        raise ValueError(f"the prefix is longer than {_LONGEST_PREFIX} characters")
    for part in prefix.split("/"):
        if part in ("", ".", ".."):
            raise ValueError(f"a part of the prefix is {part!r}; write {S3}{bucket}/one/two")
        if not _PART.fullmatch(part):
            raise ValueError(f"{part!r} in the prefix has characters that keys had better not have")
    return S3Address(bucket=bucket, prefix=prefix)


def checked(store: str) -> str:
    """A folder, or a good s3:// address. What holds a reference is looked at once that is resolved."""
    if "${" in store:
        return store
    if is_s3(store):
        s3_address(store)
    elif "://" in store:
        raise ValueError(f"{store.split('://', maxsplit=1)[0]}:// is not known; name a folder, or s3://bucket/prefix")
    return store


StoreText = Annotated[Text, AfterValidator(checked)]


class StoreSettings(Settings):
    """How a store that is s3://bucket/prefix is used."""

    spool: Flag = True
    """true: a dump is made on the local disk in parallel, then sent. false: pg_dump streams it, by one connection."""
    kms_key: Text | None = None
    """The KMS key, by ARN, id or alias, that objects are encrypted with. Default: the bucket's own encryption."""
    bucket_owner: Annotated[str, StringConstraints(pattern=r"^\d{12}$")] | None = None
    """The account that the bucket belongs to: in another's, every call is refused."""
    retain_days: Annotated[int, Field(strict=True, ge=1, le=36500)] | None = None
    """Days for which Object Lock keeps a backup from being deleted. Default: the bucket's own rule."""
    retain_mode: Literal["GOVERNANCE", "COMPLIANCE"] = "GOVERNANCE"
    """GOVERNANCE: a role with the right may lift it. COMPLIANCE: nobody can."""
    connections: Annotated[int, Field(strict=True, ge=1, le=32)] = 4
    """Parts that are sent or fetched at the same time. Each takes up to its size of memory when streamed."""
    part_mb: Annotated[int, Field(strict=True, ge=5, le=1024)] = 16
    """Megabytes (MiB) of a part, at least; of a large file more, as S3 takes 10,000 parts."""
