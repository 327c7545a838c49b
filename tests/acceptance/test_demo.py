"""`migrator demo` keeps its promise on a folder that has never seen it: three stories, two of them taken back."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = Path(sys.executable).with_name("migrator")


@pytest.mark.slow
def test_the_demo_tells_its_story_and_proves_it(tmp_path: Path) -> None:
    done = subprocess.run(
        [PROGRAM, "demo", "--folder", "demo"], capture_output=True, text=True, timeout=280, cwd=tmp_path, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    reports = sorted((tmp_path / "demo/.migrator/runs").glob("*/report.json"))
    told = [json.loads(path.read_text()) for path in reports]
    assert [one["outcome"] for one in told] == ["migrated", "migrated", "rolled_back", "rolled_back"]
    assert all(one["proof"]["proven"] for one in told)
    assert [one["error"]["code"] for one in told[2:]] == ["migration", "verification"]
    for path in reports[1:]:  # the first fills the shop, and is not told
        assert path.parent.name in done.stderr
    assert not (tmp_path / "demo/.migrator/pg/postmaster.pid").exists(), "the server was stopped"
