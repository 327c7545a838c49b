"""A folder as git has it at an earlier commit."""

from __future__ import annotations

import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from migrator.errors import Refused, ToolFailed
from migrator.processes.run import run

_TIMEOUT_S = 120.0


@contextmanager
def tree(folder: Path, commit: str) -> Iterator[Path]:
    """The folder's files as they are in `commit` (a branch, a tag, a hash), elsewhere; empty where it had none yet.

    Raises: Refused where there is no git, no such commit, or no repository around the folder.
    """
    found = _git(folder, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{commit}^{{commit}}")
    if found is None:
        raise Refused(
            f"git knows of no commit {commit!r} in {folder}.",
            hint="Name a branch, a tag or a hash; a shallow clone holds the latest commits alone.",
            code="no_commit",
        )
    with TemporaryDirectory(prefix="migrator-since-") as place, TemporaryDirectory(prefix="migrator-since-") as files:
        archive = Path(place, "tree.tar")
        if _git(folder, "archive", "--format=tar", f"--output={archive}", found) is not None:
            with tarfile.open(archive) as packed:
                packed.extractall(files, filter="data")
        yield Path(files)


def _git(folder: Path, *arguments: str) -> str | None:
    """What git says; None where it says no. Raises: Refused."""
    try:
        done = run(("git", *arguments), timeout_s=_TIMEOUT_S, cwd=folder, check=False)
    except ToolFailed as error:
        raise Refused(error.message, hint="Install git, or leave --since out.", code="no_git") from error
    return done.stdout.strip() if done.exit_code == 0 else None
