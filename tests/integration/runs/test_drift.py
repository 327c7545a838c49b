"""What somebody changed by hand since the last verified run is seen: by `drift`, and by the next run."""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator
from dataclasses import replace

import psycopg
import pytest

from migrator.cli import boundary
from migrator.cli.app import app
from migrator.config.login import Secret
from migrator.plans.drift import Drift
from migrator.runs.byhand import drift as drifts
from migrator.runs.record import Outcome
from tests.shop import ENVIRONMENT, Shop, conninfo

NICKNAME = "\nalter table customer add column nickname text\n--rollback alter table customer drop column nickname"
BADGE = "\nalter table customer add column badge text\n--rollback alter table customer drop column badge"
OTHER = "\ncreate table other (id int)\n--rollback drop table other"


def look(shop: Shop, settings: dict[str, object] | None = None) -> Drift:
    """The drift of the shop's database from what its last verified run left."""
    config = shop.config(settings)
    environment = config.environment(ENVIRONMENT)
    found = drifts.of_environment(config, environment)
    return drifts.compared(drifts.of_journal(config, environment, found), found, environment, owners=True)


def identities(found: Drift) -> set[str]:
    return {f"{one.identity} {one.change.value}" for one in found.differences}


@pytest.fixture
def migrated(shop: Shop) -> Shop:
    """The shop after a verified run; its schema is in the journal."""
    record = shop.run(shop.sql(NICKNAME, name="first.sql"))
    assert record.outcome is Outcome.MIGRATED, record.error
    return shop


@pytest.fixture
def reader(migrated: Shop) -> Iterator[Shop]:
    """The same, by a login that may do nothing but select."""
    shop = migrated
    name, password, before = f"test_{secrets.token_hex(4)}", secrets.token_hex(8), shop.login
    shop.execute(f"create role {name} login password '{password}'", shop.superuser)
    shop.execute(f"grant select on all tables in schema public to {name}", shop.superuser)
    shop.login = replace(before, user=name, password=Secret(password))
    try:
        yield shop
    finally:
        shop.login = before
        shop.execute(f"drop owned by {name}; drop role {name}", shop.superuser)


def test_the_story_of_a_drift(
    migrated: Shop, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Seen, told by the next run that touches it, not by one that does not, refused where asked, and accepted."""
    shop = migrated
    shop.write_config()
    for name, value in shop.environ().items():
        monkeypatch.setenv(name, value)
    arguments = ["drift", "--env", ENVIRONMENT, "--config", str(shop.folder / "migrator.toml")]
    assert boundary.run(app, arguments) == 0
    assert "no drift" in capsys.readouterr().out
    shop.execute(
        "alter table customer drop column nickname; create index by_hand on product (name);"
        "create table event_new partition of event for values from ('2031-01-01') to ('2031-02-01')"
    )
    assert boundary.run(app, [*arguments, "--json"]) == 3
    told = json.loads(capsys.readouterr().out)
    assert [one["object"] for one in told["missing"]] == ["column public.customer.nickname"]
    assert told["missing"][0]["expected"] == "ALTER TABLE public.customer ADD COLUMN nickname text;"
    assert [one["found"] for one in told["added"]] == ["CREATE INDEX by_hand ON public.product USING btree (name);"]
    assert told["changed"] == []
    assert told["left_out"]["partitions"] == ["public.event_new"]
    refused = shop.run(shop.sql(BADGE, name="second.sql"), {"on_drift": "refuse"})
    assert refused.outcome is Outcome.REFUSED
    assert refused.error is not None
    assert refused.error.code == "drift"
    assert "column public.customer.nickname (missing)" in refused.error.message
    assert "by_hand" not in refused.error.message
    assert boundary.run(app, [*arguments, "--accept", "the index is ours"]) == 0
    assert boundary.run(app, arguments) == 0
    assert "accepted" in capsys.readouterr().out
    assert shop.run("second.sql", {"on_drift": "refuse"}).outcome is Outcome.MIGRATED
    assert not look(shop)


@pytest.mark.slow
def test_a_run_is_warned_only_of_what_it_touches(migrated: Shop) -> None:
    shop = migrated
    shop.execute("alter table customer alter column nickname set default 'x'")
    elsewhere = shop.run(shop.sql(OTHER, name="second.sql"))
    assert elsewhere.outcome is Outcome.MIGRATED
    assert not [warning for warning in elsewhere.warnings if "Drift" in warning]
    shop.execute("alter table customer alter column nickname set default 'y'")
    here = shop.run(shop.sql(BADGE, name="third.sql"))
    assert here.outcome is Outcome.MIGRATED
    assert any(warning.startswith("Drift: 1 object ") for warning in here.warnings), here.warnings
    assert any("column public.customer.nickname (changed)" in gate.says for gate in here.gates), here.gates
    shop.execute("alter table other add column x int")
    everything = shop.run(
        shop.sql("\nselect 1\n--rollback empty", name="fourth.sql"), {"on_drift": "refuse", "drift.scope": "all"}
    )
    assert everything.outcome is Outcome.REFUSED


@pytest.mark.slow
def test_without_a_verified_run_there_is_nothing_to_compare_with(shop: Shop) -> None:
    record = shop.run(shop.sql(NICKNAME), {"on_drift": "refuse"})
    assert record.outcome is Outcome.MIGRATED
    assert any(gate.name == "drift" and "no verified run" in gate.says for gate in record.gates)


def test_a_login_that_may_only_select_sees_the_same(reader: Shop) -> None:
    shop = reader
    shop.execute("grant usage on schema public to app", shop.superuser)
    found = look(shop)
    mine = {one for one in identities(found) if not one.startswith("grants on ")}  # it was granted its rights just now
    assert mine == set()
    shop.execute("drop view if exists v; create view v as select 1 as one", shop.superuser)
    assert "view public.v added" in identities(look(shop))
    with psycopg.connect(conninfo(shop.login)) as connection:
        assert connection.execute("select count(*) from databasechangelog").fetchone()


@pytest.mark.slow
@pytest.mark.parametrize("way", ["stepwise", "bluegreen"])
def test_every_way_leaves_a_schema_to_compare_with(shop: Shop, way: str) -> None:
    record = shop.run(shop.sql(NICKNAME), {"way": way})
    assert record.outcome is Outcome.MIGRATED, record.error
    assert not look(shop)
    shop.execute("drop table heartbeat cascade", shop.superuser)
    assert "table public.heartbeat missing" in identities(look(shop))


@pytest.mark.slow
def test_a_rolled_back_run_leaves_the_comparison_as_it_was(migrated: Shop) -> None:
    shop = migrated
    failed = shop.run(shop.sql(BADGE, "\nalter table customer add constraint no check (id < 0)", name="bad.sql"))
    assert failed.outcome is Outcome.ROLLED_BACK
    assert not look(shop)
    assert shop.rollback(count=1).outcome is Outcome.MIGRATED
    assert not look(shop)


@pytest.mark.slow
def test_against_another_environment_and_against_a_changelog(
    migrated: Shop, empty: Shop, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other environment is what the changelog alone builds: with it there is no drift, whichever way."""
    shop, other = migrated, empty
    changelog = other.sql(*(f"\ncreate table t{n} (id int primary key, v text)\n--rollback empty" for n in range(3)))
    assert other.run(changelog).outcome is Outcome.MIGRATED
    text = other.write_config().read_text(encoding="utf-8")
    theirs = (
        shop.write_config().read_text(encoding="utf-8").replace(f"[environments.{ENVIRONMENT}]", "[environments.shop]")
    )
    other.write("migrator.toml", text + theirs)
    for name, value in other.environ().items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(other.folder)
    with shop.server.session() as admin:
        before = admin.rows("select datname from pg_database order by 1")
        assert boundary.run(app, ["drift", "--env", ENVIRONMENT, "--against-changelog", changelog, "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["drift"] is False
        other.execute("alter table t1 add column by_hand int; drop table t2", other.superuser)
        assert boundary.run(app, ["drift", "--env", ENVIRONMENT, "--against-changelog", changelog, "--json"]) == 3
        assert admin.rows("select datname from pg_database order by 1") == before
    told = json.loads(capsys.readouterr().out)
    assert [one["object"] for one in told["added"]] == ["column public.t1.by_hand"]
    assert [one["object"] for one in told["missing"]] == ["table public.t2"]
    assert boundary.run(app, ["drift", "--env", ENVIRONMENT, "--against", "shop", "--json"]) == 3
    told = json.loads(capsys.readouterr().out)
    assert "table public.customer" in {one["object"] for one in told["missing"]}
    assert {"table public.t0", "table public.t1"} == {one["object"] for one in told["added"] if one["table"]}
    assert boundary.run(app, ["drift", "--env", "shop", "--against", "shop"]) == 0
