"""One statement or not: what PostgreSQL's scanner would say."""

from __future__ import annotations

import pytest

from migrator.postgres.statement import NotOneStatement, single, words


@pytest.mark.parametrize(
    "sql",
    [
        "select 1",
        "  -- a comment; with a semicolon\n select 1",
        "select ';'",
        "select 'it''s; fine'",
        "select E'a\\'; commit; --'",
        "select E'a'\n'b\\'; commit; --'",
        "select $$;$$, $a$ ; $b$ ; $a$",
        'select 1 as "a;""b"',
        "select /* ; /* nested ; */ ; */ 1",
        "with x as (select 1) select * from x",
        "values (1), (2)",
        "(select 1) union (select 2)",
        "show server_version",
        "select a$1, $1 from t",
        "select U&'d\\0061t;' , B'1', x'1F', n'a;'",
        "select 1 -- the end",
        "table t",
    ],
)
def test_one_statement_is_returned_as_it_is(sql: str) -> None:
    assert single(sql) == sql


@pytest.mark.parametrize(("sql", "kept"), [("select 1;", "select 1"), ("select 1 ; \n-- done\n;;", "select 1 ")])
def test_closing_semicolons_are_dropped(sql: str, kept: str) -> None:
    assert single(sql) == kept


@pytest.mark.parametrize(
    "sql",
    [
        "select 1; commit",
        "select 1; select 2",
        "select 'a\\'; commit; --'",  # a backslash escapes nothing in a standard string
        "select E'a'\n'b\\'' ; commit; select '",
        "select E'a' -- c\n 'b\\'' ; commit; select '",
        "select 'a' 'b' ; commit",
        "select $a$ $b$ ; $a$; commit; select $b$",
        "select a$b$; commit; select $b$",  # inside a word a dollar opens no quote
        "select 1 /* */ ; /* ; */ commit",
        'select "a"; commit; --"',
    ],
)
def test_several_statements_are_refused(sql: str) -> None:
    with pytest.raises(NotOneStatement):
        single(sql)


@pytest.mark.parametrize(
    ("sql", "said"),
    [
        ("", "no statement"),
        ("-- nothing\n/* at all */;", "no statement"),
        ("insert into t values (1)", "begins with INSERT"),
        ("/* */ commit", "begins with COMMIT"),
        ("do $$ begin end $$", "begins with DO"),
        ("call p()", "begins with CALL"),
        ("explain analyze delete from t", "begins with EXPLAIN"),
        ("copy t to program 'x'", "begins with COPY"),
        ("select 'open", "line 1"),
        ("select 1,\n$x$ open", "line 2"),
        ("select /* open", "comment"),
        ("select '\0'", "NUL"),
    ],
)
def test_what_is_no_reading_statement_is_refused(sql: str, said: str) -> None:
    with pytest.raises(NotOneStatement, match=said):
        single(sql)


def test_a_rule_may_not_be_a_show() -> None:
    with pytest.raises(NotOneStatement, match="begins with SHOW"):
        single("show server_version", first_words=("select", "with"))


def test_words_are_those_that_are_not_quoted_as_strings_or_commented() -> None:
    sql = """-- with
    WITH /* update */ "Batch" as (select 'delete' as "a""b", E'\\'merge' from Batch)"""
    assert [word for word, _ in words(sql)] == ["with", "Batch", "as", "select", "as", 'a"b', "from", "batch"]


def test_a_word_has_the_position_behind_it() -> None:
    sql = '/* with */ with "B" as (select 1) select 2'
    positions = dict(words(sql))
    assert (sql[: positions["with"]], sql[: positions["B"]]) == ("/* with */ with", '/* with */ with "B"')
