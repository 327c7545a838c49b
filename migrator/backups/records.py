"""The records of a backup: what it is of, which files it has, what it must restore to."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Annotated, Literal

from pydantic import AfterValidator, AwareDatetime, BaseModel, BeforeValidator, ConfigDict, Field, JsonValue

FILE_NAME = "manifest.json"
FORMAT_VERSION = 1
_MAX_DEPTH = 8


def _inside(path: str) -> str:
    parts = path.split("/")
    if not path or any(part in ("", ".", "..") for part in parts) or "\\" in path or len(parts) > _MAX_DEPTH:
        raise ValueError(f"the path {path!r} leads out of the backup")
    if not path.isprintable() or path == FILE_NAME:
        raise ValueError(f"the path {path!r} is not one of a backup's file")
    return path


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


def _plain(value: object) -> object:
    # Tuples and frozen mappings of dataclasses become what JSON gives back.
    return json.loads(json.dumps(value)) if isinstance(value, Mapping) else value


class FileEntry(_Part):
    path: Annotated[str, AfterValidator(_inside)]  # relative to the backup's folder, with "/"
    size_bytes: int = Field(ge=0)
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    version_id: str | None = None  # of the object, where the bucket keeps versions


class TableState(_Part):
    rows: int = Field(ge=0)
    digest: str | None = None  # None where the rows were counted but not read
    columns: dict[str, str] = Field(default_factory=dict)  # name -> type, as text


class SequenceState(_Part):
    last_value: int
    is_called: bool


class ExtensionState(_Part):
    name: str
    version: str
    schema_name: str
    schema_owner: str


class Manifest(_Part):
    """One backup. Paths of files are relative to the folder that holds the manifest."""

    format_version: Literal[1] = 1
    id: str
    kind: str  # dump, clone, ...
    run_id: str
    environment: str
    created_at: AwareDatetime
    system_identifier: str  # of the server, by pg_control_system(); "unknown" where it cannot be asked
    database: str
    database_oid: int
    server_version: str
    tools: dict[str, str] = Field(default_factory=dict)  # name -> version: pg_dump, migrator, ...
    snapshot_lsn: str | None = None
    files: tuple[FileEntry, ...] = ()
    copy_name: str | None = None  # of a clone: the database that holds it
    copy_oid: int | None = None
    roles: tuple[str, ...] = ()  # that objects of the database refer to, as owner or in a privilege
    extensions: tuple[ExtensionState, ...] = ()  # in the order in which they were created
    schema_digest: str | None = None
    schema_objects: dict[str, str] = Field(default_factory=dict)  # identity -> definition
    tables: dict[str, TableState] = Field(default_factory=dict)  # by qualified, quoted name
    sequences: dict[str, SequenceState] = Field(default_factory=dict)
    large_objects: TableState | None = None
    properties: Annotated[dict[str, JsonValue], BeforeValidator(_plain)] = Field(
        default_factory=dict
    )  # of the database itself, before the fence
    facts: dict[str, str] = Field(default_factory=dict)  # what else the run wants to find again
    checksum: str | None = None  # of all the above: it tells damage, where the signature tells forgery
    signature: str | None = None

    @property
    def size_bytes(self) -> int:
        """The size of all files together."""
        return sum(file.size_bytes for file in self.files)


def created(manifests: Iterable[Manifest]) -> list[Manifest]:
    """These manifests, the oldest first."""

    def when(manifest: Manifest) -> tuple[datetime, str]:
        return manifest.created_at, manifest.id

    return sorted(manifests, key=when)
