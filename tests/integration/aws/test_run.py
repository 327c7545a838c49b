"""A whole guarded run with everything at AWS: maintenance, a snapshot, the migration, and the way back by hand."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

import pytest

from migrator.backups.rds import Instance, name_of
from migrator.errors import StepFailed
from migrator.runs import engine, resume
from migrator.runs.record import Outcome
from migrator.runs.watch import LockLost
from tests import shop as shops
from tests.conftest import Server
from tests.integration.aws.providers import AlbCase, EcsCase, SsmCase
from tests.integration.aws.server import REGION, Shop
from tests.integration.runs.conftest import template as template  # noqa: PLC0414  a fixture
from tests.integration.runs.test_taken_over import left_behind

BUCKET = "shop-backups"
GOOD = "\nalter table customer add column nickname text;\n--rollback alter table customer drop column nickname;"
FAILS = "\nalter table customer add constraint impossible check (id < 0);"
STORY: list[str] = []  # one for all tests: clients outlive them
TIMES: list[float] = []  # when each was carried out, by the clock that the database has too
MOMENT = "\ncreate table moment as select clock_timestamp() as at;\n--rollback drop table moment;"
WATCHED = {
    "ecs:UpdateService": "ecs",
    "elbv2:CreateRule": "alb on",
    "elbv2:DeleteRule": "alb off",
    "ssm:PutParameter": "ssm on",
    "ssm:DeleteParameter": "ssm off",
    "rds:CreateDBSnapshot": "snapshot",
    "s3:PutObject": "manifest",
}


@pytest.fixture
def shop(server: Server, template: Any, tmp_path: Any) -> Iterator[shops.Shop]:
    with shops.database(server, template=template(server)) as login:
        yield shops.Shop(server=server, login=login, folder=tmp_path)


@pytest.fixture
def story(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What happened at the server, in order."""
    from migrator.aws.account import Account

    told = STORY
    told.clear()
    TIMES.clear()
    real = Account.client

    def client(self: Account, name: str) -> Any:
        made = real(self, name)
        if not hasattr(made, "told"):
            made.told = made._make_api_call

            def through(operation: str, parameters: Any) -> Any:
                answer = made.told(operation, parameters)
                call = f"{name}:{operation}"
                if call in WATCHED and parameters.get("Key", "manifest.json").endswith("manifest.json"):
                    what = WATCHED[call]
                    told.append(f"ecs {'off' if parameters['desiredCount'] else 'on'}" if what == "ecs" else what)
                    TIMES.append(time.time())
                return answer

            made._make_api_call = through
        return made

    monkeypatch.setattr(Account, "client", client)
    return told


@pytest.fixture
def held(at_aws: Shop) -> tuple[AlbCase, EcsCase, SsmCase]:
    return AlbCase.of(at_aws), EcsCase.of(at_aws), SsmCase.of(at_aws)


def configured(
    shop: shops.Shop,
    endpoint: str,
    at_aws: Shop,
    held: tuple[AlbCase, EcsCase, SsmCase],
    monkeypatch: Any,
    *,
    kinds: str = '"rds", "pitr"',
) -> None:
    """The shop stands on an "RDS" that is the test's own server, and everything else is at AWS."""
    from moto.rds.models import DBInstance

    alb, ecs, ssm = held
    name = f"shop-{at_aws.key}"
    at_aws.account.client("rds").create_db_instance(
        DBInstanceIdentifier=name,
        DBInstanceClass="db.t3.medium",
        Engine="postgres",
        EngineVersion="16.3",
        AllocatedStorage=20,
        MasterUsername="postgres",
        MasterUserPassword="not a secret",
        Port=shop.login.port,
        BackupRetentionPeriod=7,
    )
    monkeypatch.setattr(DBInstance, "address", property(lambda _self: shop.login.host), raising=False)
    shop.toml = f"""
[environments.staging.aws]
region = "{REGION}"
endpoint_url = "{endpoint}"
[environments.staging.rds]
instance = "{name}"
poll_s = 0.1
[environments.staging.maintenance]
outside = [
  {{ type = "alb", listener = "{alb.listener}" }},
  {{ type = "ecs", cluster = "{ecs.cluster}", service = "{ecs.service}", poll_s = 0.1 }},
  {{ type = "ssm", parameter = "{ssm.name}" }},
]
[environments.staging.backup]
kinds = [{kinds}]
{f'store = "s3://{BUCKET}/{at_aws.key}"' if "dump" in kinds else ""}
"""
    if "dump" in kinds:
        s3 = at_aws.account.client("s3")
        if BUCKET not in {one["Name"] for one in s3.list_buckets()["Buckets"]}:
            s3.create_bucket(Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": REGION})


@pytest.mark.slow
@pytest.mark.parametrize("succeeds", [True, False])
def test_order_of_maintenance_backup_and_migration(
    shop: shops.Shop,
    endpoint: str,
    at_aws: Shop,
    held: tuple[AlbCase, EcsCase, SsmCase],
    story: list[str],
    monkeypatch: pytest.MonkeyPatch,
    *,
    succeeds: bool,
) -> None:
    configured(shop, endpoint, at_aws, held, monkeypatch, kinds='"dump", "rds", "pitr"')
    before = [case.world() for case in held]
    story.clear()
    TIMES.clear()

    class Watches(shops.SilentReporter):
        def changeset(self, *_args: Any) -> None:
            if "migration" not in story:
                story.append("migration")
                TIMES.append(time.time())
                assert all(case.holds() for case in held)

    record = shop.run(shop.sql(GOOD, MOMENT, *([] if succeeds else [FAILS])), reporter=Watches())
    assert record.outcome is (Outcome.MIGRATED if succeeds else Outcome.ROLLED_BACK), record.error
    on, off = ["alb on", "ecs on", "ssm on"], ["ssm off", "ecs off", "alb off"]
    assert story == [*on, "snapshot", "manifest", "manifest", "migration", *off]
    if succeeds:  # the database's own word for when it was migrated
        changed_at = float(str(shop.value("select extract(epoch from at) from moment")))
        assert TIMES[5] < changed_at < TIMES[7]
    assert [case.world() for case in held] == before
    dump, backup = record.backups
    assert (dump.kind, backup.kind) == ("dump", "rds")
    assert dump.location.startswith(f"s3://{BUCKET}/{at_aws.key}/")
    assert ":snapshot:mig-" in backup.location
    assert len(record.runbook) >= 3
    assert any(one.startswith("Backup at RDS") for one in record.proof.proven)
    assert not any("was off already" in one for one in record.warnings), record.warnings


@pytest.mark.slow
def test_run_that_halts_carries_the_runbook_and_leaves_maintenance_on(
    shop: shops.Shop,
    endpoint: str,
    at_aws: Shop,
    held: tuple[AlbCase, EcsCase, SsmCase],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    configured(shop, endpoint, at_aws, held, monkeypatch)
    for name, value in shop.environ().items():
        monkeypatch.setenv(name, value)
    changelog = shop.sql("\ndelete from event where id = 1", FAILS)
    record = shop.run(changelog, {"way": "stepwise"}, accept_no_way_back=True)
    assert record.outcome is Outcome.HALTED, record.error
    assert all(case.holds() for case in held)
    commands = [line for line in record.runbook if line.startswith("migrator ")]
    assert [line.split()[1:3] for line in commands] == [
        ["backup", "restore"],
        ["backup", "swap"],
        ["maintenance", "off"],
    ]
    assert any("backup swap" in one for one in record.warnings), "the message has it too"
    report = next(shop.folder.glob(f".migrator/runs/{record.run_id}/report.md")).read_text()
    assert "## Going back by hand" in report
    told = command(shop, "maintenance", "off", "--force")
    assert told["lifted"]
    assert not any(case.holds() for case in held)


@pytest.mark.slow
def test_restored_beside_compared_and_swapped(
    shop: shops.Shop,
    endpoint: str,
    at_aws: Shop,
    held: tuple[AlbCase, EcsCase, SsmCase],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    configured(shop, endpoint, at_aws, held, monkeypatch)
    for name, value in shop.environ().items():
        monkeypatch.setenv(name, value)
    # What was backed up is what is there: a rolled back migration.
    record = shop.run(shop.sql(GOOD, FAILS))
    backup = record.backups[0].id
    told = command(shop, "backup", "restore", backup)
    assert told["is_what_was_backed_up"], told
    assert told["restored_as"].endswith("-restored")
    rds = at_aws.account.client("rds")
    name = f"shop-{at_aws.key}"
    original = rds.describe_db_instances(DBInstanceIdentifier=name)["DBInstances"][0]["DbiResourceId"]
    with pytest.raises(AssertionError, match="unconfirmed"):
        command(shop, "backup", "swap", backup)
    for _ in range(2):
        swapped = command(shop, "backup", "swap", backup, "--confirm", "staging")
    assert rds.describe_db_instances(DBInstanceIdentifier=name)["DBInstances"][0]["DbiResourceId"] != original
    kept = rds.describe_db_instances(DBInstanceIdentifier=swapped["kept_as"])["DBInstances"][0]
    assert kept["DbiResourceId"] == original


@pytest.mark.slow
def test_what_is_restored_and_is_not_what_was_backed_up_is_told(
    shop: shops.Shop,
    endpoint: str,
    at_aws: Shop,
    held: tuple[AlbCase, EcsCase, SsmCase],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    configured(shop, endpoint, at_aws, held, monkeypatch)
    for name, value in shop.environ().items():
        monkeypatch.setenv(name, value)
    record = shop.run(shop.sql(GOOD))
    told = command(shop, "backup", "restore", record.backups[0].id, code=3)
    assert not told["is_what_was_backed_up"]
    assert any("customer" in one for one in told["differences"])


@pytest.mark.slow
def test_snapshot_that_was_not_waited_for_is_finished_after_a_resume(
    shop: shops.Shop,
    endpoint: str,
    at_aws: Shop,
    held: tuple[AlbCase, EcsCase, SsmCase],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    configured(shop, endpoint, at_aws, held, monkeypatch, kinds='"dump", "rds", "pitr"')

    def lost(*_args: Any) -> str:
        raise LockLost("the process ends here")

    run = shop.open(shop.sql(GOOD))
    with monkeypatch.context() as patch:
        patch.setattr(Instance, "finish", lost)
        engine.execute(run)
    assert run.record.outcome is Outcome.INTERRUPTED, run.record.error
    assert run.facts.backup_id is not None
    assert run.facts.server_backup_id is None
    again = left_behind(shop, run.id, {})
    resume.resume(again, back=False)
    assert again.record.outcome is Outcome.MIGRATED, again.record.error
    assert [backup.kind for backup in again.record.backups] == ["dump", "rds"]
    notes = [step.note or "" for step in again.record.steps if step.name == "back_up"]
    assert "snapshot mig-" in notes[-1]
    assert "from the attempt before" in notes[-1]


@pytest.mark.slow
def test_alarm_is_heard_while_a_snapshot_is_waited_for_and_the_snapshot_is_named(
    shop: shops.Shop,
    endpoint: str,
    at_aws: Shop,
    held: tuple[AlbCase, EcsCase, SsmCase],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    configured(shop, endpoint, at_aws, held, monkeypatch, kinds='"rds"')
    run = shop.open(shop.sql(GOOD), {"rds.snapshot_timeout_s": 60.0})

    def creating(_self: Instance, _name: str) -> dict[str, Any]:
        assert run.watch is not None
        run.watch.alarm = StepFailed("Maintenance has lasted too long.", code="downtime")
        return {"Status": "creating"}

    monkeypatch.setattr(Instance, "snapshot", creating)
    record = shop._carried_out(run)
    assert record.outcome is Outcome.FAILED_BEFORE, record.error
    assert record.error is not None
    assert record.error.code == "downtime"
    assert any(f"delete-db-snapshot --db-snapshot-identifier {name_of(run.id)}" in one for one in record.kept)


def command(shop: shops.Shop, *arguments: str, code: int = 0) -> dict[str, Any]:
    import io
    from contextlib import redirect_stderr, redirect_stdout

    from migrator.cli import boundary
    from migrator.cli.app import app

    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        ended = boundary.run(
            app, [*arguments, "--env", "staging", "--config", str(shop.folder / "migrator.toml"), "--json"]
        )
    assert ended == code, f"{out.getvalue()}\n{err.getvalue()}"
    found: dict[str, Any] = json.loads(out.getvalue())
    return found
