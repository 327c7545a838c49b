"""A dump that is never whole on this machine: one file in pg_dump's custom format, on its way to a store or from it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

from migrator.backups.records import FileEntry, Manifest

FILE = "dump.custom"


class Sink(Protocol):
    """A store that takes a file in pieces."""

    def receive(self, backup_id: str, path: str, pieces: Iterator[bytes]) -> FileEntry:
        """The file `path` of this backup is in the store, when the pieces have come to their end without an error.

        Raises: BackupFailed; what the pieces raise.
        """
        ...

    def size_of_piece(self, number: int) -> int:
        """The size of the Nth piece, from 0, that it wants to be given."""
        ...


def archive_of(found: Manifest) -> FileEntry | None:
    """The one file of a dump that was streamed; None for any other."""
    return next((file for file in found.files if file.path == FILE), None)
