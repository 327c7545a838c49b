"""The attestation of a rehearsal that passed: put together, signed, and written where runs look for it."""

from __future__ import annotations

import os
import secrets
import tempfile
from pathlib import Path

from migrator.backups.signing import SigningKey
from migrator.errors import StepFailed
from migrator.failpoints import Effect, effect
from migrator.plans import attestation as attestations
from migrator.plans.attestation import Attestation, Leg, RehearsedChangeset
from migrator.rehearsals.outlook import Outlook
from migrator.rehearsals.record import RehearsalRecord
from migrator.runs.run import Run


def attest(run: Run, record: RehearsalRecord, outlook: Outlook, key: SigningKey) -> Path:
    """The file of the signed attestation, which is on disk. Raises: StepFailed when it cannot be written."""
    data = attestations.write(of(run, record, outlook), key)
    return _write(run.config.signing.attestations / f"{record.id}-{record.environment}.json", data)


def of(run: Run, record: RehearsalRecord, outlook: Outlook) -> Attestation:
    """What the rehearsal attests."""
    salt = secrets.token_hex(16)
    return Attestation(
        id=record.id,
        environment=record.environment,
        changelog=record.changelog,
        made_at=record.ended_at or run.now(),
        source=record.source,
        with_data=record.with_data,
        way=record.way or outlook.choice.way,
        lossy_rollback_allowed=record.lossy_rollback_allowed,
        changesets=tuple(
            RehearsedChangeset(
                path=one.path,
                id=one.id,
                author=one.author,
                checksum=one.checksum,
                apply_s=one.apply_s,
                rollback_s=one.rollback_s,
                rollback=one.rollback,
                losses=tuple(one.losses),
            )
            for one in record.changesets
        ),
        files=outlook.files,
        salt=salt,
        parameters=attestations.hashed(run.parameters, salt),
        schema_objects=attestations.digests(outlook.schema_objects),
        versions=dict(record.versions),
        legs=tuple(
            Leg(name=leg.name, outcome=leg.outcome, duration_s=leg.duration_s, proven=tuple(leg.proven))
            for leg in record.legs
        ),
    )


@effect(Effect.REPORT)
def _write(path: Path, data: bytes) -> Path:
    """The file is there whole, or not at all. Everybody may read it: it holds no secret and is handed on."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with open(descriptor, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            Path(name).chmod(0o644)
            Path(name).replace(path)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise StepFailed(
            f"The attestation {path} could not be written: {error.strerror or error}.",
            hint="Name a folder that this user may write to: [signing] attestations.",
            code="attestation",
        ) from error
    return path
