"""Maintenance by hand that says when it ends: shown to whoever asks, and lifted past its time when asked to."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from migrator.cli import boundary
from migrator.cli.app import app
from migrator.config import urls
from migrator.config.login import Login
from migrator.maintenance.flag import Flag
from migrator.postgres import fence, sessions
from migrator.postgres.connect import connect


@pytest.fixture(autouse=True)
def _configured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, database: Login) -> None:
    monkeypatch.chdir(tmp_path)
    text = f'[environments.shop]\nurl = "{urls.render(database)}"\n'
    if database.password is not None:
        monkeypatch.setenv("SHOP_PW", database.password.reveal())
        text += 'password = "${env:SHOP_PW}"\n'
    text += '[environments.shop.maintenance]\noutside = [{type = "flag", path = "flag"}]\n'
    Path("migrator.toml").write_text(text)


def put_up(database: Login, *, run_id: str = "manual", ends_in_s: float | None) -> None:
    until = None if ends_in_s is None else datetime.now(UTC) + timedelta(seconds=ends_in_s)
    with connect(database.to("postgres"), role="test", run_id="test") as admin:
        fence.put_up(
            admin, database.database, run_id=run_id, mode=fence.Mode.OFFLINE, keep_user=database.user, until=until
        )


def stands(database: Login) -> bool:
    with connect(database.to("postgres"), role="test", run_id="test") as admin:
        return fence.read(admin, database.database) is not None


def told(capsys: pytest.CaptureFixture[str], *arguments: str) -> Any:
    capsys.readouterr()
    assert boundary.run(app, [*arguments, "--env", "shop", "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_its_end_is_kept_in_the_fence_and_shown(database: Login, capsys: pytest.CaptureFixture[str]) -> None:
    asked = ["--reason", "counting", "--mode", "read-only"]
    first = told(capsys, "maintenance", "on", *asked, "--until", "+30m")
    ends = datetime.fromisoformat(first["until"])
    assert timedelta(minutes=28) < ends - datetime.now(UTC) < timedelta(minutes=31)
    assert told(capsys, "maintenance", "status")["until"] == first["until"]
    assert told(capsys, "status")["fence_until"] == first["until"]
    assert told(capsys, "maintenance", "on", *asked)["until"] == first["until"]
    later = told(capsys, "maintenance", "on", *asked, "--until", "+2h")["until"]
    assert datetime.fromisoformat(later) > ends, "a new end takes the place of the old"
    assert told(capsys, "maintenance", "off", "--expired")["lifted"] is False
    assert told(capsys, "recover", "--expired")["outcome"] is None
    assert stands(database)


@pytest.mark.parametrize("command", [["maintenance", "off", "--expired"], ["recover", "--expired"]])
def test_past_its_end_it_is_lifted(database: Login, capsys: pytest.CaptureFixture[str], command: list[str]) -> None:
    told(capsys, "maintenance", "on", "--reason", "a test", "--until", "+1d")
    assert Path("flag").exists()
    with connect(database.to("postgres"), role="test", run_id="test") as admin:
        fence.put_up(
            admin,
            database.database,
            run_id="manual",
            mode=fence.Mode.OFFLINE,
            until=datetime.now(UTC) - timedelta(seconds=1),
        )
    answer = told(capsys, *command)
    assert answer.get("lifted", answer.get("outcome")) in {True, "lifted"}
    assert not stands(database)
    assert not Path("flag").exists()
    again = told(capsys, *command)
    assert not again.get("lifted", again.get("outcome"))


@pytest.mark.parametrize("command", [["maintenance", "off", "--expired"], ["recover", "--expired"]])
def test_what_an_earlier_lift_left_on_is_turned_off(
    database: Login, capsys: pytest.CaptureFixture[str], command: list[str]
) -> None:
    flag = Flag(path=Path("flag"), environment="shop")
    flag.on("manual")
    with connect(database.to("postgres"), role="test", run_id="test") as admin:
        assert sessions.lock(admin, database.database), "as who is turning it on"
        told(capsys, *command)
        assert flag.status().on
    answer = told(capsys, *command)
    assert answer.get("lifted", answer.get("outcome")) in {True, "lifted"}
    assert not flag.status().on


@pytest.mark.parametrize(("run_id", "ends_in_s"), [("20260101t000000_0001", -60.0), ("manual", None)])
def test_a_runs_fence_and_one_without_an_end_stay(
    database: Login, capsys: pytest.CaptureFixture[str], run_id: str, ends_in_s: float | None
) -> None:
    put_up(database, run_id=run_id, ends_in_s=ends_in_s)
    assert told(capsys, "maintenance", "off", "--expired")["lifted"] is False
    assert stands(database)


@pytest.mark.parametrize("until", ["tomorrow", "2020-01-01T00:00", "+5", "-5m", ""])
def test_what_is_no_time_ahead_is_refused_before_anybody_is_held_off(database: Login, until: str) -> None:
    arguments = ["maintenance", "on", "--env", "shop", "--reason", "x", f"--until={until}"]
    assert boundary.run(app, arguments) == 2
    assert not stands(database)
    assert not Path("flag").exists()
