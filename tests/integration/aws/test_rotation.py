"""Passwords that change while a run is on: at the target and at the journal, by rotation and by tokens that expire."""

from __future__ import annotations

import secrets as random
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from psycopg import sql

from migrator.aws import Account
from migrator.aws.secrets import Secrets
from migrator.config.load import load
from migrator.config.login import Login, Secret
from migrator.config.services import JournalAddress
from migrator.errors import ConfigError, ConnectionFailed, Refused
from migrator.postgres import client_tools
from migrator.postgres.connect import connect
from migrator.postgres.transactions import statement
from migrator.runs import engine, opening
from migrator.runs.journal import Journal
from migrator.runs.record import Outcome, StepName
from migrator.runs.reporter import SilentReporter
from migrator.runs.run import Options
from migrator.testing.journal_harness import a_record, begin
from tests.conftest import Server
from tests.integration.aws.server import REGION
from tests.integration.aws.test_secrets import Expiring, configured, restored, revealed, secret, settings
from tests.integration.runs.conftest import shop, template  # noqa: F401  fixtures
from tests.shop import ENVIRONMENT, Shop, database

pytestmark = pytest.mark.slow


@pytest.fixture
def role(server: Server) -> Iterator[Login]:
    """A login of its own, whose password a test may change."""
    name, password = f"r{random.token_hex(4)}", random.token_hex(8)
    with server.session() as admin:
        admin.execute(statement("CREATE ROLE {} LOGIN PASSWORD {}", sql.Identifier(name), sql.Literal(password)))
    with database(server) as there:
        with server.session() as admin:
            admin.execute(
                statement("ALTER DATABASE {} OWNER TO {}", sql.Identifier(there.database), sql.Identifier(name))
            )
        yield replace(there, user=name, password=Secret(password))
    with server.session() as admin:
        admin.execute(statement("DROP ROLE {}", sql.Identifier(name)))


def rotate(server: Server, endpoint: str, name: str, user: str) -> None:
    """What the rotation of Secrets Manager does: another password at the server, and in the secret."""
    new = random.token_hex(8)
    with server.session() as admin:
        admin.execute(statement("ALTER ROLE {} PASSWORD {}", sql.Identifier(user), sql.Literal(new)))
    Account(settings(endpoint)).client("secretsmanager").put_secret_value(SecretId=name, SecretString=new)


def of_secret(role: Login, tmp_path: Path, endpoint: str) -> tuple[Login, str]:
    name = secret(endpoint, revealed(role))
    return replace(role, password=configured(tmp_path, endpoint, f"${{aws-secret:{name}}}").password), name


def test_a_password_that_was_rotated_a_moment_ago_is_asked_for_anew(
    role: Login, server: Server, endpoint: str, tmp_path: Path
) -> None:
    login, name = of_secret(role, tmp_path, endpoint)
    with connect(login, role="test", run_id="test") as session:
        rotate(server, endpoint, name, role.user)
        assert session.rows("select 1") == [("1",)], "a session outlives its password"
    with connect(login, role="test", run_id="test") as session:
        assert session.rows("select 1") == [("1",)]
    rotate(server, endpoint, name, role.user)
    tools = client_tools.find(server.major)
    with client_tools.passfile(login.settled(), tmp_path) as passfile:  # what pg_dump is given
        env = client_tools.environment(login, passfile=passfile, application_name="test", tools=tools)
        from migrator import processes

        done = processes.run(
            [str(tools.pg_dump), "--no-password", "--schema-only"], timeout_s=60, env=env, check=False, secrets=[]
        )
    assert done.exit_code == 0, done.stderr


def test_a_password_that_is_wrong_all_the_same_is_refused(
    role: Login, server: Server, endpoint: str, tmp_path: Path
) -> None:
    login, _ = of_secret(role, tmp_path, endpoint)
    with server.session() as admin:
        admin.execute(statement("ALTER ROLE {} PASSWORD 'another'", sql.Identifier(role.user)))
    with pytest.raises(ConnectionFailed) as caught:
        connect(login, role="test", run_id="test")
    assert caught.value.code == "wrong_password"
    assert revealed(role) not in f"{caught.value} {caught.value.__cause__}"


def test_a_journal_follows_its_rotated_password(role: Login, server: Server, endpoint: str, tmp_path: Path) -> None:
    name = secret(endpoint, revealed(role))
    path = tmp_path / "migrator.toml"
    path.write_text(
        f'[aws]\nregion = "{REGION}"\nendpoint_url = "{endpoint}"\n'
        f'[journal]\nurl = "postgresql://{role.user}@{role.host}:{role.port}/{role.database}"\n'
        f'password = "${{aws-secret:{name}}}"\n'
    )
    config = load(path, {}, remote=Secrets())
    assert isinstance(config.journal.url, JournalAddress)
    journal = Journal.open(config.journal.url, tmp_path)
    begin(journal, "run-1")
    for _ in range(2):
        rotate(server, endpoint, name, role.user)
        terminated(server, role)
        journal.step_started("run-1", 1, StepName.APPLY)
        journal.save(a_record("run-1"), {})
    journal.close()
    with server.session() as admin:
        admin.execute(statement("ALTER ROLE {} PASSWORD 'another'", sql.Identifier(role.user)))
    with pytest.raises(Refused, match="authentication failed") as caught:
        Journal.open(config.journal.url, tmp_path)
    assert revealed(role) not in str(caught.value)


def terminated(server: Server, role: Login) -> None:
    """No session of the role is open: what it does next needs a new one."""
    with server.session() as admin:
        user = statement(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE usename = {}", sql.Literal(role.user)
        )
        admin.rows(user)


def test_a_journal_at_rds_is_logged_in_to_by_token(role: Login, server: Server, endpoint: str, tmp_path: Path) -> None:
    tokens = Expiring(server, role, endpoint)
    url = f"postgresql+psycopg://{role.user}@{role.host}:{role.port}/{role.database}"
    journal = Journal.open(JournalAddress(url=url, login=replace(role, password=tokens)), tmp_path)
    begin(journal, "run-1")
    for _ in range(2):
        tokens.expire()
        terminated(server, role)
        journal.step_started("run-1", 1, StepName.APPLY)
    journal.close()
    assert tokens.count >= 3


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ('login = "kerberos"', "no way to log in called 'kerberos'"),
        ('login = "rds-iam"\npassword = "${env:X}"', "a password stands beside it"),
    ],
)
def test_a_journals_login_is_checked(tmp_path: Path, more: str, words: str) -> None:
    path = tmp_path / "migrator.toml"
    path.write_text(f'[journal]\nurl = "postgresql://j@db.internal/j"\n{more}\n')
    with pytest.raises(ConfigError, match=words):
        load(path, {})


def test_a_journals_token_goes_to_nobody_who_has_not_proved_who_it_is(tmp_path: Path, endpoint: str) -> None:
    path = tmp_path / "migrator.toml"
    path.write_text(
        f'[aws]\nregion = "{REGION}"\nendpoint_url = "{endpoint}"\n'
        '[journal]\nurl = "postgresql://j@db.internal/j?sslmode=require"\nlogin = "rds-iam"\n'
    )
    with pytest.raises(ConfigError, match="sslmode=require"):
        assert load(path, {}, remote=Secrets()).journal.url
    path.write_text(path.read_text().replace("require", "verify-full"))
    found = load(path, {}, remote=Secrets()).journal.url
    assert isinstance(found, JournalAddress)
    assert "sslmode=verify-full" in found.url
    assert "Action=connect" in revealed(found.login)


SUITE = """
name: customers
table: public.customer
when: [before, after]
expectations:
  - type: expect_table_row_count_to_be_between
    kwargs: {min_value: 1}
  - type: expect_column_values_to_not_be_null
    kwargs: {column: id}
"""


@pytest.mark.parametrize("way", ["atomic", "stepwise", "bluegreen"])
def test_suites_outlive_every_token(shop: Shop, server: Server, endpoint: str, way: str) -> None:  # noqa: F811
    """Great Expectations connects by itself, in mid-run: each time the last token has expired."""
    tokens = Expiring(server, shop.login, endpoint)

    class Clock(SilentReporter):
        def step_started(self, *_args: Any) -> None:
            tokens.expire()

        def check(self, *_args: Any) -> None:
            tokens.expire()

    shop.write("checks/customers.yaml", SUITE)
    settings: dict[str, object] = {"way": way, "bluegreen": True, "checks.suites": ["checks/customers.yaml"]}
    config = shop.config(settings)
    run = opening.new(
        config,
        config.environment(ENVIRONMENT),
        Options(changelog=shop.sql("\nalter table customer add column nick text")),
        reporter=Clock(),
        login=replace(shop.login, password=tokens),
    )
    try:
        engine.execute(run)
    finally:
        restored(server, shop.login)
    assert run.record.outcome is Outcome.MIGRATED, run.record.error
    assert [(check.phase, check.success) for check in run.record.checks] == [("before", True)] * 2 + [
        ("after", True)
    ] * 2
    assert run.record.way.value == way
