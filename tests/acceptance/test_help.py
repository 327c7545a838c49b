"""The installed program answers at once, and its help is about what there is."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from migrator.cli import boundary
from migrator.cli.app import app

PROGRAM = Path(sys.executable).with_name("migrator")
HEAVY = ("pydantic", "psycopg", "sqlalchemy", "great_expectations", "jpype", "boto3", "jgo", "rich", "platformdirs")


def run(*arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "COLUMNS": "100", **environ}
    return subprocess.run([PROGRAM, *arguments], capture_output=True, text=True, timeout=60, env=env, check=False)


def commands(help_text: str) -> list[str]:
    return re.findall(r"^  (\S+)", help_text.partition("Commands:")[2], re.MULTILINE)


def test_help_answers_in_under_400_ms() -> None:
    times: list[float] = []
    while len(times) < 20 and min(times, default=1.0) >= 0.4:
        before = os.times()
        assert run("--help").returncode == 0
        after = os.times()  # it waits for nothing: its time is the processor's, whatever else is at work
        times.append(after.children_user - before.children_user + after.children_system - before.children_system)
    assert min(times) < 0.4, times


def test_help_imports_nothing_heavy() -> None:
    code = f"import sys, migrator.cli.app; print(sorted(set({HEAVY!r}) & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "[]"


def test_every_command_has_help_with_an_example(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "100")

    def visit(path: list[str]) -> None:
        assert boundary.run(app, [*path, "--help"]) == 0
        told = capsys.readouterr().out
        inner = commands(told) if "Commands:" in told else []
        if not inner:
            assert f"migrator {' '.join(path)}" in told.partition("\n")[2], f"no example: {path}"
        for name in inner:
            visit([*path, name])

    names = commands(run("--help").stdout)
    assert {"init", "doctor", "history", "show", "config", "liquibase"} <= set(names)
    for name in names:
        visit([name])


def test_no_arguments_show_the_help() -> None:
    done = run()
    assert done.returncode == 2
    assert "Commands:" in done.stdout + done.stderr


def test_version() -> None:
    assert re.fullmatch(r"migrator \d+\.\d+\.\d+\n", run("--version").stdout)


def test_completion_script_of_the_shell_that_asks() -> None:
    # The shell is found among the parents of the process, so one must be there whatever starts the tests.
    command = ["bash", "-c", f"'{PROGRAM}' --show-completion; exit $?"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert "_MIGRATOR_COMPLETE" in done.stdout


def test_environments_are_completed(tmp_path: Path) -> None:
    (tmp_path / "migrator.toml").write_text("[environments.staging]\n[environments.qa]\n")
    words = f"migrator config show --config {tmp_path}/migrator.toml --env "
    done = run(_MIGRATOR_COMPLETE="complete_bash", COMP_WORDS=words, COMP_CWORD="6")
    assert done.stdout.split() == ["staging", "qa", "local"]
