"""The signed record of a rehearsal that passed.

The file is JSON in one exact form, its last member the signature of all else. What is not byte for byte what that
content is written as is refused, so no change goes unseen, be it white space.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from migrator.backups.signing import PublicKeys, SignatureInvalid, SigningKey
from migrator.plans import parameters

FORMAT_VERSION = 2
MAX_BYTES = 64 * 1024 * 1024
_PURPOSE = "attestation"

Rollback = Literal["restores", "restores_schema", "loses", "fails", "none", "not_tried"]


class AttestationInvalid(ValueError):
    """The text is no attestation, was changed, or is not signed by a key that counts. `code` says which."""

    def __init__(self, message: str, *, code: Literal["damaged", "signature"]) -> None:
        super().__init__(message)
        self.code = code


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Loss(_Part):
    """What a rollback did not bring back."""

    what: str = Field(description="A table, or another object of the schema as its fingerprint names it.")
    column: str | None = Field(default=None, description="The column; null: whole rows, or the object itself.")
    rows: int | None = Field(
        default=None, description="Rows that lost a value, are gone, or new; null: none concerned."
    )
    how: str = Field(description="What is not as it was, in words.")

    @property
    def sentence(self) -> str:
        """public.orders.note: 7 rows lost their value."""
        return f"{self.what}{f'.{self.column}' if self.column else ''}: {self.how}"


class RehearsedChangeset(_Part):
    path: str
    id: str
    author: str
    checksum: str | None
    apply_s: float | None = None
    rollback_s: float | None = None
    rollback: Rollback
    losses: tuple[Loss, ...] = ()

    @property
    def key(self) -> str:
        return f"{self.path}::{self.id}::{self.author}"


class Leg(_Part):
    """One part of the rehearsal: apply, roll back, apply again."""

    name: str
    outcome: str
    duration_s: float
    proven: tuple[str, ...] = ()


class Attestation(_Part):
    """A rehearsal that passed: what was rehearsed, on what, with what, and what came of it."""

    format_version: Literal[2] = 2
    id: str  # of the rehearsal
    environment: str
    changelog: str
    made_at: AwareDatetime
    source: str  # what the scratch copy was made from: schema, clone, backup ID, dump FILE
    with_data: bool
    way: str
    lossy_rollback_allowed: bool
    changesets: tuple[RehearsedChangeset, ...]
    files: Mapping[str, str]  # path below liquibase.root -> SHA-256
    salt: str
    parameters: Mapping[str, str]  # name -> salted digest of its value, costly to guess by
    schema_objects: Mapping[str, str]  # identity -> digest, of what the changesets touch, before they ran
    versions: Mapping[str, str]
    legs: tuple[Leg, ...] = ()

    @property
    def losses(self) -> list[Loss]:
        return [loss for one in self.changesets for loss in one.losses]

    @property
    def of_losses(self) -> str:
        """In words: somebody accepted the losses, or nobody had to, since no way back of that run needs a rollback."""
        if self.lossy_rollback_allowed:
            return "accepted there"
        return f"not accepted: the way there ({self.way}) needs no rollback"


def digests(objects: Mapping[str, str]) -> dict[str, str]:
    """Identity -> digest of its definition."""
    return {identity: hashlib.sha256(line.encode()).hexdigest()[:32] for identity, line in objects.items()}


def hashed(values: Mapping[str, str], salt: str) -> dict[str, str]:
    """Name -> salted digest: equal for equal values, and without a value that anybody could read or easily guess."""
    return parameters.digests(values, salt=salt)


def write(attestation: Attestation, key: SigningKey) -> bytes:
    """The signed attestation, as its file holds it."""
    document = attestation.model_dump(mode="json")
    return _render({"attestation": document, "signature": key.sign(document, purpose=_PURPOSE)})


def read(data: bytes, keys: PublicKeys) -> tuple[Attestation, str]:
    """The attestation, every byte of which is as it was signed, and the id of the key that did.

    Raises: AttestationInvalid.
    """
    document, signature = _document(data)
    try:
        key_id = keys.check(document, signature, purpose=_PURPOSE)
    except SignatureInvalid as error:
        raise AttestationInvalid(str(error), code="signature") from error
    try:
        return Attestation.model_validate_json(json.dumps(document)), key_id
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        raise AttestationInvalid(f"{place}: {first['msg']}", code="damaged") from error


def peek(data: bytes) -> tuple[str, str] | None:
    """What the file says of its changelog and its moment, proven by nothing; None where it is no attestation."""
    try:
        document, _ = _document(data)
    except AttestationInvalid:
        return None
    changelog, made_at = document.get("changelog"), document.get("made_at")
    return (changelog, made_at) if isinstance(changelog, str) and isinstance(made_at, str) else None


def _document(data: bytes) -> tuple[dict[str, object], str | None]:
    """Raises: AttestationInvalid unless the bytes are the one form of their own content."""
    damaged = AttestationInvalid("it is no attestation, or was changed after it was written", code="damaged")
    if len(data) > MAX_BYTES:
        raise damaged
    try:
        found = json.loads(data.decode("utf-8"))
        same = isinstance(found, dict) and _render(found) == data
    except (ValueError, RecursionError) as error:
        raise damaged from error
    if not same or set(found) != {"attestation", "signature"} or not isinstance(found["attestation"], dict):
        raise damaged
    signature = found["signature"]
    return found["attestation"], signature if isinstance(signature, str) else None


def _render(document: Mapping[str, object]) -> bytes:
    return (json.dumps(document, indent=1, ensure_ascii=True, allow_nan=False, sort_keys=True) + "\n").encode()
