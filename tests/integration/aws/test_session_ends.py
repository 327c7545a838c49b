"""A session at AWS that ends in the middle of an upload: looked for anew, or the run ends before it migrates."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from migrator.runs.record import Outcome
from tests.integration.aws import proxy as proxies
from tests.integration.aws.proxy import Answer, Asked, Proxy, error
from tests.integration.aws.test_runs_with_s3 import bucket, configured, left_of, store_of  # noqa: F401  a fixture
from tests.integration.runs.conftest import shop, template  # noqa: F401  fixtures
from tests.shop import Shop

pytestmark = pytest.mark.slow

OLD, NEW = "AKIAOLDSESSION", "AKIANEWSESSION"
PARTS: dict[str, object] = {"store.part_mb": 5, "store.connections": 1}
MANY_ROWS = (  # that do not compress to less than three parts of 5 MB
    "create table bulk as select string_agg(gen_random_uuid()::text, '') as filler"
    " from generate_series(1, 20000), generate_series(1, 40) n group by n"
)


@dataclass
class Session:
    """Credentials in a file, refused from the second part of a backup on."""

    file: Path
    only_parts: bool = False  # the rest of S3 takes them all the same
    renewed: bool = False  # somebody logs in again when it ends
    parts: list[str] = field(default_factory=list)  # that were taken: signed with which key

    def login(self, key_id: str) -> None:
        self.file.write_text(f"[default]\naws_access_key_id = {key_id}\naws_secret_access_key = {key_id}\n")

    def harm(self, asked: Asked) -> Answer | None:
        if asked.key_id == OLD and self.parts and (asked.is_part or not self.only_parts):
            if self.renewed:
                self.login(NEW)
            return error(400, "ExpiredToken")
        if asked.is_part:
            self.parts.append(asked.key_id)
        return None


@pytest.fixture
def staged(
    shop: Shop,  # noqa: F811
    endpoint: str,
    bucket: str,  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[tuple[Shop, Proxy, Session]]:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    session = Session(tmp_path / "credentials")
    session.login(OLD)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(session.file))
    shop.execute(MANY_ROWS)
    with proxies.before(endpoint) as proxy:
        proxy.harm = session.harm
        yield configured(shop, proxy.url, bucket), proxy, session


@pytest.mark.parametrize("spool", [True, False], ids=["spooled", "streamed"])
def test_a_session_that_ends_in_the_upload_is_looked_for_anew(staged: tuple[Shop, Proxy, Session], spool: bool) -> None:
    of, proxy, session = staged
    session.renewed = True
    record = of.run(of.sql("\nalter table customer add column nick text"), {**PARTS, "store.spool": spool})
    assert record.outcome is Outcome.MIGRATED, record.error
    assert session.parts[0] == OLD
    assert set(session.parts[1:]) == {NEW}
    assert len([asked for asked in proxy.asked if asked.is_creation]) == 1, "the same upload went on"
    store_of(of).verify(record.backups[0].id)
    assert left_of(of) == 0


@pytest.mark.parametrize("spool", [True, False], ids=["spooled", "streamed"])
def test_a_session_that_ends_for_ever_ends_the_run_before_anything_changed(
    staged: tuple[Shop, Proxy, Session], spool: bool
) -> None:
    of, proxy, session = staged
    session.only_parts = True
    before = of.dump()
    record = of.run(of.sql("\nalter table customer add column nick text"), {**PARTS, "store.spool": spool})
    assert (record.outcome, record.exit_code) == (Outcome.FAILED_BEFORE, 5), record.error
    assert record.error is not None
    assert record.error.code == "aws_expired"
    assert session.parts == [OLD], "it had begun"
    assert "was given up" in record.model_dump_json()
    assert of.dump() == before
    proxy.harm = lambda _asked: None
    assert left_of(of) == 0
    assert store_of(of).list() == ()


def test_parts_that_nobody_may_give_up_any_more_are_told(staged: tuple[Shop, Proxy, Session]) -> None:
    of, proxy, session = staged
    before = of.dump()
    record = of.run(of.sql("\nalter table customer add column nick text"), {**PARTS, "store.spool": False})
    assert (record.outcome, record.exit_code) == (Outcome.FAILED_BEFORE, 5), record.error
    assert session.parts == [OLD], "it had begun"
    assert "could not be given up" in record.model_dump_json()
    assert of.dump() == before
    proxy.harm = lambda _asked: None
    assert store_of(of).list() == (), "what was sent counts for nothing"
