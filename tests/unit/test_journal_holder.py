from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace

import pytest

from migrator.runs import holder
from migrator.runs.holder import Holder


@pytest.fixture
def ended() -> str:
    """The holder's name of a process that has ended."""
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    name = holder.this_process(pid=child.pid)
    assert not holder.is_gone(name)
    child.communicate(b"\n", timeout=30)
    return name


def test_a_process_that_runs_is_not_gone() -> None:
    assert not holder.is_gone(holder.this_process())


def test_a_process_that_has_ended_is_gone(ended: str) -> None:
    assert holder.is_gone(ended)


def test_a_process_that_was_killed_and_not_waited_for_is_gone() -> None:
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    name = holder.this_process(pid=child.pid)
    child.kill()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert holder.is_gone(name)
    child.communicate(timeout=30)


def test_another_process_with_the_same_number_does_not_stand_for_the_one_that_ended() -> None:
    mine = Holder.parse(holder.this_process())
    assert holder.is_gone(str(replace(mine, start=str(int(mine.start) - 1))))


@pytest.mark.parametrize("difference", [{"host": "elsewhere"}, {"place": "other-boot-1"}, {"place": ""}, {"start": ""}])
def test_what_cannot_be_seen_from_here_is_never_called_gone(ended: str, difference: dict[str, str]) -> None:
    assert not holder.is_gone(str(replace(Holder.parse(ended), **difference)))


def test_a_name_that_is_no_holders_is_shown_and_not_judged() -> None:
    assert holder.describe("somebody") == "somebody"
    assert not holder.is_gone("somebody")
    assert not holder.is_gone("a:b:c:d:e")


def test_each_holding_has_a_name_of_its_own_that_says_who() -> None:
    one, other = holder.this_process(), holder.this_process()
    assert one != other
    assert holder.describe(one) == f"process {os.getpid()} on {Holder.parse(one).host}"
    assert holder.describe(holder.this_process("build:7", 42)) == "process 42 on build:7"
