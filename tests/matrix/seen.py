"""What a test sees of the program while it runs: how commands ended, and what the database was afterwards."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

COMMANDS = ("run", "resume", "recover", "rollback", "maintenance", "restore", "backup", "backfill")
DATABASE = "database"

_noted: list[tuple[str, str]] = []


def ended(command: Sequence[str], code: int) -> None:
    """A command that changes something has ended with this exit code; one that only looks is not noted."""
    word = next((word for word in command if word in COMMANDS), None)
    if word is not None:
        _noted.append((word, str(code)))


def database(state: str) -> None:
    """A test has looked at the database and found it in this state."""
    _noted.append((DATABASE, state))


def taken() -> list[tuple[str, str]]:
    """All that was noted since the last time; nothing of it is left."""
    found, _noted[:] = list(_noted), []
    return found


def told(noted: Iterable[Sequence[str]]) -> str:
    """run 0, 6; resume 0; database what it was: each thing once, in the order of COMMANDS."""
    by_subject: dict[str, set[str]] = {}
    for subject, what in noted:
        by_subject.setdefault(subject, set()).add(what)
    order = [*COMMANDS, DATABASE]
    return "; ".join(
        f"{subject} {', '.join(sorted(by_subject[subject], key=_by_number))}"
        for subject in sorted(by_subject, key=order.index)
    )


def _by_number(what: str) -> tuple[int, str]:
    return (int(what), "") if what.lstrip("-").isdigit() else (0, what)
