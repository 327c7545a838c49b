"""Passwords, names, TLS and rights as real installations have them; and a secret that is found nowhere afterwards."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from urllib.parse import quote

import psycopg
import pytest
from psycopg import sql

from migrator.config.login import Secret
from migrator.runs.record import Outcome, RunRecord, Way
from tests import shop as shops
from tests.conftest import Server
from tests.integration.runs.conftest import Template
from tests.shop import Shop, conninfo

GOOD = "\nalter table customer add column nickname text;\n--rollback alter table customer drop column nickname"
FAILS = "\nalter table product add constraint cheap check (price < 3)"
ODD_NAME = 'Kunden\'s "Shop" --x; 100%s {é}'
ODD_PASSWORD = "CANARY a!b@c$d()e*_,/:;=?@ff[]22 \\ 'ü\" %41{x}${HOME}"


@contextmanager
def odd_login(shop: Shop) -> Iterator[None]:
    """The shop's login is a role with an odd name and an odd password, which may do no more than migrator may."""
    before, name = shop.login, 'Mr. "Migrate" O\'Role'
    with psycopg.connect(conninfo(shop.server.admin), autocommit=True) as admin:
        role = sql.Identifier(name)
        admin.execute(sql.SQL("create role {} login createdb password {}").format(role, sql.Literal(ODD_PASSWORD)))
        admin.execute(sql.SQL("grant pg_signal_backend, pg_monitor, migrator to {}").format(role))
        shop.login = replace(before, user=name, password=Secret(ODD_PASSWORD))
        try:
            yield
        finally:
            shop.login = before
            for database in ("postgres", before.database):
                with psycopg.connect(conninfo(shop.server.admin.to(database)), autocommit=True) as other:
                    other.execute(sql.SQL("reassign owned by {} to migrator").format(role))
                    other.execute(sql.SQL("drop owned by {}").format(role))
            admin.execute(sql.SQL("drop role {}").format(role))


class Snoop:
    """Reads the arguments and the environment of every process that a run starts, while it runs."""

    def __init__(self, secrets: list[bytes]) -> None:
        self._secrets = secrets
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._loop, daemon=True)
        self.found: list[str] = []
        self.programs: set[str] = set()

    def __enter__(self) -> Snoop:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(5.0)

    def _loop(self) -> None:
        while not self._stop.wait(0.005):
            for pid in shops.descendants():
                for file in ("cmdline", "environ"):
                    try:
                        text = Path(f"/proc/{pid}/{file}").read_bytes()
                    except OSError:
                        continue
                    if file == "cmdline" and text:
                        self.programs.add(os.path.basename(text.split(b"\0")[0]).decode())
                    self.found += [f"{file} of {text[:80]!r}" for secret in self._secrets if secret in text]


def spellings(secret: str) -> list[bytes]:
    return [one.encode() for one in {secret, quote(secret), quote(secret, safe=""), "CANARY"}]


def files_with(folder: Path, secrets: list[bytes]) -> list[Path]:
    return [
        path for path in folder.rglob("*") if path.is_file() and any(secret in path.read_bytes() for secret in secrets)
    ]


@pytest.mark.slow
def test_odd_names_and_an_odd_password_work_and_the_password_is_nowhere(
    server: Server, template: Template, tmp_path: Path
) -> None:
    with shops.database(server, template=template(server), name=ODD_NAME) as login:
        shop = Shop(server=server, login=login, folder=tmp_path)
        shop.write("checks/customers.yaml", SUITE)
        shop.settings = {"checks.suites": ("checks/customers.yaml",), "way": "stepwise"}
        before = shop.dump()
        with odd_login(shop), Snoop(spellings(ODD_PASSWORD)) as snoop:
            restored = shop.run(shop.sql("\ndelete from event", FAILS))
            assert restored.outcome is Outcome.RESTORED, (restored.error, restored.warnings)
            assert shop.dump() == before
            migrated = shop.run(shop.sql(GOOD), {"way": "atomic"})
            assert (migrated.error, migrated.outcome) == (None, Outcome.MIGRATED)
        assert any("postgres (is a superuser)" in one for one in migrated.proof.not_proven), migrated.proof.not_proven
        assert snoop.found == []
        assert {"pg_dump", "pg_restore"} <= snoop.programs, snoop.programs
        assert files_with(tmp_path, spellings(ODD_PASSWORD)) == []
        assert (tmp_path / ".migrator/journal.db").is_file()
        assert "CANARY" not in restored.model_dump_json() + migrated.model_dump_json()
        for path in (tmp_path / ".migrator").rglob("*"):
            assert path.stat().st_mode & 0o077 == 0, f"{path} is open to others"


SUITE = (
    "name: customers\ntable: public.customer\nexpectations:\n"
    "- type: expect_column_values_to_not_be_null\n  kwargs: {column: email}\n  severity: critical\n"
)


@pytest.fixture
def tls_shop(tls_server: Server, template: Template, tmp_path: Path) -> Iterator[Shop]:
    with shops.database(tls_server, template=template(tls_server)) as login:
        yield Shop(server=tls_server, login=login, folder=tmp_path)


def test_a_server_that_wants_tls_is_verified_and_migrated(tls_shop: Shop) -> None:
    assert tls_shop.login.options["sslmode"] == "verify-full"
    restored = tls_shop.run(tls_shop.sql("\ndelete from event", FAILS), {"way": "stepwise"})
    assert restored.outcome is Outcome.RESTORED, (restored.error, restored.warnings)
    migrated = tls_shop.run(tls_shop.sql(GOOD))
    assert (migrated.error, migrated.outcome) == (None, Outcome.MIGRATED)


def test_a_certificate_that_nobody_vouches_for_is_refused(tls_shop: Shop) -> None:
    right = tls_shop.login
    stranger = tls_shop.folder / "stranger.crt"
    from migrator.postgres import certificate

    stranger.write_bytes(certificate.for_loopback()[1])
    tls_shop.login = replace(right, options={"sslmode": "verify-full", "sslrootcert": str(stranger)})
    record = tls_shop.run(tls_shop.sql(GOOD))
    assert record.exit_code == 3, record.error
    assert record.error is not None
    assert "certificate" in record.error.message


def both_ways(shop: Shop) -> tuple[RunRecord, RunRecord]:
    before = shop.dump()
    restored = shop.run(shop.sql("\ndelete from event", FAILS), {"way": "stepwise"})
    assert restored.outcome is Outcome.RESTORED, (restored.error, restored.warnings)
    assert shop.dump() == before
    rolled_back = shop.run(shop.sql("\ndelete from event", FAILS))
    assert (rolled_back.outcome, rolled_back.way) == (Outcome.ROLLED_BACK, Way.ATOMIC), rolled_back.error
    assert shop.dump() == before
    migrated = shop.run(shop.sql(GOOD))
    assert (migrated.error, migrated.outcome) == (None, Outcome.MIGRATED)
    return restored, migrated


@pytest.mark.slow
def test_as_a_superuser(shop: Shop) -> None:
    shop.login = shop.superuser
    shop.execute(f"alter database {shop.login.database} owner to postgres")
    both_ways(shop)


@pytest.mark.slow
def test_another_major(server16: Server, template: Template, tmp_path: Path) -> None:
    with shops.database(server16, template=template(server16)) as login:
        restored, migrated = both_ways(Shop(server=server16, login=login, folder=tmp_path))
    assert migrated.versions["postgresql"].startswith("16")
    assert "16" in restored.versions["pg_dump"]


@pytest.mark.slow
@pytest.mark.parametrize("way", ["atomic", "stepwise"])
def test_settings_of_the_role_have_no_effect_on_a_run(shop: Shop, way: str) -> None:
    for setting in (
        "statement_timeout = '1500ms'",
        "idle_in_transaction_session_timeout = '2s'",
        "idle_session_timeout = '2s'",
        "row_security = on",
        "default_transaction_isolation = 'serializable'",
    ):
        shop.execute(f"alter role {shop.login.user} in database {shop.login.database} set {setting}", shop.superuser)
    record = shop.run(shop.sql("\nalter table customer add column nick text", "\nselect pg_sleep(3)"), {"way": way})
    assert (record.error, record.outcome) == (None, Outcome.MIGRATED)
