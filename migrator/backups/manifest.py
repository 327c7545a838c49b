"""What a backup consists of and what it must restore to; written last, so that a backup with a manifest is whole."""

from __future__ import annotations

import hashlib
import json
import os
import stat
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    JsonValue,
    ValidationError,
)

from migrator.backups import digests
from migrator.backups.signing import PublicKeys, SignatureInvalid, SigningKey, canonical
from migrator.errors import BackupFailed
from migrator.failpoints import Effect, effect

FILE_NAME = "manifest.json"
FORMAT_VERSION = 1
_PURPOSE = "manifest"
_MAX_BYTES = 512 * 1024 * 1024
_MAX_DEPTH = 8
_SHOWN = 10


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


@effect(Effect.MANIFEST)
def write(folder: Path, manifest: Manifest, key: SigningKey | None = None) -> Manifest:
    """The manifest stands in `folder`, signed where there is a key, and is on disk; so is every file it names.

    Safe to repeat: the manifest is replaced whole. Returns it as it was written.
    Raises: BackupFailed when a file is not there with its size, or the disk is full.
    """
    _refuse(folder, _problems(folder, manifest.files))
    document = manifest.model_dump(mode="json", exclude={"checksum", "signature"})
    document["checksum"] = _checksum(document)
    document["signature"] = key.sign(document, purpose=_PURPOSE) if key is not None else None
    text = json.dumps(document, indent=1, ensure_ascii=False) + "\n"
    temporary = folder / f".{FILE_NAME}.new"
    try:
        for file in manifest.files:
            _sync(folder / file.path)
        for inner in {(folder / file.path).parent for file in manifest.files}:
            _sync(inner)
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
        with open(descriptor, "w", encoding="utf-8") as out:
            out.write(text)
            out.flush()
            os.fsync(out.fileno())
        temporary.replace(folder / FILE_NAME)
        _sync(folder)
        _sync(folder.parent)
    except OSError as error:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise BackupFailed(
            f"The manifest of the backup {folder} could not be written: {error.strerror or error}.",
            hint="Make room at the backup store and run again; the backup without a manifest does not count.",
        ) from error
    return manifest.model_copy(update={name: document[name] for name in ("checksum", "signature")})


def read(folder: Path, public_keys: PublicKeys | None = None) -> Manifest:
    """The manifest of the backup in `folder`, which has exactly its files, with their sizes; contents are not read.

    Raises: BackupFailed naming every file that is not as it should be.
    """
    path = folder / FILE_NAME
    document = _document(path)
    version = document.get("format_version")
    if version != FORMAT_VERSION or isinstance(version, bool):
        raise _damaged(folder, [f"{FILE_NAME}: format version {version!r} is not known to this migrator"])
    signature, checksum = document.pop("signature", None), document.get("checksum")
    if public_keys:
        try:
            public_keys.check(document, signature if isinstance(signature, str) else None, purpose=_PURPOSE)
        except SignatureInvalid as error:
            raise _damaged(folder, [f"{FILE_NAME}: {error}"], code="backup_signature") from error
    if checksum != _checksum({name: value for name, value in document.items() if name != "checksum"}):
        raise _damaged(folder, [f"{FILE_NAME}: its content differs from its checksum"])
    document["signature"] = signature
    try:
        manifest = Manifest.model_validate_json(json.dumps(document))
    except ValidationError as error:
        found = [f"{FILE_NAME}: {_place(item['loc'])}: {item['msg']}" for item in error.errors(include_url=False)]
        raise _damaged(folder, found) from error
    paths = [file.path for file in manifest.files]
    twice = sorted({path for path in paths if paths.count(path) > 1}) if len(set(paths)) < len(paths) else []
    _refuse(folder, [f"{path}: is named twice in the manifest" for path in twice])
    _refuse(folder, _problems(folder, manifest.files))
    return manifest


def verify(folder: Path, public_keys: PublicKeys | None = None, *, jobs: int = 2) -> Manifest:
    """The manifest of the backup in `folder`, every byte of which has been read and is what the manifest says.

    Raises: BackupFailed naming every file that is not as it should be.
    """
    manifest = read(folder, public_keys)
    try:
        found = digests.of_files((folder / file.path for file in manifest.files), jobs=jobs)
    except OSError as error:
        raise _damaged(folder, [f"{error.filename}: cannot be read: {error.strerror}"]) from error
    wrong = [
        f"{file.path}: its content differs from its SHA-256"
        for file in manifest.files
        if found[folder / file.path] != digests.Digest(size_bytes=file.size_bytes, sha256=file.sha256)
    ]
    _refuse(folder, wrong)
    return manifest


def entries(folder: Path, found: Mapping[Path, digests.Digest]) -> tuple[FileEntry, ...]:
    """These files' digests as entries of the manifest in `folder`, in the order of their paths."""
    return tuple(
        FileEntry(path=path.relative_to(folder).as_posix(), size_bytes=digest.size_bytes, sha256=digest.sha256)
        for path, digest in sorted(found.items())
    )


def extra_files(folder: Path, paths: Iterable[Path], *, jobs: int = 1) -> tuple[FileEntry, ...]:
    """Entries for files that the run put into the backup's folder beside the dump.

    Raises: BackupFailed when one cannot be read or lies elsewhere.
    """
    listed = list(paths)
    for path in listed:
        if not path.is_relative_to(folder):
            raise BackupFailed(f"{path} does not lie in the backup's folder {folder}.")
    try:
        return entries(folder, digests.of_files(listed, jobs=jobs))
    except OSError as error:
        raise BackupFailed(f"{error.filename} cannot be read: {error.strerror}.") from error


def created(manifests: Iterable[Manifest]) -> list[Manifest]:
    """These manifests, the oldest first."""

    def when(manifest: Manifest) -> tuple[datetime, str]:
        return manifest.created_at, manifest.id

    return sorted(manifests, key=when)


def _checksum(document: Mapping[str, object]) -> str:
    return hashlib.sha256(canonical(document)).hexdigest()


def _document(path: Path) -> dict[str, Any]:
    folder = path.parent
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
        with open(descriptor, "rb") as file:
            data = file.read(_MAX_BYTES + 1)
    except FileNotFoundError as error:
        raise _damaged(folder, [f"{FILE_NAME}: is missing, so the backup was never finished"]) from error
    except OSError as error:
        raise _damaged(folder, [f"{FILE_NAME}: cannot be read: {error.strerror}"]) from error
    if len(data) > _MAX_BYTES:
        raise _damaged(folder, [f"{FILE_NAME}: is larger than {_MAX_BYTES} bytes"])
    try:
        document = json.loads(data.decode(), object_pairs_hook=_no_key_twice, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise _damaged(folder, [f"{FILE_NAME}: is not JSON: {error}"]) from error
    if not isinstance(document, dict):
        raise _damaged(folder, [f"{FILE_NAME}: is not a JSON object"])
    return document


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not a JSON value")


def _no_key_twice(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    document = dict(pairs)
    if len(document) != len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"the key {next(name for name in names if names.count(name) > 1)!r} is there twice")
    return document


def _problems(folder: Path, files: Sequence[FileEntry]) -> list[str]:
    """What is missing, of another size, of another kind or not named. Nothing is followed out of the folder."""
    expected = {file.path: file.size_bytes for file in files}
    folders = {str(parent) for path in expected for parent in PurePosixPath(path).parents} - {"."}
    problems = []
    present: set[str] = set()
    for path, mode, size_bytes in _walk(folder, folder):
        if path in (FILE_NAME, f".{FILE_NAME}.new"):
            continue
        if stat.S_ISDIR(mode):
            if path not in folders:
                problems.append(f"{path}: is a folder that the manifest does not name")
            continue
        if path not in expected:
            problems.append(f"{path}: is not in the manifest")
            continue
        present.add(path)
        if stat.S_ISLNK(mode):
            problems.append(f"{path}: is a symbolic link")
        elif not stat.S_ISREG(mode):
            problems.append(f"{path}: is not a regular file")
        elif size_bytes != expected[path]:
            problems.append(f"{path}: has {size_bytes} bytes instead of {expected[path]}")
    problems += [f"{path}: is missing" for path in expected if path not in present]
    return sorted(problems)


def _walk(folder: Path, top: Path) -> list[tuple[str, int, int]]:
    found = []
    try:
        with os.scandir(folder) as listing:
            for item in listing:
                status = item.stat(follow_symlinks=False)
                found.append((Path(item.path).relative_to(top).as_posix(), status.st_mode, status.st_size))
                if stat.S_ISDIR(status.st_mode):
                    found += _walk(Path(item.path), top)
    except OSError as error:
        raise _damaged(top, [f"{error.filename}: cannot be read: {error.strerror}"]) from error
    return found


def _place(location: Sequence[int | str]) -> str:
    return ".".join(str(part) for part in location)


def _refuse(folder: Path, problems: Sequence[str]) -> None:
    if problems:
        raise _damaged(folder, problems)


def _damaged(folder: Path, problems: Sequence[str], *, code: str = "backup_damaged") -> BackupFailed:
    shown = list(problems[:_SHOWN])
    if len(problems) > _SHOWN:
        shown.append(f"and {len(problems) - _SHOWN} more")
    return BackupFailed(
        f"The backup {folder.name} in {folder.parent} is not what it should be: {'; '.join(shown)}.",
        hint="Do not restore it. Take another backup of the same store.",
        code=code,
    )


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
