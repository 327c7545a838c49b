from __future__ import annotations

import json
from pathlib import Path

import pytest

from migrator.errors import Refused
from migrator.liquibase.changelog import screen
from migrator.liquibase.source import Lines
from migrator.liquibase.sqltext import statements

XML = '<databaseChangeLog xmlns="http://www.liquibase.org/xml/ns/dbchangelog">\n{}\n</databaseChangeLog>\n'
SQL = "--liquibase formatted sql\n--changeset ann:1\ncreate table t(id int);\n"


def write(root: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


def refused(root: Path, changelog: str, **parameters: str) -> Refused:
    with pytest.raises(Refused) as caught:
        screen(root, changelog, parameters)
    return caught.value


def test_everything_a_changelog_is_made_of_is_listed_in_reading_order(tmp_path: Path) -> None:
    write(
        tmp_path,
        {
            "main.xml": XML.format(
                '<include file="db/a.sql"/><include file="sub/b.yaml"/><includeAll path="all/"/>'
                '<changeSet id="1" author="a"><sqlFile path="x/big.sql"/><loadData file="x/rows.csv" tableName="t"/>'
                "</changeSet>"
            ),
            "db/a.sql": SQL,
            "sub/b.yaml": "databaseChangeLog:\n  - include: {file: ../db/c.json, relativeToChangelogFile: true}\n",
            "db/c.json": json.dumps({"databaseChangeLog": []}),
            "all/1.sql": "select 1;",
            "all/1.rollback.sql": "select 2;",
            "all/deep/2.sql": SQL,
            "all/readme.txt": "no changelog",
            "x/big.sql": "select 1;",
            "x/rows.csv": "id\n1\n",
        },
    )
    screened = screen(tmp_path, "main.xml")
    assert screened.files == (
        "main.xml",
        "db/a.sql",
        "sub/b.yaml",
        "db/c.json",
        "all/1.rollback.sql",
        "all/1.sql",
        "all/deep/2.sql",
        "x/big.sql",
        "x/rows.csv",
    )
    assert screened.findings == ()


@pytest.mark.parametrize("name", ["a.sql", "a.xml", "a.yaml", "a.json"])
def test_missing_or_empty_file_is_refused(tmp_path: Path, name: str) -> None:
    assert refused(tmp_path, name).code == "missing"
    write(tmp_path, {name: " \n"})
    assert refused(tmp_path, name).code == "empty"


@pytest.mark.parametrize(
    "path",
    [
        "/etc/passwd.sql",
        "../outside.sql",
        "db/../../outside.sql",
        "classpath:db/a.sql",
        "http://example.org/a.xml",
        "file:///etc/a.sql",
        "C:/a.sql",
        "\\\\host\\share\\a.sql",
        "//host/a.sql",
    ],
)
@pytest.mark.parametrize("element", ["include", "sqlFile"])
def test_path_outside_the_root_is_refused(tmp_path: Path, path: str, element: str) -> None:
    inner = {
        "include": f"  - include: {{file: {json.dumps(path)}}}\n",
        "sqlFile": f"  - changeSet: {{id: 1, author: a, changes: [{{sqlFile: {{path: {json.dumps(path)}}}}}]}}\n",
    }[element]
    root = tmp_path / "root"
    write(tmp_path, {"outside.sql": SQL, "root/main.yaml": f"databaseChangeLog:\n{inner}"})
    error = refused(root, "main.yaml")
    assert error.code == "outside_root"
    assert "main.yaml:2" in error.message
    assert refused(root, path).code == "outside_root"


def test_symbolic_link_out_of_the_root_is_refused(tmp_path: Path) -> None:
    root = tmp_path / "root"
    write(tmp_path, {"outside/a.sql": SQL, "root/main.yaml": "databaseChangeLog:\n  - includeAll: {path: link}\n"})
    (root / "link").symlink_to(tmp_path / "outside")
    (root / "a.sql").symlink_to(tmp_path / "outside" / "a.sql")
    assert refused(root, "a.sql").code == "outside_root"
    assert refused(root, "main.yaml").code == "outside_root"


def test_root_that_is_itself_a_link_is_fine(tmp_path: Path) -> None:
    write(tmp_path, {"real/a.sql": SQL})
    (tmp_path / "link").symlink_to(tmp_path / "real")
    assert screen(tmp_path / "link", "a.sql").files == ("a.sql",)


def test_include_cycle_is_refused_with_its_path(tmp_path: Path) -> None:
    write(
        tmp_path,
        {
            "a.yaml": "databaseChangeLog:\n  - include: {file: b.xml}\n",
            "b.xml": XML.format('<include file="a.yaml"/>'),
        },
    )
    error = refused(tmp_path, "a.yaml")
    assert error.code == "include_cycle"
    assert "a.yaml -> b.xml -> a.yaml" in error.message


def test_doctype_is_refused_whatever_it_says(tmp_path: Path) -> None:
    doctype = '<!DOCTYPE x [<!ENTITY e SYSTEM "file:///etc/passwd">]>'
    bomb = f'<?xml version="1.0"?>\n{doctype}\n<databaseChangeLog>&e;</databaseChangeLog>'
    write(tmp_path, {"a.xml": bomb})
    error = refused(tmp_path, "a.xml")
    assert error.code == "doctype"
    assert "a.xml:2" in error.message


def test_doctype_in_another_encoding_is_refused(tmp_path: Path) -> None:
    text = '<?xml version="1.0" encoding="UTF-16"?><!DOCTYPE x><databaseChangeLog/>'
    (tmp_path / "a.xml").write_bytes(text.encode("utf-16"))
    assert refused(tmp_path, "a.xml").code == "doctype"


@pytest.mark.parametrize(
    "element",
    [
        '<executeCommand executable="sh"/>',
        '<customChange class="x.Y"/>',
        '<preConditions><customPrecondition className="x.Y"/></preConditions>',
    ],
)
def test_what_runs_programs_or_loads_classes_is_refused(tmp_path: Path, element: str) -> None:
    write(tmp_path, {"a.xml": XML.format(f'<changeSet id="1" author="a">\n{element}\n</changeSet>')})
    error = refused(tmp_path, "a.xml")
    assert error.code in {"executeCommand", "customChange", "customPrecondition"}
    assert "a.xml:3" in error.message


def test_execute_command_in_json_and_yaml_is_refused(tmp_path: Path) -> None:
    changes = [{"executeCommand": {"executable": "sh"}}]
    changelog = {"databaseChangeLog": [{"changeSet": {"id": 1, "author": "a", "changes": changes}}]}
    write(tmp_path, {"a.json": json.dumps(changelog, indent="\t"), "a.yaml": json.dumps(changelog)})
    assert refused(tmp_path, "a.json").code == "executeCommand"
    assert refused(tmp_path, "a.yaml").code == "executeCommand"


@pytest.mark.parametrize("attribute", ["filter", "resourceFilter", "resourceComparator"])
def test_class_named_filter_is_refused(tmp_path: Path, attribute: str) -> None:
    write(tmp_path, {"a.xml": XML.format(f'<includeAll path="db" {attribute}="x.Y"/>'), "db/a.sql": SQL})
    assert refused(tmp_path, "a.xml").code == "includeAll"


@pytest.mark.parametrize(
    ("name", "text", "line"),
    [
        ("a.xml", "<databaseChangeLog>\n<changeSet\n", 2),
        ("a.yaml", "databaseChangeLog:\n  - [\n", 3),
        ("a.json", '{"databaseChangeLog":\n[', 2),
    ],
)
def test_malformed_file_is_refused_with_its_line(tmp_path: Path, name: str, text: str, line: int) -> None:
    write(tmp_path, {name: text})
    error = refused(tmp_path, name)
    assert error.code == "malformed"
    assert f"{name}:{line}" in error.message


def test_alias_that_contains_itself_does_not_hang(tmp_path: Path) -> None:
    write(tmp_path, {"a.yaml": "databaseChangeLog: &x\n  - include: {file: b.sql}\n  - *x\n", "b.sql": SQL})
    assert screen(tmp_path, "a.yaml").files == ("a.yaml", "b.sql")


@pytest.mark.parametrize(("data", "code"), [(b"select '\xff';", "encoding"), (b"select 1;\0", "encoding")])
def test_bytes_that_are_no_text_are_refused(tmp_path: Path, data: bytes, code: str) -> None:
    (tmp_path / "a.sql").write_bytes(data)
    assert refused(tmp_path, "a.sql").code == code


def test_byte_order_mark_is_fine(tmp_path: Path) -> None:
    (tmp_path / "a.sql").write_bytes(b"\xef\xbb\xbf" + SQL.encode())
    assert screen(tmp_path, "a.sql").findings == ()


def test_parameters_in_paths_are_expanded_and_screened(tmp_path: Path) -> None:
    text = "databaseChangeLog:\n  - property: {name: here, value: db}\n  - include: {file: '${here}/${file}.sql'}\n"
    write(tmp_path, {"a.yaml": text, "db/b.sql": SQL})
    assert screen(tmp_path, "a.yaml", {"file": "b"}).files == ("a.yaml", "db/b.sql")
    assert refused(tmp_path, "a.yaml").code == "parameter"
    assert refused(tmp_path, "a.yaml", file="../../b").code == "outside_root"


def test_missing_include_may_be_allowed(tmp_path: Path) -> None:
    text = "databaseChangeLog:\n  - include: {file: no.sql, errorIfMissing: false}\n"
    write(tmp_path, {"a.yaml": text})
    assert screen(tmp_path, "a.yaml").files == ("a.yaml",)


def findings(root: Path, sql: str) -> list[tuple[str, int | None]]:
    write(root, {"a.sql": f"--liquibase formatted sql\n--changeset a:1\n{sql}\n"})
    return [(finding.code, finding.line) for finding in screen(root, "a.sql").findings]


@pytest.mark.parametrize(
    "sql", ["commit;", "BEGIN;", "start transaction;", "rollback;", "end;", "abort;", "prepare transaction 'x';"]
)
def test_transaction_control_is_found(tmp_path: Path, sql: str) -> None:
    assert findings(tmp_path, f"select 1;\n{sql}") == [("transaction_control", 4)]


@pytest.mark.parametrize(
    "sql",
    [
        "select 'commit;';",
        "-- commit;\nselect 1;",
        "/* commit; /* nested */ rollback; */ select 1;",
        "do $$ begin commit; end $$;",
        "create function f() returns int language sql begin atomic select case when true then 1 end; end;",
        'create table "begin" (id int);',
        "savepoint a; rollback to savepoint a; release savepoint a;",
        "create user mapping for app server s;",
        "select e'\\'; commit; ';",
        "copy t from stdin;",
        "grant select on t to app;",
        "revoke select on all tables in schema public from app;",
        "alter default privileges for role app grant select on tables to reader;",
        "comment on column t.role is 'grant a to b';",
        "create extension dblink;",
        "insert into t values ('create role r');",
        "do $$ begin grant select on t to app; end $$;",
    ],
)
def test_what_only_looks_like_it_is_no_finding(tmp_path: Path, sql: str) -> None:
    assert findings(tmp_path, sql) == []


@pytest.mark.parametrize(
    "sql",
    [
        "alter database shop set work_mem = '1GB';",
        "create role r;",
        "drop user u;",
        "alter system set work_mem = '1GB';",
        "copy t to program 'sh';",
        "create tablespace s location '/x';",
        "create database d;",
        "grant connect on database shop to app;",
        "revoke all on database shop from public;",
        "comment on database shop is 'x';",
        "grant reader to app;",
        "revoke reader from app;",
        'grant "reader" to "app" with admin option;',
        "drop owned by app;",
        "select dblink_exec('dbname=shop', 'delete from t');",
        "do $$ begin create role r; end $$;",
        "do $$ begin execute format('grant %I to %I', 'a', 'b'); end $$;",
        "do 'begin perform dblink_connect(''x''); end';",
        "create or replace function f() returns void language plpgsql as $f$ begin alter system reset all; end $f$;",
        "do $$ begin execute $q$ copy t to program 'sh' $q$; end $$;",
    ],
)
def test_what_reaches_outside_the_database_is_found(tmp_path: Path, sql: str) -> None:
    assert findings(tmp_path, sql) == [("outside_database", 3)]


def test_findings_in_structured_changelogs_have_lines(tmp_path: Path) -> None:
    body = '<changeSet id="1" author="a" failOnError="false">\n<sql>commit</sql>\n</changeSet>'
    write(tmp_path, {"a.xml": XML.format(body)})
    found = [(finding.code, finding.line) for finding in screen(tmp_path, "a.xml").findings]
    assert found == [("transaction_control", 3)]


def test_backslash_commands_of_psql_are_found(tmp_path: Path) -> None:
    assert findings(tmp_path, "\\copy t from 'x';") == [("psql_command", 3)]


def test_ten_thousand_changesets_are_screened_in_a_moment(tmp_path: Path) -> None:
    body = "".join(f"--changeset a:{n}\ninsert into t values ({n}, 'x');\n" for n in range(10_000))
    write(tmp_path, {"a.sql": "--liquibase formatted sql\n" + body})
    assert screen(tmp_path, "a.sql").findings == ()


def test_statements_know_their_lines() -> None:
    found = statements("select 1;\n\n  update t\nset a = 1;\n")
    assert [(statement.words[0], statement.line) for statement in found] == [("SELECT", 1), ("UPDATE", 3)]


@pytest.mark.parametrize(
    ("name", "text", "line"),
    [
        ("a.sql", "--liquibase formatted sql\n\n-- changeset ann : 7-x runAlways:true\nselect 1;\n", 3),
        ("a.sql", '--liquibase formatted sql\n--changeset "ann":"7-x"\nselect 1;\n', 2),
        ("a.xml", '<a>\n<changeSet id="1" author="ann"/>\n<changeSet\n  author="ann"\n  id="7-x">\n</a>', 3),
        ("a.yaml", "databaseChangeLog:\n- changeSet:\n    id: 7-x\n    author: bob\n" + "#\n" * 20
         + "- changeSet:\n    author: ann\n    id: '7-x'\n", 27),
        ("a.json", '{"databaseChangeLog": [\n{"changeSet": {\n"id": "7-x",\n"author": "ann"}}]}', 3),
    ],
)  # fmt: skip
def test_line_of_a_changeset_is_found_in_every_format(tmp_path: Path, name: str, text: str, line: int) -> None:
    write(tmp_path, {name: text})
    assert Lines(tmp_path).of(name, changeset_id="7-x", author="ann") == line


def test_line_of_an_unknown_file_is_none(tmp_path: Path) -> None:
    assert Lines(tmp_path).of("no.sql", changeset_id="1", author="a") is None


def test_ten_changesets_of_one_yaml_file_keep_their_lines(tmp_path: Path) -> None:
    one = "  - changeSet:\n      id: {0}\n      author: a{0}\n      changes: []\n"
    write(tmp_path, {"a.yaml": "databaseChangeLog:\n" + "".join(one.format(n) for n in range(10))})
    lines = Lines(tmp_path)
    assert [lines.of("a.yaml", changeset_id=str(n), author=f"a{n}") for n in range(10)] == list(range(3, 43, 4))


@pytest.mark.parametrize("suffix", ["json", "yaml"])
def test_a_character_in_two_escapes_is_one_character(tmp_path: Path, suffix: str) -> None:
    included = json.dumps({"databaseChangeLog": [{"include": {"file": "r\U0001f600.sql"}}]})
    assert "\\ud83d\\ude00" in included
    write(tmp_path, {f"main.{suffix}": included, "r\U0001f600.sql": SQL})
    assert screen(tmp_path, f"main.{suffix}").files == (f"main.{suffix}", "r\U0001f600.sql")


@pytest.mark.parametrize("suffix", ["json", "yaml"])
def test_half_a_character_is_refused_with_its_line(tmp_path: Path, suffix: str) -> None:
    write(tmp_path, {f"main.{suffix}": '{"databaseChangeLog": [\n{"include": {"file": "r\\ud83d.sql"}}]}'})
    error = refused(tmp_path, f"main.{suffix}")
    assert (error.code, error.place and error.place.line) == ("malformed", 2)
