"""Users are held off, or they are not and the report says what that costs; and they always get in again."""

from __future__ import annotations

import json
import sys
from contextlib import closing
from datetime import datetime, timedelta

import psycopg
import pytest

from migrator.postgres import fence
from migrator.runs import opening, resume
from migrator.runs.journal import Journal
from migrator.runs.record import ChangesetRecord, Outcome, RunRecord, StepName
from migrator.runs.reporter import SilentReporter
from migrator.runs.run import Options
from tests.integration.runs.byhand import call
from tests.shop import ENVIRONMENT, Shop, conninfo
from tests.writer import Writer, writing

STEPWISE = {"way": "stepwise"}
GOOD = "\nalter table customer add column nickname text;\n--rollback alter table customer drop column nickname"
FAILS = "\nalter table product add constraint cheap check (price < 3)"


def started(record: RunRecord, name: StepName) -> datetime:
    return next(step.started_at for step in record.steps if step.name is name)


def ended(record: RunRecord, name: StepName) -> datetime:
    step = next(step for step in record.steps if step.name is name)
    assert step.duration_s is not None
    return step.started_at + timedelta(seconds=step.duration_s)


def writes(shop: Shop) -> list[datetime]:
    return [at for (at,) in shop.query("select at from heartbeat order by at") if isinstance(at, datetime)]


def assert_kept_out(shop: Shop, writer: Writer, record: RunRecord) -> None:
    """Not one write between the backup's begin and the lift."""
    writer.wait_for_more()
    begin = started(record, StepName.BACK_UP)
    lifted = [step.started_at for step in record.steps if step.name is StepName.LIFT]
    end = lifted[0] if lifted else ended(record, StepName.APPLY)
    at = writes(shop)
    assert [one for one in at if begin <= one <= end] == []
    assert any(one < begin for one in at), "it wrote before"
    assert any(one > end for one in at), "it writes again"
    assert any("permission denied for database" in one for one in writer.refused), set(writer.refused)


@pytest.mark.parametrize("way", ["atomic", "stepwise"])
def test_offline_lets_no_write_through_from_backup_to_lift(shop: Shop, way: str) -> None:
    with writing(shop.app) as writer:
        record = shop.run(shop.sql(GOOD, "\nselect pg_sleep(1)"), {"way": way})
        assert (record.error, record.outcome) == (None, Outcome.MIGRATED)
        assert_kept_out(shop, writer, record)


def test_no_committed_row_is_lost_when_the_backup_is_restored(shop: Shop) -> None:
    with writing(shop.app) as writer:
        record = shop.run(shop.sql("\ndelete from event", FAILS), STEPWISE)
        assert record.outcome is Outcome.RESTORED, record.error
        assert_kept_out(shop, writer, record)
    assert len(writes(shop)) >= writer.written, "the server may have ended a session that had just committed"


def test_without_maintenance_the_report_says_what_it_cannot_promise(shop: Shop) -> None:
    with writing(shop.app) as writer:
        record = shop.run(shop.sql(GOOD, "\nselect pg_sleep(1)"), {"maintenance.database": "none"})
        assert (record.error, record.outcome) == (None, Outcome.MIGRATED)
        assert any(one.startswith("Nobody was held off") for one in record.proof.not_proven)
        assert any(one.startswith("public.heartbeat changed") for one in record.proof.not_proven)
        assert record.maintenance.started_at is None
        during = [at for at in writes(shop) if started(record, StepName.APPLY) < at < ended(record, StepName.APPLY)]
        assert during, "the application went on"
    assert writer.refused == []
    assert len(writes(shop)) == writer.written


def test_without_maintenance_a_rollback_keeps_what_others_wrote(shop: Shop) -> None:
    with writing(shop.app) as writer:
        record = shop.run(shop.sql(GOOD, "\nselect pg_sleep(0.5)", FAILS), {"maintenance.database": "none"})
        assert record.outcome is Outcome.ROLLED_BACK, record.error
    assert len(writes(shop)) == writer.written
    assert "nickname" not in str(shop.query("select attname from pg_attribute where attrelid = 'customer'::regclass"))


def test_without_maintenance_nothing_is_restored_over_what_others_wrote(shop: Shop) -> None:
    oid = shop.oid()
    with writing(shop.app) as writer:
        record = shop.run(shop.sql(GOOD, FAILS), {**STEPWISE, "maintenance.database": "none"}, accept_no_way_back=True)
        assert record.outcome in {Outcome.ROLLED_BACK, Outcome.HALTED}, record.error
        assert any("public.heartbeat" in one for one in [*record.proof.not_proven, *record.warnings])
    assert shop.oid() == oid
    assert len(writes(shop)) == writer.written
    assert writer.refused == []
    assert "nickname" not in str(shop.query("select attname from pg_attribute where attrelid = 'customer'::regclass"))


def test_without_maintenance_nothing_is_restored_by_itself(shop: Shop) -> None:
    changelog = shop.sql("\ndelete from event where id = 1", FAILS)
    settings = {**STEPWISE, "maintenance.database": "none"}
    refused = shop.run(changelog, settings)
    assert (refused.outcome, refused.exit_code) == (Outcome.REFUSED, 3)
    assert refused.error is not None
    assert "--accept-no-way-back" in (refused.error.hint or "")
    oid = shop.oid()
    record = shop.run(changelog, settings, accept_no_way_back=True)
    assert (record.outcome, record.exit_code) == (Outcome.HALTED, 9)
    assert any("others may have written" in one for one in record.warnings), record.warnings
    assert shop.oid() == oid
    assert shop.value("select count(*) from event where id = 1") == 0
    shop.app_writes()


def test_read_only_keeps_readers_and_refuses_writers(shop: Shop) -> None:
    readers: list[object] = []

    class Reads(SilentReporter):
        def changeset(self, changeset: ChangesetRecord, number: int, total: int) -> None:
            with psycopg.connect(conninfo(shop.app)) as connection:
                readers.append(connection.execute("select count(*) from heartbeat").fetchall()[0][0])

    with writing(shop.app) as writer:
        record = shop.run(
            shop.sql(GOOD, "\nselect pg_sleep(1)"), {"maintenance.database": "read-only"}, reporter=Reads()
        )
        assert (record.error, record.outcome) == (None, Outcome.MIGRATED)
        writer.wait_for_more()
    assert record.maintenance.downtime_s is not None
    assert readers, "the application could read"
    assert len(set(readers)) == 1, "and saw no new row"
    assert any("read-only transaction" in one for one in writer.refused), set(writer.refused)


@pytest.mark.slow
def test_a_writer_that_overrides_read_only_is_a_breach(shop: Shop) -> None:
    before = shop.value("select count(*) from customer")
    with writing(shop.app, prelude="set default_transaction_read_only = off") as writer:
        record = shop.run(shop.sql(GOOD, "\nselect pg_sleep(8)"), {"maintenance.database": "read-only"})
        assert record.outcome in {Outcome.ROLLED_BACK, Outcome.FAILED_BEFORE}, record.error
        assert record.error is not None
        assert record.error.code in {"fence_breached", "verification"}, "seen at work, or by what it wrote"
    assert shop.value("select count(*) from customer") == before
    assert len(writes(shop)) == writer.written


def provider_toml(shop: Shop, *, on: str = "pass", off: str = "pass") -> str:
    script = shop.folder / "provider.py"
    script.write_text(
        "import pathlib, sys\n"
        "here = pathlib.Path(__file__).parent\n"
        "what = sys.argv[1]\n"
        "with (here / 'calls').open('a') as calls: calls.write(' '.join(sys.argv[1:]) + '\\n')\n"
        f"if what == 'on':\n    {on}\n    (here / 'is-on').touch()\n"
        f"if what == 'off':\n    {off}\n    (here / 'is-on').unlink(missing_ok=True)\n"
        "if what == 'status': sys.exit(0 if (here / 'is-on').exists() else 1)\n"
    )
    commands = {
        what: json.dumps([sys.executable, str(script), what, "{environment}"]) for what in ("on", "off", "status")
    }
    return (
        f"[environments.{ENVIRONMENT}.maintenance]\n"
        'outside = [{ type = "flag", path = "flags/maintenance" }, { type = "command", timeout_s = 20.0, '
        + ", ".join(f"{what} = {argv}" for what, argv in commands.items())
        + " }]\n"
    )


def test_flag_and_command_hold_users_off_outside(shop: Shop) -> None:
    shop.toml = provider_toml(shop)
    flag = shop.folder / "flags/maintenance"
    flag.parent.mkdir()
    seen: list[tuple[bool, bool, str]] = []

    class Looks(SilentReporter):
        def changeset(self, changeset: ChangesetRecord, number: int, total: int) -> None:
            said = json.loads(flag.read_text())
            seen.append((flag.exists(), (shop.folder / "is-on").exists(), said["run"]))

    record = shop.run(shop.sql(GOOD), reporter=Looks())
    assert (record.error, record.outcome) == (None, Outcome.MIGRATED)
    assert set(seen) == {(True, True, record.run_id)}
    assert not flag.exists()
    assert not (shop.folder / "is-on").exists()
    calls = (shop.folder / "calls").read_text().splitlines()
    assert [call for call in calls if not call.startswith("status")] == ["on staging", "off staging"]


def test_a_provider_that_cannot_be_turned_on_ends_the_run_before_anything(shop: Shop) -> None:
    shop.toml = provider_toml(shop)
    (shop.folder / "flags").write_text("a file where the flag's folder should be")
    before = shop.dump()
    record = shop.run(shop.sql(GOOD))
    assert (record.outcome, record.exit_code) == (Outcome.REFUSED, 3), record.error
    assert shop.dump() == before
    (shop.folder / "flags").unlink()
    (shop.folder / "flags").mkdir()
    shop.toml = provider_toml(shop, on="sys.exit('the load balancer is away')")
    record = shop.run(shop.sql(GOOD))
    assert (record.outcome, record.exit_code) == (Outcome.FAILED_BEFORE, 5), record.error
    assert record.backups == []
    assert shop.dump() == before


def test_a_provider_that_stays_on_after_success_leaves_the_run_unfinished(shop: Shop) -> None:
    shop.toml = provider_toml(shop, off="sys.exit('the load balancer is away')")
    (shop.folder / "flags").mkdir()
    record = shop.run(shop.sql(GOOD))
    assert (record.outcome, record.exit_code) == (Outcome.UNFINISHED, 8), record.error
    assert record.error is not None
    assert "the load balancer is away" in record.error.message
    assert record.next_command == f"migrator resume {record.run_id}"
    assert not (shop.folder / "flags/maintenance").exists(), "what could be turned off is off"


@pytest.mark.slow
@pytest.mark.slow
@pytest.mark.parametrize(
    ("way", "command", "code"),
    [("atomic", None, 6), ("stepwise", None, 6), ("atomic", ("maintenance", "off", "--force"), 0)],
    ids=["atomic", "stepwise", "off"],
)
def test_a_provider_that_stays_on_on_the_way_back_halts_and_a_person_finishes_it(
    shop: Shop, way: str, command: tuple[str, ...] | None, code: int
) -> None:
    before = shop.dump()
    shop.toml = provider_toml(shop, off="sys.exit('the load balancer is away')")
    (shop.folder / "flags").mkdir()
    record = shop.run(shop.sql(GOOD, FAILS), {"way": way})
    assert (record.outcome, record.exit_code) == (Outcome.HALTED, 9), record.error
    assert "the load balancer is away" in record.model_dump_json()
    assert record.next_command is not None
    assert (shop.folder / "is-on").exists()
    shop.toml = provider_toml(shop)
    ended = call(shop, *(command or record.next_command.removeprefix("migrator ").split()))
    assert ended.code == code, ended.err
    assert not (shop.folder / "is-on").exists()
    assert not (shop.folder / "flags/maintenance").exists()
    assert shop.dump() == before
    shop.app_writes()


def test_a_provider_that_left_the_configuration_is_not_forgotten(shop: Shop) -> None:
    shop.toml = provider_toml(shop, off="sys.exit('the load balancer is away')")
    (shop.folder / "flags").mkdir()
    record = shop.run(shop.sql(GOOD))
    assert record.outcome is Outcome.UNFINISHED, record.error
    shop.toml = ""
    config = shop.config()
    with closing(Journal.open(config.journal.url, config.base)) as journal:
        run = opening.stored(
            config,
            config.environment(ENVIRONMENT),
            journal.get(record.run_id),
            Options(changelog=""),
            journal=journal,
            reporter=SilentReporter(),
        )
    resume.resume(run, back=False)
    again = run.record
    assert (again.outcome, again.exit_code) == (Outcome.UNFINISHED, 8), again.error
    assert again.error is not None
    assert "is no longer in maintenance.outside (before the run: was off)" in again.error.message
    assert (shop.folder / "is-on").exists()


def test_a_protected_environment_asks_and_takes_no_for_an_answer(shop: Shop) -> None:
    shop.settings = {"protected": True}
    asked: list[str] = []

    def no(question: str) -> bool:
        asked.append(question)
        return False

    before = shop.dump()
    record = shop.run(shop.sql(GOOD), confirm=no)
    assert (record.outcome, record.exit_code) == (Outcome.REFUSED, 3)
    assert len(asked) == 1
    assert "staging is protected" in asked[0]
    assert shop.login.database in asked[0]
    assert record.maintenance.started_at is None
    assert shop.dump() == before
    assert shop.run(shop.sql(GOOD), confirm=lambda _question: True).outcome is Outcome.MIGRATED


def test_a_clone_is_made_beside_the_dump_and_kept(shop: Shop) -> None:
    record = shop.run(shop.sql(GOOD), {"backup.kinds": ("dump", "clone")})
    assert (record.error, record.outcome) == (None, Outcome.MIGRATED)
    assert sorted(backup.kind for backup in record.backups) == ["clone", "dump"]
    name = next(backup.location for backup in record.backups if backup.kind == "clone")
    assert shop.query(f"select datallowconn from pg_database where datname = '{name}'")
    assert any(name in kept for kept in record.kept)


def test_no_backup_is_a_decision_that_the_report_tells(shop: Shop) -> None:
    record = shop.run(shop.sql(GOOD), {"backup.kinds": ()})
    assert (record.error, record.outcome, record.backups) == (None, Outcome.MIGRATED, [])
    assert any("No backup was made" in one for one in record.proof.not_proven)


def test_a_fence_put_up_by_hand_is_left_standing(shop: Shop) -> None:
    with shop.server.session() as admin:
        fence.put_up(
            admin,
            shop.login.database,
            run_id="manual",
            mode=fence.Mode.READ_ONLY,
            keep_user=shop.login.user,
            reason="moving house",
        )
        run = shop.open(shop.sql(GOOD))
        from migrator.runs import engine

        engine.execute(run)
        assert run.record.outcome is Outcome.REFUSED
        assert run.record.error is not None
        assert "moving house" in run.record.error.message
        standing = fence.read(admin, shop.login.database)
        assert standing is not None
        assert standing.run_id == "manual"
