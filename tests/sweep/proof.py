"""One case: the run comes to harm, is resumed until it has ended, and everything that was promised is looked at."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

from migrator.cli.boundary import FAIL_AT, FAIL_POINTS
from migrator.config.login import Login
from migrator.postgres.connect import connect
from tests.acceptance.stage import PLANNED, Answer, Stage, configure, ended, living_children, settled, staged
from tests.conftest import Server
from tests.matrix import seen
from tests.proxy import Proxy
from tests.sweep import moving
from tests.sweep.cases import SELF, Blow, Case, Setting
from tests.sweep.writers import PRELUDE, TABLE, Writers, assert_none_admitted, assert_none_lost, writing

PROGRAM = Path(sys.executable).with_name("migrator")
SURE_ENDS = {0, 5, 6, 7}
_BY_ITSELF = {"good": 0, "bad": 6, "restored": 7, "moved": 0, "unmoved": 6}  # how a run ends that comes to no harm
_ROUNDS = 5
_WITHIN_S = 180.0
_TOOLS = {"dump": "pg_dump", "restore": "pg_restore"}


class Broken(AssertionError):
    """A promise was not kept."""


@dataclass(kw_only=True)
class Told:
    """What became of a case."""

    case: str
    codes: list[int] = field(default_factory=list)  # of the run and of each resume; below 0 a signal
    seen: str = ""
    said: list[str] = field(default_factory=list)
    duration_s: float = 0.0
    refused: int = 0
    confirmed: int = 0


@dataclass(frozen=True, kw_only=True)
class Ground:
    """Where cases are proven: a server, a database to copy, and what starts the server anew after a crash."""

    server: Server
    template: Login
    folder: Path
    restart: Callable[[], None] | None = None
    proxy: Proxy | None = None  # between the program and the server; the witnesses go by themselves
    cut_s: float = 30.0


@contextmanager
def prepared(ground: Ground, setting: Setting, name: str) -> Iterator[Stage]:
    folder = ground.folder / name
    folder.mkdir()
    (folder / "tmp").mkdir()
    with staged(ground.server, ground.template, folder, maintenance=setting.mode, prelude=PRELUDE) as stage:
        if ground.proxy is not None:
            configure(folder, replace(stage.login, port=ground.proxy.port), maintenance=setting.mode)
        if setting.moves:
            moving.set_up(stage, outcome=setting.outcome, mode=setting.mode)
        yield stage


def trace_of(ground: Ground, setting: Setting, name: str = "traced") -> tuple[list[str], float]:
    """The fail points that such a run passes when nothing happens to it, and how long it takes."""
    with prepared(ground, setting, name) as stage:
        began = time.monotonic()
        answer = ended(_start(stage, setting, None), within_s=_WITHIN_S)
        lasted_s = time.monotonic() - began
        if answer.code != _BY_ITSELF[setting.outcome]:
            raise Broken(f"{setting} ended with {answer.code} without any harm:\n{answer.err}")
        return [place for _, place in _trace(stage)], lasted_s


def prove(ground: Ground, case: Case, name: str) -> Told:
    """The case was done, and every promise held. Raises: Broken, with all that was said."""
    told = Told(case=str(case))
    began = time.monotonic()
    try:
        with prepared(ground, case.setting, name) as stage:
            with writing(ground.server.app.to(stage.database)) as writers:
                _do(ground, stage, case, told, writers)
            told.refused, told.confirmed = writers.refused, len(writers.confirmed)
            assert_none_lost(writers, stage.login)
            assert_none_admitted(writers, _trace(stage))
            told.seen = _judge(stage, case, told)
            seen.database(told.seen)
    except Broken:
        raise
    except Exception as error:
        raise Broken("\n".join([f"{case}: codes {told.codes}: {type(error).__name__}: {error}", *told.said])) from error
    finally:
        told.duration_s = round(time.monotonic() - began, 1)
    return told


def _do(ground: Ground, stage: Stage, case: Case, told: Told, writers: Writers) -> None:
    harmed_from_outside = case.first.harm != SELF
    answer = _harmed(ground, stage, case.setting, case.first, ())
    _note(told, answer)
    allowed = SURE_ENDS | ({3, 8, 9, 10} if harmed_from_outside else {-signal.SIGKILL})
    assert answer.code in allowed, f"the run ended with {answer.code}"
    unharmed = not harmed_from_outside and answer.code != -signal.SIGKILL
    assert not unharmed or answer.code == _BY_ITSELF[case.setting.outcome], f"unharmed, it ended with {answer.code}"
    blow = case.second
    for _ in range(_ROUNDS):
        status = stage.status()
        if status["open_run"] is None and status["maintenance"] is None:
            writers.wait_for_more()  # users are in
            return
        command = status["next_command"]
        assert command is not None, f"maintenance is {status['maintenance']}, and no command is named: {status}"
        arguments = tuple(command.removeprefix("migrator ").split())
        refused = stage.migrator("run", "good.sql")
        assert refused.code == 10, f"another run was let in: {refused.code} {refused.err}"
        assert command in refused.err, f"{command} is not named by: {refused.err}"
        answer = _harmed(ground, stage, case.setting, blow, arguments)
        _note(told, answer)
        killed = blow is not None and answer.code == -signal.SIGKILL
        blow = None
        assert killed or harmed_from_outside or answer.code in SURE_ENDS, f"{command} ended with {answer.code}"
    raise AssertionError(f"it has not ended after {_ROUNDS} times")


def _harmed(ground: Ground, stage: Stage, setting: Setting, blow: Blow | None, arguments: tuple[str, ...]) -> Answer:
    process = _start(stage, setting, blow, *arguments)
    if blow is not None and (blow.harm != SELF or blow.after_s is not None):
        _strike(ground, stage, blow, process)
    answer = ended(process, within_s=_WITHIN_S)
    if blow is not None and blow.harm == "server":
        assert ground.restart is not None
        ground.restart()
        stage.children = living_children()
    return answer


def _start(stage: Stage, setting: Setting, blow: Blow | None, *arguments: str) -> subprocess.Popen[str]:
    fates = [f"trace={stage.folder / 'trace'}@any"]
    if blow is not None and blow.after_s is None and blow.harm not in _TOOLS:
        deed = "crash" if blow.harm == SELF else f"stall={stage.folder / 'stalled'}"
        fates.append(f"{deed}@{blow.place}#{blow.number}")
    environ = {
        **os.environ,
        FAIL_POINTS: "enabled",
        FAIL_AT: ";".join(fates),
        "TMPDIR": str(stage.folder / "tmp"),
    }
    given = arguments or ("run", setting.changelog, "--way", setting.way, "--env", "crash")
    argv = [str(PROGRAM), *given, "--config", str(stage.folder / "migrator.toml")]
    return subprocess.Popen(
        argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environ, cwd=stage.folder
    )


def _strike(ground: Ground, stage: Stage, blow: Blow, process: subprocess.Popen[str]) -> None:
    """The harm is done, at its moment; a tool is killed when it is at work next, if ever.

    Nobody reads the program's pipes meanwhile: what a run says is far less than a pipe holds.
    """
    if blow.harm in _TOOLS:
        wanted = _TOOLS[blow.harm]
        while process.poll() is None:
            for pid in _descendants(process.pid, lambda pid: _name(pid) == wanted and bool(_command_line(pid))):
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
                return
            time.sleep(0.002)
        return
    if blow.after_s is not None:
        with suppress(subprocess.TimeoutExpired):
            process.wait(blow.after_s)
    else:
        settled(
            lambda: (stage.folder / "stalled.reached").exists() or process.poll() is not None,
            lambda: "it never came so far",
            within_s=_WITHIN_S,
        )
    match blow.harm:
        case "self":
            with suppress(ProcessLookupError):
                process.kill()
        case "jvm":
            for pid in _descendants(process.pid, lambda pid: "migrator.liquibase.worker" in _command_line(pid)):
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        case "server":
            assert ground.server.embedded is not None
            ground.server.embedded.immediate_stop()
        case "stall" | "drop" | "cut" | "slow":
            _disturb(ground, stage, blow.harm, process)
    (stage.folder / "stalled.go").touch()


def _disturb(ground: Ground, stage: Stage, how: str, process: subprocess.Popen[str]) -> None:
    """The network is gone, or slow, for a while; the program works on meanwhile."""
    proxy = ground.proxy
    assert proxy is not None
    {"stall": proxy.stall, "drop": proxy.drop, "cut": proxy.cut, "slow": lambda: proxy.slow(2000.0)}[how]()
    (stage.folder / "stalled.go").touch()
    with suppress(subprocess.TimeoutExpired):
        process.wait(ground.cut_s)
    proxy.heal()


def _judge(stage: Stage, case: Case, told: Told) -> str:
    """What the database is, which must be one of two things. Raises: AssertionError."""
    last = told.codes[-1]
    left = sorted({name.rsplit("_", 1)[1] for name in stage.databases()})
    with closing(connect(stage.login, role="look", run_id="test")) as session:
        ran = {name for (name,) in session.rows("select id from databasechangelog")}
    migrated = set(PLANNED) <= ran
    if last in SURE_ENDS:
        assert migrated == (last == 0), f"exit code {last}, and the database is {'' if migrated else 'not '}migrated"
    assert case.setting.migrates or not migrated, "a changelog that fails has migrated the database"
    if migrated:
        assert left == (["old"] if case.setting.way == "bluegreen" else []), f"left: {left}"
        if case.setting.moves:
            moving.assert_moved(stage, mode=case.setting.mode)
        stage.assert_migrated(kept=tuple(left))
    else:
        assert left in ([], ["old"]), f"left: {left}"
        assert (left == ["old"]) == (last == 7) or last not in SURE_ENDS, f"exit code {last}, and left: {left}"
        _assert_as_it_was(stage, case)
        moving.assert_nothing_left(stage)
        stage._assert_nothing_left(kept=left)
    _assert_no_files_left(stage, ended=any(code in SURE_ENDS for code in told.codes))
    return "migrated and verified" if migrated else "restored" if left else "what it was"


def _assert_as_it_was(stage: Stage, case: Case) -> None:
    now, before = stage.picture(), stage.pictured
    assert now.schema == before.schema, "the schema differs"
    for name in before.rows.keys() | now.rows.keys():
        if TABLE not in name:
            assert now.rows.get(name) == before.rows.get(name), f"the rows of {name} differ"
    assert now.large_objects == before.large_objects, "the large objects differ"
    if case.setting.mode == "offline":  # elsewhere others may have drawn numbers, so nothing sets them back
        assert now.sequences == before.sequences, "a sequence stands elsewhere"


def _assert_no_files_left(stage: Stage, *, ended: bool) -> None:
    """No temporary file of a run that was ended; one that nobody knows of may leave an empty folder."""
    if not ended:
        return
    temporary = [
        path
        for path in stage.folder.rglob("*")
        if (path.name.startswith(".") and path.name != ".migrator" and ".partial" not in str(path))
        or path.parent == stage.folder / "tmp"
    ]
    assert not temporary, f"temporary files are left: {[str(path.relative_to(stage.folder)) for path in temporary]}"


def _trace(stage: Stage) -> list[tuple[float, str]]:
    file = stage.folder / "trace"
    if not file.exists():
        return []
    lines = (line.split() for line in file.read_text().splitlines())
    return sorted((float(fields[0]), fields[1]) for fields in lines if len(fields) == 2)


def _note(told: Told, answer: Answer) -> None:
    told.codes.append(answer.code)
    told.said.append(f"--- exit code {answer.code}\n{answer.err[-3000:]}\n{answer.out[-300:]}")


def _descendants(root: int, wanted: Callable[[int], bool]) -> list[int]:
    parents = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with suppress(OSError, IndexError):
                parents[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
    found, front = [], {root}
    while front:
        front = {pid for pid, parent in parents.items() if parent in front}
        found += [pid for pid in front if wanted(pid)]
    return found


def _name(pid: int) -> str:
    with suppress(OSError):
        return Path(f"/proc/{pid}/comm").read_text().strip()
    return ""


def _command_line(pid: int) -> str:
    with suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    return ""
