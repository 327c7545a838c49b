"""A rehearsal tells before any real run what a changelog does, and what its rollbacks lose."""

from __future__ import annotations

from pathlib import Path

import pytest

from migrator.errors import Refused
from migrator.rehearsals.built import by_changelog
from migrator.reports import rehearsal as report
from tests.integration.runs.rehearsing import Signing, losses, rehearse
from tests.shop import ENVIRONMENT, Shop

NOTE = """
alter table orders add column note text
--rollback alter table orders drop column note"""
DROPS_PREFERENCES = """
alter table customer drop column preferences
--rollback alter table customer add column preferences jsonb"""
NO_ROLLBACK = "\ninsert into price_audit (product_id) select id from product where id < 5"


def filled(shop: Shop, column: str) -> int:
    value = shop.value(f"select count({column}) from customer")
    assert isinstance(value, int)
    return value


def test_a_rollback_that_silently_loses_a_column_is_named_with_its_rows(shop: Shop) -> None:
    record = rehearse(shop, shop.sql(NOTE, DROPS_PREFERENCES))
    assert not record.passed
    assert [one.rollback for one in record.changesets] == ["restores", "loses"]
    first = losses(record)["2"][0]
    rows = filled(shop, "preferences")
    assert rows > 0
    assert (first.what, first.column, first.rows) == ("public.customer", "preferences", rows)
    assert [leg.outcome for leg in record.legs] == ["migrated", "migrated", "migrated"]
    [error] = record.errors
    assert error.code == "rollback_loses"
    assert f"public.customer.preferences: is empty in {rows:,} rows that had a value" in error.message
    assert record.attestation is None
    text = report.as_text(record)
    assert max(map(len, text.splitlines())) <= 80
    assert "LOSES DATA" in text
    assert f"public.customer.preferences: is empty in {rows:,} rows" in " ".join(text.split())
    assert f"| <code>public.customer</code> | `preferences` | {rows:,} |" in report.as_markdown(record).replace(
        "`public.customer`", "<code>public.customer</code>"
    )


@pytest.mark.slow
def test_what_a_rollback_does_not_bring_back_is_told_of_rows_tables_and_columns(shop: Shop) -> None:
    items = shop.value("select count(*) from order_item")
    record = rehearse(
        shop,
        shop.sql(
            "\ndelete from order_item where line = 1\n--rollback select 1",
            "\ninsert into price_audit (product_id) values (1)\n--rollback select 1",
            "\nalter table product alter column weight_kg type int\n"
            "--rollback alter table product alter column weight_kg type numeric",
            "\ndrop table price_audit\n--rollback create table price_audit (id bigint)",
            "\nupdate customer set email = 'x' || email\n--rollback update customer set email = substr(email, 2)",
        ),
        settings={"checks.suites": [], "checks.invariants": []},
    )
    found = losses(record)
    gone = shop.value("select count(*) from order_item where line = 1")
    assert isinstance(items, int)
    assert (found["1"][0].what, found["1"][0].rows) == ("public.order_item", gone)
    assert found["1"][0].how == f"{gone} rows are gone, of {items:,} there were"
    assert (found["2"][0].what, found["2"][0].rows) == ("public.price_audit", 1)
    assert "left behind" in found["2"][0].how
    of_weight = found["3"][0]
    assert (of_weight.what, of_weight.column) == ("public.product", "weight_kg")
    assert of_weight.rows is not None
    assert of_weight.rows > 0
    assert any(one.what == "column public.price_audit.product_id" or one.column == "product_id" for one in found["4"])
    assert set(found) == {"1", "2", "3", "4"}


@pytest.mark.slow
def test_it_passes_and_is_attested_where_every_rollback_restores(shop: Shop) -> None:
    signing = Signing(server=shop.server, login=shop.login, folder=shop.folder)
    record = rehearse(signing, signing.sql(NOTE, "\ncreate table gift (id int)\n--rollback drop table gift"))
    assert record.passed, record.findings
    assert [one.rollback for one in record.changesets] == ["restores", "restores"]
    assert [leg.name for leg in record.legs] == ["apply", "roll back", "apply again"]
    assert any("After it the copy is what it was" in sentence for sentence in record.legs[1].proven)
    assert record.attestation == str(signing.attestations[0])
    assert all(one.apply_s is not None and one.estimate_s is not None for one in record.changesets)
    assert "Rehearsal passed" in report.as_text(record)


@pytest.mark.slow
@pytest.mark.parametrize("source", ["schema", "backup", "dump"])
def test_each_source_can_be_rehearsed_on(shop: Shop, source: str) -> None:
    first = shop.run(shop.sql("\ncreate table earlier (id int)", name="earlier.sql"))
    if source == "backup":
        source = f"backup {first.backups[0].id}"
    elif source == "dump":
        source = f"dump {Path(first.backups[0].location, 'dump')}"
        if not Path(source.partition(" ")[2]).exists():
            source = f"dump {next(p for p in Path(first.backups[0].location).iterdir() if p.name != 'manifest.json')}"
    record = rehearse(shop, shop.sql(NOTE), source)
    assert record.passed, record.findings
    assert record.source == source
    assert record.with_data is (source != "schema")
    assert [one.rollback for one in record.changesets] == ["restores_schema" if source == "schema" else "restores"]
    assert ("schema restores; no row was there" in report.as_text(record)) is (source == "schema")
    assert (record.estimate_s is None) is (source == "schema")
    assert record.attestation_note == "none was written: signing.key names no key to sign it with"


@pytest.mark.slow
def test_a_changeset_that_fails_fails_the_rehearsal_and_the_others_are_tried(shop: Shop) -> None:
    record = rehearse(shop, shop.sql(NOTE, "\nselect 1/0"))
    assert [one.code for one in record.errors] == ["apply_failed"]
    assert "division by zero" in record.errors[0].message
    assert [one.status for one in record.changesets] == ["executed", "failed"]
    assert record.changesets[0].rollback == "restores"
    assert [leg.outcome for leg in record.legs] == ["rolled_back", "left out", "left out"]


@pytest.mark.slow
def test_a_changeset_without_a_rollback_is_told_and_passes(shop: Shop) -> None:
    record = rehearse(shop, shop.sql(NO_ROLLBACK, NOTE))
    assert record.passed, record.findings
    assert [one.rollback for one in record.changesets] == ["none", "restores"]
    assert [one.code for one in record.findings] == ["no_rollback"]
    assert [leg.outcome for leg in record.legs] == ["migrated", "left out", "left out"]


@pytest.mark.slow
def test_a_rollback_that_fails_is_an_error(shop: Shop) -> None:
    record = rehearse(shop, shop.sql(NOTE, "\ncreate table gift (id int)\n--rollback drop table gifts"))
    assert [one.rollback for one in record.changesets] == ["restores", "fails"]
    assert record.errors[0].code == "rollback_fails"
    assert not record.passed


@pytest.mark.slow
def test_a_loss_is_a_warning_where_it_was_allowed_or_the_way_back_needs_no_rollback(shop: Shop) -> None:
    changelog = shop.sql(DROPS_PREFERENCES)
    assert rehearse(shop, changelog, allow_lossy_rollback=True).passed
    protected = rehearse(shop, changelog, settings={"protected": True})
    assert protected.fallback is None
    assert protected.passed
    assert [one.severity for one in protected.findings] == ["warning"]


@pytest.mark.slow
def test_what_runs_outside_a_transaction_and_what_stays_pending_is_rehearsed_too(shop: Shop) -> None:
    changelog = shop.sql(
        "runInTransaction:false\ncreate index concurrently by_name on customer (name)\n--rollback drop index by_name",
        "\n--preconditions onFail:CONTINUE\n--precondition-sql-check expectedResult:1 select 0\nselect 1/0",
        "runAlways:true\ninsert into price_audit (product_id) values (1)\n"
        "--rollback delete from price_audit where id = (select max(id) from price_audit)",
        NOTE,
    )
    record = rehearse(shop, changelog)
    assert record.way == "stepwise"
    assert [one.status for one in record.changesets] == ["executed", "skipped", "executed", "executed"]
    assert [one.rollback for one in record.changesets] == ["restores", "not_tried", "restores", "restores"]


@pytest.mark.slow
def test_what_reaches_the_whole_server_is_never_committed_on_the_targets(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("migrator.rehearsals.places._embedded_hindrance", lambda _run: "there is none")
    shop.run(shop.sql(f'\ncomment on database "{shop.login.database}" is null;\n--rollback empty', name="first.sql"))
    shop.sql(NOTE, name="second.sql")
    both = "".join(f"  - include: {{ file: {name} }}\n" for name in ("first.sql", "second.sql"))
    record = rehearse(shop, shop.write("all.yaml", f"databaseChangeLog:\n{both}"), "schema")
    assert "the target's own server" in (record.place or ""), "what ran on the target already does not count"
    config = shop.config()
    with pytest.raises(Refused, match=r"COMMENT ON DATABASE .*first\.sql:3.*own server") as refused:
        by_changelog(config, config.environment(ENVIRONMENT), "all.yaml", {})
    assert refused.value.code == "outside_database"
    with pytest.raises(Refused, match=r"CREATE ROLE .*release\.sql:3") as refused:
        rehearse(shop, shop.sql("\ncreate role made_in_a_rehearsal;\n--rollback drop role made_in_a_rehearsal;"))
    assert (refused.value.code, refused.value.exit_code) == ("outside_database", 3)


@pytest.mark.slow
def test_nothing_pending_is_nothing_to_rehearse(shop: Shop) -> None:
    changelog = shop.sql(NOTE)
    shop.run(changelog)
    record = rehearse(shop, changelog)
    assert record.passed
    assert record.changesets == []
    assert report.as_text(record).startswith("Nothing to rehearse")


@pytest.mark.slow
def test_a_changelog_that_a_run_would_refuse_is_refused(shop: Shop) -> None:
    changelog = shop.sql(NOTE)
    shop.run(changelog)
    shop.sql(NOTE.replace("note text", "note varchar(10)"))
    with pytest.raises(Refused, match="edited after"):
        rehearse(shop, changelog)


@pytest.mark.slow
def test_what_one_transaction_cannot_do_is_rehearsed_in_the_fallback(shop: Shop) -> None:
    record = rehearse(shop, shop.sample("broken/enum-at-once.sql"))
    assert (record.way, record.fallback) == ("atomic", "stepwise")
    assert record.legs[0].outcome == "migrated"
    assert {"fallback", "rollback_loses", "apply_again_failed"} <= {one.code for one in record.findings}
    assert losses(record)["platinum"][0].what == "type public.customer_tier"
