"""`maintenance off --force`: a person has decided what the database is now, so no run may decide otherwise later."""

from __future__ import annotations

import json
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest

from migrator.cli import boundary
from migrator.cli.app import app
from migrator.config import urls
from migrator.config.login import Login
from migrator.maintenance.flag import Flag
from migrator.postgres import fence, sessions
from migrator.postgres.connect import connect
from migrator.runs.journal import Journal
from migrator.runs.record import ErrorRecord, Outcome, RunRecord

RUN = "20260101t000000_0001"
FLAG = Flag(path=Path("flag"), environment="shop")


@pytest.fixture(autouse=True)
def _configured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, database: Login) -> None:
    monkeypatch.chdir(tmp_path)
    text = f'[environments.shop]\nurl = "{urls.render(database)}"\n'
    if database.password is not None:
        monkeypatch.setenv("SHOP_PW", database.password.reveal())
        text += 'password = "${env:SHOP_PW}"\n'
    Path("migrator.toml").write_text(text)


def begin(database: Login, *, lease_s: float, outcome: Outcome | None = None) -> None:
    """A run of another machine is open in the journal, and its fence stands."""
    record = RunRecord(
        run_id=RUN,
        environment="shop",
        database=str(database),
        changelog="release.sql",
        started_at=datetime.now(UTC),
        outcome=outcome,
    )
    with closing(Journal.open("sqlite:///.migrator/journal.db", Path.cwd())) as journal:
        journal.begin(record, target="1/shop", host="elsewhere", pid=1, lease_s=lease_s)
        journal.save(record, {})
    with connect(database.to("postgres"), role="test", run_id="test") as admin:
        fence.put_up(
            admin,
            database.database,
            run_id=RUN,
            mode=fence.Mode.OFFLINE,
            keep_user=database.user,
            environment="shop",
            reason="a test",
        )


def with_a_flag(*more: str) -> None:
    """Outside the database a flag holds users off."""
    flags = ", ".join(f'{{type = "flag", path = "{path}"}}' for path in ("flag", *more))
    with Path("migrator.toml").open("a") as toml:
        toml.write(f"[environments.shop.maintenance]\noutside = [{flags}]\n")


def take_down(database: Login) -> None:
    with connect(database.to("postgres"), role="test", run_id="test") as admin:
        fence.take_down(admin, database.database, run_id=None)


def stands(database: Login) -> bool:
    with connect(database.to("postgres"), role="test", run_id="test") as admin:
        return fence.read(admin, database.database) is not None


def test_a_run_that_a_person_overruled_cannot_be_resumed(database: Login, capsys: pytest.CaptureFixture[str]) -> None:
    begin(database, lease_s=0, outcome=Outcome.HALTED)
    assert boundary.run(app, ["maintenance", "off", "--env", "shop"]) == 3
    assert stands(database)
    assert boundary.run(app, ["maintenance", "off", "--env", "shop", "--force"]) == 0
    assert not stands(database)
    assert boundary.run(app, ["resume", RUN]) == 3
    capsys.readouterr()
    assert boundary.run(app, ["history", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)[0]["outcome"] == "halted"
    assert boundary.run(app, ["status", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["open_run"] is None


def test_status_says_that_a_run_has_halted(database: Login, capsys: pytest.CaptureFixture[str]) -> None:
    begin(database, lease_s=0, outcome=Outcome.HALTED)
    assert boundary.run(app, ["status"]) == 0
    assert f"run {RUN} halted" in capsys.readouterr().out


def test_force_does_not_overrule_a_run_that_is_at_work(database: Login) -> None:
    begin(database, lease_s=3600)
    assert boundary.run(app, ["maintenance", "off", "--env", "shop", "--force"]) == 4
    assert stands(database)


def test_maintenance_that_a_run_holds_is_not_taken_over_by_hand(database: Login) -> None:
    begin(database, lease_s=0)
    assert boundary.run(app, ["maintenance", "on", "--env", "shop", "--reason", "a larger disk"]) == 3


def test_a_run_of_another_journal_that_is_at_work_is_not_disturbed(
    database: Login, capsys: pytest.CaptureFixture[str]
) -> None:
    begin(database, lease_s=0.001)
    with connect(database.to("postgres"), role="lock", run_id=RUN) as other:
        assert sessions.lock(other, database.database)
        assert boundary.run(app, ["maintenance", "off", "--force"]) == 4
    assert "at work" in capsys.readouterr().err
    assert stands(database)
    assert boundary.run(app, ["maintenance", "off", "--force"]) == 0
    assert not stands(database)


def test_provider_that_a_halted_run_holds_without_a_fence_is_turned_off(
    database: Login, capsys: pytest.CaptureFixture[str]
) -> None:
    with_a_flag()
    begin(database, lease_s=0, outcome=Outcome.HALTED)
    take_down(database)
    FLAG.on(RUN)
    assert boundary.run(app, ["maintenance", "off"]) == 3
    assert "--force" in capsys.readouterr().err
    assert FLAG.status().on
    assert boundary.run(app, ["maintenance", "off", "--force"]) == 0
    assert not FLAG.status().on


def test_provider_that_failed_is_turned_off_the_second_time(database: Login) -> None:
    with_a_flag("gone/flag")
    begin(database, lease_s=0, outcome=Outcome.HALTED)
    Path("gone").mkdir()
    other = Flag(path=Path("gone/flag"), environment="shop")
    for one in (FLAG, other):
        one.on(RUN)
    kept = Path("gone/flag").rename("elsewhere")
    Path("gone/flag").mkdir()
    assert boundary.run(app, ["maintenance", "off", "--force"]) == 3
    assert not stands(database)
    assert not FLAG.status().on
    Path("gone/flag").rmdir()
    kept.rename("gone/flag")
    assert boundary.run(app, ["maintenance", "off", "--force"]) == 0
    assert not other.status().on
    assert boundary.run(app, ["resume", RUN]) == 3, "it is ended"


@pytest.mark.parametrize("known", [True, False])
def test_force_does_not_take_a_provider_from_a_run_at_work(database: Login, *, known: bool) -> None:
    with_a_flag()
    other = "20260101t000000_0002"
    if known:  # of another environment
        record = RunRecord(
            run_id=other, environment="other", database="1/x", changelog="x", started_at=datetime.now(UTC)
        )
        with closing(Journal.open("sqlite:///.migrator/journal.db", Path.cwd())) as journal:
            journal.begin(record, target="1/other", host="elsewhere", pid=1, lease_s=3600)
    FLAG.on(other)
    assert boundary.run(app, ["maintenance", "off"]) == 3
    assert boundary.run(app, ["maintenance", "off", "--force"]) == (3 if known else 0)
    assert FLAG.status().on is known


@pytest.mark.parametrize("how", ["closed", "letting in", "not yet"])
def test_without_force_what_an_ended_run_holds_is_turned_off(database: Login, how: str) -> None:
    with_a_flag()
    begin(database, lease_s=0, outcome=Outcome.UNFINISHED)
    take_down(database)
    FLAG.on(RUN)
    with closing(Journal.open("sqlite:///.migrator/journal.db", Path.cwd())) as journal:
        journal.take_over(RUN, lease_s=0.001)
        record = journal.get(RUN).record
        code = "maintenance" if how == "letting in" else "verification"
        record.error = ErrorRecord(code=code, message="a test")
        journal.save(record, {})
        if how == "closed":
            journal.close_run(RUN, record)
    assert boundary.run(app, ["maintenance", "off"]) == (3 if how == "not yet" else 0)
    assert FLAG.status().on is (how == "not yet")
