"""A run with backfills is applied in segments."""

from __future__ import annotations

from migrator.runs import segments
from migrator.runs.facts import Planned
from migrator.runs.segments import Segment


def _planned(*ids: str) -> list[Planned]:
    return [Planned(path="a.sql", id=one, author="ann", has_rollback=True) for one in ids]


def _shown(found: list[Segment]) -> list[tuple[str, str, str]]:
    return [("".join(c.id for c in one.changesets), " ".join(one.requires), " ".join(one.moves)) for one in found]


def test_without_a_backfill_there_is_one_segment() -> None:
    assert _shown(segments.of(_planned("1", "2"), {})) == [("12", "", "")]
    assert segments.of([], {}) == []


def test_a_backfill_comes_right_after_its_changeset() -> None:
    found = segments.of(_planned("1", "2", "3"), {"split": "a.sql::2::ann"})
    assert _shown(found) == [("12", "", "split"), ("3", "", "")]


def test_backfills_after_one_changeset_keep_their_order() -> None:
    found = segments.of(_planned("1"), {"one": "a.sql::1::ann", "two": "a.sql::1::ann"})
    assert _shown(found) == [("1", "", "one two")]


def test_a_backfill_whose_changeset_ran_long_ago_comes_first() -> None:
    found = segments.of(_planned("1"), {"late": "old.sql::9::ann"})
    assert _shown(found) == [("", "", "late"), ("1", "", "")]


def test_what_a_changeset_requires_is_looked_at_right_before_it() -> None:
    found = segments.of(_planned("1", "2", "3"), {"split": "a.sql::1::ann"}, {"a.sql::3::ann": ["split"]})
    assert _shown(found) == [("1", "", "split"), ("2", "", ""), ("3", "split", "")]


def test_the_way_back_undoes_a_backfill_before_its_changeset() -> None:
    found = segments.back(_planned("3", "2", "1"), {"split": "a.sql::2::ann", "late": "old.sql::9::ann"})
    assert _shown(found) == [("3", "", "split"), ("21", "", "late")]


def test_backfills_after_one_changeset_are_undone_in_reverse() -> None:
    found = segments.back(_planned("1"), {"one": "a.sql::1::ann", "two": "a.sql::1::ann"})
    assert _shown(found) == [("", "", "two one"), ("1", "", "")]
