"""The installed program, as a person or a workflow calls it: exit codes, one readable message, JSON, nothing leaked."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import jsonschema
import pytest

from migrator.reports import json_report
from tests import shop as shops
from tests.conftest import Server
from tests.shop import Shop

PROGRAM = Path(sys.executable).with_name("migrator")
BASE = "changelogs/2026.01-base/changelog.sql"
FAILS = "\nalter table product add constraint cheap check (price < 3)"
FIELDS = {
    "": "run_id environment changelog outcome exit_code way proof steps changesets backups maintenance checks write_set"
    " surprises tables error next_command",
    "proof": "level proven not_proven",
    "steps": "name status started_at duration_s",
    "changesets": "id author path status duration_s",
    "maintenance": "mode started_at ended_at downtime_s",
    "checks": "name phase success",
    "tables": "name rows_before rows_after inserted updated deleted",
    "error": "code message sqlstate changeset file line hint",
}


@pytest.fixture(scope="module")
def shop(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    """An empty database that the program fills, and the folder from which it is called."""
    with shops.database(server) as login:
        made = Shop(server=server, login=login, folder=tmp_path_factory.mktemp("shop"))
        made.write(BASE, shops.small_base())
        made.write("checks/money.sql", (shops.SAMPLE / "checks/money.sql").read_text())
        made.toml = '[environments.staging.checks]\ninvariants = ["checks/*.sql"]\n'
        made.write_config()
        yield made


def call(shop: Shop, *arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "NO_COLOR": "1", **shop.environ(), **environ}
    return subprocess.run(
        [PROGRAM, *arguments], capture_output=True, text=True, timeout=240, env=env, cwd=shop.folder, check=False
    )


def is_one_message(done: subprocess.CompletedProcess[str]) -> bool:
    """Exactly one error, no traceback, nothing on standard output."""
    errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    return len(errors) == 1 and "Traceback" not in done.stderr and not done.stdout


def test_a_first_run_tells_everything_as_json(shop: Shop) -> None:
    done = call(shop, "run", BASE, "--env", "staging", "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""
    told = json.loads(done.stdout)
    jsonschema.validate(told, json_report.schema())
    for part, names in FIELDS.items():
        value = told[part] if part else told
        for name in names.split():
            for one in value if isinstance(value, list) else [value or dict.fromkeys(names.split())]:
                assert name in one, f"{part}.{name}"
    assert (told["outcome"], told["exit_code"], told["way"]) == ("migrated", 0, "atomic")
    [report] = shop.folder.glob(".migrator/runs/*/report.json")
    assert json.loads(report.read_text())["run_id"] == told["run_id"]
    for name in ("report.md", "report.html", "report.junit.xml", "run.jsonl", "plan.json"):
        assert report.with_name(name).is_file(), name
    assert shop.value("select count(*) from customer") == 200


def test_the_same_again_has_nothing_to_do(shop: Shop) -> None:
    done = call(shop, "run", BASE, "--env", "staging")
    assert done.returncode == 0, done.stderr
    assert "nothing to do" in (done.stdout + done.stderr).lower()


def test_a_failure_is_told_with_its_place_and_the_exit_code_tells_the_state(shop: Shop) -> None:
    before = shop.dump()
    shop.sql("\nalter table customer add column nickname text", FAILS)
    done = call(shop, "run", "release.sql", "--env", "staging", "--set", "way=atomic")
    assert done.returncode == 6, done.stderr
    assert "release.sql:4" in done.stderr
    assert "report.html" in done.stderr
    assert "Traceback" not in done.stderr
    assert shop.dump() == before
    as_json = json.loads(call(shop, "run", "release.sql", "-e", "staging", "--json").stdout)
    jsonschema.validate(as_json, json_report.schema())
    assert (as_json["outcome"], as_json["error"]["sqlstate"]) == ("rolled_back", "23514"), as_json["error"]
    assert (as_json["error"]["file"], as_json["error"]["line"]) == ("release.sql", 4)


def test_afterwards_status_history_and_show_tell_the_same(shop: Shop) -> None:
    status = call(shop, "status", "--env", "staging", "--json")
    assert status.returncode == 0, status.stderr
    assert json.loads(status.stdout)["open_run"] is None
    assert json.loads(status.stdout)["maintenance"] is None
    history = call(shop, "history", "--json")
    assert history.returncode == 0, history.stderr
    runs = json.loads(history.stdout)
    outcomes = [run["outcome"] for run in (runs if isinstance(runs, list) else runs["runs"])]
    assert sorted(set(outcomes)) == ["migrated", "nothing_to_do", "rolled_back"]
    [newest] = sorted(path.name for path in shop.folder.glob(".migrator/runs/*"))[-1:]
    shown = call(shop, "show", newest)
    assert shown.returncode == 0, shown.stderr
    assert newest in shown.stdout


def test_a_protected_environment_is_not_touched_where_nobody_can_answer(shop: Shop) -> None:
    before = shop.dump()
    shop.sql("\nalter table customer add column nickname text")
    done = call(shop, "run", "release.sql", "--env", "staging", "--set", "protected=true")
    assert done.returncode == 3, done.stderr
    assert "--yes" in done.stderr
    assert shop.dump() == before


def test_unknown_keys_name_the_nearest(shop: Shop) -> None:
    config = shop.folder / "typo.toml"
    config.write_text('[environments.staging]\nurl = "postgresql://a@b/c"\nprofil = "guarded"\n')
    done = call(shop, "run", BASE, "--config", str(config))
    assert done.returncode == 2, done.stderr
    assert is_one_message(done), done.stderr
    assert all(word in done.stderr for word in ("typo.toml", "profil", "profile", "hint:")), done.stderr


@pytest.mark.parametrize(
    ("arguments", "exit_code", "says"),
    [
        (["run", "no/such.sql", "-e", "staging"], 2, "no/such.sql"),
        (["run", BASE, "-e", "stagging"], 2, "staging"),
        (["run", BASE, "-e", "staging", "--config", "nowhere.toml"], 2, "nowhere.toml"),
        (["run", BASE, "-e", "staging", "--set", "limits.drain_s=0"], 2, "limits.drain_s"),
        (["run", BASE, "-e", "staging", "--set", "limits.drain=5"], 2, "drain_s"),
        (["run", BASE, "-e", "staging", "--url", "postgresql://a:b@c/d"], 2, "password"),
        (["run", BASE, "-e", "staging", "--param", "novalue"], 2, "novalue"),
        (["run", "../outside.sql", "-e", "staging"], 2, "outside"),
        (["resume", "20260101t000000_beef"], 3, "20260101t000000_beef"),
    ],
)
def test_bad_arguments_are_refused_with_one_message(
    shop: Shop, arguments: list[str], exit_code: int, says: str
) -> None:
    (shop.folder.parent / "outside.sql").write_text("select 1")
    done = call(shop, *arguments)
    assert done.returncode == exit_code, done.stderr
    assert is_one_message(done), done.stderr
    assert says in done.stderr


def test_an_unset_password_is_named(shop: Shop) -> None:
    env = {key: value for key, value in os.environ.items() if key != "SHOP_PASSWORD"}
    done = subprocess.run(
        [PROGRAM, "run", BASE, "-e", "staging"],
        capture_output=True,
        text=True,
        timeout=60,
        env=env,
        cwd=shop.folder,
        check=False,
    )
    assert done.returncode == 2, done.stderr
    assert is_one_message(done), done.stderr
    assert "SHOP_PASSWORD" in done.stderr
    assert "migrator.toml" in done.stderr


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"SHOP_PASSWORD": "CANARY-wrong"}, "password"),
        ({"url": "postgresql://migrator@127.0.0.1:1/shop"}, "127.0.0.1:1"),
    ],
)
def test_a_server_that_lets_nobody_in_is_one_message(shop: Shop, change: dict[str, str], says: str) -> None:
    url = ["--url", change.pop("url")] if "url" in change else []
    done = call(shop, "run", BASE, "--env", "staging", *url, **change)
    assert done.returncode == 3, done.stderr
    assert says in done.stderr
    assert "Traceback" not in done.stderr
    assert "CANARY" not in done.stdout + done.stderr


def test_the_passwords_were_never_written_down(shop: Shop) -> None:
    assert shop.login.password is not None
    secrets = [shop.login.password.reveal().encode(), b"CANARY-wrong"]
    files = [path for path in shop.folder.rglob("*") if path.is_file()]
    assert any(path.name == "journal.db" for path in files)
    assert [path for path in files if any(secret in path.read_bytes() for secret in secrets)] == []
