"""A dump that is streamed into a bucket passes through a memory that does not grow with it."""

from __future__ import annotations

import os
import re
import secrets
import subprocess
import sys
from pathlib import Path

import psycopg
import pytest

from tests.integration.aws.test_runs_with_s3 import bucket, configured, store_of  # noqa: F401  a fixture
from tests.integration.runs.conftest import shop, template  # noqa: F401  fixtures
from tests.shop import ENVIRONMENT, Shop, conninfo

PROGRAM = Path(sys.executable).with_name("migrator")
MB = 1_000_000
ROWS, ROW_BYTES = 300, MB  # of bytes that nothing compresses


@pytest.mark.slow
def test_a_streamed_dump_is_never_whole_in_memory(shop: Shop, endpoint: str, bucket: str) -> None:  # noqa: F811
    of = configured(shop, endpoint, bucket)
    of.toml += f"[environments.{ENVIRONMENT}.store]\nspool = false\npart_mb = 5\nconnections = 2\n"
    of.execute("create table bulk (id int primary key, filler bytea)")
    of.execute("alter table bulk alter filler set storage external")
    with (
        psycopg.connect(conninfo(of.login)) as connection,
        connection.cursor() as cursor,
        cursor.copy("copy bulk (id, filler) from stdin") as copy,
    ):
        for number in range(ROWS):
            copy.write_row((number, secrets.token_bytes(ROW_BYTES)))
    changelog = of.sql("\nalter table customer add column nick text")
    of.write_config()
    argv = [str(PROGRAM), "run", changelog, "--env", ENVIRONMENT]
    log = of.folder / "said.log"
    with log.open("wb") as said:
        run = subprocess.Popen(
            argv, cwd=of.folder, env={**os.environ, **of.environ()}, stdout=said, stderr=subprocess.STDOUT
        )
        most_mb = 0.0
        while run.poll() is None:
            most_mb = max(most_mb, high_water_mb(run.pid))
            try:
                run.wait(0.05)
            except subprocess.TimeoutExpired:
                continue
    assert run.returncode == 0, log.read_text()
    [backup] = store_of(of).list()
    assert backup.size_bytes > ROWS * ROW_BYTES
    print(f"a dump of {backup.size_bytes / MB:.0f} MB, streamed: at most {most_mb:.0f} MB of memory")
    assert 20 < most_mb < 250
    assert store_of(of).verify(backup.id).size_bytes == backup.size_bytes


def high_water_mb(pid: int) -> float:
    """The most that the process itself, without its children, has had in memory so far."""
    try:
        found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    except OSError:
        return 0.0
    return int(found[1]) * 1024 / MB if found else 0.0
