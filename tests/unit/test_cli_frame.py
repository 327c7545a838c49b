"""The frame of the command line: what a person reads, what a program reads, and with which exit code it ends."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
import typer
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from migrator.cli import boundary, confirm, output
from migrator.cli.app import app
from migrator.cli.doctor import machine
from migrator.cli.status import Status, lines
from migrator.config.load import load
from migrator.config.login import Secret
from migrator.errors import Locked, MigrationFailed, Place, Refused
from migrator.runs.journal import Journal
from migrator.runs.record import Outcome, RunRecord

CANARY = "c4nary!b@c$d e"


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))


def failing(error: Callable[[], BaseException]) -> typer.Typer:
    program = typer.Typer(rich_markup_mode=None, pretty_exceptions_enable=False)

    @program.command()
    def fail(*, as_json: bool = typer.Option(False, "--json")) -> None:
        raise error()

    return program


def test_error_is_one_message_with_its_hint_on_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    code = boundary.run(failing(lambda: Locked("another run holds shop", hint="wait for it")), [])
    assert code == 4
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err == "error: another run holds shop\nhint: wait for it\n"


def test_error_is_json_where_json_was_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    place = Place(changeset="a.sql::1::me", file="a.sql", line=3, sqlstate="23505")
    assert boundary.run(failing(lambda: MigrationFailed("no", place=place)), ["--json"]) == 1
    told = json.loads(capsys.readouterr().out)
    assert told == {
        "error": {
            "code": "migration",
            "message": "no",
            "sqlstate": "23505",
            "changeset": "a.sql::1::me",
            "file": "a.sql",
            "line": 3,
            "hint": None,
        },
        "exit_code": 1,
    }


def test_what_a_terminal_would_obey_is_not_printed(capsys: pytest.CaptureFixture[str]) -> None:
    boundary.run(failing(lambda: Refused("bad \x1b[2J\r name")), [])
    assert "\x1b" not in capsys.readouterr().err


def test_bug_is_told_with_a_log_and_without_secrets(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    secret = Secret(CANARY)

    def bug() -> BaseException:
        return RuntimeError(f"connection to {secret.reveal()} failed")

    assert boundary.run(failing(bug), []) == 1
    said = capsys.readouterr().err
    assert "a bug in migrator: RuntimeError" in said
    [log] = (tmp_path / "state").rglob("bug-*.log")
    assert str(log) in said
    text = log.read_text()
    assert "Traceback" in text
    assert CANARY not in text + said
    assert log.stat().st_mode & 0o077 == 0


@pytest.mark.parametrize(
    "arguments",
    [["nonsense"], ["--nonsense"], ["show", "a", "b"], ["history", "-n", "x"], ["config", "shwo"], ["-x;y\nz"]],
)
def test_wrong_arguments_are_exit_2_and_name_the_help(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert boundary.run(app, arguments) == 2
    printed = capsys.readouterr()
    assert printed.err.startswith("error: ")
    assert "--help" in printed.err
    assert boundary.run(app, [*arguments, "--json"]) == 2
    assert json.loads(capsys.readouterr().out)["error"]["code"] == "usage"


def test_json_behind_two_dashes_is_no_option(capsys: pytest.CaptureFixture[str]) -> None:
    assert boundary.run(app, ["show", "--", "--json"]) == 3
    assert capsys.readouterr().out == ""


def test_ctrl_c_ends_quietly(capsys: pytest.CaptureFixture[str]) -> None:
    assert boundary.run(failing(KeyboardInterrupt), []) == 130
    assert "Traceback" not in capsys.readouterr().err


def test_configuration_errors_are_exit_2(capsys: pytest.CaptureFixture[str]) -> None:
    Path("migrator.toml").write_text("[defaults]\nprotectd = true\n")
    for arguments in (["config", "show"], ["history"], ["doctor"], ["liquibase", "install"]):
        assert boundary.run(app, arguments) == 2
        said = capsys.readouterr().err
        assert "migrator.toml:2: defaults.protectd: unknown key" in said
        assert "did you mean 'protected'?" in said


def test_only_environment_need_not_be_named(capsys: pytest.CaptureFixture[str]) -> None:
    one = '[environments.shop]\nurl = "postgresql://u@h/shop"\n'
    Path("migrator.toml").write_text(one)
    assert boundary.run(app, ["config", "show", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["environment"] == "shop"
    Path("migrator.toml").write_text(one + "[environments.local]\n")
    assert boundary.run(app, ["config", "show"]) == 2
    assert "shop, local" in capsys.readouterr().err


def test_config_show_masks_the_password(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHOP_PW", CANARY)
    Path("migrator.toml").write_text(
        '[environments.shop]\nurl = "postgresql://u@h/shop"\npassword = "${env:SHOP_PW}"\n'
    )
    for arguments in (["config", "show"], ["config", "show", "--json", "--set", "limits.drain_s=7"]):
        assert boundary.run(app, arguments) == 0
        printed = capsys.readouterr()
        assert CANARY not in printed.out + printed.err
    settings = json.loads(printed.out)["settings"]
    assert settings["password"] == {"value": "********", "source": "[environments.shop]", "reference": "${env:SHOP_PW}"}
    assert settings["limits.drain_s"] == {"value": 7, "source": "command line", "reference": None}


def test_password_in_the_url_option_is_refused_unseen(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in (["config", "show", "--env", "local"], ["init"], ["doctor"]):
        assert boundary.run(app, [*arguments, "--url", "postgresql://u:c4nary@h/shop"]) == 2
        printed = capsys.readouterr()
        assert "password" in printed.err
        assert "c4nary" not in printed.out + printed.err
    assert not Path("migrator.toml").exists()


def test_config_schema_is_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert boundary.run(app, ["config", "schema"]) == 0
    assert "environments" in json.loads(capsys.readouterr().out)["properties"]


def test_init_writes_a_file_that_loads_and_overwrites_only_when_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert boundary.run(app, ["init"]) == 0
    path = Path("migrator.toml")
    assert load(path, {}).names == ["local"]
    path.write_text("# mine\n")
    assert boundary.run(app, ["init"]) == 3
    assert "--force" in capsys.readouterr().err
    assert path.read_text() == "# mine\n"
    assert boundary.run(app, ["init", "--force"]) == 0
    assert load(path, {}).names == ["local"]
    assert list(Path().iterdir()) == [path]


def test_init_where_nothing_can_be_written_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert boundary.run(app, ["init", "--config", "nowhere/migrator.toml"]) == 3
    assert "cannot be written" in capsys.readouterr().err


def test_init_wants_a_variable_not_a_password(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["init", "--url", "postgresql://u@127.0.0.1/shop", "--password-env", CANARY]
    assert boundary.run(app, arguments) == 2
    assert CANARY not in capsys.readouterr().err


def recorded(run_id: str, outcome: Outcome | None) -> RunRecord:
    return RunRecord(
        run_id=run_id,
        environment="shop",
        database="postgresql://u@h:5432/shop",
        changelog="changelogs/a.sql",
        started_at=datetime(2026, 3, 14, 9, 15, tzinfo=UTC),
        ended_at=datetime(2026, 3, 14, 9, 16, 5, tzinfo=UTC) if outcome else None,
        outcome=outcome,
        exit_code=outcome.exit_code if outcome else None,
    )


@pytest.fixture
def runs() -> None:
    journal = Journal.open("sqlite:///.migrator/journal.db", Path.cwd())
    for run_id, outcome in (("20260314-091500-aaaa", Outcome.ROLLED_BACK), ("20260314-101500-bbbb", None)):
        journal.begin(recorded(run_id, None), target="1/shop", host="elsewhere", pid=1, lease_s=60)
        if outcome:
            journal.close_run(run_id, recorded(run_id, outcome))
    journal.close()


@pytest.mark.usefixtures("runs")
def test_history_lists_the_latest_first(capsys: pytest.CaptureFixture[str]) -> None:
    assert boundary.run(app, ["history"]) == 0
    head, newest, oldest = capsys.readouterr().out.splitlines()
    assert head.startswith("run ")
    assert "bbbb" in newest
    assert "running" in newest
    assert "rolled_back" in oldest
    assert "1 min 05 s" in oldest
    assert boundary.run(app, ["history", "--json", "-n", "1"]) == 0
    [run] = json.loads(capsys.readouterr().out)
    assert (run["run_id"], run["state"], run["outcome"]) == ("20260314-101500-bbbb", "running", None)


@pytest.mark.usefixtures("runs")
def test_show_tells_of_one_run_or_of_the_latest(capsys: pytest.CaptureFixture[str]) -> None:
    assert boundary.run(app, ["show", "20260314-091500-aaaa"]) == 0
    shown = capsys.readouterr().out
    assert "changelogs/a.sql" in shown
    assert "<!--" not in shown
    assert boundary.run(app, ["show", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["run_id"] == "20260314-101500-bbbb"


@pytest.mark.usefixtures("runs")
def test_unknown_run_lists_the_runs_there_are(capsys: pytest.CaptureFixture[str]) -> None:
    assert boundary.run(app, ["show", "nothing"]) == 3
    said = capsys.readouterr().err
    assert "nothing" in said
    assert "20260314-091500-aaaa" in said


def test_reading_the_history_creates_nothing(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert boundary.run(app, ["history"]) == 0
    assert "no run yet" in capsys.readouterr().err
    assert boundary.run(app, ["show"]) == 3
    assert list(tmp_path.iterdir()) == []


def test_nobody_there_to_confirm_is_a_refusal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", open(os.devnull))  # noqa: SIM115 (closed with the process)
    with pytest.raises(Refused, match="nobody is here to answer"):
        confirm.confirm("really?", assume_yes=False)
    confirm.confirm("really?", assume_yes=True)


def test_reader_that_goes_away_does_not_end_the_command() -> None:
    program = "from migrator.cli import output\nfor _ in range(9000): output.result('x' * 100)\noutput.note('done')"
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as child:
        assert child.stdout is not None
        assert child.stderr is not None
        child.stdout.readline()
        child.stdout.close()
        assert child.stderr.read() == b"done\n"
        assert child.wait(timeout=30) == 0


def test_table_is_as_wide_as_its_cells() -> None:
    assert output.table(("a", "bb"), [("long", "x"), ("", "y")]) == "a     bb\nlong  x\n      y"


def groups() -> Iterator[tuple[str, ...]]:
    yield ()
    yield from ((group.name,) for group in app.registered_groups if group.name)


@pytest.mark.parametrize("words", list(groups()), ids=" ".join)
def test_no_summary_of_a_command_is_cut(
    words: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert boundary.run(app, [*words, "--help"]) == 0
    _, _, commands = capsys.readouterr().out.partition("Commands:\n")
    assert commands
    assert [line for line in commands.splitlines() if line.endswith("...") or len(line) > 80] == []


def test_environment_of_another_folder_is_told_so(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert boundary.run(app, ["status", "--env", "staging"]) == 2
    said = capsys.readouterr().err
    assert f"the folder {tmp_path} has no migrator.toml" in said
    assert "--config PATH" in said


def test_embedded_server_of_a_folder_without_configuration_is_named(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert boundary.run(app, ["check"]) == 3  # without any server: there is nothing to look at
    assert f"no migrator.toml in {tmp_path}: environment local is the embedded PostgreSQL" in capsys.readouterr().err


def test_where_no_run_is_known_the_journal_is_named(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert boundary.run(app, ["show"]) == 3
    said = capsys.readouterr().err
    assert str(tmp_path / ".migrator" / "journal.db") in said
    assert "--config PATH" in said


def test_doctor_looks_at_the_keys_that_are_configured(tmp_path: Path) -> None:
    own = Ed25519PrivateKey.generate()
    (tmp_path / "own.pub").write_bytes(own.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    secret = own.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    file = tmp_path / "migrator.toml"

    def found(text: str, environ: dict[str, str]) -> list[tuple[str, str]]:
        file.write_text(text)
        return [(one.status, one.detail) for one in machine.of_machine(load(file, environ)) if one.name == "signing"]

    both = '[signing]\nkey = "${env:KEY}"\npublic_keys = ["*.pub"]\n'
    assert found("", {}) == []
    [(status, detail)] = found(both, {})
    assert (status, "KEY is not set" in detail) == ("problem", True)
    [(status, detail)] = found(both, {"KEY": secret})
    assert (status, "one of 1 public key" in detail) == ("ok", True)
    assert found('[signing]\npublic_keys = ["*.pub"]\n', {}) == [("ok", "1 public key")]


def test_status_says_what_a_person_turned_on_and_until_when() -> None:
    found = Status(
        environment="staging",
        database="postgresql://migrator@db/shop",
        open_run=None,
        open_run_alive=False,
        open_run_outcome=None,
        step=None,
        held_by=None,
        maintenance="offline",
        fence_run="manual",
        fence_reason="new disks",
        fence_until="2026-11-24T04:27:30.769304+00:00",
        databases=[],
        orphan_folders=[],
        kept=[],
        next_command="migrator maintenance off --env staging",
    )
    assert lines(found, {}, outside=False)[2:] == [
        "maintenance is on: offline, by hand (new disks), until 2026-11-24 04:27 UTC",
        "next: migrator maintenance off --env staging",
    ]
