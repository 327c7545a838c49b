"""The image's build, in a clean folder and as another user; and what it built, used by one who may not write there.

No container engine is needed: `docker/build.sh` is what the Dockerfile runs.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BUILDER, USER = 65533, 10001  # neither need have a name here

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]


def _is_usable(python: str) -> bool:
    """Whether it is new enough and can make environments, for any user."""
    probe = [python, "-c", "import ensurepip, sys; sys.exit(sys.version_info < (3, 11))"]
    return Path(python).exists() and subprocess.run(probe, capture_output=True, check=False).returncode == 0


# A Python below somebody's home is out of other users' reach: then it is built as oneself.
OTHERS = os.geteuid() == 0 and _is_usable("/usr/bin/python3")
PATH = "/usr/bin:/bin" if OTHERS else f"{Path(sys.executable).parent}:/usr/bin:/bin"


def copied() -> dict[str, str]:
    """What the Dockerfile's build stage takes from the checkout, and where to, below /src."""
    found: dict[str, str] = {}
    for line in (ROOT / "Dockerfile").read_text().split("FROM ")[1].splitlines():
        if line.startswith("COPY"):
            *names, target = line.split()[1:]
            for name in names:
                found[name] = target.removeprefix("/src").strip("/") or "."
    return found


def as_user(uid: int, folder: Path, argv: Sequence[str], **env: str) -> subprocess.CompletedProcess[str]:
    """As that user where the suite's own may become another one; how to reach the network is told, and nothing else."""
    network = {
        name: value for name, value in os.environ.items() if re.search(r"(?i)proxy|_CA_BUNDLE|^SSL_|^PIP_", name)
    }
    other = ["setpriv", f"--reuid={uid}", f"--regid={uid}", "--clear-groups"] if os.geteuid() == 0 else []
    return subprocess.run(
        [*other, *argv],
        cwd=folder,
        env={**network, "PATH": PATH, "HOME": str(folder), "TMPDIR": str(folder), **env},
        capture_output=True,
        text=True,
        timeout=1000,
        check=False,
    )


@pytest.fixture(scope="module")
def built() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="migrator-image-"))
    folder.chmod(0o755)
    try:
        sources = folder / "src"
        for name, target in copied().items():
            place = sources / target if target == name or "." in Path(target).name else sources / target / name
            place.parent.mkdir(parents=True, exist_ok=True)
            if (ROOT / name).is_dir():
                shutil.copytree(ROOT / name, place, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(ROOT / name, place)
        subprocess.run(["chmod", "-R", "a+rX", str(sources)], check=True)
        home = folder / "home"
        home.mkdir()
        if OTHERS:
            os.chown(home, BUILDER, BUILDER)
        done = as_user(BUILDER, home, [str(sources / "docker" / "build.sh"), str(sources), str(home / "migrator")])
        assert done.returncode == 0, done.stdout + done.stderr
        shutil.rmtree(sources)  # the image does not have them
        home.chmod(0o755)
        yield home / "migrator"
    finally:
        shutil.rmtree(folder)


@pytest.fixture
def work() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="migrator-work-"))
    if OTHERS:
        os.chown(folder, USER, USER)
    yield folder
    shutil.rmtree(folder)


def test_the_build_leaves_no_compiler_and_nothing_that_only_it_needed(built: Path) -> None:
    names = {path.name.lower() for path in (built / "lib").glob("python3*/site-packages/*")}
    assert not any(re.match(r"hatchling|pytest|mypy|moto|ruff", name) for name in names)
    assert not list(built.rglob("*.whl"))
    writable = [path for path in built.rglob("*") if not path.is_symlink() and path.stat().st_mode & 0o022]
    assert writable == []


def test_it_starts_without_a_network(built: Path, work: Path) -> None:
    (work / "good.sql").write_text(
        "--liquibase formatted sql\n--changeset kim:1\ncreate table t (id int primary key);\n"
    )
    isolated = ["unshare", "--net"] if os.geteuid() == 0 else []
    program = [*isolated, str(built / "bin" / "migrator")]
    done = subprocess.run(
        [*program, "lint", "good.sql", "--json"],
        cwd=work,
        env={"PATH": PATH, "HOME": str(work), "XDG_CACHE_HOME": str(built / "cache")},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode in {0, 3}, done.stderr  # it answered; what it thinks of the changelog is another matter
    assert '"' in done.stdout


def test_the_demo_runs_as_a_user_who_may_write_in_the_working_folder_alone(built: Path, work: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in built.rglob("*") if path.is_file() and not path.is_symlink()}
    done = as_user(
        USER,
        work,
        [str(built / "bin" / "migrator"), "demo"],
        XDG_CACHE_HOME=str(built / "cache"),
        PYTHONDONTWRITEBYTECODE="1",
    )
    assert done.returncode == 0, done.stderr
    assert "Migrated and verified" in done.stderr + done.stdout
    after = {path: path.stat().st_mtime_ns for path in built.rglob("*") if path.is_file() and not path.is_symlink()}
    assert after == before
