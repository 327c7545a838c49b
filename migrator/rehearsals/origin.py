"""What a scratch database is filled from."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from migrator.errors import UsageError

Kind = Literal["empty", "schema", "clone", "backup", "dump"]


@dataclass(frozen=True, kw_only=True)
class Origin:
    kind: Kind
    backup_id: str | None = None  # of `backup`
    file: Path | None = None  # of `dump`: a custom, directory or tar archive of pg_dump

    @classmethod
    def parse(cls, text: str) -> Origin:
        """`empty`, `schema`, `clone`, `backup ID` or `dump FILE`; a colon is as good as the blank.

        Raises: UsageError.
        """
        kind, separator, rest = text.strip().replace(":", " ", 1).partition(" ")
        rest = rest.strip()
        match kind:
            case "empty" | "schema" | "clone" if not separator:
                return cls(kind=kind)
            case "backup" if rest:
                return cls(kind="backup", backup_id=rest)
            case "dump" if rest:
                return cls(kind="dump", file=Path(rest))
        raise UsageError(
            f"{text!r} is nothing that a copy can be made from", hint="write schema, clone, backup:ID or dump:FILE"
        )

    @property
    def has_data(self) -> bool:
        return self.kind in {"clone", "backup", "dump"}

    @property
    def is_elsewhere(self) -> bool:
        """Whether the target is not read for it."""
        return self.kind in {"backup", "dump"}

    @property
    def file_bytes(self) -> int:
        """The size of the file or folder that a dump is in; 0 where there is none."""
        if self.file is None or not self.file.exists():
            return 0
        files = self.file.rglob("*") if self.file.is_dir() else [self.file]
        return sum(one.stat().st_size for one in files if one.is_file())

    def __str__(self) -> str:
        return " ".join(str(part) for part in (self.kind, self.backup_id, self.file) if part is not None)
