from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from migrator.postgres.deparsed import canonical

# What PostgreSQL prints for an expression that was typed in, and for the same one after a dump and restore.
TWICE = [
    ("CHECK ((((a >= 1) AND (a <= 2)) AND (b > 0)))", "CHECK (((a >= 1) AND (a <= 2) AND (b > 0)))"),
    ("((a OR b) OR (c OR (d AND e AND (f AND g))))", "(a OR b OR c OR (d AND e AND f AND g))"),
    (
        "CHECK (((kind)::text = ANY ((ARRAY['a'::character varying, 'b'::character varying])::text[])))",
        "CHECK (((kind)::text = ANY (ARRAY[('a'::character varying)::text, ('b'::character varying)::text])))",
    ),
    (
        '(x = ANY ((ARRAY[(1 + 2), f(a, ARRAY[1])])::"my schema"."T"[]))',
        '(x = ANY (ARRAY[((1 + 2))::"my schema"."T", (f(a, ARRAY[1]))::"my schema"."T"]))',
    ),
    ("((ARRAY[a])::numeric(10,2)[])", "(ARRAY[(a)::numeric(10,2)])"),
    ("SELECT a,\n    b\n   FROM t\n  WHERE (a);", " SELECT a, b FROM t WHERE (a);"),
]

# Pairs that look alike and mean something else.
DIFFERENT = [
    ("((a AND b) OR c)", "(a AND (b OR c))"),
    ("(NOT (a AND b) AND c)", "(NOT a AND b AND c)"),
    ("('a  b')", "('a b')"),
    ('("a  b")', '("a b")'),
    ("$f$ a  b $f$", "$f$ a b $f$"),
    ("E'a\\\\n'", "E'a\n'"),
    ("'(a AND b) AND c'", "'a AND b AND c'"),
    ("(ARRAY[(a)::text, (b)::varchar])", "(ARRAY[(a)::text, (b)::text])"),
    ("(ARRAY['a'::text])", "(ARRAY['a'::varchar])"),
    ("(ROWS BETWEEN (a AND b) AND c)", "(ROWS BETWEEN a AND b AND c)"),
    ("(a - (b - c))", "(a - b - c)"),
]


@pytest.mark.parametrize(("one", "other"), TWICE)
def test_what_is_printed_anew_after_a_restore_is_the_same(one: str, other: str) -> None:
    assert canonical(one) == canonical(other)


@pytest.mark.parametrize(("one", "other"), DIFFERENT)
def test_what_means_something_else_stays_different(one: str, other: str) -> None:
    assert canonical(one) != canonical(other)


def test_quotes_and_bodies_are_kept_but_for_line_ends() -> None:
    body = "$function$\nBEGIN (  -- it's AND\n END \\ $function$"
    assert canonical(f"AS {body}  OWNER x") == "AS $function$\\nBEGIN (  -- it's AND\\n END \\\\ $function$ OWNER x"


@given(st.text(st.sampled_from("()[]'\"$ \n\\abE:,.ANDORY"), max_size=40))
def test_any_text_gives_one_line_and_loses_nothing_but_space_and_parentheses(text: str) -> None:
    line = canonical(text)
    assert "\n" not in line
    dropped = str.maketrans("", "", "()[]: \n")
    if "ARRAY[" not in text:
        assert sorted(line.replace("\\n", "\n").replace("\\\\", "\\").translate(dropped)) == sorted(
            text.translate(dropped)
        )


@given(
    st.recursive(
        st.sampled_from(["(a > 1)", "b", "(f(x) IS NULL)"]),
        lambda inner: st.builds(
            lambda connector, parts: "(" + f" {connector} ".join(parts) + ")",
            st.sampled_from(["AND", "OR"]),
            st.lists(inner, min_size=2, max_size=3),
        ),
        max_leaves=12,
    )
)
def test_nested_lists_of_one_connector_are_flat(text: str) -> None:
    once = canonical(text)
    assert canonical(once) == once
    assert _value(once) == _value(text)


def _value(text: str) -> list[bool]:
    """The truth table over the three conditions."""
    python = text.replace("(a > 1)", "p").replace("(f(x) IS NULL)", "q").replace("AND", "and").replace("OR", "or")
    code = compile(python, "expression", "eval")
    return [bool(eval(code, {"p": bool(bits & 1), "q": bool(bits & 2), "b": bool(bits & 4)})) for bits in range(8)]
