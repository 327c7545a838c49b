"""What an environment that asks for a rehearsal finds wrong with the attestation of one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from migrator.config.attestation import RequireAttestation
from migrator.plans.attestation import Attestation, hashed

_CLOCKS_DIFFER = timedelta(minutes=5)
_SHOWN = 3

Fault = Literal[
    "environment", "too_old", "future", "with_data", "changesets", "files", "parameters", "schema", "versions", "losses"
]


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
