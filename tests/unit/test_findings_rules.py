"""Which statement breaks which rule, with no database at hand."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from migrator.plans import findings
from migrator.plans.findings import Circumstances, squawk, statements
from tests import linted
from tests.linted import SETTINGS, find, subject_of, told

_PIECES = (
    *("alter", "table", "t", "drop", "column", "add", "constraint", "check", "foreign", "key", "references", "rename"),
    *("create", "unique", "index", "concurrently", "on", "delete", "from", "where", "update", "set", "truncate", "do"),
    *(
        "cascade",
        "to",
        "type",
        "not",
        "null",
        "select",
        "with",
        "begin",
        "end",
        "atomic",
        "if",
        "exists",
        "only",
        "s.t",
    ),
    *("(", ")", ",", ";", ".", "'", "''", '"', '"a b"', "$$", "$a$", "--", "/*", "*/", "\n", "*", "=", "1", "e'\\''"),
)


@pytest.fixture(autouse=True)
def _without_squawk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(squawk, "of", lambda _changesets, **_: iter(()))


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        ("alter table t drop column a", ["error drop-column"]),
        ("ALTER TABLE IF EXISTS ONLY public.t DROP a CASCADE", ["error drop-cascade", "error drop-column"]),
        ('alter table "T" rename column "a b" to c', ["error rename-column"]),
        ("alter table t rename a to c", ["error rename-column"]),
        ("alter table t rename to u", ["error rename-table"]),
        ("alter view v rename to w", ["error rename-table"]),
        ("alter table t set schema attic", ["error rename-table"]),
        ("alter table t rename constraint a to b", ["info access-exclusive"]),
        ("alter table t rename to u; create view t as select * from u", ["info access-exclusive"]),
        ("alter table t alter column a type bigint", ["warning change-type"]),
        ("alter table t alter a set data type text using a::text", ["warning change-type"]),
        ("alter table t add column a int not null", ["error add-required-column"]),
        ("alter table t add a int not null default 0", ["info access-exclusive"]),
        ("alter table t add a int", ["info access-exclusive"]),
        ("alter table t add a bigint generated always as identity not null", ["warning table-rewrite"]),
        ("alter table t add a uuid default gen_random_uuid()", ["warning table-rewrite"]),
        ("alter table t add a timestamptz default now()", ["info access-exclusive"]),
        ("alter table t add a int default 1 check (length(b) > 1)", ["info access-exclusive"]),
        ("alter table t add a int generated always as (b * 2) stored", ["warning table-rewrite"]),
        ("alter table t add a bigserial", ["warning table-rewrite"]),
        ("alter table t set unlogged", ["warning table-rewrite"]),
        ("alter table t set (fillfactor = 70)", []),
        ("alter table t alter a set not null", ["warning set-not-null"]),
        ("alter table t alter a drop not null", ["info access-exclusive"]),
        ("alter table t add constraint c check (a > 0)", ["warning new-constraint"]),
        ("alter table t add constraint c check (a > 0) not valid", []),
        ("alter table t validate constraint c", []),
        ("alter table t add foreign key (a) references u (id)", ["warning new-constraint"]),
        ("alter table t add constraint c unique using index i", []),
        ("alter table t add primary key (id)", ["warning new-constraint"]),
        ("create unique index concurrently i on t (a)", ["error needs-no-transaction", "warning new-constraint"]),
        ("create index i on only t (a)", ["warning index-blocks-writes"]),
        ("create index on s.t using gin (a)", ["warning index-blocks-writes"]),
        ("drop table t", ["error drop-table"]),
        ("drop table if exists a, b cascade", ["error drop-cascade", "error drop-table", "error drop-table"]),
        ("drop view v", ["warning drop-object"]),
        ("drop view v; create view v as select 1", []),
        ("create view v as select 1; create function v() returns int language sql as 'select 1'; drop view v", []),
        ("create or replace view v as select 1; drop materialized view w", ["warning drop-object"]),
        ("create function t() returns int language sql as 'select 1'; drop table t", ["error drop-table"]),
        ("drop function f(int, text), g(int)", ["warning drop-object", "warning drop-object"]),
        ("drop schema s cascade", ["error drop-schema"]),
        ("truncate t", ["error truncate"]),
        ("truncate table only a, b cascade", ["error truncate", "error truncate", "error truncate-cascade"]),
        ("delete from t", ["error delete-without-where"]),
        ("delete from t where true", ["error delete-without-where"]),
        ("delete from t using u", ["error delete-without-where"]),
        ("delete from t where id = 1", []),
        ("with d as (delete from t returning id) select * from d", ["error delete-without-where"]),
        ("with d as (select 1) delete from t where id in (select * from d)", []),
        ("update t set a = 1", ["warning update-without-where"]),
        ("update t set a = (select 1 from u where u.id = 1)", ["warning update-without-where"]),
        ("update t set a = 1 where id = 2", []),
        ("insert into t select 1 on conflict (id) do update set a = 1", []),
        ("select * from t for update", []),
        ("do $$begin delete from t; end$$", ["error delete-without-where"]),
        (
            "do $x$declare a int; begin if a > 1 then update t set a = 1; end if; end$x$",
            ["warning update-without-where"],
        ),
        ("create function f() returns void language sql as $$delete from t$$", []),
        ("vacuum full t", ["error needs-no-transaction", "warning table-rewrite"]),
        ("refresh materialized view m", ["info access-exclusive"]),
        ("lock table t in exclusive mode", ["info access-exclusive"]),
        ("-- drop table t\nselect 'drop table t; delete from t'", []),
        ("create table u (id int); alter table u add a int not null; create index on u (a); drop table u", []),
        ("create table u (id int); alter table u rename to v; drop table v", []),
        ("alter table t add a int; alter table t drop a", ["info access-exclusive"] * 2),
        ("alter table t add a int; update t set a = 1", ["info access-exclusive", "info update-without-where"]),
        (
            "create table u (id int); alter table t add u_id int; alter table t add foreign key (u_id) references u",
            ["info access-exclusive", "info new-constraint"],
        ),
        ("insert into t values ('${nobody.knows}', '${a}')", ["warning unknown-parameter"]),
    ],
)
def test_statement_breaks_these_rules(sql: str, expected: list[str], tmp_path: Path) -> None:
    assert sorted(told(find(tmp_path, f"splitStatements:true\n{sql};"))) == sorted(expected)


def test_changeset_says_of_itself_how_it_runs(tmp_path: Path) -> None:
    found = find(
        tmp_path,
        "failOnError:false runAlways:true runOnChange:true\nselect 1;",
        "edited\ndrop table gone;",
        "runInTransaction:false\ncreate index concurrently i on t (a);",
    )
    assert told(found) == ["error changed-checksum", "warning fail-quietly", "warning run-always", "info run-on-change"]
    assert [one.line for one in found.found] == [4, 2, 2, 2]


def test_what_screening_saw_is_found_at_its_line_in_changesets_that_would_run(tmp_path: Path) -> None:
    found = find(
        tmp_path,
        "\ninsert into a values (1);\ncommit;",
        "edited\nbegin;",
        "\nalter role app superuser;\n\\connect other",
    )
    assert told(found) == [
        "error transaction-control",
        "error changed-checksum",
        "error psql-command",
        "warning outside-database",
    ]
    assert [(one.line, (one.changeset or "").split("::")[1]) for one in found.found] == [
        (4, "1"),
        (5, "2"),
        (9, "3"),
        (8, "3"),
    ]


def test_place_is_that_of_the_action_whatever_comments_stand_before(tmp_path: Path) -> None:
    sql = """
/* drop table decoy */ alter table t   -- alter table t drop column a
  add column fine int,
  /* again: drop */ drop column
    a;
drop table
  u;"""
    found = find(tmp_path, f"\n{sql}")
    assert [(one.rule, one.line) for one in found.found] == [("drop-column", 6), ("drop-table", 8)]


def test_table_of_another_file_counts_as_there_unless_a_database_says_otherwise(tmp_path: Path) -> None:
    (tmp_path / "old.sql").write_text("--changeset a:1\ncreate table t (id int, a int);\n")
    (tmp_path / "new.sql").write_text(
        "--changeset a:2\nalter table t drop column a;\ncreate table u (id int, b int);\n"
        "--changeset a:3\nalter table u drop column b;\n"
    )
    found = findings.find(subject_of(tmp_path, ["old.sql", "new.sql"]), SETTINGS, Circumstances(server_major=16))
    assert [(one.rule, one.place) for one in found.found] == [("drop-column", "new.sql:2")]


def test_nobody_waits_for_an_index_behind_an_offline_fence(tmp_path: Path) -> None:
    sql = "\ncreate index on t (a);\nalter table t drop column b;"
    assert told(find(tmp_path, sql)) == ["error drop-column", "warning index-blocks-writes"]
    assert told(find(tmp_path, sql, others_work=False)) == ["error drop-column", "info index-blocks-writes"]


def test_every_rule_says_what_it_finds_why_and_what_is_safer() -> None:
    from migrator.plans.findings.finder import FAMILIES, KNOWN

    assert len(KNOWN) == sum(len(rules) for rules in FAMILIES.values()), "two rules share an id"
    for rule in KNOWN.values():
        assert rule.finds.endswith("."), rule.id
        assert rule.why.endswith("."), rule.id
        assert rule.safer.endswith("."), rule.id
    for id_ in squawk.ANSWERED.values():
        assert {one.strip() for one in id_.split(",")} <= set(KNOWN)


def test_compatibility_names_the_three_phases() -> None:
    from migrator.plans.findings import compatibility

    for rule in compatibility.RULES:
        assert "xpand" in rule.safer, rule.id
        assert "ontract" in rule.safer, rule.id


def test_helper_reads_a_changelog_as_liquibase_does(tmp_path: Path) -> None:
    (tmp_path / "a.sql").write_text("--changeset a:1 x\n-- c\nselect 1;\nselect ';';\n")
    assert linted.changesets_of(tmp_path, "a.sql")[0].statements == ("select 1", "select ';'")


@given(st.lists(st.sampled_from(_PIECES), max_size=30))
def test_no_text_is_too_odd_to_be_read(pieces: list[str]) -> None:
    text = " ".join(pieces)
    for statement in statements.read(text):
        assert statement.tokens
        assert 0 <= statement.start <= len(text)
        assert all(text[token.start :].startswith(token.text) for token in statement.tokens)
