from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from migrator import processes
from migrator.config.login import Secret
from migrator.errors import ToolFailed

PYTHON = sys.executable
SECRET = "a!b@c$d()e*_,/:;=?@ff[]22, é"


def python(code: str) -> list[str]:
    return [PYTHON, "-c", textwrap.dedent(code)]


def eventually(condition: Callable[[], bool], within_s: float = 10.0) -> bool:
    deadline = time.monotonic() + within_s
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


def is_gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    # a zombie whose parent is not ours is as good as gone
    status = Path(f"/proc/{pid}/stat")
    return status.exists() and status.read_text().rsplit(")", 1)[1].split()[0] == "Z"


def echo(log: Path) -> processes.Child:
    return processes.Child.start(
        python(
            """
            import json, sys
            for line in sys.stdin:
                print(json.dumps({"got": json.loads(line)}), flush=True)
            """
        ),
        log=log,
    )


def test_output_and_duration_are_returned() -> None:
    done = processes.run(["sh", "-c", "cat; echo trouble >&2"], timeout_s=10, input_text="ä\n" * 50_000)
    assert done.exit_code == 0
    assert done.stdout.startswith("ä\n")
    assert done.stdout.count("ä") == 50_000
    assert done.stderr == "trouble\n"
    assert 0 < done.duration_s < 10


def test_end_of_long_output_is_kept() -> None:
    done = processes.run(python("print('x' * 3_000_000); print('the end')"), timeout_s=20)
    assert done.stdout.endswith("the end\n")
    assert len(done.stdout) <= 256 * 1024


def test_failure_names_program_exit_code_and_last_words() -> None:
    with pytest.raises(ToolFailed, match=r"^sh ended with exit code 3: no such table$") as raised:
        processes.run(["sh", "-c", "echo no such table >&2; exit 3"], timeout_s=10)
    assert raised.value.code == "tool"


def test_unchecked_failure_is_returned() -> None:
    assert processes.run(["sh", "-c", "exit 3"], timeout_s=10, check=False).exit_code == 3


def test_death_by_a_signal_is_named() -> None:
    with pytest.raises(ToolFailed, match="was ended by SIGKILL"):
        processes.run(["sh", "-c", "kill -KILL $$"], timeout_s=10)


@pytest.mark.parametrize("argv", [["no-such-program"], ["/etc/passwd"], ["sh", "a\0b"]])
def test_program_that_cannot_be_started_is_named(argv: list[str]) -> None:
    with pytest.raises(ToolFailed, match="cannot be started") as raised:
        processes.run(argv, timeout_s=10)
    assert raised.value.code == "not_found"


def test_arguments_reach_the_program_unread_by_a_shell() -> None:
    assert processes.run(["echo", "$HOME; `id` *"], timeout_s=10).stdout == "$HOME; `id` *\n"


def test_time_limit_kills_the_whole_group(tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    with pytest.raises(ToolFailed, match=r"was stopped after 0\.5 s: working") as raised:
        processes.run(
            ["sh", "-c", f"echo working >&2; sleep 60 & echo $! > {pids}; echo $$ >> {pids}; wait"], timeout_s=0.5
        )
    assert raised.value.code == "timeout"
    for pid in map(int, pids.read_text().split()):
        assert eventually(lambda pid=pid: is_gone(pid))


def test_group_that_ignores_sigterm_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("migrator.processes.launch._TERM_GRACE_S", 0.2)
    pid = tmp_path / "pid"
    with pytest.raises(ToolFailed, match="was stopped"):
        processes.run(["sh", "-c", f"trap '' TERM; echo $$ > {pid}; while :; do sleep 1; done"], timeout_s=0.5)
    assert is_gone(int(pid.read_text()))


def test_daemon_left_behind_does_not_hold_up_the_caller(tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    started = time.monotonic()
    done = processes.run(["sh", "-c", f"sleep 60 & echo $! > {pid}; echo done"], timeout_s=30)
    try:
        assert done.stdout == "done\n"
        assert time.monotonic() - started < 10
    finally:
        os.kill(int(pid.read_text()), signal.SIGKILL)


def test_interrupt_ends_the_child(tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    code = f"""
        import signal
        from migrator import processes
        signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job inherits one that is deaf
        processes.run(["sh", "-c", "echo $$ > {pid}; exec sleep 60"], timeout_s=60)
    """
    parent = subprocess.Popen(python(code), stderr=subprocess.DEVNULL)
    assert eventually(lambda: pid.exists() and pid.read_text().strip() != "")
    parent.send_signal(signal.SIGINT)
    parent.wait(20)
    assert eventually(lambda: is_gone(int(pid.read_text())))


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="PDEATHSIG is Linux's")
def test_child_dies_with_a_killed_parent(tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    code = f"""
        from migrator import processes
        processes.run(["sh", "-c", "echo $$ > {pid}; exec sleep 60"], timeout_s=60)
    """
    parent = subprocess.Popen(python(code))
    assert eventually(lambda: pid.exists() and pid.read_text().strip() != "")
    parent.kill()
    parent.wait()
    assert eventually(lambda: is_gone(int(pid.read_text())))


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="PDEATHSIG is Linux's")
def test_our_own_child_dies_with_a_killed_parent(tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    child = (
        "import os, pathlib, time; from migrator.processes import die_with_parent; die_with_parent(); "
        f"pathlib.Path({str(pid)!r}).write_text(str(os.getpid())); time.sleep(60)"
    )
    code = f"""
        import pathlib, sys, time
        from migrator import processes
        processes.Child.start([sys.executable, "-c", {child!r}], log=pathlib.Path({str(tmp_path / "log")!r}))
        time.sleep(60)
    """
    parent = subprocess.Popen(python(code))
    assert eventually(lambda: pid.exists() and pid.read_text() != "")
    parent.kill()
    parent.wait()
    assert eventually(lambda: is_gone(int(pid.read_text())))


def test_environment_is_minimal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGPASSWORD", "secret")
    monkeypatch.setenv("PGHOSTADDR", "10.0.0.1")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    seen = processes.run(["env"], timeout_s=10, env=processes.minimal_env(EXTRA="1")).stdout
    assert "secret" not in seen
    assert "PGHOSTADDR" not in seen
    assert "EXTRA=1" in seen
    assert "PATH=" in seen


@pytest.mark.parametrize(
    "spelled",
    [
        SECRET,
        json.dumps(SECRET),
        "postgresql://u:a%21b%40c%24d%28%29e%2A_%2C%2F%3A%3B%3D%3F%40ff%5B%5D22%2C%20%C3%A9@h/d",
        r"*:*:*:*:a!b@c$d()e*_,/\:;=?@ff[]22, é",
    ],
)
def test_secret_is_masked_in_every_spelling(spelled: str, tmp_path: Path) -> None:
    log = tmp_path / "log"
    script = "import sys; print(sys.argv[1]); print(sys.argv[1], file=sys.stderr); sys.exit(1)"
    with pytest.raises(ToolFailed) as raised:
        processes.run([PYTHON, "-X", "utf8", "-c", script, spelled], timeout_s=20, secrets=[Secret(SECRET)], log=log)
    for said in (raised.value.message, log.read_text(), processes.redact(spelled, [Secret(SECRET)])):
        assert "********" in said
        assert "ff[]22" not in said
        assert "ff%5B" not in said


def test_secret_is_masked_across_the_cut_of_an_endless_line() -> None:
    secret = Secret("s3cr3t-" * 40)
    code = f"import sys; [print({'x' * 1000!r} + {secret.reveal()!r}, end='') for _ in range(500)]"
    done = processes.run(python(code), timeout_s=20, secrets=[secret])
    assert "s3cr3t" not in done.stdout
    assert done.argv[0] == PYTHON
    assert "s3cr3t" not in done.argv[2]


def test_log_is_appended_to_and_closed_to_others(tmp_path: Path) -> None:
    log = tmp_path / "logs" / "tool.log"
    for word in ("one", "two"):
        processes.run(["echo", word], timeout_s=10, log=log)
    assert log.read_text() == "one\ntwo\n"
    assert stat.S_IMODE(log.stat().st_mode) == 0o600


def test_messages_go_both_ways(tmp_path: Path) -> None:
    with echo(tmp_path / "log") as child:
        for message in ({"a": 1}, {"text": "zwei\nZeilen ☃"}, {"big": "x" * 1_000_000}):
            child.send(message)
            assert child.receive(20) == {"got": message}
        pid = child.pid
    assert is_gone(pid)


def test_silence_is_a_timeout_and_the_child_lives_on(tmp_path: Path) -> None:
    with echo(tmp_path / "log") as child:
        with pytest.raises(ToolFailed, match=r"gave no answer within 0\.05 s") as raised:
            child.receive(0.05)
        assert raised.value.code == "timeout"
        assert child.is_alive
        child.send({"a": 1})
        assert child.receive(20) == {"got": {"a": 1}}


def test_dead_child_is_reported_with_the_end_of_its_log(tmp_path: Path) -> None:
    child = processes.Child.start(
        python("import sys; sys.exit('the heap is full: hunter2')"), log=tmp_path / "log", secrets=[Secret("hunter2")]
    )
    for _ in range(2):  # the same answer however often it is asked
        with pytest.raises(ToolFailed, match=r"ended with exit code 1: the heap is full: \*+$") as raised:
            child.receive(20)
        assert raised.value.code == "gone"
    with pytest.raises(ToolFailed, match="ended with exit code 1"):
        child.send({"a": "x" * 1_000_000})
    child.close()


def test_killed_child_is_reported_by_its_signal(tmp_path: Path) -> None:
    with echo(tmp_path / "log") as child:
        waiting = threading.Timer(0.2, os.kill, (child.pid, signal.SIGKILL))
        waiting.start()
        with pytest.raises(ToolFailed, match="was ended by SIGKILL"):
            child.receive(20)


def test_chatter_on_standard_output_is_no_message(tmp_path: Path) -> None:
    for said in ("'hello'", "'[1]'"):
        with (
            processes.Child.start(python(f"print({said}, flush=True); input()"), log=tmp_path / "log") as child,
            pytest.raises(ToolFailed, match="no message") as raised,
        ):
            child.receive(20)
        assert raised.value.code == "protocol"


def test_kill_and_close_may_be_repeated(tmp_path: Path) -> None:
    child = echo(tmp_path / "log")
    child.kill()
    child.kill()
    child.close()
    assert not child.is_alive


def test_close_kills_a_child_that_does_not_end(tmp_path: Path) -> None:
    child = processes.Child.start(python("import time; time.sleep(60)"), log=tmp_path / "log")
    child.close(timeout_s=0.1)
    assert is_gone(child.pid)


def test_child_is_named_by_its_module(tmp_path: Path) -> None:
    with (
        processes.Child.start([PYTHON, "-m", "no.such.module"], log=tmp_path / "log") as child,
        pytest.raises(ToolFailed, match=r"^no\.such\.module ended with exit code 1: .*No module named"),
    ):
        child.receive(20)


def test_detached_process_is_in_a_session_of_its_own(tmp_path: Path) -> None:
    process = processes.detach(["sh", "-c", "echo up; exec sleep 60"], log=tmp_path / "log")
    try:
        assert os.getsid(process.pid) == process.pid
        assert eventually(lambda: (tmp_path / "log").read_text() == "up\n")
    finally:
        process.kill()
        process.wait()
