"""A plan of 10,000 changesets: quick, and small enough for a laptop."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterable
from pathlib import Path

import pytest

from migrator.plans import plan_file
from tests.shop import Shop, descendants

PROGRAM = Path(sys.executable).with_name("migrator")
NUMBER, TABLES = 10_000, 300
MOST_CPU_S = 30.0  # of all processes together: other work on the machine costs none of it
MOST_BYTES = 600_000_000


def changesets() -> Iterable[str]:
    for number in range(NUMBER):
        table = f"t{number % TABLES}"
        made, undone = f"alter table {table} add column c{number} text", f"alter table {table} drop column c{number}"
        if number < TABLES:
            made, undone = f"create table {table} (id bigint primary key)", f"drop table {table}"
        yield f"\n{made}\n--rollback {undone}"


def memory_bytes(pid: int) -> int:
    """Of the process alone: what it shares with others is divided among them."""
    try:
        text = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="utf-8")
    except OSError:
        return 0
    return sum(int(line.split()[1]) * 1024 for line in text.splitlines() if line.startswith("Pss:"))


def cpu_s(pid: int) -> float:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_plan_of_ten_thousand_changesets(empty: Shop) -> None:
    changelog = empty.sql(*changesets())
    config, plan = empty.write_config(), empty.folder / "plan.json"
    most, spent = 0, {}
    process = subprocess.Popen(
        [PROGRAM, "plan", changelog, "--env", "staging", "--config", config, "--no-sql", "--out", plan],
        env={**os.environ, **empty.environ()},
        stdout=subprocess.DEVNULL,
    )
    ended = threading.Event()
    threading.Thread(target=lambda: (process.wait(), ended.set()), daemon=True).start()
    while not ended.wait(0.1):
        pids = [process.pid, *descendants(process.pid)]
        most = max(most, sum(memory_bytes(pid) for pid in pids))
        spent |= {pid: cpu_s(pid) for pid in pids}
    assert process.returncode == 0
    assert len(plan_file.read(plan).changesets) == NUMBER
    assert most < MOST_BYTES, f"{most / 1e6:.0f} MB"
    assert sum(spent.values()) < MOST_CPU_S, spent
