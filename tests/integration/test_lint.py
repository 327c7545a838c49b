"""`migrator lint` on all four formats, with real Liquibase and real squawk, and no database anywhere."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from migrator.cli import boundary
from migrator.cli.app import app
from migrator.liquibase.models import LiquibaseOptions
from tests.integration.liquibase_fixtures import Worker, worker  # noqa: F401

ALLOW = "migrator:allow drop-table Nobody reads it."
SCHEMA = (
    'xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" '
    'xsi:schemaLocation="http://www.liquibase.org/xml/ns/dbchangelog '
    'http://www.liquibase.org/xml/ns/dbchangelog/dbchangelog-latest.xsd"'
)
FORMATS = {
    "a.sql": f"""--liquibase formatted sql

--changeset ann:1
create table fresh (id int primary key);
alter table fresh add column a int not null;
--changeset ann:2
alter table old
  drop column a;
--changeset ann:3
--comment {ALLOW}
drop table older;
""",
    "a.xml": f"""<databaseChangeLog xmlns="http://www.liquibase.org/xml/ns/dbchangelog" {SCHEMA}>
  <changeSet id="1" author="ann">
    <createTable tableName="fresh"><column name="id" type="int"><constraints primaryKey="true"/></column></createTable>
    <addColumn tableName="fresh"><column name="a" type="int"><constraints nullable="false"/></column></addColumn>
  </changeSet>
  <changeSet id="2" author="ann">
    <createTable tableName="other"><column name="id" type="int"/></createTable>
    <dropColumn tableName="old" columnName="a"/>
  </changeSet>
  <changeSet id="3" author="ann">
    <comment>{ALLOW}</comment>
    <dropTable tableName="older"/>
  </changeSet>
</databaseChangeLog>
""",
    "a.yaml": f"""databaseChangeLog:
  - changeSet:
      id: 1
      author: ann
      changes:
        - createTable: {{tableName: fresh, columns: [{{column: {{name: id, type: int}}}}]}}
  - changeSet:
      id: 2
      author: ann
      changes:
        - sql: "alter table old drop column a"
  - changeSet:
      id: 3
      author: ann
      comment: {ALLOW}
      changes:
        - dropTable: {{tableName: older}}
""",
    "a.json": """{"databaseChangeLog": [
  {"changeSet": {"id": "1", "author": "ann", "changes": [
    {"createTable": {"tableName": "fresh", "columns": [{"column": {"name": "id", "type": "int"}}]}}]}},
  {"changeSet": {"id": "2", "author": "ann", "changes": [
    {"createTable": {"tableName": "other", "columns": [{"column": {"name": "id", "type": "int"}}]}},
    {"sql": {"sql": "-- first\\nalter table old\\n drop column a"}}]}},
  {"changeSet": {"id": "3", "author": "ann", "comment": "ALLOW", "changes": [{"dropTable": {"tableName": "older"}}]}}
]}
""".replace("ALLOW", ALLOW),
}
LINES = {"a.sql": 8, "a.xml": 8, "a.yaml": 11, "a.json": 6}
MEASURED = """
import resource, sys
from migrator.cli import boundary
from migrator.cli.app import app
boundary.run(app, sys.argv[1:])
for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN):
    print(resource.getrusage(who).ru_maxrss, file=sys.stderr)
"""
Lint = Callable[..., tuple[int, str, str]]


@pytest.fixture
def lint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Lint:
    monkeypatch.chdir(tmp_path)

    def call(*words: str) -> tuple[int, str, str]:
        code = boundary.run(app, ["lint", *words])
        out, err = capfd.readouterr()
        return code, out, err

    return call


def test_all_formats_are_looked_at_and_nothing_else_is_written(tmp_path: Path, lint: Lint) -> None:
    for name, text in FORMATS.items():
        (tmp_path / name).write_text(text)
    code, out, _ = lint(*FORMATS, "--json")
    assert code == 3
    document = json.loads(out)
    errors = [one for one in document["findings"] if one["severity"] == "error"]
    assert {(one["file"], one["line"], one["rule"]) for one in errors} == {
        (name, line, "drop-column") for name, line in LINES.items()
    }
    assert {(off["file"], off["rule"], off["reason"]) for off in document["switched_off"]} == {
        (name, "drop-table", "Nobody reads it.") for name in FORMATS
    }
    of_squawk = {one["rule"] for one in document["findings"] if one["rule"].startswith("squawk/")}
    assert "squawk/prefer-bigint-over-int" in of_squawk
    assert not of_squawk & {"squawk/ban-drop-column", "squawk/adding-required-field", "squawk/require-lock-timeout"}
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(FORMATS)


def test_sarif_goes_to_a_file_and_the_sum_to_the_person(tmp_path: Path, lint: Lint) -> None:
    (tmp_path / "db").mkdir()
    (tmp_path / "db" / "a.sql").write_text(FORMATS["a.sql"])
    (tmp_path / "migrator.toml").write_text(
        '[liquibase]\nroot = "db"\n[environments.staging]\nurl = "postgresql://u@nowhere.invalid/x"\n'
        'password = "${env:NOT_SET}"\n[environments.staging.lint]\nfail_on = "never"\n'
    )
    code, out, err = lint("db/a.sql", "--format", "sarif", "--output", "found.sarif")
    assert (code, out) == (0, "")
    assert "1 error" in err
    [run] = json.loads((tmp_path / "found.sarif").read_text())["runs"]
    uris = {one["locations"][0]["physicalLocation"]["artifactLocation"]["uri"] for one in run["results"]}
    assert uris == {"db/a.sql"}
    assert [one["ruleId"] for one in run["results"] if "suppressions" in one] == ["drop-table"]


@pytest.mark.parametrize(
    ("text", "line", "word"),
    [
        ('<!DOCTYPE a>\n<databaseChangeLog xmlns="http://www.liquibase.org/xml/ns/dbchangelog"/>', 1, "DOCTYPE"),
        (
            '<databaseChangeLog xmlns="http://www.liquibase.org/xml/ns/dbchangelog">\n<changeSet id="1" author="a">\n'
            '<executeCommand executable="sh"/></changeSet></databaseChangeLog>',
            3,
            "executeCommand",
        ),
    ],
)
def test_hostile_changelog_is_a_finding_at_its_line(
    text: str, line: int, word: str, tmp_path: Path, lint: Lint
) -> None:
    (tmp_path / "bad.xml").write_text(text)
    (tmp_path / "good.sql").write_text("--liquibase formatted sql\n--changeset a:1\ncreate table t (id bigint);\n")
    code, out, _ = lint("bad.xml", "good.sql", "--format", "github", "--fail-on", "never")
    assert code == 3
    [annotation] = [one for one in out.splitlines() if one.startswith("::error")]
    assert annotation.startswith(f"::error file=bad.xml,line={line},title=refused::")
    assert word in annotation


def test_threshold_decides_the_exit_code(tmp_path: Path, lint: Lint) -> None:
    (tmp_path / "a.sql").write_text("--liquibase formatted sql\n--changeset a:1\ncreate index i on t (a);\n")
    assert lint("a.sql")[0] == 0
    assert lint("a.sql", "--fail-on", "warning")[0] == 3
    assert lint("a.sql", "--set", "lint.fail_on=warning")[0] == 3
    off = '[{rule = "index-blocks-writes", reason = "At night."}]'
    code, out, _ = lint("a.sql", "--fail-on", "warning", "--set", f"lint.off={off}")
    assert code == 0
    assert "At night. (by the configuration)" in out


def test_sql_that_squawk_cannot_read_is_an_error_in_its_changeset_alone(tmp_path: Path, lint: Lint) -> None:
    (tmp_path / "a.sql").write_text(
        "--liquibase formatted sql\n--changeset a:1\ncreate table a (id int\n;\n--changeset a:2\n"
        "-- squawk-ignore-file\ncreate table b (c char(3));\n"
    )
    code, out, _ = lint("a.sql", "--json")
    assert code == 3
    told = {(one["line"], one["rule"]) for one in json.loads(out)["findings"]}
    assert {rule for _, rule in told} >= {"squawk/syntax-error", "squawk/ban-char-field"}
    assert (7, "squawk/ban-char-field") in told


def test_parameters_are_given_or_named(tmp_path: Path, lint: Lint) -> None:
    (tmp_path / "a.sql").write_text("--liquibase formatted sql\n--changeset a:1\ndrop table ${which};\n")
    assert "the parameter ${which} has no value" in lint("a.sql")[1]
    assert "drops table app.cart" in lint("a.sql", "--param", "which=app.cart")[1]


def test_offline_database_has_no_ledger(worker: Worker, tmp_path: Path) -> None:  # noqa: F811
    (tmp_path / "a.sql").write_text(FORMATS["a.sql"])
    options = LiquibaseOptions(version=worker.version, root=tmp_path, default_schema="app")
    found = worker.liquibase.offline_changesets("a.sql", options=options, server_major=16)
    assert [(one.id, one.state.value, one.line, one.origins) for one in found] == [
        ("1", "pending", 3, (0, 0)),
        ("2", "pending", 6, (0,)),
        ("3", "pending", 9, (0,)),
    ]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.sql"]


def test_comment_is_no_part_of_the_checksum(worker: Worker, tmp_path: Path) -> None:  # noqa: F811
    options = LiquibaseOptions(version=worker.version, root=tmp_path)
    checksums = set()
    for comment in ("", f"--comment {ALLOW}\n"):
        text = f"--liquibase formatted sql\n--changeset a:1\n{comment}drop table t;\n"
        (tmp_path / "a.sql").write_text(text)
        [changeset] = worker.liquibase.offline_changesets("a.sql", options=options, server_major=16)
        checksums.add(changeset.checksum)
    assert len(checksums) == 1


@pytest.mark.slow
def test_only_what_is_new_since_a_commit_counts(tmp_path: Path, lint: Lint) -> None:
    def git(*arguments: str) -> None:
        who = ("-c", "user.name=Ann", "-c", "user.email=ann@example.com")
        subprocess.run(["git", *who, *arguments], cwd=tmp_path, check=True, capture_output=True)

    (tmp_path / "a.sql").write_text(FORMATS["a.sql"])
    git("init", "--quiet")
    git("add", "a.sql")
    git("commit", "--quiet", "--message", "first")
    code, out, _ = lint("a.sql", "--since", "HEAD", "--json")
    told = json.loads(out)
    assert (code, told["findings"], told["old"] > 0) == (0, [], True)
    (tmp_path / "a.sql").write_text("\n" + FORMATS["a.sql"] + "--changeset ann:4\ndrop table oldest;\n")
    code, out, _ = lint("a.sql", "--since", "HEAD", "--json")
    assert (code, [one["changeset"] for one in json.loads(out)["findings"]]) == (3, ["a.sql::4::ann"])
    code, _, err = lint("a.sql", "--since", "--output=/tmp/x")
    assert code == 3
    assert "knows of no commit" in err


@pytest.mark.slow
def test_ten_thousand_changesets_stay_within_memory(tmp_path: Path) -> None:
    with (tmp_path / "big.sql").open("w") as file:
        file.write("--liquibase formatted sql\n")
        for number in range(10_000):
            file.write(
                f"--changeset big:{number}\nalter table t{number} drop column x;\n"
                f"create index i{number} on t{number} (a);\nupdate t{number} set a = 1 where b = {number};\n"
                "--rollback empty\n"
            )
    measured = subprocess.run(
        [sys.executable, "-c", MEASURED, "lint", "big.sql", "--json"], cwd=tmp_path, capture_output=True, check=False
    )
    document = json.loads(measured.stdout)
    assert document["counts"] == {"error": 10_000, "warning": 10_000, "info": 0}
    assert document["findings"][9_999]["line"] == 3 + 9_999 * 5
    own_kb, children_kb = map(int, measured.stderr.split()[-2:])
    assert own_kb < 300_000, "the orchestrator's own"
    assert own_kb + children_kb < 600_000, "with Liquibase or squawk, whichever is larger"
