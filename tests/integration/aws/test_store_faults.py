"""Each single call of a store in S3, denied and with credentials that have expired."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from migrator.backups.store.bucket import Bucket
from migrator.backups.store.s3 import S3Store
from migrator.config.store import StoreSettings, s3_address
from migrator.errors import BackupFailed
from tests.integration.aws.server import Harm, Shop
from tests.integration.aws.test_store import BIG, bucket, made, uploads_left  # noqa: F401  a fixture

pytestmark = pytest.mark.slow

CALLS = 60  # more than all of it makes


def turn(store: S3Store) -> None:
    """Everything that is done with a store."""
    store.check()
    written = made(store, big=BIG)
    store.read("one")
    store.verify("one")
    with store.opened("one"):
        pass
    assert store.list() == (written,)
    store.locked_until("one")
    store.delete("one")


def answered_once(code: str, *, at: int, status: int, heads: str | None = None) -> tuple[Harm, list[str]]:
    """The call of this number is refused; and the names of those that were."""
    seen, refused = [0], list[str]()

    def harm(name: str, call: Callable[[], Any]) -> Any:
        seen[0] += 1
        if seen[0] == at:
            refused.append(name)
            own = heads if heads is not None and ":Head" in name else code
            answer: Any = {"Error": {"Code": own, "Message": "told to"}, "ResponseMetadata": {"HTTPStatusCode": status}}
            raise ClientError(answer, name.partition(":")[2])
        return call()

    return harm, refused


@pytest.fixture
def store(at_aws: Shop, bucket: str, tmp_path: Path) -> S3Store:  # noqa: F811
    where = Bucket(
        address=s3_address(f"s3://{bucket}/shop/backups"),
        settings=StoreSettings(part_mb=5, connections=1),
        account=at_aws.harmed,
    )
    return S3Store(where, spool=tmp_path / "spool")


def test_denied_at_each_call(store: S3Store, at_aws: Shop) -> None:
    denied: dict[str, BackupFailed] = {}
    for number in range(1, CALLS):
        at_aws.harmed.harm, refused = answered_once("AccessDenied", at=number, status=403, heads="403")
        try:
            turn(store)
        except BackupFailed as error:
            denied[refused[0]] = error
        at_aws.harmed.harm = lambda _name, call: call()
        store.quarantine("one")
        assert uploads_left(store) == 0, number
        assert store.list() == (), number
        if not refused:
            break
    assert not refused, "there are more calls than these"
    assert {error.code for error in denied.values()} == {"aws_denied"}
    assert all(error.hint for error in denied.values())
    assert {
        "s3:HeadBucket",
        "s3:HeadObject",
        "s3:GetObject",
        "s3:PutObject",
        "s3:CreateMultipartUpload",
        "s3:UploadPart",
        "s3:CompleteMultipartUpload",
        "s3:ListObjectsV2",
        "s3:ListObjectVersions",
        "s3:DeleteObjects",
    } <= denied.keys()


def test_credentials_that_expire_at_each_call_are_looked_for_anew(store: S3Store, at_aws: Shop) -> None:
    for number in range(1, CALLS):
        at_aws.harmed.harm, refused = answered_once("ExpiredToken", at=number, status=400, heads="400")
        turn(store)
        if not refused:
            break
    assert not refused, "there are more calls than these"
