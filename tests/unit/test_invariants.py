"""Invariant files, and what two measurements mean beside each other."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from migrator.checks.invariants import Kind, Measured, judge, judge_before, load
from migrator.checks.results import CheckResult, failures
from migrator.errors import ConfigError


def rule(tmp_path: Path, text: str, name: str = "money.sql") -> Path:
    path = tmp_path / name
    path.write_text(text)
    return path


def test_a_rule_is_read_from_its_comments(tmp_path: Path) -> None:
    [found] = load(
        [rule(tmp_path, "-- migrator: unchanged   (same value; or violations)\nselect sum(total) from o;\n")]
    )
    assert (found.name, found.kind, found.inside, found.severity) == ("money.sql", Kind.UNCHANGED, False, "critical")
    assert found.when == {"before", "after"}
    assert found.sql.rstrip().endswith("select sum(total) from o")


@pytest.mark.parametrize(
    "comments",
    [
        "-- migrator: violations, when: after, inside, severity: warning",
        "--migrator:violations\n-- what it is about\n-- Migrator: when = after; inside\n--  migrator: severity warning",
    ],
)
def test_options_stand_on_one_line_or_several(tmp_path: Path, comments: str) -> None:
    [found] = load([rule(tmp_path, f"{comments}\nselect 1")])
    assert (found.kind, found.inside, found.severity) == (Kind.VIOLATIONS, True, "warning")
    assert found.when == {"after"}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("select 1", r"money\.sql:1: does not say"),
        ("\n-- migrator: unchangd\nselect 1", r"money\.sql:2: the word 'unchangd'"),
        ("-- migrator:\nselect 1", "says nothing"),
        ("-- migrator: unchanged\n-- migrator: violations\nselect 1", r"money\.sql:2: says twice"),
        ("-- migrator: violations when: sometimes\nselect 1", "neither before nor after"),
        ("-- migrator: violations severity: bad\nselect 1", "`severity` is 'bad'"),
        ("-- migrator: unchanged when: after\nselect 1", "compares before and after"),
        ("-- migrator: unchanged\nselect 1; select 2", "more than one statement"),
        ("-- migrator: unchanged\ndelete from t", "begins with DELETE"),
        ("-- migrator: unchanged\n", "no statement"),
        ("-- migrator: unchanged\nselect 'a", "line 2"),
    ],
)
def test_a_bad_rule_is_a_configuration_error(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said) as caught:
        load([rule(tmp_path, text)])
    assert caught.value.hint


def test_rules_of_one_name_are_refused(tmp_path: Path) -> None:
    text = "-- migrator: unchanged\nselect 1"
    (tmp_path / "b").mkdir()
    first = rule(tmp_path, text)
    assert len(load([first, first])) == 1
    with pytest.raises(ConfigError, match="there is also"):
        load([first, rule(tmp_path / "b", text)])


BEFORE = Measured(name="a.sql", kind=Kind.UNCHANGED, phase="before", value="10", type="bigint")
AFTER = replace(BEFORE, phase="after")


def verdict(before: Measured | None, after: Measured) -> CheckResult:
    [found] = judge([before] if before else [], [after])
    assert found.phase == "after"
    return found


@pytest.mark.parametrize(
    ("before", "after", "same"),
    [
        (("10", "bigint"), ("10", "bigint"), True),
        (("10", "bigint"), ("10.00", "numeric"), True),
        (("10.00", "numeric"), ("10", "integer"), True),
        (("NaN", "numeric"), ("NaN", "numeric"), True),
        (("NaN", "numeric"), ("1", "numeric"), False),
        (("Infinity", "numeric"), ("Infinity", "numeric"), True),
        (("10", "bigint"), ("11", "bigint"), False),
        (("a", "text"), ("a", "character varying"), True),
        (("a", "text"), ("A", "text"), False),
        (("10", "bigint"), ("10", "text"), False),
        (("t", "boolean"), ("t", "text"), False),
        (("", "text"), ("", "text"), True),
    ],
)
def test_unchanged_compares_values_and_not_spellings(
    before: tuple[str, str], after: tuple[str, str], same: bool
) -> None:
    found = verdict(replace(BEFORE, value=before[0], type=before[1]), replace(AFTER, value=after[0], type=after[1]))
    assert found.success is same
    if not same:
        assert "was" in (found.detail or "")


def test_a_rule_without_a_value_never_passes() -> None:
    assert not verdict(None, AFTER).success
    assert not verdict(replace(BEFORE, value=None, error="is gone"), AFTER).success
    assert not verdict(BEFORE, replace(AFTER, value=None, error="is gone")).success
    assert not verdict(BEFORE, replace(AFTER, value=None)).success
    [missing] = judge([BEFORE], [])
    assert not missing.success
    assert failures(judge_before([replace(BEFORE, value=None, error="returns NULL")]))


def test_violations_count_and_are_shown() -> None:
    bad = Measured(name="b.sql", kind=Kind.VIOLATIONS, phase="after", rows=2, samples=('{"id":1}', '{"id":2}'))
    assert verdict(None, bad).detail == '2 violations, such as {"id":1}; {"id":2}'
    assert (verdict(None, replace(bad, rows=1001)).detail or "").startswith("more than 1000")
    assert verdict(None, replace(bad, rows=0, samples=())).success
    assert not verdict(None, replace(bad, rows=0, samples=(), error="relation does not exist")).success


def test_a_warning_is_reported_and_fails_nothing() -> None:
    [found] = judge([BEFORE], [replace(AFTER, value="11", severity="warning")])
    assert not found.success
    assert failures([found]) == []


def test_a_measurement_survives_the_journal() -> None:
    measured = replace(BEFORE, samples=("ä",), duration_s=0.5)
    assert Measured.from_json(measured.to_json()) == measured
