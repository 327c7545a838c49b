"""A run that is killed in a backfill carries on from its last batch, or goes back where a person asks for that."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from migrator.config.login import Login
from migrator.postgres.connect import connect
from tests.acceptance.stage import Stage, crash_template, staged
from tests.conftest import Server

__all__ = ["crash_template"]

ROWS = 400
CHANGELOG = f"""--liquibase formatted sql
--changeset ann:1
create table person (id bigint primary key, name text not null, first_name text);
insert into person (id, name) select n, 'first' || n || ' last' from generate_series(1, {ROWS}) as n;
--rollback drop table person;
--changeset ann:2
alter table person alter column first_name set not null;
--rollback alter table person alter column first_name drop not null;
"""
BACKFILL = """
name = "split-name"
after = "1::ann"
table = "person"
key = ["id"]
statement = "update person p set first_name = split_part(p.name, ' ', 1) from batch b where p.id = b.id"
verify = "select id from person where first_name is distinct from split_part(name, ' ', 1)"
undo = "update person p set first_name = null from batch b where p.id = b.id"
batch_rows = 10
target_batch_s = 0.001
pause_s = 0.1
jobs = 1
"""


@pytest.fixture
def stage(server: Server, crash_template: Login, tmp_path: Path) -> Iterator[Stage]:
    with staged(server, crash_template, tmp_path) as made:
        (made.folder / "moved.sql").write_text(CHANGELOG, encoding="utf-8")
        (made.folder / "split-name.backfill.toml").write_text(BACKFILL, encoding="utf-8")
        yield made


def _one(stage: Stage, sql: str) -> str | None:
    with closing(connect(stage.login, role="look", run_id="test")) as session:
        return session.rows(sql)[0][0]


MOMENTS = [
    pytest.param("progress:backfill", id="between two batches"),
    pytest.param("before:migrator.runs.moving:verifying.verify", id="before it is proven"),
]


@pytest.mark.parametrize("moment", MOMENTS)
@pytest.mark.slow
def test_run_killed_in_a_backfill_carries_on(stage: Stage, moment: str) -> None:
    run = stage.killed(moment, "run", "moved.sql")
    stage.assert_blocked(run)
    answer = stage.migrator("resume", run)
    assert answer.code == 0, answer.err
    assert "carries on from where its last batch was committed" in answer.err
    assert _one(stage, "select count(*) from person where first_name = split_part(name, ' ', 1)") == str(ROWS)
    assert _one(stage, "select state from migrator_backfills") == "verified"
    moved = "select sum(rows_done)::text from migrator_backfill_ranges where phase = 'move'"
    assert _one(stage, moved) == str(ROWS), "no row was moved twice"


@pytest.mark.parametrize("moment", MOMENTS)
@pytest.mark.slow
def test_run_killed_in_a_backfill_goes_back_when_asked(stage: Stage, moment: str) -> None:
    run = stage.killed(moment, "run", "moved.sql")
    answer = stage.migrator("resume", run, "--back")
    assert answer.code == 6, answer.err
    stage.assert_as_it_was()


@pytest.mark.slow
def test_another_text_of_the_backfill_is_not_carried_on(stage: Stage) -> None:
    run = stage.killed("progress:backfill", "run", "moved.sql")
    (stage.folder / "split-name.backfill.toml").write_text(BACKFILL.replace("' ', 1) from", "' ', 2) from"))
    answer = stage.migrator("resume", run)
    assert answer.code == 6, answer.err
    assert "changed since: split-name.backfill.toml" in answer.err
    stage.assert_as_it_was()


@pytest.mark.slow
def test_run_killed_in_its_second_backfill_executes_nothing_before_it_is_done(stage: Stage) -> None:
    between = "--changeset ann:between\nalter table person add column again text;\n--rollback select 1;\n"
    text = CHANGELOG.replace("--changeset ann:2\n", f"{between}--changeset ann:2\n")
    text = text.replace("first_name set not null;", "first_name set not null, alter column again set not null;")
    (stage.folder / "moved.sql").write_text(text, encoding="utf-8")
    second = BACKFILL.replace("split-name", "second").replace("1::ann", "between::ann").replace("first_name", "again")
    (stage.folder / "second.backfill.toml").write_text(second + 'capture = "trigger"\n', encoding="utf-8")
    run = stage.killed("before:migrator.runs.moving:capture.install", "run", "moved.sql")
    answer = stage.migrator("resume", run)
    assert answer.code == 0, answer.err
    assert _one(stage, "select count(*) from person where first_name = again") == str(ROWS)


@pytest.mark.slow
@pytest.mark.parametrize("way", ["atomic", "bluegreen"])
def test_run_killed_after_a_backfill_that_was_not_committed_does_it_again(stage: Stage, way: str) -> None:
    if way == "atomic":
        (stage.folder / "split-name.backfill.toml").write_text(BACKFILL + "inside = true\n", encoding="utf-8")
    (stage.folder / "moved.sql").write_text(CHANGELOG.partition("--changeset ann:2")[0], encoding="utf-8")
    run = stage.killed("before:migrator.runs.steps.verify:verification.verify", "run", "moved.sql", "--way", way)
    answer = stage.migrator("resume", run)
    assert answer.code == 0, answer.err
    assert _one(stage, "select count(*) from person where first_name = split_part(name, ' ', 1)") == str(ROWS)


@pytest.mark.slow
def test_what_a_killed_process_wrote_last_is_in_the_write_set(stage: Stage) -> None:
    """Also where no changeset of the run writes it: only the ledger has kept what the batches wrote."""
    (stage.folder / "split-name.backfill.toml").unlink()
    (stage.folder / "moved.sql").write_text(CHANGELOG.partition("--changeset ann:2")[0], encoding="utf-8")
    assert stage.migrator("run", "moved.sql").code == 0
    (stage.folder / "split-name.backfill.toml").write_text(BACKFILL, encoding="utf-8")
    later = "--changeset ann:3\ncreate table later (id int);\n--rollback drop table later;\n"
    with (stage.folder / "moved.sql").open("a", encoding="utf-8") as file:
        file.write(later)
    run = stage.killed("after:migrator.runs.moving:mover.move", "run", "moved.sql")
    answer = stage.migrator("resume", run, "--json")
    assert answer.code == 0, answer.err
    report = answer.json
    assert ("public.person" in report["write_set"], report["surprises"]) == (True, [])
    assert [one["rows"] for one in report["backfills"]] == [ROWS]
