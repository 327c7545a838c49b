"""A report's file: whole or not there, and private to who ran it."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from migrator.errors import StepFailed
from migrator.failpoints import Effect, effect


@effect(Effect.REPORT)
def write(path: Path, text: str) -> Path:
    """The file holds exactly `text`, mode 0600, durably; a reader sees the old one or the new one. Safe to repeat.

    Raises: StepFailed when it cannot be written; what stood there before still does.
    """
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")  # made with mode 0600
        try:
            with open(descriptor, "w", encoding="utf-8", errors="backslashreplace", newline="\n") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            Path(name).replace(path)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError as error:
        raise StepFailed(
            f"The report {path} could not be written: {error.strerror or error}.",
            hint=f"Make room in {path.parent} and allow this user to write there; `migrator show RUN` has it all too.",
            code="report",
        ) from error
    return path
