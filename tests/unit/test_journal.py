from __future__ import annotations

import os
import resource
import shutil
import sqlite3
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from migrator.errors import ConfigError, Refused, StepFailed
from migrator.runs import journal_sqlite
from migrator.runs.journal import Journal
from migrator.runs.record import StepName
from migrator.testing.journal_harness import TARGET, JournalHarness, a_record, begin

URL = "sqlite:///.migrator/journal.db"
NOBODY = 65534


@contextmanager
def without_privileges() -> Iterator[None]:
    """Root may write everything: the tests of permissions are somebody else for a while."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)


@contextmanager
def file_size_limit(size_bytes: int) -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


class TestSqlite(JournalHarness):
    @pytest.fixture
    def url(self) -> str:
        return URL

    @pytest.fixture
    def file(self, tmp_path: Path) -> Path:
        return tmp_path / ".migrator" / "journal.db"

    def test_it_is_private_and_durable(self, journal: Journal, file: Path) -> None:
        assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700
        with sqlite3.connect(file) as connection:  # keeps the files of the write-ahead log there
            assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
            begin(journal, "run-1")
            modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in file.parent.iterdir()}
        connection.close()
        assert modes == {"journal.db": 0o600, "journal.db-wal": 0o600, "journal.db-shm": 0o600}

    def test_an_absolute_path_and_a_strange_one_are_taken_as_they_are(self, tmp_path: Path) -> None:
        begin(Journal.open(f"sqlite:///{tmp_path}/a b/ü.db", Path("/nowhere")), "run-1")
        assert (tmp_path / "a b" / "ü.db").exists()

    @pytest.mark.parametrize("url", ["sqlite://", "sqlite:///:memory:", "mysql://u:hunter2@h/d", "nonsense", ""])
    def test_a_url_that_names_no_journal_is_a_configuration_error(self, url: str, tmp_path: Path) -> None:
        with pytest.raises(ConfigError) as caught:
            Journal.open(url, tmp_path)
        assert "hunter2" not in str(caught.value)
        assert caught.value.hint

    def test_a_damaged_file_is_refused_before_a_run(self, journal: Journal, file: Path, tmp_path: Path) -> None:
        file.write_bytes(b"no database at all " * 1000)
        for read_only in (False, True):
            with pytest.raises(Refused, match="damaged") as caught:
                Journal.open(URL, tmp_path, read_only=read_only)
            assert str(file) in caught.value.message
            assert "migrator recover" in (caught.value.hint or "")

    def test_damage_inside_is_found_before_a_run(self, journal: Journal, file: Path, tmp_path: Path) -> None:
        for number in range(30):
            begin(journal, f"run-{number}", target=f"1/{number}")
        content = bytearray(file.read_bytes())
        content[8192:12288] = b"\xff" * 4096
        file.write_bytes(content)
        with pytest.raises(Refused, match="damaged"):
            Journal.open(URL, tmp_path)

    def test_a_file_that_is_damaged_in_mid_run_fails_the_step(self, journal: Journal, file: Path) -> None:
        begin(journal, "run-1")
        file.write_bytes(b"no database at all " * 1000)
        with pytest.raises(StepFailed, match=r"run-1.*damaged"):
            journal.step_started("run-1", 1, StepName.APPLY)
        with pytest.raises(StepFailed, match="damaged"):
            journal.renew("run-1", 60)

    @pytest.mark.parametrize("how", ["file", "folder"])
    def test_a_file_that_is_deleted_in_mid_run_is_missed_not_begun_anew(
        self, journal: Journal, file: Path, how: str
    ) -> None:
        begin(journal, "run-1")
        file.unlink() if how == "file" else shutil.rmtree(file.parent)
        with pytest.raises(StepFailed, match=r"run-1.*gone") as caught:
            journal.save(a_record("run-1"), {})
        assert "migrator recover" in (caught.value.hint or "")
        assert not file.exists()

    def test_a_file_that_was_replaced_in_mid_run_is_noticed(self, journal: Journal, file: Path, tmp_path: Path) -> None:
        begin(journal, "run-1")
        file.unlink()
        Journal.open(URL, tmp_path)
        with pytest.raises(StepFailed, match="does not know this run any more"):
            journal.save(a_record("run-1"), {})
        assert not journal.renew("run-1", 60)

    def test_an_emptied_file_fails_the_step_and_is_made_anew_for_the_next_run(
        self, journal: Journal, file: Path, tmp_path: Path
    ) -> None:
        begin(journal, "run-1")
        file.write_bytes(b"")
        with pytest.raises(StepFailed, match="damaged"):
            journal.save(a_record("run-1"), {})
        assert Journal.open(URL, tmp_path).unfinished(TARGET) is None

    def test_a_full_disk_fails_the_step_and_leaves_what_was_recorded(self, journal: Journal, file: Path) -> None:
        begin(journal, "run-1")
        with file_size_limit(file.stat().st_size), pytest.raises(StepFailed, match="run-1") as caught:
            journal.save(a_record("run-1"), {"large": "x" * 500_000})
        assert "full" in caught.value.message
        assert str(file.parent) in (caught.value.hint or "")
        assert journal.get("run-1").facts == {}

    def test_a_full_disk_refuses_a_run(self, journal: Journal, file: Path) -> None:
        with file_size_limit(0), pytest.raises(Refused, match="full"):
            begin(journal, "run-1")
        assert journal.open_runs() == []

    def test_another_writer_that_never_ends_fails_the_step(
        self, url: str, file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(journal_sqlite, "BUSY_TIMEOUT_S", 0.1)
        journal = Journal.open(url, tmp_path)
        begin(journal, "run-1")
        other = sqlite3.connect(file, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        try:
            with pytest.raises(StepFailed, match="locked"):
                journal.save(a_record("run-1"), {})
            assert journal.get("run-1").facts == {}  # readers are not in the way, and it is not in theirs
        finally:
            other.close()

    def test_a_database_of_something_else_is_left_alone(self, file: Path, tmp_path: Path) -> None:
        file.parent.mkdir()
        with sqlite3.connect(file) as connection:
            connection.execute("CREATE TABLE customers (id integer)")
        connection.close()
        with pytest.raises(Refused, match="something else"):
            Journal.open(URL, tmp_path)
        with sqlite3.connect(file) as connection:
            assert connection.execute("SELECT name FROM sqlite_master").fetchall() == [("customers",)]
        connection.close()

    def test_a_place_that_cannot_be_written_is_refused(self, tmp_path: Path) -> None:
        (tmp_path / ".migrator").write_text("a file where the folder should be")
        with pytest.raises(Refused, match="cannot be made") as caught:
            Journal.open(URL, tmp_path)
        assert str(tmp_path) in (caught.value.hint or "")


class TestPermissions:
    @pytest.fixture
    def folder(self) -> Iterator[Path]:
        folder = Path(tempfile.mkdtemp(prefix="migrator-journal-"))
        folder.chmod(0o755)
        yield folder
        shutil.rmtree(folder)

    def test_a_folder_that_is_not_ours_is_refused_and_readable(self, folder: Path) -> None:
        url = f"sqlite:///{folder}/journal.db"
        begin(Journal.open(url, folder), "run-1")
        (folder / "journal.db").chmod(0o444)
        folder.chmod(0o555)
        with without_privileges():
            with pytest.raises(Refused, match="cannot be") as caught:
                Journal.open(url, folder)
            assert "write" in (caught.value.hint or "")
            runs = Journal.open(url, folder, read_only=True).open_runs()
        folder.chmod(0o755)
        assert [run.run_id for run in runs] == ["run-1"]

    def test_a_file_that_becomes_read_only_in_mid_run_fails_the_step(self, folder: Path) -> None:
        if os.geteuid() == 0:
            os.chown(folder, NOBODY, NOBODY)
        with without_privileges():
            journal = Journal.open(f"sqlite:///{folder}/journal.db", folder)
            begin(journal, "run-1")
            (folder / "journal.db").chmod(0o400)
            with pytest.raises(StepFailed, match="cannot be written") as caught:
                journal.step_started("run-1", 1, StepName.APPLY)
            (folder / "journal.db").chmod(0o600)
        assert str(folder) in (caught.value.hint or "")
