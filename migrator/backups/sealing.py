"""A manifest as bytes in a store: with a checksum that tells damage, and a signature that tells forgery."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import ValidationError

from migrator.backups.records import FILE_NAME, FORMAT_VERSION, Manifest
from migrator.backups.signing import PublicKeys, SignatureInvalid, SigningKey, canonical
from migrator.errors import BackupFailed

MAX_BYTES = 512 * 1024 * 1024
_PURPOSE = "manifest"
_SHOWN = 10


def seal(manifest: Manifest, key: SigningKey | None = None) -> tuple[Manifest, bytes]:
    """The manifest with its checksum, signed where there is a key; and as bytes."""
    document = manifest.model_dump(mode="json", exclude={"checksum", "signature"})
    document["checksum"] = _checksum(document)
    document["signature"] = key.sign(document, purpose=_PURPOSE) if key is not None else None
    text = json.dumps(document, indent=1, ensure_ascii=False) + "\n"
    return manifest.model_copy(update={name: document[name] for name in ("checksum", "signature")}), text.encode()


def unseal(data: bytes, backup_id: str, place: str, public_keys: PublicKeys | None = None) -> Manifest:
    """The manifest in these bytes, of the backup `backup_id` in the store `place`. Its files are not looked at.

    Raises: BackupFailed that says what is wrong with it.
    """

    def refuse(problems: Sequence[str], *, code: str = "backup_damaged") -> BackupFailed:
        return damaged(backup_id, place, [f"{FILE_NAME}: {problem}" for problem in problems], code=code)

    if len(data) > MAX_BYTES:
        raise refuse([f"is larger than {MAX_BYTES} bytes"])
    try:
        document = json.loads(data.decode(), object_pairs_hook=_no_key_twice, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise refuse([f"is not JSON: {error}"]) from error
    if not isinstance(document, dict):
        raise refuse(["is not a JSON object"])
    version = document.get("format_version")
    if version != FORMAT_VERSION or isinstance(version, bool):
        raise refuse([f"format version {version!r} is not known to this migrator"])
    signature, checksum = document.pop("signature", None), document.get("checksum")
    if public_keys:
        try:
            public_keys.check(document, signature if isinstance(signature, str) else None, purpose=_PURPOSE)
        except SignatureInvalid as error:
            raise refuse([str(error)], code="backup_signature") from error
    if checksum != _checksum({name: value for name, value in document.items() if name != "checksum"}):
        raise refuse(["its content differs from its checksum"])
    document["signature"] = signature
    try:
        manifest = Manifest.model_validate_json(json.dumps(document))
    except ValidationError as error:
        raise refuse([f"{_place(item['loc'])}: {item['msg']}" for item in error.errors(include_url=False)]) from error
    paths = [file.path for file in manifest.files]
    if len(set(paths)) < len(paths):
        twice = sorted({path for path in paths if paths.count(path) > 1})
        raise damaged(backup_id, place, [f"{path}: is named twice in the manifest" for path in twice])
    return manifest


def damaged(backup_id: str, place: str, problems: Sequence[str], *, code: str = "backup_damaged") -> BackupFailed:
    """The error for a backup that must not be used."""
    shown = list(problems[:_SHOWN])
    if len(problems) > _SHOWN:
        shown.append(f"and {len(problems) - _SHOWN} more")
    return BackupFailed(
        f"The backup {backup_id} in {place} is not what it should be: {'; '.join(shown)}.",
        hint="Do not restore it. Take another backup of the same store.",
        code=code,
    )


def _checksum(document: Mapping[str, object]) -> str:
    return hashlib.sha256(canonical(document)).hexdigest()


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not a JSON value")


def _no_key_twice(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    document = dict(pairs)
    if len(document) != len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"the key {next(name for name in names if names.count(name) > 1)!r} is there twice")
    return document


def _place(location: Sequence[int | str]) -> str:
    return ".".join(str(part) for part in location)
