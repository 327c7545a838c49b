"""Secrets, parameters and tokens: asked for at the server that stands in for AWS, and taken by a real PostgreSQL."""

from __future__ import annotations

import json
import secrets as random
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import pytest
from psycopg import sql

from migrator.aws import Account
from migrator.aws.secrets import LASTS_S, Secrets
from migrator.aws.tokens import Token
from migrator.config.aws import AwsSettings
from migrator.config.load import load
from migrator.config.login import Login, Secret
from migrator.errors import ConfigError, ConnectionFailed, MigratorError
from migrator.postgres.connect import connect
from migrator.postgres.transactions import statement
from migrator.runs import engine, opening
from migrator.runs.record import Outcome
from migrator.runs.reporter import SilentReporter
from migrator.runs.run import Options
from tests.conftest import Server
from tests.integration.aws import proxy as proxies
from tests.integration.aws.proxy import Answer
from tests.integration.aws.server import REGION
from tests.integration.runs.conftest import shop, template  # noqa: F401  fixtures
from tests.shop import ENVIRONMENT, Shop

CANARY = "c4n4ry:/\\ü"


def settings(url: str) -> AwsSettings:
    return AwsSettings(region=REGION, endpoint_url=url, attempts=2, longest_pause_s=0.01)


def secret(url: str, text: str) -> str:
    name = f"shop/{random.token_hex(6)}"
    Account(settings(url)).client("secretsmanager").create_secret(Name=name, SecretString=text)
    return name


def configured(tmp_path: Path, url: str, password: str, more: str = "", remote: Secrets | None = None) -> Login:
    path = tmp_path / "migrator.toml"
    path.write_text(
        f'[aws]\nregion = "{REGION}"\nendpoint_url = "{url}"\nattempts = 2\nlongest_pause_s = 0.01\n'
        f'[environments.shop]\nurl = "postgresql://migrator@db.internal/shop"\npassword = "{password}"\n{more}'
    )
    login = load(path, {}, remote=remote or Secrets()).environment("shop").login
    assert login is not None
    return login


def revealed(login: Login) -> str:
    found = login.secret()
    assert found is not None
    return found.reveal()


@pytest.mark.parametrize(
    ("text", "key", "expected"),
    [
        (CANARY, "", CANARY),
        (json.dumps({"username": "migrator", "password": CANARY}), "", CANARY),
        (json.dumps({"pw": CANARY, "password": "other"}), "#pw", CANARY),
        (json.dumps({"port": 5432}), "#port", "5432"),
    ],
    ids=["text", "managed by RDS", "a key", "a number"],
)
def test_a_secret_is_the_password(endpoint: str, tmp_path: Path, text: str, key: str, expected: str) -> None:
    login = configured(tmp_path, endpoint, f"${{aws-secret:{secret(endpoint, text)}{key}}}")
    assert revealed(login) == expected
    assert CANARY not in repr(login)


def test_a_stage_is_asked_for_by_name(endpoint: str, tmp_path: Path) -> None:
    name = secret(endpoint, "old")
    Account(settings(endpoint)).client("secretsmanager").put_secret_value(SecretId=name, SecretString="new")
    assert revealed(configured(tmp_path, endpoint, f"${{aws-secret:{name}}}")) == "new"
    assert revealed(configured(tmp_path, endpoint, f"${{aws-secret:{name}##AWSPREVIOUS}}")) == "old"


def test_a_parameter_is_decrypted(endpoint: str, tmp_path: Path) -> None:
    name = f"/shop/{random.token_hex(6)}"
    Account(settings(endpoint)).client("ssm").put_parameter(Name=name, Value=CANARY, Type="SecureString")
    assert revealed(configured(tmp_path, endpoint, f"${{ssm:{name}}}")) == CANARY


@pytest.mark.parametrize(
    ("reference", "words"),
    [
        ("${aws-secret:shop/nowhere}", ["there is no secret shop/nowhere in region eu-central-1"]),
        ("${ssm:/shop/nowhere}", ["there is no parameter /shop/nowhere"]),
    ],
)
def test_what_is_not_there_is_named_with_its_setting(
    endpoint: str, tmp_path: Path, reference: str, words: list[str]
) -> None:
    with pytest.raises(ConnectionFailed) as password:
        revealed(configured(tmp_path, endpoint, reference))
    with pytest.raises(ConfigError) as setting:
        configured(tmp_path, endpoint, "${aws-secret:x}", f'contexts = "{reference}"\n')
    for error, name in ((password.value, "environments.shop.password"), (setting.value, "environments.shop.contexts")):
        for word in [*words, name]:
            assert word in error.message


def test_a_missing_key_shows_the_names_of_those_that_there_are_and_no_value(endpoint: str, tmp_path: Path) -> None:
    name = secret(endpoint, json.dumps({"password": CANARY}))
    with pytest.raises(ConnectionFailed, match="has no key 'pasword'") as caught:
        revealed(configured(tmp_path, endpoint, f"${{aws-secret:{name}#pasword}}"))
    assert caught.value.hint == "its keys: password"
    with pytest.raises(ConnectionFailed) as caught:
        revealed(configured(tmp_path, endpoint, f"${{aws-secret:{secret(endpoint, CANARY)}#x}}"))
    cause: BaseException | None = caught.value
    while cause is not None:
        assert CANARY not in f"{cause} {getattr(cause, 'hint', '')} {cause.args} {vars(cause)}"
        cause = cause.__cause__ or cause.__context__


@pytest.mark.parametrize(
    ("kind", "action"), [("aws-secret:a", "secretsmanager:GetSecretValue"), ("ssm:/a", "ssm:GetParameter")]
)
def test_a_denied_call_names_the_missing_action(endpoint: str, tmp_path: Path, kind: str, action: str) -> None:
    body = json.dumps({"__type": "AccessDeniedException", "message": "no"}).encode()
    with proxies.before(endpoint) as proxy:
        proxy.harm = lambda _asked: Answer(400, body)
        with pytest.raises(ConnectionFailed) as caught:
            revealed(configured(tmp_path, proxy.url, f"${{{kind}}}"))
    assert action in caught.value.message
    assert action in (caught.value.hint or "")


def test_a_rotated_password_is_known_after_a_minute_and_an_outage_is_got_over(endpoint: str, tmp_path: Path) -> None:
    now = [0.0]
    name = secret(endpoint, "old")
    with proxies.before(endpoint) as proxy:
        login = configured(tmp_path, proxy.url, f"${{aws-secret:{name}}}", remote=Secrets(clock=lambda: now[0]))
        assert revealed(login) == "old"
        Account(settings(endpoint)).client("secretsmanager").put_secret_value(SecretId=name, SecretString="new")
        assert revealed(login) == "old"
        now[0] = LASTS_S
        proxy.harm = lambda _asked: "reset"
        assert revealed(login) == "old"
        proxy.harm = lambda _asked: None
        assert revealed(login) == "new"


# Tokens


def test_a_token_is_signed_for_the_endpoint_in_its_own_region(endpoint: str) -> None:
    host = "shop.abc.eu-west-1.rds.amazonaws.com"
    found = Token(account=Account(settings(endpoint)), host=host, port=5432, user="migrator").current().reveal()
    place, _, query = found.partition("/?")
    signed = parse_qs(query)
    assert place == f"{host}:5432"
    assert (signed["Action"], signed["DBUser"], signed["X-Amz-Expires"]) == (["connect"], ["migrator"], ["900"])
    assert "/eu-west-1/rds-db/" in signed["X-Amz-Credential"][0]


class Expiring:
    """What RDS does with tokens: PostgreSQL takes the last one that was made, until it expires."""

    def __init__(self, server: Server, login: Login, endpoint: str) -> None:
        self._admin, self._login, self._lock = server.admin, login, threading.Lock()
        self._token = Token(account=Account(settings(endpoint)), host=login.host, port=login.port, user=login.user)
        self._made: Secret | None = None
        self.count = 0

    def current(self) -> Secret:
        with self._lock:
            if self._made is None:
                self.count += 1
                self._made = Secret(f"{self._token.current().reveal()}&n={self.count}")
                self._alter(self._made.reveal(), "infinity")
            return self._made

    def expire(self) -> None:
        """A quarter of an hour has passed."""
        with self._lock:
            if self._made is not None:
                self._alter(self._made.reveal(), "2001-01-01")
            self._made = None

    def _alter(self, password: str, until: str) -> None:
        with connect(self._admin, role="test", run_id="test") as session:
            session.execute(
                statement(
                    "ALTER ROLE {} PASSWORD {} VALID UNTIL {}",
                    sql.Identifier(self._login.user),
                    sql.Literal(password),
                    sql.Literal(until),
                )
            )


@pytest.mark.slow
def test_a_new_connection_takes_a_new_token(shop: Shop, server: Server, endpoint: str) -> None:  # noqa: F811
    tokens = Expiring(server, shop.login, endpoint)
    login = replace(shop.login, password=tokens)
    try:
        with connect(login, role="test", run_id="test") as first:
            settled = login.settled()
            tokens.expire()
            assert first.rows("select 1") == [("1",)]  # a session outlives its token
            with pytest.raises(ConnectionFailed) as caught:
                connect(settled, role="test", run_id="test")
            assert caught.value.code == "wrong_password"
            with connect(login, role="test", run_id="test") as second:
                assert second.rows("select 1") == [("1",)]
    finally:
        restored(server, shop.login)


@pytest.mark.slow
@pytest.mark.parametrize("fails", [False, True], ids=["migrated", "restored"])
def test_a_run_outlives_every_token(shop: Shop, server: Server, endpoint: str, fails: bool) -> None:  # noqa: F811
    """At each step the last token has expired: server, pg_dump, Liquibase's worker and pg_restore get new ones."""
    tokens = Expiring(server, shop.login, endpoint)

    class Clock(SilentReporter):
        def step_started(self, *args: Any) -> None:
            tokens.expire()

    config = shop.config()
    changelog = shop.sql("\ndelete from event where id % 2 = 0", *(["\nselect 1 / 0"] if fails else []))
    run = opening.new(
        config,
        config.environment(ENVIRONMENT, {"way": "stepwise"}),
        Options(changelog=changelog),
        reporter=Clock(),
        login=replace(shop.login, password=tokens),
    )
    try:
        engine.execute(run)
    except MigratorError as error:
        pytest.fail(error.message)
    finally:
        restored(server, shop.login)
    assert run.record.outcome is (Outcome.RESTORED if fails else Outcome.MIGRATED), run.record.error
    assert tokens.count >= 4


def restored(server: Server, login: Login) -> None:
    with connect(server.admin, role="test", run_id="test") as session:
        session.execute(
            statement(
                "ALTER ROLE {} PASSWORD {} VALID UNTIL 'infinity'",
                sql.Identifier(login.user),
                sql.Literal(revealed(login)),
            )
        )
