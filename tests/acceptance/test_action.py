"""The shell of the GitHub action and of its workflows: what an input holds is one argument, and never code."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import signal
import stat
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.main import get_command

from migrator.cli.app import app
from migrator.postgres import embedded
from tests.unit.test_reports_github import read_outputs

ROOT = Path(__file__).parents[2]
SCRIPTS = ROOT / ".github" / "scripts"
PROGRAM = Path(sys.executable).with_name("migrator")
HOSTILE = [
    "$(touch HARM)",
    "`touch HARM`",
    "x; touch HARM",
    "x && touch HARM",
    "x\ntouch HARM",
    "x\n--url=postgresql://elsewhere/x",
    "--set=backup.kinds=[]",
    "-h",
    "'; touch HARM; '",
    '"; touch HARM; "',
    "${HOME}",
    "../../etc/passwd",
    "/etc/passwd",
    "a/../../b",
    "*",
    "x|touch HARM",
    "x>HARM",
    "::set-output name=x::y",
]


@pytest.fixture
def echo(tmp_path: Path) -> Path:
    """A program that writes its arguments down."""
    path = tmp_path / "echo-arguments"
    path.write_text(f"#!{sys.executable}\nimport json, sys\njson.dump(sys.argv[1:], open('arguments.json', 'w'))\n")
    path.chmod(0o755)
    return path


def call(script: str, folder: Path, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [SCRIPTS / script],
        cwd=folder,
        env={"PATH": os.environ["PATH"], "HOME": str(folder), **env},
        capture_output=True,
        text=True,
        timeout=250,
        check=False,
    )


def arguments(folder: Path) -> list[str]:
    found: list[str] = json.loads((folder / "arguments.json").read_text())
    return found


def test_every_input_becomes_its_argument(tmp_path: Path, echo: Path) -> None:
    (tmp_path / "migrator.toml").touch()
    done = call(
        "migrate.sh",
        tmp_path,
        MIGRATOR=str(echo),
        COMMAND="backup verify",
        ENVIRONMENT="staging",
        CHANGELOG="changelogs/2026.02 x/changelog.xml",
        CONFIG="migrator.toml",
        PLAN="plan.json",
        ARGUMENTS='--set\nlimits.drain_s=5\n\n--reason=it\'s $(date) `now`; "quoted"\n',
    )
    assert done.returncode == 0, done.stderr
    assert arguments(tmp_path) == [
        *("backup", "verify", "changelogs/2026.02 x/changelog.xml", "--env", "staging"),
        *("--config", "migrator.toml", "--plan", "plan.json"),
        *("--set", "limits.drain_s=5", '--reason=it\'s $(date) `now`; "quoted"'),
    ]


@pytest.mark.parametrize("value", HOSTILE)
@pytest.mark.parametrize("name", ["COMMAND", "ENVIRONMENT", "CHANGELOG", "CONFIG", "PLAN"])
def test_an_input_that_is_no_name_is_refused(tmp_path: Path, echo: Path, name: str, value: str) -> None:
    inputs = {"COMMAND": "run", "ENVIRONMENT": "staging", "CHANGELOG": "a.sql", name: value}
    done = call("migrate.sh", tmp_path, MIGRATOR=str(echo), **inputs)
    assert done.returncode == 2
    assert "::error title=migrator::The input" in done.stderr
    assert not (tmp_path / "arguments.json").exists()
    assert not (tmp_path / "HARM").exists()
    assert len(value) < 3 or value not in done.stderr  # nor is it a command of the log


def test_who_cancels_a_job_interrupts_migrator(tmp_path: Path) -> None:
    """The runner signals the shell of the step and nobody else."""
    program = tmp_path / "waits"
    program.write_text(
        f"""#!{sys.executable}
import signal, sys, threading
told = threading.Event()
signal.signal(signal.SIGINT, lambda *_: told.set())
print("ready", flush=True)
while not told.wait(0.05):
    pass
sys.exit(6)
"""
    )
    program.chmod(0o755)
    steps = yaml.safe_load((ROOT / "action.yml").read_text())["runs"]["steps"]
    script = tmp_path / "step.sh"
    script.write_text(next(step["run"] for step in steps if step["id"] == "migrator"))
    env = {"PATH": os.environ["PATH"], "GITHUB_ACTION_PATH": str(ROOT), "MIGRATOR": str(program), "COMMAND": "run"}
    with subprocess.Popen(
        ["bash", "--noprofile", "--norc", "-e", "-o", "pipefail", script], env=env, stdout=subprocess.PIPE, text=True
    ) as shell:
        assert shell.stdout is not None
        assert shell.stdout.readline() == "ready\n"
        shell.send_signal(signal.SIGINT)
        assert shell.wait(30) == 6


@pytest.mark.parametrize("value", HOSTILE)
def test_a_working_directory_is_a_folder_or_nothing(tmp_path: Path, echo: Path, value: str) -> None:
    done = call("migrate.sh", tmp_path, MIGRATOR=str(echo), COMMAND="run", WORKING_DIRECTORY=value)
    assert done.returncode != 0
    assert not list(tmp_path.rglob("arguments.json"))
    assert not (tmp_path / "HARM").exists()


def test_the_program_is_installed_by_hash_and_once(tmp_path: Path) -> None:
    """With a Python that writes down what it is asked for, and makes an environment of itself."""
    python = tmp_path / "python"
    python.write_text(
        f"""#!{sys.executable}
import pathlib, shutil, sys
with open({str(tmp_path / "calls")!r}, "a") as calls:
    calls.write(" ".join(sys.argv[1:]) + "\\n")
if sys.argv[1:3] == ["-m", "venv"]:
    (pathlib.Path(sys.argv[-1]) / "bin").mkdir(parents=True)
    shutil.copy(__file__, pathlib.Path(sys.argv[-1]) / "bin" / "python")
"""
    )
    python.chmod(0o755)
    for again in (False, True):
        output = tmp_path / f"output-{again}"
        done = call("install.sh", tmp_path, PYTHON=str(python), RUNNER_TEMP=str(tmp_path), GITHUB_OUTPUT=str(output))
        assert done.returncode == 0, done.stderr
        assert read_outputs(output)["migrator"].startswith(f"{tmp_path}/migrator/")
    made, requirements, itself = (tmp_path / "calls").read_text().splitlines()
    assert made.startswith("-m venv --clear")
    assert "--require-hashes -r" in requirements
    assert "--no-deps --no-build-isolation" in itself


@pytest.mark.parametrize("value", HOSTILE)
def test_an_argument_is_passed_on_as_it_is(tmp_path: Path, echo: Path, value: str) -> None:
    done = call("migrate.sh", tmp_path, MIGRATOR=str(echo), COMMAND="run", ARGUMENTS=value)
    assert done.returncode == 0, done.stderr
    assert arguments(tmp_path) == ["run", *value.split("\n")]
    assert not (tmp_path / "HARM").exists()


def test_the_real_program_is_behind_it(tmp_path: Path) -> None:
    (tmp_path / "bad.sql").write_text("--liquibase formatted sql\n--changeset kim:1\ndrop table customer;\n")
    output, summary = tmp_path / "output", tmp_path / "summary"
    done = call(
        "migrate.sh",
        tmp_path,
        MIGRATOR=str(PROGRAM),
        COMMAND="run",
        ENVIRONMENT="nowhere",
        CHANGELOG="bad.sql",
        GITHUB_ACTIONS="true",
        GITHUB_OUTPUT=str(output),
        GITHUB_STEP_SUMMARY=str(summary),
    )
    assert done.returncode == 2, done.stderr
    assert "nowhere" in done.stderr


@pytest.mark.slow
def test_a_job_has_masks_groups_outputs_and_a_summary(tmp_path: Path) -> None:
    """The sample, by the script of the action: planned, tried, rehearsed and run by the real program."""
    for name in ("changelogs", "checks"):
        shutil.copytree(ROOT / name, tmp_path / name)
    shutil.copy(ROOT / "migrator.toml", tmp_path)
    try:
        for command, more, outcome in (
            ("plan", "--out\nplan.json", "planned"),
            ("dry-run", "", "passed"),
            ("rehearse", "--from=schema", "passed"),
            ("run", "--yes", "migrated"),
        ):
            output, summary = tmp_path / f"{command}.output", tmp_path / f"{command}.md"
            done = call(
                "migrate.sh",
                tmp_path,
                MIGRATOR=str(PROGRAM),
                COMMAND=command,
                ENVIRONMENT="local",
                CHANGELOG="changelogs/2026.01-base/changelog.sql",
                PLAN="plan.json" if command == "run" else "",
                ARGUMENTS=more,
                GITHUB_ACTIONS="true",
                GITHUB_OUTPUT=str(output),
                GITHUB_STEP_SUMMARY=str(summary),
                HOME=os.environ["HOME"],
            )
            assert done.returncode == 0, done.stderr
            found = read_outputs(output)
            assert (found["outcome"], found["exit-code"]) == (outcome, "0")
            assert "::add-mask::" in done.stderr
            secret = done.stderr.partition("::add-mask::")[2].splitlines()[0]
            rest = done.stdout + done.stderr.replace(f"::add-mask::{secret}\n", "") + summary.read_text()
            assert secret not in rest + output.read_text()
            if command != "plan":
                assert done.stderr.count("::group::") == done.stderr.count("::endgroup::") > 1
        assert found["changesets-applied"] == "10"
        assert Path(found["report"]).is_file()
    finally:
        embedded.ensure_running(tmp_path / ".migrator" / "pg").stop()


@pytest.mark.parametrize(
    ("action", "subject", "loss", "expected"),
    [
        ("status", "", "false", ("status", "staging", [])),
        ("recover", "", "false", ("recover", "staging", ["--yes"])),
        ("maintenance off", "", "false", ("maintenance off", "staging", [])),
        ("resume", "r1", "false", ("resume", "", ["r1", "--yes"])),
        ("resume --back", "r1", "false", ("resume", "", ["r1", "--yes", "--back"])),
        ("rollback", "r1", "false", ("rollback", "staging", ["r1", "--yes"])),
        ("rollback", "r1", "true", ("rollback", "staging", ["r1", "--yes", "--accept-loss"])),
        ("backup restore", "b1", "false", ("backup restore", "staging", ["b1", "--confirm", "staging"])),
    ],
)
def test_a_recovery_is_the_command_that_it_names(
    tmp_path: Path, action: str, subject: str, loss: str, expected: tuple[str, str, Sequence[str]]
) -> None:
    output = tmp_path / "output"
    inputs = {"ACTION": action, "SUBJECT": subject, "ENVIRONMENT": "staging", "ACCEPT_LOSS": loss}
    done = call("recovery.sh", tmp_path, GITHUB_OUTPUT=str(output), **inputs)
    assert done.returncode == 0, done.stderr
    found = read_outputs(output)
    said = (found["command"], found["environment"], found["arguments"].splitlines())
    assert said == (expected[0], expected[1], list(expected[2]))


@pytest.mark.parametrize("subject", ["", *HOSTILE])
def test_a_recovery_of_nothing_that_could_be_named_is_refused(tmp_path: Path, subject: str) -> None:
    output = tmp_path / "output"
    done = call(
        "recovery.sh", tmp_path, GITHUB_OUTPUT=str(output), ACTION="rollback", SUBJECT=subject, ENVIRONMENT="staging"
    )
    assert done.returncode == 2
    assert not output.exists()
    assert not (tmp_path / "HARM").exists()


def test_maintenance_by_hand_is_the_command_that_it_names(tmp_path: Path) -> None:
    output = tmp_path / "output"
    inputs = {"ACTION": "maintenance on", "ENVIRONMENT": "staging", "MODE": "read-only", "REASON": 'it\'s $(date) "x"'}
    done = call("recovery.sh", tmp_path, GITHUB_OUTPUT=str(output), **inputs)
    assert done.returncode == 0, done.stderr
    found = read_outputs(output)
    assert (found["command"], found["environment"]) == ("maintenance on", "staging")
    assert found["arguments"].splitlines() == ["--mode=read-only", '--reason=it\'s $(date) "x"', "--yes"]


@pytest.mark.parametrize(("mode", "reason"), [("offline", "x\n--force"), ("offline --force", "x"), ("", "x")])
def test_maintenance_by_hand_takes_no_other_option(tmp_path: Path, mode: str, reason: str) -> None:
    output = tmp_path / "output"
    inputs = {"ACTION": "maintenance on", "ENVIRONMENT": "staging", "MODE": mode, "REASON": reason}
    done = call("recovery.sh", tmp_path, GITHUB_OUTPUT=str(output), **inputs)
    assert done.returncode == 2
    assert not output.exists()


@pytest.mark.parametrize("action", ["status", "recover", "resume", "backup restore", "maintenance off"])
def test_a_loss_is_accepted_for_a_rollback_alone(tmp_path: Path, action: str) -> None:
    output = tmp_path / "output"
    inputs = {"ACTION": action, "SUBJECT": "r1", "ENVIRONMENT": "staging", "ACCEPT_LOSS": "true"}
    done = call("recovery.sh", tmp_path, GITHUB_OUTPUT=str(output), **inputs)
    assert done.returncode == 2
    assert "rollback alone" in done.stderr
    assert not output.exists()


def test_scripts_may_be_executed_and_stop_at_the_first_error() -> None:
    for script in SCRIPTS.glob("*.sh"):
        assert script.stat().st_mode & stat.S_IXUSR, script
        assert "set -euo pipefail" in script.read_text(), script


def test_no_workflow_puts_an_input_into_shell_code() -> None:
    for path in [*(ROOT / ".github" / "workflows").glob("*.yml"), ROOT / "action.yml"]:
        document = yaml.safe_load(path.read_text())
        jobs = document.get("jobs", {"action": document.get("runs", {})})
        for job in jobs.values():
            for step in job.get("steps", []):
                assert "${{" not in step.get("run", ""), (path.name, step)


def objection(words: Sequence[str]) -> str | None:
    """What migrator's command line has against these arguments; None where it takes them. Nothing is carried out."""
    command: Any = get_command(app)
    rest = list(words)
    while rest and rest[0] in getattr(command, "commands", {}):
        command = command.commands[rest.pop(0)]
    if hasattr(command, "commands"):
        return f"there is no command {words}"
    try:
        command.make_context("migrator", rest)
    except Exception as error:
        return f"{words}: {type(error).__name__}: {error}"
    return None


def put_together(inputs: dict[str, str]) -> list[str]:
    """What migrate.sh makes of the inputs of the action; an expression of GitHub stands for one word."""
    words = str(inputs["command"]).split()
    words += ["x"] if inputs.get("changelog") else []
    words += [word for name, option in OPTIONS.items() if inputs.get(name) for word in (option, "x")]
    lines = (re.sub(r"\$\{\{.*?\}\}", "", line).strip() for line in inputs.get("arguments", "").splitlines())
    return words + [line for line in lines if line]


OPTIONS = {"environment": "--env", "plan": "--plan"}
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))


def steps_of(path: Path) -> list[dict[str, Any]]:
    document = yaml.safe_load(path.read_text())
    return [step for job in document["jobs"].values() for step in job.get("steps", [])]


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_what_a_workflow_asks_for_exists(path: Path) -> None:
    for step in steps_of(path):
        inputs = step.get("with", {})
        if step.get("uses") == "./" and not inputs["command"].startswith("${{") and inputs["command"] != "install":
            assert objection(put_together(inputs)) is None


@pytest.mark.parametrize("name", ["db-recover.yml", "db-maintenance.yml"])
def test_what_a_person_may_choose_exists(name: str, tmp_path: Path) -> None:
    path = ROOT / ".github" / "workflows" / name
    chosen = yaml.safe_load(path.read_text())[True]["workflow_dispatch"]["inputs"]["action"]["options"]
    script = next(step for step in steps_of(path) if "recovery.sh" in step.get("run", ""))
    for action in chosen:
        for loss in ("true", "false") if action == "rollback" else ("false",):
            output = tmp_path / f"{action}-{loss}"
            named = script["env"]["ACTION"].replace("${{ inputs.action }}", action)
            env = {"ACTION": named, "SUBJECT": "s1", "ENVIRONMENT": "staging", "ACCEPT_LOSS": loss, "MODE": "offline"}
            done = call("recovery.sh", tmp_path, GITHUB_OUTPUT=str(output), **env)
            assert done.returncode == 0, done.stderr
            assert objection(put_together(read_outputs(output))) is None


@pytest.mark.parametrize("path", sorted([*SCRIPTS.glob("*.sh"), ROOT / "docker" / "build.sh"]), ids=lambda p: p.name)
def test_what_a_script_asks_for_exists(path: Path) -> None:
    text = path.read_text().replace("\\\n", " ")
    calls = re.findall(r'"\$(?:migrator"|target/bin/migrator") (.+?)(?:[|;&>]|$)', text, re.MULTILINE)
    assert len(calls) == {"validate.sh": 5, "build.sh": 1}.get(path.name, 0)
    for call_of_it in calls:
        assert objection(shlex.split(call_of_it.replace("${changed[@]}", "x"))) is None


@pytest.fixture
def github(tmp_path: Path) -> Path:
    """A `gh` that keeps one pull request's comments in a file, by GitHub's API."""
    folder = tmp_path / "bin"
    folder.mkdir()
    program = folder / "gh"
    program.write_text(
        f"""#!{sys.executable}
import json, pathlib, sys
store = pathlib.Path({str(tmp_path / "comments.json")!r})
comments = json.loads(store.read_text()) if store.exists() else []
words = sys.argv[1:]
method = words[words.index("--method") + 1] if "--method" in words else "GET"
if method == "GET":
    for one in comments:
        if one["body"].startswith("<!-- migrator -->"):
            print(one["id"])
else:
    body = words[words.index("--raw-field") + 1].partition("=")[2]
    path = next(word for word in words if word.startswith("repos/"))
    if method == "POST":
        assert path == "repos/acme/shop/issues/7/comments", path
        comments.append({{"id": len(comments) + 100, "body": body}})
    else:
        one = next(one for one in comments if path == f"repos/acme/shop/issues/comments/{{one['id']}}")
        one["body"] = body
store.write_text(json.dumps(comments))
"""
    )
    program.chmod(0o755)
    return folder


def test_there_is_one_comment_and_it_is_updated(tmp_path: Path, github: Path) -> None:
    comment = tmp_path / "comment.md"
    (tmp_path / "comments.json").write_text(json.dumps([{"id": 5, "body": "Looks good to me"}]))
    env = {"REPOSITORY": "acme/shop", "NUMBER": "7", "COMMENT": str(comment), "GH_TOKEN": "x"}
    for text in ("first $(touch HARM)", "second"):
        comment.write_text(f"<!-- migrator -->\n{text}\n")
        done = call("comment.sh", tmp_path, PATH=f"{github}:{os.environ['PATH']}", **env)
        assert done.returncode == 0, done.stderr
    found = [one["body"] for one in json.loads((tmp_path / "comments.json").read_text())]
    assert found == ["Looks good to me", "<!-- migrator -->\nsecond"]
    assert not (tmp_path / "HARM").exists()


def test_a_comment_is_cut_where_it_may_be(tmp_path: Path, github: Path) -> None:
    comment, summary = tmp_path / "comment.md", tmp_path / "summary"
    comment.write_text("<!-- migrator -->\n" + "ä" * 600_000)
    env = {"REPOSITORY": "acme/shop", "NUMBER": "7", "COMMENT": str(comment), "GITHUB_STEP_SUMMARY": str(summary)}
    done = call("comment.sh", tmp_path, PATH=f"{github}:{os.environ['PATH']}", **env)
    assert done.returncode == 0, done.stderr
    (found,) = json.loads((tmp_path / "comments.json").read_text())
    assert 59_990 < len(found["body"].encode()) <= 60_000
    assert 999_990 < len(summary.read_text().encode()) <= 1_000_000


def test_without_the_right_to_comment_the_job_goes_on(tmp_path: Path) -> None:
    comment, summary = tmp_path / "comment.md", tmp_path / "summary"
    comment.write_text("<!-- migrator -->\ntext\n")
    broken = tmp_path / "bin" / "gh"
    broken.parent.mkdir()
    broken.write_text("#!/bin/sh\nexit 1\n")
    broken.chmod(0o755)
    done = call(
        "comment.sh",
        tmp_path,
        PATH=f"{broken.parent}:{os.environ['PATH']}",
        REPOSITORY="acme/shop",
        NUMBER="7",
        COMMENT=str(comment),
        GITHUB_STEP_SUMMARY=str(summary),
    )
    assert done.returncode == 0, done.stderr
    assert "::notice" in done.stdout
    assert "text" in summary.read_text()


@pytest.mark.slow
def test_a_pull_request_is_linted_and_rehearsed(tmp_path: Path) -> None:
    def git(*words: str) -> str:
        identity = ["-c", "user.name=kim", "-c", "user.email=kim@example.org"]
        return subprocess.run(
            ["git", *identity, *words], cwd=tmp_path, check=True, capture_output=True, text=True
        ).stdout

    for number, sql in ((1, "create table t (id bigint primary key, name text not null);"), (2, "drop table t;")):
        release = tmp_path / "changelogs" / f"{number}"
        release.mkdir(parents=True)
        (release / "changelog.sql").write_text(f"--liquibase formatted sql\n--changeset kim:{number}\n{sql}\n")
        if number == 1:
            git("init", "-q")
        git("add", "changelogs")
        git("commit", "-qm", f"release {number}")
    base = git("rev-parse", "HEAD~1").strip()
    env = {name: value for name, value in os.environ.items() if name.startswith(("XDG_", "HOME"))}
    output = tmp_path / "output"
    done = call(
        "validate.sh",
        tmp_path,
        MIGRATOR=str(PROGRAM),
        BASE=base,
        GITHUB_OUTPUT=str(output),
        RUNNER_TEMP=str(tmp_path),
        GITHUB_ACTIONS="true",
        **{**env, "HOME": os.environ["HOME"]},
    )
    embedded.ensure_running(tmp_path / ".migrator" / "pg").stop()
    comment = Path(read_outputs(output)["comment"]).read_text()
    assert done.returncode == 1, done.stdout + done.stderr
    assert comment.startswith("<!-- migrator -->\n")
    assert "::error file=changelogs/2/changelog.sql,line=3" in done.stdout
    assert "changelogs/1/changelog.sql" not in comment.partition("### Rehearsal")[2]
    assert "| `changelogs/2/changelog.sql` |" in comment
    assert (tmp_path / "findings.sarif").is_file()
