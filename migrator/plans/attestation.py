"""The signed record of a rehearsal that passed, and what an environment that asks for one finds wrong with it.

The file is JSON in one exact form, its last member the signature of all else. What is not byte for byte what that
content is written as is refused, so no change goes unseen, be it white space.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from migrator.backups.signing import PublicKeys, SignatureInvalid, SigningKey
from migrator.config.attestation import RequireAttestation
from migrator.plans import parameters

FORMAT_VERSION = 2
MAX_BYTES = 64 * 1024 * 1024
_PURPOSE = "attestation"
_CLOCKS_DIFFER = timedelta(minutes=5)
_SHOWN = 3

Rollback = Literal["restores", "restores_schema", "loses", "fails", "none", "not_tried"]
Fault = Literal[
    "environment", "too_old", "future", "with_data", "changesets", "files", "parameters", "schema", "versions", "losses"
]


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


@dataclass(frozen=True, kw_only=True)
class Subject:
    """What a run is about to do, to be compared with what was rehearsed."""

    changesets: Sequence[tuple[str, str | None]]  # key and checksum, in their order
    files: Mapping[str, str]
    parameters: Mapping[str, str]  # with their values
    schema_objects: Mapping[str, str]  # as `digests` gives them
    versions: Mapping[str, str]
    ways: frozenset[str] = frozenset()  # the run's way, and the one that it may fall back to


@dataclass(frozen=True, kw_only=True)
class Objection:
    """Why an attestation does not open the gate. `message` is a sentence on it; its subject is the attestation."""

    fault: Fault
    message: str


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


def objections(
    attestation: Attestation, subject: Subject, wanted: RequireAttestation, *, now: datetime
) -> list[Objection]:
    """Everything that keeps this attestation from opening the gate; empty when it opens."""
    others = _changesets(attestation, subject)
    found: dict[Fault, str | None] = {
        "changesets": others,
        "files": _files(attestation, subject),
        "parameters": _parameters(attestation, subject) if others is None else None,  # costly to compare
        "schema": _schema(attestation, subject),
        "versions": _versions(attestation, subject),
        "losses": _losses(attestation, subject),
    }
    return of_itself(attestation, wanted, now=now) + _told(found)


def of_itself(attestation: Attestation, wanted: RequireAttestation, *, now: datetime) -> list[Objection]:
    """What keeps it from opening any gate of that environment, whatever is to be run."""
    return _told(
        {
            "environment": _environment(attestation, wanted),
            "future": _future(attestation, now),
            "too_old": _age(attestation, wanted, now),
            "with_data": _data(attestation, wanted),
        }
    )


def _told(found: Mapping[Fault, str | None]) -> list[Objection]:
    return [Objection(fault=fault, message=message) for fault, message in found.items() if message is not None]


def age(seconds: float) -> str:
    """5 minutes, 3 hours, 15 days."""
    for unit, length in (("day", 86400), ("hour", 3600), ("minute", 60)):
        if seconds >= 2 * length or (unit == "minute" and seconds >= length):
            number = int(seconds // length)
            return f"{number} {unit}{'s' if number != 1 else ''}"
    return "less than a minute"


def _environment(attestation: Attestation, wanted: RequireAttestation) -> str | None:
    if wanted.from_ is None or attestation.environment == wanted.from_:
        return None
    return f"was made in {attestation.environment}; one made in {wanted.from_} is asked for"


def _future(attestation: Attestation, now: datetime) -> str | None:
    if attestation.made_at <= now + _CLOCKS_DIFFER:
        return None
    return f"was made at {attestation.made_at:%Y-%m-%d %H:%M:%S} UTC, which is yet to come: look at the clocks"


def _age(attestation: Attestation, wanted: RequireAttestation, now: datetime) -> str | None:
    seconds = (now - attestation.made_at).total_seconds()
    if seconds <= wanted.max_age_s:
        return None
    return f"is {age(seconds)} old; at most {wanted.max_age} is allowed"


def _data(attestation: Attestation, wanted: RequireAttestation) -> str | None:
    if attestation.with_data or not wanted.with_data:
        return None
    return "was made on a copy of the schema alone; one with data is asked for"


def _changesets(attestation: Attestation, subject: Subject) -> str | None:
    rehearsed = {one.key: one.checksum for one in attestation.changesets}
    here = dict(subject.changesets)
    if list(rehearsed.items()) == list(subject.changesets):
        return None
    edited = [key for key in here if key in rehearsed and here[key] != rehearsed[key]]
    parts = [
        _named("was not rehearsed", [key for key in here if key not in rehearsed]),
        _named("was rehearsed and is not pending here", [key for key in rehearsed if key not in here]),
        _named("was edited since", edited),
    ]
    return "is for other changesets: " + ("; ".join(filter(None, parts)) or "they were rehearsed in another order")


def _files(attestation: Attestation, subject: Subject) -> str | None:
    if attestation.files == subject.files:
        return None
    names = sorted(attestation.files.keys() | subject.files.keys())
    other = [one for one in names if attestation.files.get(one) != subject.files.get(one)]
    return f"is for another text of the changelog: {_named('differs from what was rehearsed', other)}"


def _parameters(attestation: Attestation, subject: Subject) -> str | None:
    here = hashed(subject.parameters, attestation.salt)
    if here == attestation.parameters:
        return None
    names = sorted(attestation.parameters.keys() | here.keys())
    other = [one for one in names if attestation.parameters.get(one) != here.get(one)]
    return f"is for other changelog parameters: {_named('has another value, or is set on one side only', other)}"


def _schema(attestation: Attestation, subject: Subject) -> str | None:
    rehearsed, here = attestation.schema_objects, subject.schema_objects
    if rehearsed == here:
        return None
    parts = [
        _named("is not there here", [one for one in rehearsed if one not in here]),
        _named("was not there in the rehearsal", [one for one in here if one not in rehearsed]),
        _named("differs", [one for one in here if one in rehearsed and here[one] != rehearsed[one]]),
    ]
    return "started from another schema in what the changesets touch: " + "; ".join(filter(None, parts))


def _versions(attestation: Attestation, subject: Subject) -> str | None:
    """PostgreSQL's major and Liquibase's version count; those of other tools are told, and change no result."""
    pairs = [
        ("PostgreSQL", _major(attestation.versions), _major(subject.versions)),
        ("Liquibase", attestation.versions.get("liquibase"), subject.versions.get("liquibase")),
    ]
    other = [f"{name} {was or 'unknown'}, here it is {now or 'unknown'}" for name, was, now in pairs if was != now]
    return f"was made with {' and '.join(other)}" if other else None


def _losses(attestation: Attestation, subject: Subject) -> str | None:
    """A run that commits on its way may have to go back by rollbacks, one of which loses what nobody accepted."""
    if not attestation.losses or attestation.lossy_rollback_allowed or "stepwise" not in subject.ways:
        return None
    return (
        f"found a rollback that loses data ({attestation.losses[0].sentence}), which was not accepted, and this run "
        "may have to go back by it: its way or its fallback is stepwise"
    )


def _major(versions: Mapping[str, str]) -> str | None:
    text = versions.get("postgresql")
    return text.split(maxsplit=1)[0].partition(".")[0] if text else None


def _named(what: str, names: Sequence[str]) -> str:
    if not names:
        return ""
    more = f" and {len(names) - _SHOWN} more" if names[_SHOWN:] else ""
    return f"{', '.join(names[:_SHOWN])}{more} {what}"


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
