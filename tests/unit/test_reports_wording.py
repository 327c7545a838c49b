from __future__ import annotations

import pytest

from migrator.reports import wording


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (0.04, "0.0 s"),
        (5.24, "5.2 s"),
        (59.94, "59.9 s"),
        (59.96, "1 min 00 s"),
        (125, "2 min 05 s"),
        (3599.6, "1 h 00 min"),
        (3661, "1 h 01 min"),
        (90_000, "25 h 00 min"),
    ],
)
def test_a_duration_is_short_and_rounds_over(seconds: float, expected: str) -> None:
    assert wording.duration(seconds) == expected


@pytest.mark.parametrize(
    ("size_bytes", "expected"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.0 kB"),
        (9_960, "10 kB"),
        (312_400_000, "312 MB"),
        (999_600_000, "1.0 GB"),
        (1_940_000_000_000, "1.9 TB"),
    ],
)
def test_a_size_is_short_and_rounds_over(size_bytes: int, expected: str) -> None:
    assert wording.size(size_bytes) == expected


def test_a_count_agrees_with_its_noun() -> None:
    assert wording.count(1, "table") == "1 table"
    assert wording.count(12345, "row") == "12,345 rows"
    assert wording.count(0, "entry", "entries") == "0 entries"


def test_visible_text_keeps_every_script_and_nothing_hidden() -> None:
    assert wording.visible("naïve ☃ 日本 \n\t") == "naïve ☃ 日本 \n\t"
    assert wording.visible("a\x1b[2Jb\u202ec\x00\ud800") == "a�[2Jb�c��"
    assert wording.one_line("two\r\nlines \u2028 here") == "two lines here"
