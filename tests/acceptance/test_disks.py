"""Full disks, and folders that cannot be written. The small file systems are tmpfs, which only root may mount."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from migrator.cli.boundary import FAIL_AT, FAIL_POINTS
from migrator.config.login import Login
from migrator.postgres.embedded import EmbeddedServer, Options
from tests.acceptance.stage import Answer, Stage, crash_template, ended, living_children, settled, staged, template
from tests.conftest import Server
from tests.sweep.proof import PROGRAM

__all__ = ["crash_template"]

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount a small file system; run these as root"),
]


@contextmanager
def small_disk(place: Path, size: str) -> Iterator[Path]:
    place.mkdir(parents=True, exist_ok=True)
    subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size},mode=0711", "tmpfs", str(place)], check=True, timeout=30
    )
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True, timeout=30)


def fill(folder: Path) -> Path:
    """The disk is full; the file that fills it is returned."""
    path = folder / "ballast"
    with path.open("wb", buffering=0) as file:
        for size in (65536, 4096, 1):
            try:
                while True:
                    file.write(b"x" * size)
            except OSError:
                continue
    return path


@pytest.fixture
def stage(server: Server, crash_template: Login, tmp_path: Path) -> Iterator[Stage]:
    with staged(server, crash_template, tmp_path) as made:
        yield made


def halfway(stage: Stage, place: str, act: Callable[[], object], *arguments: str) -> Answer:
    """The run waits at the fail point until `act` was done."""
    stalled = stage.folder / "stalled"
    process = subprocess.Popen(
        [str(PROGRAM), *arguments, *stage._common(arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, FAIL_POINTS: "enabled", FAIL_AT: f"stall={stalled}@{place}"},
    )
    reached = stalled.with_suffix(".reached")
    settled(lambda: reached.exists() or process.poll() is not None, lambda: "it never came so far", within_s=120)
    act()
    stalled.with_suffix(".go").touch()
    return ended(process, within_s=180)


def test_full_disk_of_the_backup_ends_the_run_before_it_migrates(stage: Stage) -> None:
    with small_disk(stage.folder / "backups", "2m") as disk:
        answer = halfway(stage, "dump.before", lambda: fill(disk), "run", "good.sql")
        assert answer.code == 5, answer.err
        assert "space" in answer.err
        stage.assert_as_it_was()


@pytest.mark.parametrize(
    ("place", "codes"),
    [("fence_up.before", {3, 5, 9, 10}), ("update.before", {6, 9, 10}), ("commit.after", {0, 8, 9, 10})],
)
def test_full_disk_of_the_journal_is_no_end_of_the_database(stage: Stage, place: str, codes: set[int]) -> None:
    with small_disk(stage.folder / ".migrator", "4m") as disk:
        ballast: list[Path] = []
        answer = halfway(stage, place, lambda: ballast.append(fill(disk)), "run", "good.sql")
        assert answer.code in codes, answer.err
        ballast[0].unlink()  # somebody makes room
        for _ in range(3):
            status = stage.status()
            if status["next_command"] is None:
                break
            last = stage.migrator(*status["next_command"].removeprefix("migrator ").replace(" --env crash", "").split())
            assert last.code in {0, 5, 6}, last.err
        with stage.server.session(stage.login) as session:
            ran = {name for (name,) in session.rows("select id from databasechangelog")}
        if "review" in ran:
            stage.assert_migrated()
        else:
            stage.assert_as_it_was()


@pytest.mark.parametrize(("changelog", "code"), [("good.sql", 8), ("bad.sql", 6)])
def test_report_that_cannot_be_written_leaves_the_verdict(stage: Stage, changelog: str, code: int) -> None:
    def full() -> None:
        [folder] = [path for path in (stage.folder / ".migrator/runs").iterdir() if path.is_dir()]
        disks.enter_context(small_disk(folder, "4k"))
        fill(folder)

    with ExitStack() as disks:
        answer = halfway(stage, "journal_close.before" if code == 6 else "fence_down.after", full, "run", changelog)
        if code == 8:
            assert answer.code == 8, answer.err
            assert "report" in answer.err
    if code == 8:
        run = stage.status()["open_run"]
        assert run is not None
        assert stage.migrator("resume", run).code == 0
        stage.assert_migrated()
    else:
        assert answer.code == 6, answer.err
        stage.assert_as_it_was()


def test_folders_that_cannot_be_written_refuse_the_run(stage: Stage) -> None:
    for name in ("backups", ".migrator"):
        place = stage.folder / name
        shutil.rmtree(place, ignore_errors=True)
        with small_disk(place, "1m"):
            subprocess.run(["mount", "-o", "remount,ro", str(place)], check=True, timeout=30)
            answer = stage.migrator("run", "good.sql")
            assert answer.code in {3, 5}, answer.err
            assert "Read-only" in " ".join(answer.err.split()), answer.err
    stage.assert_as_it_was()


@pytest.fixture
def cramped() -> Iterator[tuple[Server, Path, Callable[[], EmbeddedServer]]]:
    """A server whose data lie on a small disk."""
    folder = Path(tempfile.mkdtemp(prefix="migrator-test-"))
    folder.chmod(0o711)
    options = Options(
        major=18, durable=False, settings={"max_wal_size": "48MB", "min_wal_size": "32MB", "shared_buffers": "16MB"}
    )
    with small_disk(folder / "disk", "400m") as disk:
        options = options.that_ends_with_us(remove=folder / "nothing")

        def start() -> EmbeddedServer:
            return EmbeddedServer.start(disk / "pg", options)

        embedded = start()
        try:
            server = Server(
                admin=embedded.admin, migrator=embedded.migrator, app=embedded.app, major=18, embedded=embedded
            )
            yield server, disk, start
        finally:
            start().immediate_stop()
    shutil.rmtree(folder, ignore_errors=True)


def test_full_disk_of_the_server_in_a_restore_leaves_the_original(
    cramped: tuple[Server, Path, Callable[[], EmbeddedServer]], tmp_path: Path
) -> None:
    server, disk, start = cramped
    (tmp_path / "template").mkdir()
    with template(server, tmp_path / "template") as copied, staged(server, copied, tmp_path) as stage:
        ballast: list[Path] = []
        answer = halfway(
            stage,
            "restore.before#2",
            lambda: ballast.append(fill(disk)),
            *("run", "bad-without-rollback.sql", "--way", "stepwise"),
        )
        assert answer.code in {9, 10}, answer.err
        ballast[0].unlink()
        start()  # without room for its WAL it has ended
        stage.children = living_children()
        run = stage.status()["open_run"]
        assert run is not None
        again = stage.migrator("resume", run)
        assert again.code == 7, again.err
        stage.assert_as_it_was(restored=True)
