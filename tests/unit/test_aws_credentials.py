"""How long credentials of AWS hold out, what an expired one looks like, and what preflight makes of it."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from botocore.exceptions import ClientError

from migrator.aws import Account
from migrator.aws.account import account_of
from migrator.aws.credentials import Term
from migrator.aws.refusals import is_expired, translated
from migrator.config.aws import AwsSettings
from migrator.config.load import load
from migrator.errors import AwsFailed, Refused
from migrator.runs import aws_credentials

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
SHOP = """
[aws]
region = "eu-central-1"
[environments.shop]
url = "postgresql://migrator@db.internal/shop"
"""


@pytest.fixture(autouse=True)
def nothing_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in ("AWS_SESSION_TOKEN", "AWS_CREDENTIAL_EXPIRATION", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/dev/null")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
    account_of.cache_clear()
    yield
    account_of.cache_clear()


def session(monkeypatch: pytest.MonkeyPatch, until: datetime | None = None) -> None:
    monkeypatch.setenv("AWS_SESSION_TOKEN", "token")
    if until is not None:
        monkeypatch.setenv("AWS_CREDENTIAL_EXPIRATION", until.isoformat())


def term(**settings: Any) -> Term:
    return Account(AwsSettings(region="eu-central-1", **settings)).term()


def test_keys_of_a_user_last(monkeypatch: pytest.MonkeyPatch) -> None:
    assert term().kind == "lasting"
    session(monkeypatch)
    assert term().kind == "unknown"


def test_a_session_in_variables_ends_when_they_say(monkeypatch: pytest.MonkeyPatch) -> None:
    until = datetime.now(UTC).replace(microsecond=0) + timedelta(hours=1)
    session(monkeypatch, until)
    for found in (term(), term(role_arn="arn:aws:iam::123456789012:role/migrator")):
        assert (found.kind, found.until) == ("ends", until), "what assumes a role is what counts"


def test_no_credentials_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    with pytest.raises(AwsFailed) as caught:
        term()
    assert caught.value.code == "aws_login"


def run(tmp_path: Path, *, takes_s: float = 600.0, more: str = "") -> Any:
    path = tmp_path / "migrator.toml"
    path.write_text(SHOP + more)
    warned: list[str] = []
    return SimpleNamespace(
        environment=load(path, {}).environment("shop"),
        plan=SimpleNamespace(estimate=SimpleNamespace(before_s=takes_s)),
        rehearsed_s=0.0,
        now=lambda: datetime.now(UTC),
        warn=warned.append,
        warned=warned,
    )


AT_S3 = '[environments.shop.backup]\nstore = "s3://shop-backups/migrator"\n'


def test_preflight_says_where_a_run_would_outlast_its_session(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    session(monkeypatch, datetime.now(UTC) + timedelta(minutes=5))
    with pytest.raises(Refused, match="would outlast its session at AWS") as caught:
        aws_credentials.gate(run(tmp_path, more=AT_S3))
    assert "role_arn" in (caught.value.hint or "")
    enough = run(tmp_path, takes_s=20, more=AT_S3)
    assert "nothing renews them" in (aws_credentials.gate(enough) or "")
    assert "cannot let users in again" in enough.warned[0]


def test_preflight_warns_of_a_session_of_which_nothing_says_when_it_ends(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    session(monkeypatch)
    found = run(tmp_path, more=AT_S3)
    assert "nothing says when it ends" in (aws_credentials.gate(found) or "")
    assert len(found.warned) == 1


def test_preflight_is_silent_about_keys_that_last_and_where_aws_is_not_needed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    lasting = run(tmp_path, more=AT_S3)
    assert "do not end" in (aws_credentials.gate(lasting) or "")
    assert lasting.warned == []
    session(monkeypatch)
    assert aws_credentials.gate(run(tmp_path)) is None


def refusal(code: str, operation: str) -> ClientError:
    answer = {"Error": {"Code": code, "Message": "Bad Request"}, "ResponseMetadata": {"HTTPStatusCode": 400}}
    return ClientError(cast("Any", answer), operation)


def test_a_bare_400_to_a_head_of_s3_is_an_expired_token() -> None:
    assert is_expired(refusal("400", "HeadObject"))
    assert is_expired(refusal("400", "HeadBucket"))
    assert not is_expired(refusal("400", "PutObject"))
    assert not is_expired(refusal("404", "HeadObject"))
    with pytest.raises(AwsFailed) as caught, translated("Asking for it", service="s3"):
        raise refusal("400", "HeadObject")
    assert caught.value.code == "aws_expired"


def test_variables_that_have_expired_are_no_bug(monkeypatch: pytest.MonkeyPatch) -> None:
    session(monkeypatch, datetime.now(UTC) - timedelta(minutes=5))
    account = Account(AwsSettings(region="eu-central-1", endpoint_url="http://127.0.0.1:9", attempts=1))
    with pytest.raises(AwsFailed) as caught:
        account.identity()
    assert caught.value.code == "aws_expired"
