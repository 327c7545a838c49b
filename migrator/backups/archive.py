"""The table of contents of pg_dump's archive, as `pg_restore --list` writes it and `--use-list` takes it."""

from __future__ import annotations

import re
import tarfile
from pathlib import Path

from migrator.backups.requirements import Prepared
from migrator.errors import BackupFailed

# number; catalogue and object OID, what it is, "-" for no schema, name, owner (none for an extension's comment)
_ENTRY = re.compile(r"\d+; \d+ \d+ (?P<what>SCHEMA -|ACL - SCHEMA|COMMENT - EXTENSION) (?P<rest>.*)\Z")


def can_be_read_in_parallel(path: Path) -> bool:
    """Whether several pg_restore can read it at once: a folder or a custom archive, not a tar.

    Raises: BackupFailed for what is no archive of pg_dump.
    """
    if path.is_dir() and (path / "toc.dat").is_file():
        return True
    if not path.is_file():
        raise BackupFailed(f"{path} is no dump.", hint="Name the file or the folder that pg_dump wrote.")
    with path.open("rb") as file:
        custom = file.read(5) == b"PGDMP"
    if not custom and not tarfile.is_tarfile(path):
        raise BackupFailed(
            f"{path} is no archive of pg_dump.", hint="Make one with pg_dump --format=custom; plain SQL is not taken."
        )
    return custom


def split(listing: str, prepared: Prepared) -> tuple[str, str]:
    """The schemas with their privileges, and everything else; neither has what is there already.

    pg_restore by itself gives privileges last. A role that owns a table must be allowed to create in its schema, which
    only a superuser need not heed: so schemas come first, with their privileges.
    """
    schemas, others = [], []
    for line in listing.splitlines():
        entry = _ENTRY.match(line)
        if entry is None:
            others.append(line)
        elif entry["what"] == "COMMENT - EXTENSION":
            if not _is_one_of(entry["rest"], prepared.extension_comments):
                others.append(line)
        elif entry["what"] == "ACL - SCHEMA" or not _is_one_of(entry["rest"], prepared.schemas):
            schemas.append(line)
    return _text(schemas), _text(others)


def _is_one_of(rest: str, names: frozenset[str]) -> bool:
    # The program writes line ends in a name as blanks; an owner, whose name may have blanks, follows.
    return any(rest.startswith(re.sub(r"[\r\n]", " ", name) + " ") for name in names)


def _text(lines: list[str]) -> str:
    return "".join(f"{line}\n" for line in lines)
