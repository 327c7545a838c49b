"""`migrator backfill` as a person uses it, on a few rows of the sample's first example."""

from __future__ import annotations

import io
from contextlib import chdir, closing, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path

import pytest
import typer
from typer.main import get_command

from migrator.backfills import capture, ledger
from migrator.backfills.definition import read
from migrator.cli import boundary
from migrator.cli.app import app
from migrator.cli.backfill.named import backfill_names
from migrator.config.login import Login
from migrator.postgres import sessions
from migrator.postgres.connect import connect
from migrator.postgres.transactions import transaction
from migrator.runs.journal import Journal
from migrator.testing.journal_harness import begin
from tests.acceptance.moving import ENVIRONMENT, PASSWORD, Moving
from tests.acceptance.stage import Answer
from tests.conftest import Server
from tests.integration.backfills.emptied import database, one_database

__all__ = ["database", "one_database"]

NAME = "split-name"
WRONG = "select count(*) from member where first_name is null or first_name || ' ' || last_name <> name"


@dataclass(kw_only=True)
class Project(Moving):
    def here(self, *arguments: str) -> Answer:
        """The command in this process."""
        out, err = io.StringIO(), io.StringIO()
        with chdir(self.folder), redirect_stdout(out), redirect_stderr(err):
            code = boundary.run(app, ["backfill", *arguments, "--env", ENVIRONMENT])
        return Answer(code=code, out=out.getvalue(), err=err.getvalue())

    @property
    def file(self) -> Path:
        return self.folder / "changelogs" / f"{NAME}.backfill.toml"

    def change(self, old: str, new: str) -> None:
        text = self.file.read_text()
        assert old in text
        self.file.write_text(text.replace(old, new))

    def begun(self, because: str | None = None) -> None:
        """As a process leaves it that was killed right at the beginning; paused by somebody, where it is said."""
        backfill = read(self.file)
        with closing(connect(self.login, role="backfill", run_id="killed")) as session:
            capture.install(session, backfill, lock_timeout_s=1)
            with transaction(session):
                ledger.begin(session, None, backfill, table='"public"."member"', run_id="killed", total=self.rows)
            if because is not None:
                ledger.pause(session, None, NAME, because)


@pytest.fixture
def project(server: Server, database: Login, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    assert database.password is not None
    monkeypatch.setenv(PASSWORD, database.password.reveal())
    made = Project(server=server, login=database, folder=tmp_path, name=NAME, rows=300)
    made.set_up()
    return made


def triggers(project: Project) -> int:
    return int(project.value("select count(*) from pg_trigger where tgname like 'migrator%'"))


def test_backfill_is_planned_run_looked_at_and_finished(project: Project) -> None:
    planned = project.here("plan")
    assert planned.code == 0, planned
    assert "parts-of-a-name::shop, which has run here" in planned.out
    assert f"next: migrator backfill run {NAME} --env {ENVIRONMENT}" in planned.out
    assert project.here("status").out == "no backfill has begun in this database\n"

    done = project.here("run", NAME)
    assert done.code == 0, done
    assert f"{NAME}: 300 rows moved" in done.out
    assert "verified, no violation" in done.out
    assert project.value(WRONG) == 0
    project.execute("insert into member (name) values ('Later One')")
    assert project.value(WRONG) == 0

    [status] = project.here("status", NAME, "--json").json["backfills"]
    assert (status["state"], status["rows"], status["capture"]["complete"]) == ("verified", 300, True)
    assert status["next_command"] == f"migrator backfill finish {NAME} --env {ENVIRONMENT}"
    again = project.here("run", NAME, "--json")
    assert (again.code, again.json["backfills"][0]["moved"]) == (0, None)

    finished = project.here("finish", NAME, "--json")
    assert (finished.code, finished.json["violations"], finished.json["finished"]) == (0, 0, True)
    assert triggers(project) == 0


def test_backfill_that_was_killed_or_paused_is_resumed(project: Project) -> None:
    project.begun("paused by ann")
    assert "paused, paused by ann" in project.here("status").out
    answer = project.here("resume", NAME, "--json")
    assert answer.code == 0, answer
    assert answer.json["backfills"][0]["moved"]["rows"] == 300
    assert project.value(WRONG) == 0


@pytest.mark.slow
def test_only_what_is_at_work_is_paused(project: Project) -> None:
    assert project.here("pause", NAME).code == 3
    project.begun()
    answer = project.here("pause", NAME, "--reason", "sale", "--json")
    assert answer.code == 0, answer
    assert answer.json["paused_because"].endswith(": sale")
    assert project.here("resume", NAME).code == 0
    assert project.here("pause", NAME).code == 3


def test_undo_leaves_nothing_and_it_may_begin_again(project: Project) -> None:
    assert project.here("run", NAME).code == 0
    project.execute("insert into member (name) values ('Later One')")
    undone = project.here("undo", NAME, "--json")
    assert undone.code == 0, undone
    assert project.value("select count(first_name) + count(last_name) from member") == 0
    assert triggers(project) == 0
    project.execute("insert into member (name) values ('Too Late')")
    assert project.value("select count(first_name) from member") == 0
    assert project.here("run", NAME).code == 0
    assert project.value(WRONG) == 0


def test_undo_is_refused_once_the_old_is_gone_or_came_back_empty(project: Project) -> None:
    kept = "select count(*) from member where first_name is not null and last_name is not null"
    assert project.here("run", NAME).code == 0
    assert project.here("finish", NAME).code == 0
    for contract, why in (("drop column name", "could not be done again"), ("add column name text", "300 rows differ")):
        project.execute(f"alter table member {contract}")
        undone = project.here("undo", NAME, "--json")
        assert (undone.code, undone.json["error"]["code"]) == (3, "backfill_one_way")
        assert why in undone.json["error"]["message"]
        assert "migrator rollback" in undone.json["error"]["hint"]
        assert project.value(kept) == 300
    assert project.here("verify", NAME).code == 3
    assert project.here("undo", NAME).code == 3, "also when somebody has looked at what is missing"

    lost = project.here("undo", NAME, "--accept-loss")
    assert lost.code == 0, lost
    assert "accepted as lost" in lost.out
    assert "may be the only copy" in " ".join(lost.out.split())
    assert project.value(kept) == 0


@pytest.mark.slow
def test_trigger_that_a_killed_process_left_is_removed(project: Project) -> None:
    with closing(connect(project.login, role="backfill", run_id="killed")) as session:
        capture.install(session, read(project.file), lock_timeout_s=1)
    assert project.here("finish", NAME).code == 3
    undone = project.here("undo", NAME)
    assert (undone.code, undone.out) == (0, f"{NAME}: its trigger is gone; no row had been moved\n")
    assert triggers(project) == 0
    assert project.here("undo", NAME).code == 3


def test_violations_are_shown_and_keep_the_trigger(project: Project) -> None:
    project.change("split_part(m.name, ' ', 2)", "case when m.id <> 7 then split_part(m.name, ' ', 2) end")
    done = project.here("run", NAME)
    assert done.code == 3, done
    assert "1 violation" in done.out
    assert "7" in done.out.splitlines()[-1]
    finished = project.here("finish", NAME)
    assert finished.code == 3
    assert triggers(project) == 2


@pytest.mark.parametrize(
    ("old", "new", "why"),
    [
        ("parts-of-a-name::shop", "never::shop", "has not run in"),
        ('capture = "trigger"\ncolumns = ["name"]', "", "does not say how rows are caught"),
        ('table = "member"', 'table = "gone"', "gone"),
        ('key = ["id"]', 'key = ["name"]', "name"),
    ],
)
def test_what_cannot_be_done_is_refused_before_anything_is_written(
    project: Project, old: str, new: str, why: str
) -> None:
    project.change(old, new)
    answer = project.here("run", NAME, "--json")
    assert answer.code == 3, answer
    assert why in answer.json["error"]["message"]
    assert answer.json["error"]["hint"]
    assert triggers(project) == 0
    assert project.value("select to_regclass('migrator_backfills')") is None


@pytest.mark.slow
def test_it_is_known_by_the_whole_key_of_its_changeset(project: Project) -> None:
    after = "parts-of-a-name::shop"
    insert = (
        "insert into databasechangelog (id, author, filename) values ('parts-of-a-name', 'shop', 'changelogs/y.sql')"
    )
    project.execute(insert)
    for command in ("plan", "run"):
        answer = project.here(command, NAME)
        assert answer.code == 3, answer
        shown = " ".join(f"{answer.out} {answer.err}".split())
        assert f"'{after}' could be changelogs/x.sql::{after} or changelogs/y.sql::{after}" in shown
        assert "Write it with its path: path::id::author." in shown
    assert triggers(project) == 0
    assert project.value("select to_regclass('migrator_backfills')") is None

    project.change(after, f"changelogs/y.sql::{after}")
    assert project.here("run", NAME).code == 0
    project.execute("delete from databasechangelog where filename = 'changelogs/x.sql'")
    project.change(f"changelogs/y.sql::{after}", after)
    assert project.here("run", NAME).code == 0
    assert project.value("select definition ->> 'after' from migrator_backfills") == f"changelogs/y.sql::{after}"


def test_changeset_of_another_folder_is_not_taken_for_its_own(project: Project) -> None:
    key = "changelogs/other/x.sql::parts-of-a-name::shop"
    project.execute("update databasechangelog set filename = 'changelogs/other/x.sql'")
    assert "which has not run here" in project.here("plan", NAME).out
    answer = project.here("run", NAME, "--json")
    assert (answer.code, answer.json["error"]["code"]) == (3, "backfill_after"), answer
    assert key in answer.json["error"]["hint"]
    assert project.value("select to_regclass('migrator_backfills')") is None
    project.change("parts-of-a-name::shop", key)
    assert project.here("run", NAME).code == 0
    project.change(key, "parts-of-a-name::shop")
    assert project.here("run", NAME).code == 0, "what has begun is known by its whole key"


def test_backfill_of_a_run_that_has_not_ended_is_left_to_it(project: Project) -> None:
    project.begun()
    with closing(Journal.open("sqlite:///.migrator/journal.db", project.folder)) as journal:
        begin(journal, "killed")
    for command in (["run"], ["resume"], ["undo"], ["finish"], ["forget", "--yes"]):
        answer = project.here(*command, NAME, "--json")
        assert (answer.code, answer.json["error"]["code"]) == (3, "backfill_of_a_run"), answer
        assert "migrator resume killed" in answer.json["error"]["hint"]
    assert project.value("select count(first_name) from member") == 0
    assert triggers(project) == 2
    [status] = project.here("status", "--json").json["backfills"]
    assert (status["next_command"], status["run_has_ended"]) == ("migrator resume killed", False)
    assert "part of killed, which has not ended" in project.here("status").out
    assert project.here("pause", NAME).code == 0, "that its run heeds, too"


def test_backfill_whose_columns_are_gone_is_forgotten(project: Project) -> None:
    assert project.here("run", NAME).code == 0
    project.execute("alter table member drop column first_name, drop column last_name")
    undone = project.here("undo", NAME, "--json")
    assert undone.code == 3
    assert f"migrator backfill forget {NAME}" in undone.json["error"]["hint"]
    assert project.here("forget", NAME).code == 3, "nobody said yes"
    assert triggers(project) == 2
    forgotten = project.here("forget", NAME, "--yes", "--json")
    assert forgotten.code == 0, forgotten
    assert (forgotten.json["was"], forgotten.json["rows"]) == ("verified", 300)
    assert triggers(project) == 0
    assert project.here("status").out == "no backfill has begun in this database\n"
    assert project.here("forget", NAME, "--yes").code == 3
    assert project.value("select count(name) from member") == 300


@pytest.mark.slow
def test_nobody_writes_is_believed(project: Project) -> None:
    project.change('capture = "trigger"\ncolumns = ["name"]', "")
    assert project.here("run", NAME, "--nobody-writes").code == 0
    assert triggers(project) == 0


def test_changed_file_is_refused(project: Project) -> None:
    project.begun()
    project.change("split_part(m.name, ' ', 1)", "upper(split_part(m.name, ' ', 1))")
    for command in ("run", "resume", "verify"):
        answer = project.here(command, NAME, "--json")
        assert (answer.code, answer.json["error"]["code"]) == (3, "backfill_changed"), answer


def test_a_run_and_a_backfill_keep_out_of_each_others_way(project: Project, server: Server) -> None:
    with closing(server.session(server.migrator)) as holder:
        assert sessions.lock(holder, project.login.database)
        answer = project.here("run", NAME)
        assert answer.code == 4
        assert "A run holds the database" in answer.err


@pytest.mark.slow
def test_without_its_file_it_is_what_the_database_keeps(project: Project) -> None:
    assert project.here("run", NAME).code == 0
    project.file.unlink()
    assert project.here("undo", NAME).code == 0
    assert project.value("select count(first_name) from member") == 0


def test_names_are_completed(project: Project) -> None:
    context = typer.Context(get_command(app))
    context.params["config"] = project.folder / "migrator.toml"
    assert backfill_names(context, "sp") == [NAME]
    assert backfill_names(context, "x") == []
