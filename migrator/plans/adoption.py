"""Which changesets of a changelog a database has already, though its ledger has them under another path, or not."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from migrator.errors import Refused
from migrator.liquibase.ledger import LedgerRow
from migrator.liquibase.models import Changeset, ChangesetState
from migrator.plans import impact

_CREATES = re.compile(r"\bcreate\s+(?:unlogged\s+)?table\s+(?:if\s+not\s+exists\s+)?([\w\".$]+)", re.IGNORECASE)
_TAKES_AWAY = re.compile(
    r"\bdrop\s+table\s+(?:if\s+exists\s+)?([\w\".$]+(?:\s*,\s*[\w\".$]+)*)"
    r"|\balter\s+table\s+(?:if\s+exists\s+)?(?:only\s+)?([\w\".$]+)\s+rename\s+to\b",
    re.IGNORECASE,
)
_SHOWN = 5


@dataclass(frozen=True, kw_only=True)
class Move:
    """A row whose path becomes that of the changeset."""

    row: LedgerRow
    changeset: Changeset


@dataclass(frozen=True, kw_only=True)
class Adoption:
    """What would be written into the ledger."""

    moved: tuple[Move, ...] = ()
    marked: tuple[str, ...] = ()  # keys of the changesets that get a row, where there was no ledger
    pending: tuple[str, ...] = ()  # keys of those that stay pending

    @property
    def is_empty(self) -> bool:
        return not (self.moved or self.marked)


def moves(changesets: Sequence[Changeset], rows: Sequence[LedgerRow]) -> Adoption:
    """Each pending changeset with the row of the same id and author that is its own under another path.

    Raises: Refused for a changed checksum, and wherever it is not sure which row is whose.
    """
    refuse_changed(changesets)
    known, ours = {row.key for row in rows}, {(c.path, c.id, c.author) for c in changesets}
    free = [row for row in rows if row.key not in ours]
    found, left = [], []
    for changeset in changesets:
        if changeset.state is not ChangesetState.PENDING or (changeset.path, changeset.id, changeset.author) in known:
            continue
        row = _own_row(changeset, free)
        if row is None:
            left.append(changeset.key)
        else:
            found.append(Move(row=row, changeset=changeset))
    taken = Counter(move.row.key for move in found)
    twice = [key for key, number in taken.items() if number > 1]
    if twice:
        rivals = [move.changeset.key for move in found if move.row.key == twice[0]]
        raise _unsure(f"{' and '.join(rivals)} could each be the row {'::'.join(twice[0])}")
    return Adoption(moved=tuple(found), pending=tuple(left))


def refuse_changed(changesets: Iterable[Changeset]) -> None:
    """Raises: Refused when the text of one is not the text that ran."""
    changed = [c.key for c in changesets if c.state is ChangesetState.CHANGED]
    if changed:
        raise Refused(
            f"{', '.join(changed[:_SHOWN])}: the text is not the one that ran here (another checksum).",
            hint="Take the version of the changelog that has run here; changes to it belong into new changesets.",
            code="checksum",
        )


def refuse_absent(changesets: Iterable[Changeset], marked: Collection[str], tables: Collection[str]) -> None:
    """Raises: Refused when the database lacks a table that the changesets create: then they have not run here."""
    created: dict[str, str] = {}
    for changeset in changesets:
        if changeset.key not in marked:
            continue
        for text in changeset.statements:
            for match in _TAKES_AWAY.finditer(text):
                for name in re.split(r"\s*,\s*", match[1] or match[2]):
                    created.pop(impact.bare(name), None)
            created |= {impact.bare(match[1]): changeset.key for match in _CREATES.finditer(text)}
    missing = [f"{name} ({key})" for name, key in created.items() if name not in tables]
    if missing or not tables:
        what = f"it has no table {', '.join(missing[:_SHOWN])}" if missing else "it has no table at all"
        raise Refused(
            f"These changesets have not run here: {what}.",
            hint="Execute them: migrator run. Or mark only those up to a tag: --to-tag TAG.",
            code="has_not_run",
        )


def _own_row(changeset: Changeset, rows: Sequence[LedgerRow]) -> LedgerRow | None:
    named_alike = [row for row in rows if (row.id, row.author) == (changeset.id, changeset.author)]
    near = [row for row in named_alike if _is_below(changeset.path, row.path) or _has_same_text(changeset, row)]
    if not near:
        # Many number their changesets anew in every file: id and author alone say nothing.
        alike = [row for row in named_alike if PurePosixPath(row.path).name == PurePosixPath(changeset.path).name]
        untold = [row for row in alike if not _is_comparable(changeset, row)]
        if untold:
            raise _unsure(f"nothing tells whether {changeset.key} is the text of {'::'.join(untold[0].key)}")
        return None
    same_text = [row for row in near if _has_same_text(changeset, row)]
    if len(near) > 1 and len(same_text) == 1:
        near = same_text
    if len(near) > 1:
        raise _unsure(f"{changeset.key} could be any of {', '.join('::'.join(row.key) for row in near[:_SHOWN])}")
    row = near[0]
    if row.columns.get("md5sum") is None:
        raise _unsure(
            f"the row {'::'.join(row.key)} has no checksum, so nothing tells that {changeset.key} is its text"
        )
    return row


def _is_below(path: str, other: str) -> bool:
    """Whether one path is the end of the other, part by part."""
    one = PurePosixPath(path).parts
    two = PurePosixPath(other.removeprefix("classpath:").lstrip("/")).parts
    shorter = min(len(one), len(two))
    return shorter > 0 and one[-shorter:] == two[-shorter:]


def _has_same_text(changeset: Changeset, row: LedgerRow) -> bool:
    return changeset.checksum is not None and row.columns.get("md5sum") == changeset.checksum


def _is_comparable(changeset: Changeset, row: LedgerRow) -> bool:
    """Whether both checksums were computed in the same way: the number before the colon says which."""
    return (row.columns.get("md5sum") or "").partition(":")[0] == (changeset.checksum or "?").partition(":")[0]


def _unsure(what: str) -> Refused:
    return Refused(
        f"It is not sure which row is whose: {what}.",
        hint="Name the changelog that was run here, or correct filename in the ledger by hand.",
        code="unsure",
    )
