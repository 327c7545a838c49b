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
from migrator.postgres import fence, sessions
from migrator.postgres.connect import connect
from migrator.runs.journal import Journal
from migrator.runs.record import Outcome, RunRecord

RUN = "20260101t000000_0001"


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
