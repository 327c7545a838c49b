"""Guarded runs whose backups lie in S3: migrated, restored from there, and every way in which S3 fails them."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from migrator.backups.manifest import FILE_NAME
from migrator.backups.store import Store
from migrator.backups.store.s3 import S3Store
from migrator.runs import stores
from migrator.runs.record import Outcome, RunRecord
from tests.integration.aws import proxy as proxies
from tests.integration.aws.proxy import Asked, Proxy, error
from tests.integration.aws.server import REGION, account
from tests.integration.runs.conftest import shop, template  # noqa: F401  fixtures
from tests.shop import ENVIRONMENT, Shop

STEPWISE = {"way": "stepwise"}
FAILS = "\nselect 1 / 0"
LOSES = ("\ndelete from event where id % 2 = 0", "\nalter table customer drop column home")


@pytest.fixture
def bucket(endpoint: str) -> str:
    name = f"b{secrets.token_hex(8)}"
    account(endpoint).client("s3").create_bucket(Bucket=name, CreateBucketConfiguration={"LocationConstraint": REGION})
    return name


@pytest.fixture
def at_s3(shop: Shop, endpoint: str, bucket: str) -> Shop:  # noqa: F811
    return configured(shop, endpoint, bucket)


def configured(of: Shop, url: str, bucket: str) -> Shop:
    of.toml = (
        f'[environments.{ENVIRONMENT}.backup]\nstore = "s3://{bucket}/shop"\n'
        f'[aws]\nregion = "{REGION}"\nendpoint_url = "{url}"\nlongest_pause_s = 0.01\n'
    )
    return of


@pytest.fixture
def harmed(shop: Shop, endpoint: str, bucket: str) -> Iterator[tuple[Shop, Proxy]]:  # noqa: F811
    with proxies.before(endpoint) as proxy:
        yield configured(shop, proxy.url, bucket), proxy


def store_of(of: Shop) -> Store:
    config = of.config()
    return stores.of_environment(config, config.environment(ENVIRONMENT))


def failing(of: Shop, settings: dict[str, object] | None = None) -> RunRecord:
    return of.run(of.sql(*LOSES, FAILS), {**STEPWISE, **(settings or {})})


@pytest.mark.slow
def test_a_run_keeps_its_backup_in_the_bucket(at_s3: Shop) -> None:
    record = at_s3.run(at_s3.sql("\nalter table customer add column nick text"))
    assert record.outcome is Outcome.MIGRATED, record.error
    [backup] = record.backups
    assert backup.location == f"{store_of(at_s3).place}/{backup.id}"
    store_of(at_s3).verify(backup.id)
    assert list((at_s3.folder / ".migrator" / "spool").iterdir()) == []


@pytest.mark.slow
@pytest.mark.parametrize("spool", [True, False], ids=["spooled", "streamed"])
def test_a_failed_run_is_restored_from_the_bucket(at_s3: Shop, spool: bool) -> None:
    before = at_s3.dump()
    record = failing(at_s3, {"store.spool": spool})
    assert (record.outcome, record.exit_code) == (Outcome.RESTORED, 7), record.error
    assert at_s3.dump() == before
    files = [file.path for file in store_of(at_s3).read(record.backups[0].id).files]
    assert ("dump.custom" in files) is not spool


@pytest.mark.slow
def test_a_streamed_dump_is_never_a_file_here(at_s3: Shop) -> None:
    seen: list[str] = []
    run = at_s3.open(at_s3.sql("\nalter table customer add column nick text"), {"store.spool": False})
    folder = at_s3.folder / ".migrator"
    reporter = run.reporter

    class Looking:
        def __getattr__(self, name: str) -> Any:
            seen.extend(str(path) for path in folder.rglob("*.dat*"))
            seen.extend(str(path) for path in folder.rglob("dump.custom"))
            return getattr(reporter, name)

    run.reporter = Looking()  # type: ignore[assignment]
    record = at_s3._carried_out(run)
    assert record.outcome is Outcome.MIGRATED, record.error
    assert seen == []


@pytest.mark.slow
@pytest.mark.parametrize(
    ("harm", "words"),
    [
        (lambda asked: error(503, "SlowDown") if asked.method == "PUT" else None, "SlowDown"),
        (lambda asked: "reset" if asked.method == "PUT" else None, "Sending|Writing"),
        (lambda asked: error(403, "AccessDenied") if asked.method == "PUT" else None, "s3:PutObject"),
        (lambda asked: error(400, "ExpiredToken") if asked.method == "PUT" else None, "expired"),
        (lambda asked: error(403, "AccessDenied") if FILE_NAME in asked.path and asked.body else None, "s3:PutObject"),
    ],
    ids=["503 for ever", "reset for ever", "denied", "expired", "the manifest alone"],
)
@pytest.mark.parametrize("spool", [True, False], ids=["spooled", "streamed"])
def test_an_upload_that_fails_ends_the_run_before_anything_changed(
    harmed: tuple[Shop, Proxy], harm: Callable[[Asked], Any], words: str, spool: bool
) -> None:
    import re

    of, proxy = harmed
    before = of.dump()
    proxy.harm = harm
    record = of.run(of.sql(*LOSES), {"store.spool": spool})
    assert (record.outcome, record.exit_code) == (Outcome.FAILED_BEFORE, 5), record.error
    assert record.error is not None
    assert re.search(words, record.error.message)
    assert of.dump() == before
    of.app_writes()
    proxy.harm = lambda _asked: None
    assert store_of(of).list() == ()


STREAMED: dict[str, object] = {"store.spool": False, "store.part_mb": 5}
STALLS = "read_timeout_s = 3\nconnect_timeout_s = 3\nattempts = 2\n"


@pytest.mark.slow
@pytest.mark.parametrize("spool", [True, False], ids=["spooled", "streamed"])
@pytest.mark.parametrize("way", ["atomic", "bluegreen"])
def test_an_upload_that_stalls_ends_the_run_before_anything_changed(
    harmed: tuple[Shop, Proxy], spool: bool, way: str
) -> None:
    of, proxy = harmed
    of.toml += STALLS
    before = of.dump()
    proxy.harm = lambda asked: "stall" if asked.method == "PUT" else None
    changelog = of.sql("\nalter table customer add column nick text")
    record = of.run(changelog, {"way": way, "bluegreen": True, "store.spool": spool})
    # Where a copy was being migrated meanwhile, that may have begun; it is dropped.
    assert record.exit_code in ((5,) if way == "atomic" else (5, 6)), record.error
    assert of.dump() == before
    of.app_writes()
    proxy.harm = lambda _asked: None
    assert store_of(of).list() == ()
    assert left_of(of) == 0


def left_of(of: Shop) -> int:
    """Uploads of many parts that nobody has ended."""
    store = store_of(of)
    assert isinstance(store, S3Store)
    found = store.bucket.account.client("s3").list_multipart_uploads(Bucket=store.bucket.address.bucket)
    return len(found.get("Uploads", []))


@pytest.mark.slow
def test_a_copy_that_fails_while_its_dump_stalls_is_dropped_all_the_same(harmed: tuple[Shop, Proxy]) -> None:
    """The way back does not wait for S3: what was sent counts for nothing without its manifest."""
    of, proxy = harmed
    of.toml += "read_timeout_s = 20\n"
    before = of.dump()
    of.execute("create table bulk (filler text)")
    of.execute("alter table bulk alter filler set storage external")
    of.execute(
        "insert into bulk select string_agg(gen_random_uuid()::text, '')"
        " from generate_series(1, 20000), generate_series(1, 40) n group by n"
    )
    proxy.harm = lambda asked: "stall" if asked.method in ("PUT", "DELETE") else None
    record = of.run(of.sql(FAILS), {**STREAMED, "way": "bluegreen", "bluegreen": True})
    assert (record.outcome, record.exit_code) == (Outcome.ROLLED_BACK, 6), record.error
    assert any("what was sent counts for nothing" in one for one in record.warnings), record.warnings
    of.execute("drop table bulk")
    assert of.dump() == before
    of.app_writes()


@pytest.mark.slow
def test_a_backup_that_was_replaced_is_not_restored(harmed: tuple[Shop, Proxy], bucket: str, endpoint: str) -> None:
    of, proxy = harmed
    s3 = account(endpoint).client("s3")
    done: list[bool] = []

    def replace(asked: Asked) -> None:
        if asked.method == "PUT" and FILE_NAME in asked.path and asked.body:
            done.append(True)
        elif done and asked.method == "HEAD":  # the manifest is there, the run goes on: now somebody comes
            for one in s3.list_objects_v2(Bucket=bucket)["Contents"]:
                if one["Key"].endswith("toc.dat"):
                    s3.put_object(Bucket=bucket, Key=one["Key"], Body=b"x" * one["Size"])

    proxy.harm = replace
    record = failing(of)
    assert (record.outcome, record.exit_code) == (Outcome.HALTED, 9), record.error
    assert "its content differs from its SHA-256" in record.model_dump_json()
    assert f"migrator backup restore {record.backups[0].id} --env {ENVIRONMENT}" in record.model_dump_json()
    assert "pg_restore --exit-on-error" not in record.model_dump_json(), "it cannot read from a bucket"
    assert of.value("select count(*) from pg_database where datname like 'mig_%_old'") == 0


@pytest.mark.slow
@pytest.mark.parametrize("spool", [True, False], ids=["spooled", "streamed"])
def test_a_bucket_that_is_not_there_refuses_before_anything(shop: Shop, endpoint: str, spool: bool) -> None:  # noqa: F811
    of = configured(shop, endpoint, "nowhere")
    record = of.run(of.sql("\nselect 1"), {"store.spool": spool})
    assert (record.outcome, record.exit_code) == (Outcome.REFUSED, 3), record.error
    assert record.error is not None
    assert "There is no bucket nowhere" in record.error.message
