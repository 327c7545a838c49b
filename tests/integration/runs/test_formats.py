"""Every format and every way to say what a changelog means, with both Liquibases; and again, with nothing to do."""

from __future__ import annotations

import pytest

from migrator.runs.record import Outcome, RunRecord, Way
from tests.shop import Shop

VERSIONS = ("5.0.4", "4.33.0")
FORMATS = {
    "xml": ("2026.02-loyalty/changelog.xml", "select count(*) > 0 from customer where points > 0"),
    "yaml": ("2026.03-shipping/changelog.yaml", "select count(*) = 2 from carrier"),
    "json": ("2026.04-reviews/changelog.json", "select count(*) = 0 from review"),
}
SQL = """
insert into product (sku, name, price, attributes) values ('SKU-NEW', 'New; and improved', 1.50, '{"a": 1}')
--rollback delete from product where sku = 'SKU-NEW'
"""


def steps(record: RunRecord) -> list[str]:
    return [step.name.value for step in record.steps]


def assert_nothing_to_do(shop: Shop, changelog: str) -> None:
    before = shop.dump()
    again = shop.run(changelog)
    assert (again.error, again.outcome, again.exit_code) == (None, Outcome.NOTHING_TO_DO, 0)
    assert steps(again) == ["lock", "preflight"]
    assert again.backups == []
    assert again.maintenance.started_at is None
    assert again.maintenance.downtime_s is None
    assert shop.dump() == before


@pytest.mark.parametrize(
    ("kind", "version"),
    [
        pytest.param(kind, version, marks=[pytest.mark.slow] if version != VERSIONS[0] and kind != "sql" else [])
        for kind in ("sql", *FORMATS)
        for version in VERSIONS
    ],
)
def test_each_format_runs_and_then_has_nothing_to_do(shop: Shop, kind: str, version: str) -> None:
    shop.settings = {"liquibase.version": version}
    name, holds = FORMATS.get(kind, ("", "select count(*) = 1 from product where sku = 'SKU-NEW'"))
    changelog = shop.sample(name) if name else shop.sql(SQL)
    ran_before = len(shop.ledger())
    record = shop.run(changelog)
    assert (record.error, record.outcome, record.exit_code) == (None, Outcome.MIGRATED, 0)
    assert record.way is Way.ATOMIC
    assert record.versions["liquibase"] == version
    assert steps(record) == ["lock", "preflight", "maintain", "hold", "back_up", "apply", "verify", "commit", "lift"]
    assert all(changeset.status == "executed" for changeset in record.changesets)
    assert len(shop.ledger()) == ran_before + len(record.changesets)
    assert {path for _, path, _ in shop.ledger()[ran_before:]} == {changelog}
    assert record.maintenance.mode == "offline"
    assert record.maintenance.downtime_s is not None
    assert [backup.kind for backup in record.backups] == ["dump"]
    assert record.surprises == []
    assert shop.value(holds) is True
    assert_nothing_to_do(shop, changelog)


def test_plain_sql_without_a_header_has_its_rollback_beside_it(shop: Shop) -> None:
    changelog = shop.write("plain.sql", "create table plain (id int);\ninsert into plain values (1);\n")
    shop.write("plain.rollback.sql", "drop table plain;\n")
    record = shop.run(changelog, {"way": "stepwise", "backup.kinds": [], "maintenance.database": "none"})
    assert (record.error, record.outcome) == (None, Outcome.MIGRATED)
    assert [changeset.status for changeset in record.changesets] == ["executed"]
    assert shop.value("select count(*) from plain") == 1
    assert_nothing_to_do(shop, changelog)


def test_includes_contexts_labels_and_parameters_choose_what_runs(shop: Shop) -> None:
    shop.sql(
        "context:test\ncreate table in_test (id int)",
        "context:prod\ncreate table in_prod (id int)",
        "labels:v2\ncreate table in_v2 (id int)",
        "labels:v3\ncreate table in_v3 (id int)",
        "\ncreate table ${name} (id ${type})",
        name="db/parts/one.sql",
    )
    changelog = shop.write(
        "db/main.yaml",
        "databaseChangeLog:\n- include: {file: parts/one.sql, relativeToChangelogFile: true}\n",
    )
    settings = {"contexts": "test", "labels": "v2", "parameters.type": "numeric(7, 3)"}
    record = shop.run(changelog, settings, parameters={"name": "by_parameter"})
    assert (record.error, record.outcome) == (None, Outcome.MIGRATED)
    assert [(changeset.path, changeset.id) for changeset in record.changesets] == [
        ("db/parts/one.sql", "1"),
        ("db/parts/one.sql", "3"),
        ("db/parts/one.sql", "5"),
    ]
    assert {"in_test", "in_v2", "by_parameter"} <= shop.tables()
    assert not {"in_prod", "in_v3"} & shop.tables()
    kind = "select format_type(atttypid, atttypmod) from pg_attribute where attrelid = 'by_parameter'::regclass"
    assert shop.value(f"{kind} and attname = 'id'") == "numeric(7,3)"


def test_default_schema_and_liquibase_schema_are_two_things(shop: Shop) -> None:
    shop.execute("create schema sales_east; create schema ledger")
    changelog = shop.write(
        "main.yaml",
        "databaseChangeLog:\n- changeSet:\n    id: region\n    author: ann\n    changes:\n"
        "    - createTable: {tableName: region, columns: [{column: {name: id, type: int}}]}\n",
    )
    shop.settings = {"default_schema": "sales_east", "liquibase_schema": "ledger"}
    known = shop.value("select count(*) from public.databasechangelog")
    record = shop.run(changelog)
    assert (record.error, record.outcome) == (None, Outcome.MIGRATED)
    assert shop.value("select relnamespace::regnamespace::text from pg_class where relname = 'region'") == "sales_east"
    assert shop.value("select count(*) from ledger.databasechangelog") == 1
    assert shop.value("select count(*) from public.databasechangelog") == known
    assert_nothing_to_do(shop, changelog)
