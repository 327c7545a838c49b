"""Whatever the program leaves behind is the user's alone: files 0600, folders 0700, under the most generous umask."""

from __future__ import annotations

import os
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import shop as shops
from tests.acceptance.test_run import BASE, PROGRAM
from tests.conftest import Server
from tests.shop import Shop

SUITE = (
    "name: customers\ntable: public.customer\nwhen: [after]\nexpectations:\n"
    "- type: expect_column_values_to_not_be_null\n  kwargs: {column: email}\n  severity: critical\n"
)
TOML = """
maintenance.outside = [{ type = "flag", path = "maintenance.flag" }]
checks.invariants = ["checks/*.sql"]
checks.suites = ["checks/*.yaml"]
"""


@pytest.fixture
def shop(server: Server, tmp_path: Path) -> Iterator[Shop]:
    """An empty database, and a project beside which there is a folder for temporary files."""
    folder = tmp_path / "project"
    folder.mkdir(mode=0o755)
    (tmp_path / "tmp").mkdir(mode=0o755)
    with shops.database(server) as login:
        made = Shop(server=server, login=login, folder=folder)
        made.write(BASE, shops.small_base())
        made.write("checks/money.sql", (shops.SAMPLE / "checks/money.sql").read_text(encoding="utf-8"))
        made.write("checks/customers.yaml", SUITE)
        made.toml = TOML
        made.write_config()
        yield made


def call(shop: Shop, code: int, *arguments: str) -> None:
    env = {**os.environ, **shop.environ(), "TMPDIR": str(shop.folder.parent / "tmp")}
    done = subprocess.run(
        [PROGRAM, *arguments], timeout=240, env=env, cwd=shop.folder, check=False, capture_output=True, umask=0
    )
    assert done.returncode == code, (arguments, done.stdout, done.stderr)


def everything(folder: Path) -> set[Path]:
    return set(folder.rglob("*"))


def open_to_others(shop: Shop, given: set[Path]) -> list[str]:
    """What came besides `given` and is not 0600, or 0700 for a folder."""
    found = []
    for path in everything(shop.folder.parent) - given:
        mode = stat.S_IMODE(path.lstat().st_mode)
        if not path.is_symlink() and mode != (0o700 if path.is_dir() else 0o600):
            found.append(f"{path.relative_to(shop.folder)} {mode:o}")
    return found


def test_a_run_leaves_nothing_that_others_may_read(shop: Shop) -> None:
    given = everything(shop.folder.parent)
    call(shop, 0, "run", BASE, "--env", "staging")
    assert open_to_others(shop, given) == []
    assert list((shop.folder.parent / "tmp").iterdir()) == []
    left = {path.name for path in everything(shop.folder) - given}
    assert {"journal.db", "report.json", "manifest.json", "liquibase.log"} <= left, left


@pytest.mark.slow
def test_nothing_else_does_either(shop: Shop) -> None:
    """A restore, what is looked at by hand, and what is written where a person says."""
    given = everything(shop.folder.parent)
    call(shop, 0, "run", BASE, "--env", "staging")
    bad = shop.sql("\ndelete from event", "\nselect 1/0")
    good = shop.sql(
        "\nalter table customer add column z int\n--rollback alter table customer drop column z", name="g.sql"
    )
    given |= {shop.folder / bad, shop.folder / good}
    for code, arguments in (
        (7, ("run", bad, "--way", "stepwise")),
        (0, ("drift",)),
        (3, ("drift", "--against-changelog", good)),  # which builds nothing by itself
        (0, ("drift", "--against-changelog", BASE)),
        (0, ("plan", good, "--out", "plan.json")),
        (0, ("rehearse", good, "--from", "schema")),
        (0, ("backup", "create")),
        (0, ("run", good)),
        (0, ("maintenance", "on", "--reason", "a test")),
        (0, ("maintenance", "off")),
    ):
        call(shop, code, *arguments, "--env", "staging")
    call(shop, 0, "config", "show", "--env", "staging")
    assert (shop.folder / "plan.json").is_file()
    assert open_to_others(shop, given) == []
    assert list((shop.folder.parent / "tmp").iterdir()) == []
