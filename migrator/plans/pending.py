"""Which changesets a run would execute, and why it would refuse the changelog as this database knows it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from migrator.errors import Refused
from migrator.liquibase.ledger import LedgerRow
from migrator.liquibase.models import Changeset, ChangesetState
from migrator.plans.words import count

# id and author that Liquibase gives to every SQL file without a header


def pending(changesets: Sequence[Changeset], ledger: Sequence[LedgerRow] | None, root: Path) -> list[Changeset]:
    """The changesets to be executed, in the changelog's order.

    Raises: Refused for a changed checksum, and for a changeset that the ledger holds under another path.
    """
    changed = [c for c in changesets if c.state is ChangesetState.CHANGED]
    if changed:
        raise Refused(
            f"{_edited(len(changed))}: {', '.join(c.key for c in changed[:3])}.",
            hint="Put the old text back and write a new changeset. A checksum is never cleared by itself.",
            code="checksum",
        )
    found = [c for c in changesets if c.state is ChangesetState.PENDING]
    _refuse_other_paths(found, ledger or [], root)
    return found


def _edited(number: int) -> str:
    return f"{count(number, 'changeset')} {'was edited after it' if number == 1 else 'were edited after they'} ran"


def _refuse_other_paths(found: Sequence[Changeset], ledger: Sequence[LedgerRow], root: Path) -> None:
    held: dict[tuple[str, str], list[LedgerRow]] = {}
    for row in ledger:
        held.setdefault((row.id, row.author), []).append(row)
    for changeset in found:
        rows = held.get((changeset.id, changeset.author), [])
        if any(row.path == changeset.path for row in rows):
            continue  # it runs again on purpose: runAlways, runOnChange
        other = next((row.path for row in reversed(rows) if _is_same(changeset, row)), None)
        if other is not None:
            raise Refused(
                f"Changeset {changeset.id} by {changeset.author} ran already under the path {other}; here it is "
                f"{changeset.path}, and Liquibase would run it again.",
                hint=f"{_root_hint(changeset.path, other, root)} Or let the ledger take the new path: "
                "`migrator adopt CHANGELOG --dry-run` shows how.",
                code="other_path",
            )


def _is_same(changeset: Changeset, row: LedgerRow) -> bool:
    """Whether the row is of this very changeset: its file has the same name, or its text the same checksum.

    Id and author alone say little: many number their changesets anew in every file.
    """
    if PurePosixPath(row.path).name == PurePosixPath(changeset.path).name:
        return True
    return changeset.checksum is not None and row.columns.get("md5sum") == changeset.checksum


def _root_hint(path: str, other: str, root: Path) -> str:
    ours, theirs = PurePosixPath(path), PurePosixPath(other.removeprefix("classpath:").lstrip("/"))
    if ours.name != theirs.name:
        return "If it is the same changeset, move the file back; if it is another, give it an id of its own."
    if len(ours.parts) > len(theirs.parts) and ours.parts[-len(theirs.parts) :] == theirs.parts:
        deeper = root.joinpath(*ours.parts[: -len(theirs.parts)])
        return f"Set [liquibase] root = {str(deeper)!r}: under it the path is {theirs}."
    if len(theirs.parts) > len(ours.parts) and theirs.parts[-len(ours.parts) :] == ours.parts:
        above = theirs.parts[: -len(ours.parts)]
        if root.parts[-len(above) :] == above:
            return f"Set [liquibase] root = {str(root.parents[len(above) - 1])!r}: under it the path is {theirs}."
        return f"Set [liquibase] root to the folder in which this file is {theirs}."
    return f"Set [liquibase] root to the folder in which this file is {theirs}, or keep it under that path."
