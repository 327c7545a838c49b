"""`doctor` and `init` on real servers: what they find, what they say to do about it, and that they change nothing."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from migrator.cli import boundary
from migrator.cli.app import app
from migrator.config import urls
from migrator.config.load import load
from migrator.config.login import Login
from migrator.postgres.connect import connect
from tests.conftest import Server


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def configure(login: Login, monkeypatch: pytest.MonkeyPatch, more: str = "") -> None:
    text = f'[environments.shop]\nurl = "{urls.render(login)}"\n'
    if login.password is not None:
        monkeypatch.setenv("SHOP_PW", login.password.reveal())
        text += 'password = "${env:SHOP_PW}"\n'
    Path("migrator.toml").write_text(text + more)


def diagnosis(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, dict[str, list[dict[str, str]]]]:
    code = boundary.run(app, ["doctor", "--json", *arguments])
    found: dict[str, list[dict[str, str]]] = {}
    for finding in json.loads(capsys.readouterr().out)["findings"]:
        if finding["about"] == "shop":
            found.setdefault(finding["name"], []).append(finding)
    return code, found


def test_doctor_finds_nothing_wrong_and_leaves_nothing_behind(
    database: Login, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    configure(database, monkeypatch)
    code, found = diagnosis(capsys)
    assert code == 0
    assert {one["status"] for findings in found.values() for one in findings} == {"ok"}
    assert found.keys() == {
        "connection",
        "server",
        "client tools",
        "store",
        "maintenance database",
        "privileges",
        "fence",
    }
    assert [path.name for path in Path().iterdir()] == ["migrator.toml"]


def test_doctor_names_every_missing_privilege_with_its_remedy(
    server: Server, database: Login, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    configure(server.app.to(database.database), monkeypatch)
    code, found = diagnosis(capsys)
    assert code == 3
    said = json.dumps(found["privileges"])
    for word in ("does not own", "CREATEDB", "pg_signal_backend", "pg_monitor"):
        assert word in said


def test_doctor_warns_of_a_superuser(
    superuser_database: Login, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    configure(superuser_database, monkeypatch)
    code, found = diagnosis(capsys)
    assert code == 0
    assert [one["status"] for one in found["privileges"]] == ["warning"]


@pytest.mark.parametrize(
    ("url", "words"),
    [("postgresql://u@127.0.0.1:1/shop", "127.0.0.1:1"), ("postgresql://u@nowhere.invalid/shop", "nowhere")],
)
def test_doctor_says_what_cannot_be_reached(url: str, words: str, capsys: pytest.CaptureFixture[str]) -> None:
    Path("migrator.toml").write_text(f'[environments.shop]\nurl = "{url}"\n')
    code, found = diagnosis(capsys)
    assert code == 3
    assert found["connection"][0]["status"] == "problem"
    assert words in found["connection"][0]["detail"]
    assert found["connection"][0]["remedy"]


def test_doctor_tells_a_wrong_password_without_repeating_it(
    server16: Server, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    configure(server16.migrator.to("shop"), monkeypatch)
    monkeypatch.setenv("SHOP_PW", "c4nary wrong")
    assert boundary.run(app, ["doctor", "--env", "shop"]) == 3
    printed = capsys.readouterr()
    assert "password" in printed.out
    assert "c4nary" not in printed.out + printed.err


def test_doctor_checks_the_store(
    database: Login, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    configure(database, monkeypatch, '[environments.shop.backup]\nstore = "/proc/nothing"\n')
    code, found = diagnosis(capsys)
    assert code == 3
    assert found["store"][0]["status"] == "problem"


def test_init_looks_at_the_database_and_writes_its_section(
    database: Login, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["init", "--json", "--env", "qa", "--url", urls.render(database)]
    environ = {}
    if database.password is not None:
        environ = {"QA_PW": database.password.reveal()}
        monkeypatch.setenv("QA_PW", environ["QA_PW"])
        arguments += ["--password-env", "QA_PW"]
    assert boundary.run(app, arguments) == 0
    printed = capsys.readouterr()
    assert json.loads(printed.out)["profile"] == "guarded"
    environment = load(Path("migrator.toml"), environ).environment("qa")
    assert environment.login is not None
    with connect(environment.login, role="test", run_id="test") as session:
        assert session.rows("SELECT current_database()") == [(database.database,)]
    if environ:
        assert environ["QA_PW"] not in printed.out + printed.err + Path("migrator.toml").read_text()


def test_init_writes_nothing_when_the_database_is_out_of_reach(capsys: pytest.CaptureFixture[str]) -> None:
    assert boundary.run(app, ["init", "--url", "postgresql://u@127.0.0.1:1/shop"]) == 3
    assert "127.0.0.1:1" in capsys.readouterr().err
    assert not Path("migrator.toml").exists()
