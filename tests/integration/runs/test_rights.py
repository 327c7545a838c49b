"""What a login needs for which kind of run: a tier of rights is enough for it, and doctor names what is missing."""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import psycopg
import pytest

from migrator.cli import boundary
from migrator.cli.app import app
from migrator.config.login import Secret
from migrator.plans import rights as tiers
from migrator.plans.rights import Need
from migrator.plans.tiers import Tier
from migrator.postgres import connect, rights
from migrator.runs.record import Outcome
from tests.shop import ENVIRONMENT, Shop, conninfo

GOOD = (
    "\nalter table customer add column nickname text\n--rollback alter table customer drop column nickname",
    "\ncreate table badge (id int primary key)\n--rollback drop table badge",
    "\nupdate customer set nickname = 'x' where id < 10\n--rollback empty",
    "\ncreate index on orders (total)\n--rollback drop index orders_total_idx",
)
ONLINE = {"profile": "online"}
GIVE_TABLES = """
do $$ declare one regclass; begin
  for one in select oid from pg_class where relnamespace = 'public'::regnamespace and relkind in ('r', 'p', 'v', 'm')
  loop execute format('alter table %s owner to {role}', one); end loop;
end $$;
"""


def needs(shop: Shop, tier: Tier, *, maintenance_database: str = "postgres") -> list[Need]:
    """What the shop's login needs for the tier."""
    with connect.connect(shop.login, role="test", run_id="test", read_only=True) as session:
        found = rights.read(session, shop.login.user, databases=(shop.login.database, maintenance_database))
    return tiers.of(tier, found)


@contextmanager
def owner_of_tables(shop: Shop) -> Iterator[str]:
    """The shop's login owns the tables, may make others beside them, and may do nothing else on the whole server.

    Into the maintenance database it may connect, and nobody else may: it has nothing from PUBLIC there.
    """
    name, password, before = f"test_{secrets.token_hex(4)}", secrets.token_hex(8), shop.login
    quiet = f"{name}_admin"
    shop.execute(f"create role {name} login password '{password}' nocreatedb nocreaterole", shop.superuser)
    shop.execute(GIVE_TABLES.format(role=name), shop.superuser)
    shop.execute(f"grant usage, create on schema public to {name}", shop.superuser)
    shop.execute(f"create database {quiet}", shop.superuser)
    shop.execute(f"revoke all on database {quiet} from public", shop.superuser)
    shop.execute(f"grant connect on database {quiet} to {name}", shop.superuser)
    shop.login = replace(before, user=name, password=Secret(password))
    try:
        yield quiet
    finally:
        shop.login = before
        shop.execute(f"drop database {quiet} with (force)", shop.superuser)
        shop.execute(f"reassign owned by {name} to migrator; drop owned by {name}; drop role {name}", shop.superuser)


def test_the_owner_of_the_tables_migrates_without_maintenance(shop: Shop) -> None:
    """No CREATEDB, no pg_signal_backend, no pg_monitor, not the owner of the database; the journal is a file."""
    with owner_of_tables(shop) as quiet:
        settings: dict[str, object] = {**ONLINE, "maintenance_database": quiet}
        assert [
            one for one in needs(shop, Tier.ONLINE, maintenance_database=quiet) if not one.held and not one.helpful
        ] == []
        assert {
            one.lacks.partition(" ")[2] for one in needs(shop, Tier.SWAP, maintenance_database=quiet) if not one.held
        } == {
            f"does not own {shop.login.database} (its owner is migrator)",
            "may not end others' sessions",
            "may not create databases",
            "does not see what others' sessions do",
        }
        with psycopg.connect(conninfo(shop.login)) as connection:
            [rights] = connection.execute(
                "select rolsuper or rolcreatedb or rolcreaterole or rolreplication or rolbypassrls,"
                " pg_has_role('pg_signal_backend', 'member') or pg_has_role('pg_monitor', 'member'),"
                " pg_has_role(datdba, 'member') from pg_roles, pg_database"
                " where rolname = session_user and datname = current_database()"
            )
        assert rights == (False, False, False)
        migrated = shop.run(shop.sql(*GOOD), settings)
        assert (migrated.error, migrated.outcome) == (None, Outcome.MIGRATED)
        before = shop.dump()
        failed = shop.run(shop.sql("\ndelete from badge", "\nselect 1/0", name="bad.sql"), settings)
        assert failed.outcome is Outcome.ROLLED_BACK, failed.error
        assert shop.dump() == before


@pytest.mark.slow
def test_the_owner_of_the_tables_also_goes_stepwise_and_back(shop: Shop) -> None:
    with owner_of_tables(shop) as quiet:
        settings: dict[str, object] = {**ONLINE, "maintenance_database": quiet}
        undo = "--rollback drop index by_total"
        concurrently = f" runInTransaction:false\ncreate index concurrently by_total on orders (total)\n{undo}"
        stepwise = shop.run(shop.sql(concurrently), {**settings, "way": "stepwise"})
        assert (stepwise.error, stepwise.outcome) == (None, Outcome.MIGRATED)
        back = shop.rollback(settings, run_id=stepwise.run_id, accept_no_way_back=True)
        assert (back.error, back.outcome) == (None, Outcome.MIGRATED)


def datdba_is(shop: Shop, database: str, *roles: str) -> bool:
    return shop.value(f"select pg_get_userbyid(datdba) from pg_database where datname = '{database}'") in roles


@contextmanager
def login_with(shop: Shop, tier: Tier) -> Iterator[str]:
    """The shop's login is a new one with what the tier's SQL gives; see `login_without`."""
    with login_without(shop) as quiet:
        lacking = [one for one in needs(shop, tier, maintenance_database=quiet) if not one.held]
        assert lacking
        for one in lacking:
            shop.execute(one.sql, shop.superuser)
        assert [one for one in needs(shop, tier, maintenance_database=quiet) if not one.held] == []
        yield quiet


@contextmanager
def login_without(shop: Shop) -> Iterator[str]:
    """The shop's login is a new one that may connect, and nothing else; tables and database belong to two other roles.

    The name of a maintenance database into which nobody may connect.
    """
    name, password, before = f"test_{secrets.token_hex(4)}", secrets.token_hex(8), shop.login
    tables, whole, quiet = f"{name}_tables", f"{name}_whole", f"{name}_admin"
    shop.execute(f"create database {quiet}", shop.superuser)
    shop.execute(f"revoke all on database {quiet} from public", shop.superuser)
    for role in (tables, whole):
        shop.execute(f"create role {role}", shop.superuser)
    shop.execute(f"grant create on schema public to {tables}", shop.superuser)
    shop.execute(GIVE_TABLES.format(role=tables), shop.superuser)
    shop.execute(f"alter database {before.database} owner to {whole}", shop.superuser)
    shop.execute(f"create role {name} login password '{password}'", shop.superuser)
    shop.login = replace(before, user=name, password=Secret(password))
    try:
        yield quiet
    finally:
        shop.login = before
        shop.execute(f"drop database {quiet} with (force)", shop.superuser)
        shop.execute(f"alter database {before.database} owner to migrator", shop.superuser)
        for kept in shop.query("select datname from pg_database where datname like 'mig\\_%'"):
            if datdba_is(shop, str(kept[0]), name, tables, whole):
                shop.execute(f"drop database {kept[0]} with (force)", shop.superuser)
        for role in (name, tables, whole):
            shop.execute(f"reassign owned by {role} to migrator; drop owned by {role}", shop.superuser)
            shop.execute(f"drop role {role}", shop.superuser)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("tier", "settings"),
    [
        (Tier.ONLINE, {"profile": "online"}),
        (Tier.FENCE, {"backup.kinds": (), "backup.restore": "never"}),
        (Tier.FENCE, {"backup.kinds": (), "backup.restore": "never", "maintenance.database": "read-only"}),
        (Tier.SWAP, {"backup.kinds": (), "backup.restore": "never", "way": "bluegreen"}),
        (Tier.SWAP, {"backup.kinds": ("clone",), "backup.restore": "never"}),
    ],
)
def test_a_tier_is_enough_for_its_runs(shop: Shop, tier: Tier, settings: dict[str, object]) -> None:
    with login_with(shop, tier) as quiet:
        record = shop.run(shop.sql(*GOOD), {**settings, "maintenance_database": quiet})
        assert (record.error, record.outcome) == (None, Outcome.MIGRATED)


@pytest.mark.slow
def test_the_tier_recover_is_enough_for_a_restore(shop: Shop) -> None:
    with login_with(shop, Tier.RECOVER) as quiet:
        bad = shop.sql("\ndelete from event", "\nselect 1/0")
        record = shop.run(bad, {"way": "stepwise", "maintenance_database": quiet})
        assert record.outcome is Outcome.RESTORED, record.error and record.error.message


NEVER = {"backup.restore": "never"}
OWNS, ENDS, MAKES = "does not own", "may not end others' sessions", "may not create databases"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("tier", "settings", "named", "not_asked"),
    [
        (Tier.ONLINE, {**NEVER, "maintenance.database": "none"}, {OWNS}, {ENDS, MAKES}),
        (Tier.FENCE, NEVER, {OWNS, ENDS}, {MAKES}),
        (Tier.SWAP, {**NEVER, "bluegreen": "true"}, {OWNS, ENDS, MAKES}, set()),
        (Tier.RECOVER, {}, {OWNS, ENDS, MAKES}, set()),
    ],
)
def test_doctor_names_what_the_tier_lacks_and_what_it_says_is_enough(
    shop: Shop,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tier: Tier,
    settings: dict[str, str],
    named: set[str],
    not_asked: set[str],
) -> None:
    with login_without(shop) as quiet:
        shop.execute(f"grant connect on database {quiet} to {shop.login.user}", shop.superuser)
        config = str(shop.write_config())
        for name, value in shop.environ().items():
            monkeypatch.setenv(name, value)
        given = {**settings, "maintenance_database": quiet}

        def doctor() -> tuple[int, list[dict[str, str]]]:
            options = [word for key, value in given.items() for word in ("--set", f"{key}={value}")]
            code = boundary.run(app, ["doctor", "--json", "--config", config, "--env", ENVIRONMENT, *options])
            findings = json.loads(capsys.readouterr().out)["findings"]
            return code, [one for one in findings if one["name"] == "privileges"]

        code, found = doctor()
        problems = [one["detail"] for one in found if one["status"] == "problem"]
        assert code == 3
        assert {what for what in (OWNS, ENDS, MAKES) if any(what in one for one in problems)} == named
        assert not {what for what in not_asked if any(what in one for one in problems)}
        for one in found:
            shop.execute(one["remedy"], shop.superuser)
        code, found = doctor()
        assert code == 0, found
        assert [(one["status"], f"the tier {tier.value}" in one["detail"]) for one in found] == [("ok", True)]
        shop.execute(f"revoke connect on database {quiet} from {shop.login.user}", shop.superuser)
        code, found = doctor()
        assert code == 3, "and without one of them it does not pass"
