"""What cannot go well is refused with one readable message, and nothing is touched: no row, no right, no setting."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

import psycopg
import pytest

from migrator.config.login import Secret
from migrator.postgres import sessions
from migrator.runs.record import Outcome, RunRecord
from tests.shop import SAMPLE, Shop, conninfo

GOOD = "\nalter table customer add column nickname text"


def assert_refused(
    shop: Shop,
    changelog: str,
    *says: str,
    settings: dict[str, object] | None = None,
    outcome: Outcome = Outcome.REFUSED,
) -> RunRecord:
    """Refused before anything was touched, by a message that says all of `says` in itself or its hint."""
    before = shop.dump()
    record = shop.run(changelog, settings)
    assert (record.outcome, record.exit_code) == (outcome, outcome.exit_code), record.error
    assert record.error is not None
    text = f"{record.error.message}\n{record.error.hint}"
    for one in says:
        assert one in text, text
    assert record.error.message == record.error.message.strip()
    assert "Traceback" not in text
    assert record.maintenance.started_at is None
    assert record.backups == []
    assert {step.name.value for step in record.steps} <= {"lock", "preflight"}
    assert shop.dump() == before
    return record


def test_a_wrong_password(shop: Shop) -> None:
    right = shop.login
    shop.login = replace(right, password=Secret("wrong-and-not-to-be-shown"))
    record = assert_refused(shop, shop.sql(GOOD), "password", f"{right.host}:{right.port}", right.user)
    assert record.error is not None
    assert "wrong-and-not" not in record.model_dump_json()


def test_an_unreachable_server(shop: Shop) -> None:
    shop_login = shop.login
    run = shop.open(shop.sql(GOOD), {"url": f"postgresql://migrator@127.0.0.1:1/{shop_login.database}"})
    from migrator.runs import engine

    engine.execute(run)
    assert (run.record.outcome, run.record.exit_code) == (Outcome.REFUSED, 3)
    assert run.record.error is not None
    assert "127.0.0.1:1" in run.record.error.message
    assert run.record.error.hint


def test_a_database_that_does_not_exist(shop: Shop) -> None:
    run = shop.open(shop.sql(GOOD), {"url": f"postgresql://migrator@127.0.0.1:{shop.login.port}/no_such_database"})
    from migrator.runs import engine

    engine.execute(run)
    assert run.record.exit_code == 3
    assert run.record.error is not None
    assert "no_such_database" in run.record.error.message


@contextmanager
def role(shop: Shop, attributes: str, *grants: str) -> Iterator[None]:
    """The shop's login is a new role with just these rights for the length of the block."""
    name, password, before = f"test_{secrets.token_hex(4)}", secrets.token_hex(8), shop.login
    shop.execute(f"create role {name} login password '{password}' {attributes}", shop.superuser)
    for grant in grants:
        shop.execute(f"grant {grant} to {name}", shop.superuser)
    shop.login = replace(before, user=name, password=Secret(password))
    try:
        yield
    finally:
        shop.login = before
        shop.execute(f"drop owned by {name}; drop role {name}", shop.superuser)


def test_missing_privileges_are_named_one_by_one(shop: Shop) -> None:
    with role(shop, "", "usage on schema public", "select on all tables in schema public"):
        record = assert_refused(
            shop,
            shop.sql(GOOD),
            f"does not own {shop.login.database}",
            "may not create databases",
            "may not end others' sessions",
            "GRANT pg_signal_backend",
            "CREATEDB",
        )
    assert record.error is not None
    assert "3 things" in record.error.message


def test_a_table_that_may_not_be_read(shop: Shop) -> None:
    with role(shop, "createdb", "pg_signal_backend", "migrator"):
        shop.execute("create table secrets_of_others (id int)", shop.superuser)
        assert_refused(shop, shop.sql(GOOD), "secrets_of_others", "SELECT")


def test_rows_that_row_level_security_hides(shop: Shop) -> None:
    shop.execute("alter table customer enable row level security; alter table customer force row level security")
    assert_refused(shop, shop.sql(GOOD), "public.customer", "BYPASSRLS")


@pytest.mark.slow
@pytest.mark.parametrize("kinds", [(), ("clone",)], ids=["none", "clone"])
def test_hidden_rows_that_nothing_has_to_read_do_not_stop_a_run(shop: Shop, kinds: tuple[str, ...]) -> None:
    """The server's own backups read no rows, nor does a proof by the write set."""
    shop.execute("alter table customer enable row level security; alter table customer force row level security")
    changelog = shop.sql("\nalter table product add column nick text")
    record = shop.run(changelog, {"backup.kinds": kinds, "backup.restore": "never", "proof": "write_set"})
    assert (record.error, record.outcome) == (None, Outcome.MIGRATED)
    assert "Only 0 tables hashed (proof write_set)." in record.proof.not_proven


@pytest.mark.slow
def test_an_enabled_subscription(shop: Shop) -> None:
    name = f"sub_{secrets.token_hex(4)}"
    shop.execute(
        f"create subscription {name} connection 'dbname=nowhere' publication p"
        " with (connect = false, slot_name = none)",
        shop.superuser,
    )
    shop.execute(f"update pg_subscription set subenabled = true where subname = '{name}'", shop.superuser)
    try:
        assert_refused(shop, shop.sql(GOOD), name, f"ALTER SUBSCRIPTION {name} DISABLE")
    finally:
        shop.execute(f"update pg_subscription set subenabled = false where subname = '{name}'", shop.superuser)
        shop.execute(f"drop subscription {name}", shop.superuser)


def test_a_prepared_transaction(shop: Shop) -> None:
    gid = f"test {secrets.token_hex(4)}"
    with psycopg.connect(conninfo(shop.login)) as connection:
        connection.execute("insert into price_audit (product_id) values (1)")
        connection.execute(f"prepare transaction '{gid}'".encode())
    try:
        assert_refused(shop, shop.sql(GOOD), gid, "ROLLBACK PREPARED")
    finally:
        shop.execute(f"rollback prepared '{gid}'")


def test_a_run_that_is_at_work(shop: Shop) -> None:
    with shop.server.session(shop.server.migrator) as other:
        assert sessions.lock(other, shop.login.database)
        assert_refused(shop, shop.sql(GOOD), "Another run holds", "migrator status", outcome=Outcome.LOCKED)


def test_a_changeset_that_was_edited_after_it_ran(shop: Shop) -> None:
    changelog = shop.sql(GOOD)
    assert shop.run(changelog).exit_code == 0
    sums = shop.query("select md5sum from databasechangelog")
    shop.sql(GOOD + " default 'none'")
    assert_refused(shop, changelog, "edited after it ran", "release.sql::1::ann")
    assert shop.query("select md5sum from databasechangelog") == sums, "a checksum is never cleared by itself"


def spring_boot(shop: Shop, ledger_path: str) -> str:
    """The changelog of a project whose application migrated this database itself, under another path."""
    text = (SAMPLE / "changelogs/2026.02-loyalty/changelog.xml").read_text()
    changelog = shop.write("src/main/resources/db/changelog/loyalty.xml", text)
    assert shop.run(changelog).exit_code == 0
    shop.execute(f"update databasechangelog set filename = '{ledger_path}' where id like 'loyalty%'")
    return changelog


@pytest.mark.parametrize(
    "prefix", ["classpath:", *(pytest.param(prefix, marks=pytest.mark.slow) for prefix in ("", "classpath:/"))]
)
def test_a_ledger_with_other_paths_names_the_root_that_fits(shop: Shop, prefix: str) -> None:
    changelog = spring_boot(shop, f"{prefix}db/changelog/loyalty.xml")
    root = shop.folder / "src/main/resources"
    assert_refused(shop, changelog, "ran already under the path", f"root = {str(root)!r}")
    record = shop.run(str(root / "db/changelog/loyalty.xml"), {"liquibase.root": str(root)})
    assert (record.error, record.outcome) == (None, Outcome.NOTHING_TO_DO), "the root that was named fits"


@pytest.mark.parametrize(
    ("text", "says", "code"),
    [
        ("--liquibase formatted sql\n--changeset ann:1\nselect (", "release.sql", 6),  # only the server can tell
        ("", "empty", 3),
        ("--liquibase formatted sql\n--changeset ann:1\nselect 1\n--changeset ann:1\nselect 2", "ann", 3),
    ],
)
def test_a_changelog_that_is_none(shop: Shop, text: str, says: str, code: int) -> None:
    before = shop.dump()
    record = shop.run(shop.write("release.sql", text))
    assert record.exit_code == code, record.error
    assert record.error is not None
    assert says in record.error.message
    assert shop.dump() == before


INVALID: dict[str, Callable[[Shop], None]] = {
    "names a missing column": lambda shop: _rule(shop, "select count(no_such_column) from customer"),
    "writes": lambda shop: _rule(shop, "delete from heartbeat returning 1"),
    "several statements": lambda shop: _rule(shop, "select 1; select 2"),
    "returns NULL": lambda shop: _rule(shop, "select null::int"),
    "never ends": lambda shop: _rule(shop, "select count(*) from generate_series(1, 1e12::bigint)"),
}


def _rule(shop: Shop, text: str) -> None:
    shop.write("checks/rule.sql", f"-- migrator: unchanged\n{text}\n")


@pytest.mark.parametrize("kind", INVALID)
def test_an_invalid_check_never_passes(shop: Shop, kind: str) -> None:
    INVALID[kind](shop)
    shop.settings = {"checks.invariants": ("checks/*.sql",), "limits.check_timeout_s": 0.5}
    record = assert_refused(shop, shop.sql(GOOD), "rule")
    assert [check.success for check in record.checks] in ([], [False])


def test_a_signing_key_that_is_not_there(shop: Shop) -> None:
    shop.toml = '[signing]\nkey = "${env:NO_SUCH_KEY_OF_THE_TEST}"\n'
    assert_refused(shop, shop.sql(GOOD), "NO_SUCH_KEY_OF_THE_TEST")


def test_data_that_is_wrong_before_the_migration(shop: Shop) -> None:
    shop.write("checks/rule.sql", "-- migrator: violations\nselect id from product where price > 3\n")
    assert_refused(
        shop, shop.sql(GOOD), "before the migration", "rule", settings={"checks.invariants": ("checks/*.sql",)}
    )
