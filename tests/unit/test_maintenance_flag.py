from __future__ import annotations

import json
import os
import stat
from pathlib import Path

import pytest

from migrator.errors import MaintenanceFailed
from migrator.maintenance.flag import Flag

RUN, OTHER = "20260101-aaaa", "20260101-bbbb"


@pytest.fixture
def flag(tmp_path: Path) -> Flag:
    return Flag(path=tmp_path / "maintenance", environment="shop")


def everything(folder: Path) -> dict[str, tuple[bytes, int]]:
    return {path.name: (path.read_bytes(), stat.S_IMODE(path.stat().st_mode)) for path in folder.iterdir()}


def test_flag_tells_run_environment_and_since(flag: Flag) -> None:
    flag.on(RUN)
    said = json.loads(flag.path.read_text())
    assert (said["run"], said["environment"], said["mode"]) == (RUN, "shop", "maintenance")
    assert said["since"].endswith("+00:00")
    assert flag.status().on
    assert RUN in flag.status().detail


def test_flag_is_readable_by_those_who_watch_it_and_what_was_saved_is_not(flag: Flag) -> None:
    flag.on(RUN)
    modes = {name: mode for name, (_, mode) in everything(flag.path.parent).items()}
    assert modes == {"maintenance": 0o644, f".maintenance.before-{RUN}": 0o600}


def test_narrow_mode_is_kept_in_spite_of_the_umask(tmp_path: Path) -> None:
    old = os.umask(0o077)
    try:
        Flag(path=tmp_path / "f", environment="e", mode=0o640).on(RUN)
    finally:
        os.umask(old)
    assert stat.S_IMODE((tmp_path / "f").stat().st_mode) == 0o640


def test_off_leaves_nothing_where_nothing_was(flag: Flag) -> None:
    flag.off(RUN, flag.on(RUN))
    assert everything(flag.path.parent) == {}
    assert not flag.status().on


def test_off_puts_back_content_and_permissions(flag: Flag) -> None:
    flag.path.write_bytes(b"closed for stocktaking\x00\xff")
    flag.path.chmod(0o604)
    before = everything(flag.path.parent)
    saved = flag.on(RUN)
    assert json.loads(flag.path.read_text())["run"] == RUN
    flag.off(RUN, saved)
    assert everything(flag.path.parent) == before


def test_on_again_keeps_what_was_saved_first(flag: Flag) -> None:
    flag.path.write_text("by hand")
    assert flag.standing(RUN) == flag.on(RUN) == flag.on(RUN) == flag.standing(RUN)
    flag.off(RUN, {})
    assert flag.path.read_text() == "by hand"


@pytest.mark.parametrize("content", [None, "by hand"])
def test_off_twice_and_without_what_was_saved(flag: Flag, content: str | None) -> None:
    if content is not None:
        flag.path.write_text(content)
    before = everything(flag.path.parent)
    saved = flag.on(RUN)
    for given in ({}, {}, saved, saved):
        flag.off(RUN, given)
        assert everything(flag.path.parent) == before


def test_off_without_on_changes_nothing(flag: Flag) -> None:
    flag.path.write_text("by hand")
    flag.off(RUN, flag.standing(RUN))
    flag.off(RUN, {})
    assert flag.path.read_text() == "by hand"


def test_killed_between_saving_and_putting_up_is_carried_on(flag: Flag, monkeypatch: pytest.MonkeyPatch) -> None:
    flag.path.write_text("by hand")
    real = Path.replace

    def killed(self: Path, target: Path) -> Path:
        if target == flag.path:
            raise KeyboardInterrupt
        return real(self, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", killed)
        with pytest.raises(KeyboardInterrupt):
            flag.on(RUN)
    assert flag.path.read_text() == "by hand"
    flag.off(RUN, {})
    assert list(everything(flag.path.parent)) == ["maintenance"]
    saved = flag.on(RUN)
    flag.off(RUN, saved)
    assert flag.path.read_text() == "by hand"


def test_flag_that_somebody_removed_is_put_back_to_what_was_before(flag: Flag) -> None:
    flag.path.write_text("by hand")
    saved = flag.on(RUN)
    flag.path.unlink()
    flag.off(RUN, saved)
    assert flag.path.read_text() == "by hand"


def test_another_runs_flag_is_neither_replaced_nor_removed(flag: Flag) -> None:
    flag.on(OTHER)
    before = everything(flag.path.parent)
    for act in (flag.standing, flag.on, lambda run: flag.off(run, {"exists": "no"})):
        with pytest.raises(MaintenanceFailed, match=OTHER):
            act(RUN)
    assert everything(flag.path.parent) == before


def test_file_that_somebody_put_there_meanwhile_is_left(flag: Flag) -> None:
    saved = flag.on(RUN)
    flag.path.write_text("do not open: stocktaking")
    with pytest.raises(MaintenanceFailed, match="somebody else"):
        flag.off(RUN, saved)
    assert flag.path.read_text() == "do not open: stocktaking"


def test_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(MaintenanceFailed, match="No such file") as caught:
        Flag(path=tmp_path / "none" / "f", environment="e").on(RUN)
    assert str(tmp_path / "none") in (caught.value.hint or "")


def test_symbolic_link_folder_and_huge_file_are_refused(tmp_path: Path) -> None:
    (tmp_path / "target").write_text("x")
    (tmp_path / "link").symlink_to(tmp_path / "target")
    (tmp_path / "folder").mkdir()
    (tmp_path / "huge").write_bytes(bytes(1024 * 1024 + 1))
    for name, said in (("link", "symbolic link"), ("folder", "not a regular file"), ("huge", "larger than")):
        with pytest.raises(MaintenanceFailed, match=said):
            Flag(path=tmp_path / name, environment="e").on(RUN)
    assert (tmp_path / "target").read_text() == "x"


def test_json_of_others_is_not_taken_for_a_flag_of_ours(flag: Flag) -> None:
    for content in ("[1]", '{"run": "x"}', "[" * 100_000, '"migrator"'):
        flag.path.write_text(content)
        flag.off(RUN, flag.on(RUN))
        assert flag.path.read_text() == content
