"""A person names a backfill; its file is found below the root, or what is wrong is told with its place."""

from __future__ import annotations

from pathlib import Path

import pytest

from migrator.errors import Refused
from migrator.runs.byhand import backfill_files

TEXT = """name = "{name}"
after = "1::ann"
table = "customer"
key = ["id"]
statement = "update customer c set a = 1 from batch b where c.id = b.id"
verify = "select id from customer where a is null"
"""


def write(folder: Path, path: str, name: str) -> None:
    file = folder / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(TEXT.format(name=name))


def test_files_are_found_below_the_root_and_not_in_hidden_folders(tmp_path: Path) -> None:
    write(tmp_path, "changelogs/2/b.backfill.toml", "b")
    write(tmp_path, "a.backfill.toml", "a")
    write(tmp_path, ".venv/hidden.backfill.toml", "hidden")
    write(tmp_path, "node_modules/other.backfill.toml", "other")
    write(tmp_path, "venv/lib/migrator/sample/a.backfill.toml", "a")
    (tmp_path / "venv" / "pyvenv.cfg").touch()
    assert backfill_files.names(tmp_path) == ["a", "b"]
    assert [one.name for one in backfill_files.chosen(tmp_path, [])] == ["a", "b"]
    assert [one.name for one in backfill_files.chosen(tmp_path, ["b", "a", "b"])] == ["b", "a"]


def test_name_that_none_has_is_refused_with_the_nearest(tmp_path: Path) -> None:
    write(tmp_path, "split-name.backfill.toml", "split-name")
    with pytest.raises(Refused, match="defines a backfill splitname") as caught:
        backfill_files.chosen(tmp_path, ["splitname"])
    assert caught.value.hint == "did you mean 'split-name'?"


def test_two_of_one_name_are_refused(tmp_path: Path) -> None:
    write(tmp_path, "1/a.backfill.toml", "a")
    write(tmp_path, "2/a.backfill.toml", "a")
    with pytest.raises(Refused, match=r"2/a\.backfill\.toml: the backfill a is in 1/a\.backfill\.toml too"):
        backfill_files.chosen(tmp_path, ["a"])


@pytest.mark.parametrize(("wanted", "refused"), [(["a"], False), (["broken"], True), ([], True)])
def test_broken_file_is_told_where_it_is_meant(tmp_path: Path, wanted: list[str], refused: bool) -> None:
    write(tmp_path, "a.backfill.toml", "a")
    (tmp_path / "broken.backfill.toml").write_text("name = ")
    if refused:
        with pytest.raises(Refused, match=r"broken\.backfill\.toml"):
            backfill_files.chosen(tmp_path, wanted)
    else:
        assert [one.name for one in backfill_files.chosen(tmp_path, wanted)] == ["a"]
    assert backfill_files.names(tmp_path) == ["a"]
