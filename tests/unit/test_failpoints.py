"""No effect is without a fail point, and no fail point does anything unless it is told to, twice."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from migrator import failpoints
from migrator.cli import boundary
from migrator.cli.app import app
from migrator.errors import StepFailed, UsageError
from migrator.failpoints import Effect, doing, effect
from tests.effects import effects_used, undeclared

# What no run of a changelog does, and why a fail point there would prove nothing.
EXEMPT = {
    "migrator.failpoints:": "the fail points themselves",
    "migrator.cli.": "what a person asked for by name (init, demo, a bug's log): no run is under way",
    "migrator.postgres.embedded": "the server of demo, tests and scratch copies: made anew, never a target's",
    "migrator.postgres.cluster": "as above",
    "migrator.postgres.keeper": "as above",
    "migrator.liquibase.jars": "a cache that is checked by SHA-256 before use",
    "migrator.liquibase.startup": "a cache of the JVM: damaged, it is made anew",
    "migrator.liquibase.worker.": "in the worker's process: behind the effects of migrator.liquibase.session",
    "migrator.runs.journal_tables:Transaction": "inside a transaction of migrator.runs.journal, which has the effect",
    "migrator.runs.byhand.beside:swap": "renames instances of AWS, whose calls have the effect",
    "migrator.reports.log": "a log that nothing is decided by",
    "migrator.plans.findings.squawk": "files for squawk to read, which whoever ends a killed run takes away",
    "migrator.runs.samples": "measurements that nothing is decided by",
    "migrator.postgres.connect:PgSession": "carries out what it is given: the caller has the effect",
}


@pytest.fixture(autouse=True)
def disarmed() -> Iterator[None]:
    yield
    failpoints.disarm()


def test_every_effect_has_a_fail_point() -> None:
    found = undeclared(EXEMPT)
    assert not found, (
        "these change the world outside a fail point; mark them with @effect(Effect.X) or `with doing(Effect.X)`:\n"
        + "\n".join(f"  {key}: {'; '.join(what)}" for key, what in sorted(found.items()))
    )


def test_every_exemption_exempts_something() -> None:
    everything = undeclared({})
    assert [start for start in EXEMPT if not any(key.startswith(start) for key in everything)] == []


def test_every_member_of_the_enum_stands_somewhere() -> None:
    assert {member.name for member in Effect} == effects_used()


@effect(Effect.MANIFEST)
def write(done: list[str]) -> str:
    done.append("written")
    return "what it returns"


def test_nothing_happens_unless_armed() -> None:
    done: list[str] = []
    assert write(done) == "what it returns"
    with doing(Effect.LOG):
        done.append("logged")
    assert done == ["written", "logged"]


@pytest.mark.parametrize(("fate", "done"), [("raise@manifest.before", []), ("raise@manifest.after", ["written"])])
def test_effect_fails_before_or_after_it_took_place(fate: str, done: list[str]) -> None:
    failpoints.arm(fate)
    found: list[str] = []
    with pytest.raises(StepFailed, match="manifest"):
        write(found)
    assert found == done


def test_fate_waits_for_its_turn() -> None:
    failpoints.arm("bug@manifest.before#2; raise@any#5")
    done: list[str] = []
    write(done)  # any: 1 and 2
    with pytest.raises(RuntimeError):
        write(done)  # 3
    failpoints.arm("raise@any#3")
    write(done)
    with pytest.raises(StepFailed):
        write(done)


def test_trace_tells_what_was_reached(tmp_path: Path) -> None:
    failpoints.arm(f"trace={tmp_path / 'trace'}@any")
    write([])
    lines = [line.split() for line in (tmp_path / "trace").read_text().splitlines()]
    assert [place for _, place in lines] == ["manifest.before", "manifest.after"]
    assert float(lines[0][0]) <= float(lines[1][0])


def test_stall_lasts_until_it_is_let_go(tmp_path: Path) -> None:
    place = tmp_path / "place"
    place.with_suffix(".go").touch()
    failpoints.arm(f"stall={place}@manifest.after")
    write([])
    assert place.with_suffix(".reached").exists()


@pytest.mark.parametrize("text", ["crash", "crash@nowhere.before", "explode@any", "crash@any#x", "@any"])
def test_what_is_no_fate_is_refused_with_those_that_are(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        failpoints.arm(text)
    assert "fence_up" in (caught.value.hint or "")


def test_crash_is_a_sigkill() -> None:
    code = (
        "from migrator import failpoints\nfailpoints.arm('crash@log.before')\n"
        "with failpoints.doing(failpoints.Effect.LOG): print('never')"
    )
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, timeout=60)
    assert (done.returncode, done.stdout) == (-signal.SIGKILL, b"")


def test_one_variable_alone_is_refused(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv(boundary.FAIL_AT, "crash@any")
    assert boundary.run(app, ["--version"]) == 2
    assert boundary.FAIL_POINTS in capsys.readouterr().err
    monkeypatch.setenv(boundary.FAIL_POINTS, "enabled")
    monkeypatch.setenv(boundary.FAIL_AT, "raise@manifest.before")
    assert boundary.run(app, ["--version"]) == 0
    assert "fail points are armed: raise@manifest.before" in capsys.readouterr().err
    monkeypatch.delenv(boundary.FAIL_AT)
    failpoints.disarm()
    assert os.environ[boundary.FAIL_POINTS] == "enabled"
    assert boundary.run(app, ["--version"]) == 0
    assert write([]) == "what it returns"
