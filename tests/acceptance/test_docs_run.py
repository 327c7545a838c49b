"""The shell blocks of the pages that are marked runnable are carried out, page by page, by the real program.

Before a block stands `<!-- runnable -->`, or `<!-- runnable, exit 6 -->`; `<!-- run: COMMAND -->` is carried out too,
and not seen by the reader. A page begins in an empty folder. $SAMPLE is a folder with the sample's changelogs, checks
and migrator.toml; hosts below `db.internal` are databases of a server that is made for it; RUN and BACKUP are what
hidden commands have made of them.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from migrator.postgres import embedded
from tests.conftest import Server

ROOT = Path(__file__).parents[2]
STEP = re.compile(
    r"^<!-- runnable(?:, exit (?P<code>\d+))? -->\s+```sh\n(?P<block>.*?)^```$|^<!-- run: (?P<hidden>.*?) -->$",
    re.DOTALL | re.MULTILINE,
)
MARK = re.compile(r"<!-- run(?:nable)?\b")
HOST = re.compile(r"([a-z]+)\.db\.internal:5432/shop")
PREAMBLE = """\
set -euo pipefail
field() { python3 -c 'import json, sys; print(json.load(sys.stdin)[int(sys.argv[1])][sys.argv[2]])' "$@"; }
shop_in_staging() {
  export STAGING_DB_PASSWORD="$DATABASE_PASSWORD_OF_THE_TEST"
  cp -r "$SAMPLE"/. .
  printf '%s\\n' '[environments.staging]' 'url = "postgresql://migrator@staging.db.internal:5432/shop"' \\
    'password = "${env:STAGING_DB_PASSWORD}"' >> migrator.toml
  migrator run changelogs/2026.01-base/changelog.sql --env staging
}
left_behind_in_staging() {
  MIGRATOR_FAIL_POINTS=enabled MIGRATOR_FAIL_AT='crash@manifest.after' migrator run "$1" --env staging || true
}
"""
PLACEHOLDERS = {"RUN": '"$RUN"', "BACKUP": '"$BACKUP"', "OWNER/migrator@COMMIT": f"acme/migrator@{40 * '1'}"}
PAGES = [page for page in [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))] if MARK.search(page.read_text())]


def script(page: Path, server: Server) -> str:
    """All of the page in one shell, so that what a block exports is there in the next."""
    text = page.read_text(encoding="utf-8")
    steps = list(STEP.finditer(text))
    assert len(steps) == len(MARK.findall(text)), f"{page.name}: a mark without a block"
    lines = [placed(PREAMBLE, server)]
    for step in steps:
        line = text[: step.start()].count("\n") + 1
        block = placed(step["block"] or step["hidden"] + "\n", server)
        if step["block"]:
            block = re.sub(rf"(?<=[ ])({'|'.join(PLACEHOLDERS)})(?=\s)", lambda match: PLACEHOLDERS[match[1]], block)
        lines.append(f"echo '--- {page.name}:{line}' >&2")
        if step["code"]:
            block = f"set +e; (set -e\n{block}); code=$?; set -e; test $code -eq {step['code']}\n"
        lines.append(block)
    return "\n".join(lines)


def placed(text: str, server: Server) -> str:
    login = server.migrator
    return HOST.sub(lambda match: f"{login.host}:{login.port}/{match[1]}", text)


@pytest.fixture
def databases(server: Server) -> Iterator[None]:
    """Empty databases `staging` and `production`, which migrator owns."""
    assert server.embedded is not None, "these tests drop databases: they want a server of their own"
    names = ("staging", "production")
    for name in names:
        server.embedded.create_database(name)
    yield
    with server.session() as admin:
        for (name,) in admin.rows("select datname from pg_database where datname ~ '^(staging|production|mig_)'"):
            admin.execute(f'drop database "{name}" with (force)')


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_what_a_page_says_can_be_typed(page: Path, tmp_path: Path, server: Server, databases: None) -> None:
    sample, folder = tmp_path / "sample", tmp_path / "shop"
    for name in ("changelogs", "checks"):
        shutil.copytree(ROOT / name, sample / name)
    shutil.copy(ROOT / "migrator.toml", sample)
    folder.mkdir()
    password = server.migrator.secret()
    assert password is not None
    env = {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "HOME": os.environ["HOME"],
        "COLUMNS": "80",
        "SAMPLE": str(sample),
        "DATABASE_PASSWORD_OF_THE_TEST": password.reveal(),
    }
    try:
        done = subprocess.run(
            ["bash", "-c", script(page, server)],
            cwd=folder,
            env=env,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=850,
            check=False,
        )
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-6000:]
    finally:
        if (folder / ".migrator" / "pg").exists():
            embedded.ensure_running(folder / ".migrator" / "pg").stop()
