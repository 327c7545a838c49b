"""Stores of backups, a folder and a bucket, through one harness; and what only a bucket can come to."""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from migrator.aws import Account
from migrator.backups import digests, manifest
from migrator.backups.manifest import FILE_NAME, Manifest
from migrator.backups.store import Store
from migrator.backups.store.bucket import Bucket
from migrator.backups.store.local import LocalStore
from migrator.backups.store.s3 import S3Store
from migrator.config.aws import AwsSettings
from migrator.config.store import StoreSettings, s3_address
from migrator.errors import BackupFailed, StepFailed
from tests.integration.aws import proxy as proxies
from tests.integration.aws.proxy import Asked, Proxy, error
from tests.integration.aws.server import REGION

MIB = 1024 * 1024
BIG = secrets.token_bytes(MIB) * 12  # three parts of five
MIDDLE = BIG[:100_000]
SMALL = b"small\n"


def account(url: str, **settings: Any) -> Account:
    return Account(AwsSettings(region=REGION, endpoint_url=url, **settings), sleep=lambda _s: None)


def bucket_at(url: str, name: str, **settings: Any) -> Bucket:
    return Bucket(
        address=s3_address(f"s3://{name}/shop/backups"),
        settings=StoreSettings(part_mb=5, **settings),
        account=account(url),
    )


@pytest.fixture
def bucket(endpoint: str) -> str:
    name = f"b{secrets.token_hex(8)}"
    account(endpoint).client("s3").create_bucket(Bucket=name, CreateBucketConfiguration={"LocationConstraint": REGION})
    return name


@pytest.fixture
def at_s3(endpoint: str, bucket: str, tmp_path: Path) -> S3Store:
    return S3Store(bucket_at(endpoint, bucket), spool=tmp_path / "spool")


@pytest.fixture(params=["local", pytest.param("s3", marks=pytest.mark.slow)])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    return LocalStore(tmp_path / "store") if request.param == "local" else request.getfixturevalue("at_s3")


def described(backup_id: str, folder: Path, **more: Any) -> Manifest:
    found = digests.of_files([path for path in folder.rglob("*") if path.is_file()], jobs=2)
    return Manifest(
        id=backup_id,
        kind="dump",
        run_id="r",
        environment="shop",
        created_at=datetime.now(UTC),
        system_identifier="1",
        database="shop",
        database_oid=1,
        server_version="18.4",
        files=manifest.entries(folder, found),
        **more,
    )


def made(store: Store, backup_id: str = "one", big: bytes = MIDDLE) -> Manifest:
    folder = store.new(backup_id)
    (folder / "dump").mkdir()
    (folder / "dump" / "toc.dat").write_bytes(SMALL)
    (folder / "dump" / "big.dat").write_bytes(big)
    (folder / "dump" / "empty.dat").write_bytes(b"")
    return store.publish(described(backup_id, folder))


def put(store: Store, backup_id: str, path: str, data: bytes | None) -> None:
    """What somebody else does to a file of the store."""
    if isinstance(store, LocalStore):
        there = store.root / backup_id / path
        there.unlink() if data is None else there.write_bytes(data)
        return
    assert isinstance(store, S3Store)
    s3, where = store.bucket.account.client("s3"), {"Bucket": store.bucket.address.bucket}
    key = f"{store.bucket.address.prefix}/{backup_id}/{path}"
    s3.delete_object(**where, Key=key) if data is None else s3.put_object(**where, Key=key, Body=data)


# Both stores


def test_a_published_backup_is_read_verified_listed_opened_and_deleted(store: Store) -> None:
    store.check()
    written = made(store)
    assert store.read("one") == written
    assert store.verify("one") == written
    assert [one.id for one in store.listing()] == ["one"]
    assert store.list() == (written,)
    with store.opened("one") as folder:
        assert (folder / "dump" / "big.dat").read_bytes() == MIDDLE
        assert manifest.verify(folder).id == "one"
    assert store.location("one").startswith(store.place)
    assert store.locked_until("one") is None
    for _ in range(2):
        store.delete("one")
        assert store.listing() == ()


def test_an_id_is_taken_once(store: Store) -> None:
    made(store)
    with pytest.raises(BackupFailed, match="already has a backup one"):
        store.new("one")


def test_what_was_never_published_counts_for_nothing_and_gives_way(store: Store) -> None:
    (store.new("one") / "dump").mkdir()
    assert store.list() == ()
    store.quarantine("one")
    store.quarantine("one")
    written = made(store)
    assert store.list() == (written,)


def test_a_finished_backup_can_be_put_aside(store: Store) -> None:
    made(store)
    store.quarantine("one")
    assert store.list() == ()
    assert made(store, big=b"other" * MIB).files[0].size_bytes == 5 * MIB


@pytest.mark.parametrize(
    ("path", "data", "words"),
    [
        ("dump/big.dat", None, "dump/big.dat: is missing"),
        ("dump/big.dat", MIDDLE[:-1], "bytes instead of"),
        ("dump/more.dat", b"x", "dump/more.dat: is not in the manifest"),
        (FILE_NAME, None, "was never finished"),
        (FILE_NAME, b"{}", "format version None"),
        (FILE_NAME, b"x", "is not JSON"),
    ],
)
def test_a_damaged_backup_is_named_and_not_listed(store: Store, path: str, data: bytes | None, words: str) -> None:
    made(store)
    put(store, "one", path, data)
    with pytest.raises(BackupFailed, match=words):
        store.read("one")
    [listed] = store.listing()
    assert words in (listed.problem or "")


def test_another_content_of_the_same_size_is_found_by_reading_it(store: Store) -> None:
    made(store)
    put(store, "one", "dump/big.dat", MIDDLE[:-1] + b"\0")
    store.read("one")
    with pytest.raises(BackupFailed, match=r"dump/big\.dat: its content differs from its SHA-256"):
        store.verify("one")


@pytest.mark.parametrize("backup_id", ["", "..", "a/b", "../x", "-x", "a" * 200, "x.partial"])
def test_what_is_no_id_leads_nowhere(store: Store, backup_id: str) -> None:
    for call in (store.location, store.new, store.read, store.delete):
        with pytest.raises(BackupFailed, match="is not the id of a backup"):
            call(backup_id)


def test_an_unknown_id_names_those_that_there_are(store: Store) -> None:
    made(store)
    with pytest.raises(BackupFailed, match="has no backup two; it has: one"):
        store.read("two")


# A bucket


def test_a_bucket_holds_a_backup_as_a_folder_does(at_s3: S3Store) -> None:
    test_a_published_backup_is_read_verified_listed_opened_and_deleted(at_s3)


def uploads_left(store: S3Store) -> int:
    found = store.bucket.account.client("s3").list_multipart_uploads(Bucket=store.bucket.address.bucket)
    return len(found.get("Uploads", []))


def test_nothing_stays_on_this_machine(at_s3: S3Store) -> None:
    made(at_s3)
    with at_s3.opened("one"):
        pass
    assert list(at_s3.spool.iterdir()) == []


def test_a_stream_arrives_without_a_file(at_s3: S3Store) -> None:
    folder = at_s3.new("one")
    entry = at_s3.receive("one", "dump.custom", (BIG[at : at + 5 * MIB] for at in range(0, len(BIG), 5 * MIB)))
    assert entry.size_bytes == len(BIG)
    written = at_s3.publish(described("one", folder).model_copy(update={"files": (entry,)}))
    assert b"".join(at_s3.stream(written, written.files[0])) == BIG
    put(at_s3, "one", "dump.custom", BIG[:-1] + b"\0")
    taken = []
    with pytest.raises(BackupFailed, match="differs from its SHA-256"):
        taken.extend(at_s3.stream(written, written.files[0]))
    assert len(b"".join(taken)) < len(BIG)


def test_a_stream_that_fails_leaves_neither_object_nor_upload(at_s3: S3Store) -> None:
    def pieces() -> Iterator[bytes]:
        yield BIG[: 5 * MIB]
        yield BIG[: 5 * MIB]
        raise BackupFailed("pg_dump failed")

    at_s3.new("one")
    with pytest.raises(BackupFailed, match="pg_dump failed") as caught:
        at_s3.receive("one", "dump.custom", pieces())
    assert "was given up" in (caught.value.hint or "")
    assert uploads_left(at_s3) == 0
    assert list(at_s3.bucket.objects("shop/")) == []


def test_an_alarm_ends_an_upload_and_gives_it_up(at_s3: S3Store) -> None:
    heard: list[bool] = []

    def alarm() -> None:
        heard.append(True)
        if len(heard) == 3:  # with two parts on their way
            raise StepFailed("as the watch would say", code="downtime")

    hearing = replace(at_s3, heed=alarm)
    hearing.new("one")
    with pytest.raises(StepFailed, match="as the watch would say"):
        hearing.receive("one", "dump.custom", (BIG[at : at + 5 * MIB] for at in range(0, len(BIG), 5 * MIB)))
    assert uploads_left(at_s3) == 0
    assert list(at_s3.bucket.objects("shop/")) == []


def test_uploads_of_a_killed_process_are_given_up(at_s3: S3Store) -> None:
    s3 = at_s3.bucket.account.client("s3")
    s3.create_multipart_upload(Bucket=at_s3.bucket.address.bucket, Key="shop/backups/one/dump/big.dat")
    s3.create_multipart_upload(Bucket=at_s3.bucket.address.bucket, Key="shop/backups/two/dump/big.dat")
    assert "1 uploads" in at_s3.quarantine("one")
    assert uploads_left(at_s3) == 1


def test_what_may_not_be_deleted_is_named_by_the_next_manifest(at_s3: S3Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(self: Bucket, prefix: str, *, first: str | None = None) -> None:
        raise BackupFailed("AWS denies s3:DeleteObject", code="aws_denied")

    made(at_s3)
    put(at_s3, "one", "dump/stale.dat", b"x")
    monkeypatch.setattr(Bucket, "delete", denied)
    assert "counts for nothing" in at_s3.quarantine("one")
    with pytest.raises(BackupFailed, match="was put aside"):
        at_s3.read("one")
    made(at_s3)
    assert json.loads(at_s3.verify("one").facts["left_over"]) == ["dump/stale.dat"]


def test_the_version_that_was_written_is_the_one_that_is_read(at_s3: S3Store) -> None:
    s3, name = at_s3.bucket.account.client("s3"), at_s3.bucket.address.bucket
    s3.put_bucket_versioning(Bucket=name, VersioningConfiguration={"Status": "Enabled"})
    made(at_s3)
    put(at_s3, "one", "dump/big.dat", MIDDLE[:-1] + b"\0")
    at_s3.verify("one")
    at_s3.delete("one")
    assert "Versions" not in s3.list_object_versions(Bucket=name)


def test_a_lock_is_set_where_it_is_wanted_and_told(endpoint: str, tmp_path: Path) -> None:
    name = f"b{secrets.token_hex(8)}"
    account(endpoint).client("s3").create_bucket(
        Bucket=name,
        ObjectLockEnabledForBucket=True,
        CreateBucketConfiguration={"LocationConstraint": REGION},
    )
    store = S3Store(bucket_at(endpoint, name, retain_days=2), spool=tmp_path / "spool")
    store.check()
    made(store)
    until = store.locked_until("one")
    assert until is not None
    assert timedelta(days=1) < until - datetime.now(UTC) <= timedelta(days=2)


def test_a_bucket_that_cannot_lock_is_refused_where_a_lock_is_wanted(endpoint: str, bucket: str) -> None:
    with pytest.raises(BackupFailed, match="has no Object Lock") as caught:
        bucket_at(endpoint, bucket, retain_days=2).check()
    assert "store.retain_days" in (caught.value.hint or "")


def test_a_bucket_that_is_not_there_is_refused(endpoint: str) -> None:
    with pytest.raises(BackupFailed, match="There is no bucket nowhere"):
        bucket_at(endpoint, "nowhere").check()


def test_encryption_is_asked_for(endpoint: str, bucket: str, tmp_path: Path) -> None:
    store = S3Store(bucket_at(endpoint, bucket, kms_key="alias/shop"), spool=tmp_path / "spool")
    made(store, big=BIG)
    s3 = store.bucket.account.client("s3")
    for path in ("dump/toc.dat", "dump/big.dat", FILE_NAME):
        head = s3.head_object(Bucket=bucket, Key=f"shop/backups/one/{path}")
        assert head["ServerSideEncryption"] == "aws:kms"


# Harm on the way


@pytest.fixture
def harmed(endpoint: str, bucket: str, tmp_path: Path) -> Iterator[tuple[S3Store, Proxy]]:
    with proxies.before(endpoint) as proxy:
        yield S3Store(bucket_at(proxy.url, bucket, connections=2), spool=tmp_path / "spool"), proxy


def times(count: int, which: Callable[[Asked], bool], harm: Any) -> Callable[[Asked], Any]:
    left = [count]

    def does(asked: Asked) -> Any:
        if which(asked) and left[0] > 0:
            left[0] -= 1
            return harm
        return None

    return does


ANY_WRITE = ("PUT", "POST")


@pytest.mark.slow
@pytest.mark.parametrize(
    "harm",
    [
        times(2, lambda asked: asked.method in ANY_WRITE, error(503, "SlowDown")),
        times(2, lambda asked: asked.is_part, "reset"),
        times(1, lambda asked: asked.is_completion, error(200, "InternalError")),
        times(1, lambda asked: asked.is_completion, "cut"),
        times(2, lambda asked: asked.is_part, error(400, "BadDigest")),
    ],
    ids=["503 twice", "reset in a part", "200 with an error", "answer of the completion lost", "spoilt on the way"],
)
def test_a_passing_fault_is_got_over(harmed: tuple[S3Store, Proxy], harm: Callable[[Asked], Any]) -> None:
    store, proxy = harmed
    proxy.harm = harm
    made(store, big=BIG)
    proxy.harm = lambda _asked: None
    store.verify("one")
    assert uploads_left(store) == 0


@pytest.mark.slow
@pytest.mark.parametrize(
    ("harm", "code"),
    [
        (lambda asked: error(503, "SlowDown") if asked.is_part else None, "aws_busy"),
        (lambda asked: "reset" if asked.is_part else None, "aws_busy"),
        (lambda asked: error(403, "AccessDenied") if asked.is_part else None, "aws_denied"),
        (lambda asked: error(400, "ExpiredToken") if asked.is_part else None, "aws_expired"),
        (lambda asked: error(200, "InternalError") if asked.is_completion else None, "aws_busy"),
    ],
    ids=["503 for ever", "reset for ever", "denied", "expired", "never completed"],
)
def test_a_lasting_fault_ends_the_upload_and_gives_it_up(
    harmed: tuple[S3Store, Proxy], harm: Callable[[Asked], Any], code: str
) -> None:
    store, proxy = harmed
    proxy.harm = harm
    with pytest.raises(BackupFailed) as caught:
        made(store, big=BIG)
    assert caught.value.code == code
    assert "was given up" in (caught.value.hint or "")
    if code == "aws_denied":
        assert "s3:PutObject" in caught.value.message
    proxy.harm = lambda _asked: None
    assert uploads_left(store) == 0
    assert store.list() == ()
    parts = [asked for asked in proxy.asked if asked.is_part or asked.is_completion]
    assert len(parts) < 40


@pytest.fixture
def impatient(endpoint: str, bucket: str, tmp_path: Path) -> Iterator[tuple[S3Store, Proxy]]:
    """A store that waits for an answer as long as is configured: three seconds, three times."""
    with proxies.before(endpoint) as proxy:
        where = replace(
            bucket_at(proxy.url, bucket, connections=2),
            account=account(proxy.url, read_timeout_s=3.0, connect_timeout_s=3.0, attempts=3),
        )
        yield S3Store(where, spool=tmp_path / "spool"), proxy


@pytest.mark.slow
@pytest.mark.parametrize("where", ["answer", "body"])
def test_a_part_that_stalls_is_sent_again(impatient: tuple[S3Store, Proxy], where: str) -> None:
    store, proxy = impatient
    left = [2]

    def stalls(asked: Asked) -> bool:
        left[0] -= asked.is_part
        return asked.is_part and left[0] >= 0

    if where == "body":
        proxy.is_deaf = stalls
    else:
        proxy.harm = lambda asked: "stall" if stalls(asked) else None
    made(store, big=BIG)
    store.verify("one")
    assert uploads_left(store) == 0


@pytest.mark.slow
@pytest.mark.parametrize("where", ["answer", "body"])
def test_parts_that_stall_for_ever_end_the_upload_and_it_is_given_up(
    impatient: tuple[S3Store, Proxy], where: str
) -> None:
    store, proxy = impatient
    if where == "body":
        proxy.is_deaf = lambda asked: asked.is_part
    else:
        proxy.harm = lambda asked: "stall" if asked.is_part else None
    with pytest.raises(BackupFailed) as caught:
        made(store, big=BIG)
    assert caught.value.code == "aws_busy"
    assert "was given up" in (caught.value.hint or "")
    assert uploads_left(store) == 0
    assert store.list() == ()
    assert any(asked.is_abortion for asked in proxy.asked)


@pytest.mark.slow
def test_a_short_answer_is_asked_for_again(harmed: tuple[S3Store, Proxy]) -> None:
    store, proxy = harmed
    made(store, big=BIG)
    proxy.harm = times(2, lambda asked: asked.method == "GET" and "big.dat" in asked.path, "cut")
    store.verify("one")


@pytest.mark.slow
def test_answers_that_stay_short_are_an_error_and_no_backup(harmed: tuple[S3Store, Proxy]) -> None:
    store, proxy = harmed
    made(store, big=BIG)
    proxy.harm = lambda asked: "cut" if asked.method == "GET" and "big.dat" in asked.path else None
    with pytest.raises(BackupFailed) as caught:
        store.verify("one")
    assert caught.value.code == "aws_busy"


@pytest.mark.slow
def test_a_manifest_whose_answer_was_lost_is_ours(harmed: tuple[S3Store, Proxy]) -> None:
    store, proxy = harmed
    proxy.harm = times(1, lambda asked: asked.method == "PUT" and FILE_NAME in asked.path, "cut")
    made(store, big=BIG)
    proxy.harm = lambda _asked: None
    assert len(store.list()) == 1


def test_who_may_not_see_the_bucket_is_told_what_is_missing(harmed: tuple[S3Store, Proxy]) -> None:
    store, proxy = harmed
    proxy.harm = lambda asked: error(403, "AccessDenied")
    with pytest.raises(BackupFailed, match="see nothing of the bucket") as caught:
        store.check()
    assert "s3:ListBucket" in (caught.value.hint or "")


def test_a_bucket_of_another_region_is_refused(harmed: tuple[S3Store, Proxy]) -> None:
    store, proxy = harmed
    proxy.harm = lambda _asked: proxies.Answer(200, headers={"x-amz-bucket-region": "eu-west-1"})
    with pytest.raises(
        BackupFailed, match="is in the region eu-west-1, and AWS is worked with in eu-central-1"
    ) as caught:
        store.check()
    assert 'region = "eu-west-1"' in (caught.value.hint or "")


def test_a_bucket_of_another_account_is_refused(harmed: tuple[S3Store, Proxy], bucket: str, tmp_path: Path) -> None:
    _, proxy = harmed
    store = S3Store(bucket_at(proxy.url, bucket, bucket_owner="210987654321"), spool=tmp_path)
    proxy.harm = lambda _asked: error(403, "AccessDenied")
    with pytest.raises(BackupFailed) as caught:
        store.check()
    assert "store.bucket_owner = 210987654321" in (caught.value.hint or "")


def test_every_call_says_whose_the_bucket_must_be(endpoint: str, bucket: str, tmp_path: Path) -> None:
    account = Owned(AwsSettings(region=REGION, endpoint_url=endpoint))
    owned = Bucket(
        address=s3_address(f"s3://{bucket}/shop"),
        settings=StoreSettings(part_mb=5, bucket_owner="123456789012"),
        account=account,
    )
    store = S3Store(owned, spool=tmp_path)
    store.check()
    made(store, big=BIG)
    store.verify("one")
    store.delete("one")
    assert len(account.asked) > 10
    assert [name for name, owner in account.asked if owner != "123456789012"] == []


@dataclass
class Owned(Account):
    """An account that remembers which owner each call to S3 expects."""

    asked: list[tuple[str, str | None]] = field(default_factory=list)

    def client(self, name: str) -> Any:
        client = super().client(name)
        if not hasattr(client, "unheard"):
            client.unheard = client._make_api_call

            def heard(operation: str, parameters: dict[str, Any]) -> Any:
                self.asked.append((operation, parameters.get("ExpectedBucketOwner")))
                return client.unheard(operation, parameters)

            client._make_api_call = heard
        return client
