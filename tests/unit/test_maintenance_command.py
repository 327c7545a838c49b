from __future__ import annotations

import sys
from pathlib import Path

import pytest

from migrator.config.aws import AwsSettings
from migrator.config.models import CommandProvider, FlagProvider
from migrator.errors import MaintenanceFailed
from migrator.maintenance import Surroundings, of
from migrator.maintenance.command import Command

RUN = "20260101-aaaa"
SWITCH = """
import pathlib, sys
state = pathlib.Path("state"); calls = pathlib.Path("calls")
what, *rest = sys.argv[1:]
with calls.open("a") as out: out.write(" ".join([what, *rest]) + "\\n")
if what == "on": state.write_text("on")
if what == "off": state.unlink()
if what == "status": sys.exit(0 if state.exists() else 1)
"""


def command(folder: Path, **overrides: object) -> Command:
    (folder / "switch.py").write_text(SWITCH)
    python = [sys.executable, "switch.py"]
    given: dict[str, object] = {
        "on_argv": [*python, "on", "{run}", "--for={environment}", '{"json": 1}', "; touch pwned"],
        "off_argv": [*python, "off", "{run}"],
        "status_argv": [*python, "status"],
        "environment": "shop",
        "folder": folder,
        "log": folder / "command.log",
        "timeout_s": 20.0,
    }
    return Command(**{**given, **overrides})  # type: ignore[arg-type]


def calls(folder: Path) -> list[str]:
    return [line for line in (folder / "calls").read_text().splitlines() if line != "status"]


def test_on_and_off_run_once_and_fill_in_run_and_environment(tmp_path: Path) -> None:
    provider = command(tmp_path)
    assert not provider.status().on
    saved = provider.on(RUN)
    assert saved == {"was": "off"}
    assert provider.status().on
    provider.on(RUN)
    provider.off(RUN, saved)
    provider.off(RUN, saved)
    assert not provider.status().on
    assert calls(tmp_path) == [f'on {RUN} --for=shop {{"json": 1}} ; touch pwned', f"off {RUN}"]
    assert not (tmp_path / "pwned").exists()


def test_maintenance_that_was_on_before_stays_on_after(tmp_path: Path) -> None:
    (tmp_path / "state").write_text("on")
    provider = command(tmp_path)
    saved = provider.standing(RUN)
    assert saved == {"was": "on"} == provider.on(RUN)
    provider.off(RUN, saved)
    assert provider.status().on
    assert calls(tmp_path) == []


def test_off_works_when_what_was_saved_is_lost(tmp_path: Path) -> None:
    provider = command(tmp_path)
    provider.on(RUN)
    provider.off(RUN, {})
    assert not provider.status().on


def script(text: str) -> list[str]:
    return [sys.executable, "-c", text]


def test_failing_command_shows_its_last_words(tmp_path: Path) -> None:
    failing = script(
        "import sys; print('one', 'two', 'three', 'access denied', sep='\\n', file=sys.stderr); sys.exit(7)"
    )
    with pytest.raises(MaintenanceFailed, match=r"exit code 7.*two \| three \| access denied") as caught:
        command(tmp_path, on_argv=failing).on(RUN)
    assert str(tmp_path / "command.log") in (caught.value.hint or "")


def test_status_decides_and_not_the_exit_code_of_on_or_off(tmp_path: Path) -> None:
    with pytest.raises(MaintenanceFailed, match="says that maintenance is off"):
        command(tmp_path, on_argv=script("pass")).on(RUN)
    provider = command(tmp_path, off_argv=script("pass"))
    saved = provider.on(RUN)
    with pytest.raises(MaintenanceFailed, match="still on"):
        provider.off(RUN, saved)


def test_broken_status_is_neither_on_nor_off(tmp_path: Path) -> None:
    provider = command(tmp_path, status_argv=script("import sys; sys.exit(2)"))
    for act in (provider.status, lambda: provider.on(RUN), lambda: provider.off(RUN, {})):
        with pytest.raises(MaintenanceFailed, match="exit code 2"):
            act()


def test_command_that_hangs_is_ended(tmp_path: Path) -> None:
    with pytest.raises(MaintenanceFailed, match=r"after 0\.2 s") as caught:
        command(tmp_path, status_argv=script("import time; time.sleep(60)"), timeout_s=0.2).status()
    assert caught.value.code == "maintenance_timeout"


def test_missing_program_is_named(tmp_path: Path) -> None:
    with pytest.raises(MaintenanceFailed, match="no-such-program"):
        command(tmp_path, status_argv=["no-such-program"]).status()


def test_configuration_chooses_the_provider(tmp_path: Path) -> None:
    around = Surroundings(environment="shop", folder=tmp_path, log=tmp_path / "log", aws=AwsSettings())
    flag = of(FlagProvider.model_construct(type="flag", path=tmp_path / "flag"), around)
    assert flag.name == f"flag {tmp_path / 'flag'}"
    settings = CommandProvider.model_construct(type="command", on=("a", "b"), off=("c",), status=("d",), timeout_s=5.0)
    provider = of(settings, around)
    assert provider.name == "command a b"
    assert isinstance(provider, Command)
    assert provider.timeout_s == 5.0
