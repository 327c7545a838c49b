"""A plan shows what a run would do and leaves nothing behind; a run that is held to one does just that, or nothing."""

from __future__ import annotations

import base64
import json
import os
from datetime import UTC, datetime
from pathlib import Path
from unittest import mock

import psycopg
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from migrator.backups.signing import PublicKeys, SigningKey
from migrator.config.login import Secret
from migrator.errors import Refused
from migrator.plans import approvals, plan_file
from migrator.plans.plan import Plan
from migrator.postgres import row_fingerprint, schema_fingerprint, sessions
from migrator.postgres.catalog import tables
from migrator.postgres.connect import connect
from migrator.runs.record import Outcome, RunRecord
from tests.integration.runs.byhand import call
from tests.integration.runs.test_refusals import role
from tests.shop import Shop, conninfo

NICKNAME = "\nalter table customer add column nickname text"
REVIEWED = (
    "\nalter table customer add column reviewed_at timestamptz\n--rollback alter table customer drop column reviewed_at"
)
CUSTOMERS = "select count(*) from information_schema.tables where table_name = 'customer'"
MARKED = "\n--preconditions onFail:MARK_RAN\n--precondition-sql-check expectedResult:0 select 1\ncreate table a (b int)"


def traces(shop: Shop) -> object:
    """Everything that a plan could leave on the server and beside it."""
    with connect(shop.superuser, role="test", run_id="witness") as session:
        schema = schema_fingerprint.of_schema(session).digest
        found = tables(session)
        rows = {one.qualified: row_fingerprint.of_tables([session], [one])[one.qualified].digest for one in found}
    locks = "select count(*) from pg_locks l join pg_stat_activity a using (pid) where a.application_name like 'mig:%'"
    state = shop.folder / ".migrator"
    return (
        schema,
        rows,
        shop.tables(),
        shop.query("select datname from pg_database order by 1"),
        shop.query(f"{locks} and a.application_name not like 'mig:test:%'"),
        sorted(str(path) for path in state.rglob("*")) if state.exists() else [],
    )


def test_a_plan_leaves_nothing_behind_and_needs_select_only(shop: Shop, empty: Shop) -> None:
    with role(shop, "", "usage on schema public", "select on all tables in schema public"):
        before = traces(shop)
        plan = shop.plan(shop.sql(NICKNAME, REVIEWED))
        assert traces(shop) == before
    assert [one.sql for one in plan.changesets] == [
        ("alter table customer add column nickname text",),
        ("alter table customer add column reviewed_at timestamptz",),
    ]
    assert [one.rollback_sql for one in plan.changesets] == [(), ("alter table customer drop column reviewed_at",)]
    assert [one.key for one in plan.without_rollback] == ["release.sql::1::ann"]
    assert (plan.way, plan.has_ledger) == ("atomic", True)
    assert {one.why for one in plan.left_out} == {"not_known"}  # what the shop's first release has run
    assert plan.tables == ("public.customer",)
    assert {"table public.customer", "column public.customer.id"} <= plan.schema_objects.keys()
    obstacles = " ".join(one.what for one in plan.obstacles)
    for missing in ("does not own", "may not create databases", "may not end others' sessions"):
        assert missing in obstacles
    before = traces(empty)
    plan = empty.plan(empty.sql(MARKED))
    assert traces(empty) == before
    assert not plan.has_ledger
    assert plan.changesets[0].precondition == "unknown"
    assert "no ledger" in (plan.changesets[0].precondition_says or "")


def test_a_ledger_that_may_not_be_read_is_named(shop: Shop) -> None:
    with role(shop, "", "usage on schema public"), pytest.raises(Refused, match="databasechangelog"):
        shop.plan(shop.sql(NICKNAME))


def test_why_the_rest_is_not_pending(shop: Shop) -> None:
    check = f"--precondition-sql-check expectedResult:{{}} {CUSTOMERS}"
    first = shop.sql(NICKNAME)
    assert shop.run(first).outcome is Outcome.MIGRATED
    changelog = shop.sql(
        NICKNAME,
        "context:production\nselect 1",
        "labels:later\nselect 1",
        "dbms:oracle\nselect 1 from dual",
        f"\n--preconditions onFail:MARK_RAN\n{check.format(1)}\nalter table customer add column one int",
        f"\n--preconditions onFail:HALT\n{check.format(7)}\nalter table customer add column seven int",
    )
    plan = shop.plan(changelog, {"contexts": "staging", "labels": "!later"})
    here = {one.id: one.why for one in plan.left_out if one.path == "release.sql"}
    assert here == {"1": "ran", "2": "other_context", "3": "other_label", "4": "other_dbms"}
    assert [(one.id, one.precondition, one.on_fail) for one in plan.changesets] == [
        ("5", "holds", "MARK_RAN"),
        ("6", "fails", "HALT"),
    ]
    assert (
        shop.plan(shop.sql("\nalter table customer add column other text"))
        .obstacles[0]
        .what.startswith("1 changeset was edited")
    )


def test_who_is_in_the_way_of_a_partition_too(shop: Shop) -> None:
    partition = shop.value(
        "select inhrelid::regclass::text from pg_inherits where inhparent = 'event'::regclass limit 1"
    )
    with psycopg.connect(conninfo(shop.app), application_name="billing") as busy:
        busy.execute(f"select count(*) from {partition}".encode())
        [(pid,)] = busy.execute("select pg_backend_pid()").fetchall()
        plan = shop.plan(shop.sql("\nalter table event add column origin text"))
        [found] = plan.in_the_way
    assert (found.pid, found.application, found.user, found.state) == (pid, "billing", "app", "idle in transaction")
    assert found.age_s is not None
    assert found.query == "select pg_backend_pid()"
    assert f"public.{partition}: AccessShareLock" in found.locks
    assert plan.others == 1


def refusal(record: RunRecord) -> str:
    assert (record.outcome, record.exit_code) == (Outcome.REFUSED, 3), record.error
    assert record.error is not None
    assert record.error.code == "plan_changed"
    return record.error.message


def test_a_run_is_held_to_its_plan(shop: Shop) -> None:
    shop.toml = '[environments.staging.parameters]\nword = "${env:SHOP_PASSWORD}"\n'
    text = "\nalter table customer add column nickname text default '${word}';\ncreate table event_log (id int)"
    changelog = shop.sql(text)
    plan = shop.plan(changelog)
    assert shop.login.password is not None
    assert shop.login.password.reveal() not in plan_file.render(plan)
    assert "'${word}'" in plan.changesets[0].sql[0]
    path = shop.folder / "plan.json"
    path.write_text(plan_file.render(plan), encoding="utf-8")
    assert plan_file.read(path) == plan
    assert "parameter word has changed" in refusal(shop.run(changelog, plan=plan, parameters={"word": "other"}))
    shop.execute("alter table customer add column by_somebody int")
    assert "column public.customer.by_somebody is new" in refusal(shop.run(changelog, plan=plan))
    shop.execute("alter table customer drop column by_somebody")
    shop.execute("create table event_of_2031 partition of event for values from ('2031-01-01') to ('2032-01-01')")
    record = shop.run(changelog, plan=plan)
    assert record.outcome is Outcome.MIGRATED, record.error
    assert record.plan_digest == plan.digest


@pytest.mark.slow
def test_each_way_in_which_a_run_differs_from_its_plan_is_told(shop: Shop) -> None:
    changelog = shop.sql(NICKNAME)
    plan = shop.plan(changelog)
    assert "setting limits.lock_timeout_s was 10.0, is 3.0" in refusal(
        shop.run(changelog, {"limits.lock_timeout_s": 3.0}, plan=plan)
    )
    assert "way was atomic, is stepwise" in refusal(shop.run(changelog, {"way": "stepwise"}, plan=plan))
    shop.sql(NICKNAME, NICKNAME.replace("nickname", "another"))
    assert "changeset release.sql::2::ann is new" in refusal(shop.run(changelog, plan=plan))
    shop.sql(NICKNAME + ";\nselect 1")
    assert "changeset release.sql::1::ann was edited" in refusal(shop.run(changelog, plan=plan))
    shop.sql(NICKNAME + "\n--rollback alter table customer drop column if exists nickname")
    assert "rollback of changeset release.sql::1::ann" in refusal(shop.run(changelog, plan=plan))


def person(shop: Shop, name: str, *, into: str | None = None) -> SigningKey:
    """A key whose public half lies in the folder of the known ones; the private one in the file `into`."""
    private = Ed25519PrivateKey.generate()
    public = private.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()
    shop.write(f"keys/{name}.pub", public + "\n")
    text = base64.b64encode(private.private_bytes_raw()).decode()
    if into is not None:
        shop.write(into, text)
    return SigningKey.parse(Secret(text))


def approved(shop: Shop, plan: Plan, key: SigningKey, name: str) -> Plan:
    config = shop.config()
    keys = PublicKeys.load(config.signing.public_keys)
    return approvals.approve(plan, key, keys, by=name, comment="", at=datetime.now(UTC))


@pytest.mark.slow
def test_an_environment_asks_for_another_persons_word(shop: Shop) -> None:
    shop.toml = 'approvals = { required = 1 }\n[signing]\npublic_keys = ["keys/*.pub"]\n'
    ann, bob = person(shop, "ann"), person(shop, "bob")
    changelog = shop.sql(NICKNAME)
    record = shop.run(changelog)
    assert record.error is not None
    assert (record.exit_code, record.error.code) == (3, "no_plan")
    assert "migrator plan release.sql --env staging --out plan.json" in (record.error.hint or "")
    plan = shop.plan(changelog)
    [gate] = [one for one in plan.gates if one.name == "approvals"]
    assert not gate.is_open
    signed = approvals.sign(plan, ann)
    for one, code in ((plan, "plan_unsigned"), (signed, "approvals_missing")):
        record = shop.run(changelog, plan=one)
        assert record.error is not None
        assert (record.exit_code, record.error.code) == (3, code)
    whole = approved(shop, signed, bob, "Bob")
    record = shop.run(changelog, plan=whole)
    assert record.outcome is Outcome.MIGRATED, record.error
    assert [(one.by, one.key) for one in record.approvals] == [("Bob", bob.id)]
    told = (shop.folder / ".migrator" / "runs" / record.run_id / "report.md").read_text(encoding="utf-8")
    assert "Bob" in told
    assert json.loads((shop.folder / ".migrator" / "runs" / record.run_id / "report.json").read_text())["approvals"]


def test_the_commands_make_approve_and_carry_out_a_plan(shop: Shop) -> None:
    shop.toml = 'approvals = { required = 1 }\n[signing]\nkey = "${env:PLANNER_KEY}"\npublic_keys = ["keys/*.pub"]\n'
    person(shop, "ann", into="planner.key")
    person(shop, "bob", into="approver.key")
    planner = {"PLANNER_KEY": (shop.folder / "planner.key").read_text(encoding="utf-8")}
    changelog, plan = shop.sql(NICKNAME, REVIEWED), str(shop.folder / "plan.json")
    with mock.patch.dict(os.environ, planner):
        shown = call(shop, "plan", changelog, "--out", plan)
        assert shown.code == 0, shown.err
        assert max(len(line) for line in shown.out.splitlines() if " " in line.strip()) <= 80
        for text in (
            "2 changesets would run.",
            "way           atomic: every changeset may run in a transaction",
            "no rollback   1 of 2: release.sql::1::ann",
            "      alter table customer add column nickname text;",
            "approvals: staging asks for a plan with 1 approval.",
            "locks         nobody has one on a table concerned",
        ):
            assert text in shown.out
        own = call(shop, "approve", plan, "--yes")
        assert (own.code, "another person" in own.err) == (3, True)
        said = call(shop, "approve", plan, "--key", str(shop.folder / "approver.key"), "--by", "Bob", "--yes", "--json")
        assert said.json["approvals"] == 1
        assert plan_file.read(Path(plan)).digest == said.json["plan"]
        done = call(shop, "run", "--plan", plan, "--yes", "--json")
    assert done.code == 0, done.err
    assert done.json["plan_digest"] == said.json["plan"]
    assert [one["by"] for one in done.json["approvals"]] == ["Bob"]
    assert call(shop, "run", "--yes").code == 2
    again = call(shop, "plan", changelog)
    assert "Nothing would run" in again.out


def test_findings_of_a_plan_answer_no(shop: Shop) -> None:
    changelog = shop.sql("\ndrop table price_audit")
    answer = call(shop, "plan", changelog, "--json")
    assert answer.code == 3
    [dropped] = [one for one in answer.json["findings"] if one["severity"] == "error"]
    assert dropped["rows"] == shop.value("select count(*) from price_audit")
    assert call(shop, "plan", changelog, "--fail-on", "never").code == 0
    assert call(shop, "plan", changelog, "--fail-on", "catastrophe").code == 2


def test_who_works_on_the_database_is_an_obstacle_of_the_run(shop: Shop) -> None:
    with shop.server.session(shop.server.migrator) as other:
        assert sessions.lock(other, shop.login.database)
        [obstacle] = shop.plan(shop.sql(NICKNAME)).obstacles
    assert "a run holds the database just now" in obstacle.what
