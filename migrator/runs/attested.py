"""The attestation behind a run: found, read, and compared with what the run is about to do."""

from __future__ import annotations

import hashlib
import shlex
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from migrator.backfills import definition, discovery
from migrator.backups.signing import PublicKeys
from migrator.config.configuration import Config
from migrator.errors import Refused
from migrator.liquibase import changelog as screening
from migrator.liquibase.changelog import Screened
from migrator.plans import attestation as attestations
from migrator.plans import attestation_objections, concerned
from migrator.plans.attestation import Attestation, AttestationInvalid
from migrator.plans.attestation_objections import Subject
from migrator.postgres import schema_fingerprint
from migrator.postgres.session import Session
from migrator.runs.run import Run

_LOOKED_AT = 50  # of the files in the folder, the newest of this changelog first


def gate(run: Run) -> str | None:
    """What a rehearsal of this very run found; None where none is asked for. A rollback needs none: it is a way back.

    Raises: Refused in words of its own for each of: none there, too old, not signed by a known key, for other
    changesets, parameters, tool versions, or another schema in what they touch.
    """
    wanted = run.environment.require_attestation
    if wanted.from_ is None or run.undoes:
        return None
    keys = public_keys(run.config)
    if not keys:
        raise Refused(
            f"{run.environment.name} asks for an attestation, and no public key is configured to check one with.",
            hint="Name the public keys: [signing] public_keys.",
            code="attestation_keys",
        )
    again = f"Rehearse it: migrator rehearse {shlex.quote(run.record.changelog)} --env {wanted.from_}"
    subject: Subject | None = None
    first: Refused | None = None
    for path in _candidates(run):
        found = _read(path, keys, again)
        if isinstance(found, Refused):
            first = first or found
            continue
        subject = subject or subject_of(run)
        objections = attestation_objections.objections(found.attestation, subject, wanted, now=run.now())
        if not objections:
            run.rehearsed_s = sum(one.apply_s or 0.0 for one in found.attestation.changesets)
            return _sentence(found, (run.now() - found.attestation.made_at).total_seconds())
        what = "; ".join(one.message for one in objections)
        first = first or Refused(
            f"The attestation {found.path} does not open this run: it {what}.",
            hint=f"{again}.",
            code=f"attestation_{objections[0].fault}",
        )
    raise first or Refused(
        f"{run.environment.name} asks for an attestation made in {wanted.from_}, and there is none for "
        f"{run.record.changelog} in {run.config.signing.attestations}.",
        hint=f"{again}. Or name the file: --attestation FILE.",
        code="attestation_missing",
    )


def subject_of(run: Run) -> Subject:
    """What this run is about to do, with the schema as it is now. Preflight has made the plan."""
    with closing(run.session("preflight", read_only=True)) as session:
        touched = objects(run, session)
    return Subject(
        changesets=[("::".join(one.key), one.checksum) for one in run.facts.planned],
        files=files(run),
        parameters=run.parameters,
        schema_objects=attestations.digests(touched),
        versions=run.record.versions,
        ways=frozenset(one.value for one in (run.record.way, run.record.fallback) if one is not None),
    )


def objects(run: Run, session: Session) -> dict[str, str]:
    """The objects that the planned changesets touch, as they are now; without what a restore leaves out."""
    return concerned.objects(schema_fingerprint.of_schema(session).as_restored().objects, run.facts.words)


def files(run: Run) -> dict[str, str]:
    """Every file that the changelog is made of -> its SHA-256: rollbacks and preconditions are in no checksum."""
    return files_of(run, screening.screen(run.config.liquibase.root, run.record.changelog, run.parameters))


def files_of(run: Run, screened: Screened) -> dict[str, str]:
    """The same of a changelog that was screened already."""
    root = run.config.liquibase.root
    names = {*screened.files, *_of_backfills(root, screened)}
    return {name: hashlib.sha256((root / name).read_bytes()).hexdigest() for name in sorted(names)}


def _of_backfills(root: Path, screened: Screened) -> Iterator[str]:
    for name in discovery.files(root, screened.files):
        yield name
        module = definition.read(root / name, shown=name).python_file
        if module is not None:
            yield module.relative_to(root).as_posix()


def public_keys(config: Config) -> PublicKeys:
    """The keys of which one must have signed. Raises: ConfigError for one that cannot be read."""
    return PublicKeys.load(config.signing.public_keys)


@dataclass(frozen=True, kw_only=True)
class _Found:
    path: Path
    attestation: Attestation
    key_id: str


def _candidates(run: Run) -> Iterator[Path]:
    """The file that was named, or those of the folder that say they are of this changelog, the newest first."""
    if run.options.attestation is not None:
        yield run.options.attestation
        return
    folder = run.config.signing.attestations
    found = []
    for path in folder.glob("*.json") if folder.is_dir() else ():
        try:
            told = attestations.peek(path.read_bytes())
        except OSError:
            continue
        if told is not None and told[0] == run.record.changelog:
            found.append((told[1], path))
    for _, path in sorted(found, reverse=True)[:_LOOKED_AT]:
        yield path


def _read(path: Path, keys: PublicKeys, again: str) -> _Found | Refused:
    try:
        found, key_id = attestations.read(path.read_bytes(), keys)
    except OSError as error:
        return Refused(
            f"The attestation {path} cannot be read: {error.strerror or error}.",
            hint=f"{again}.",
            code="attestation_missing",
        )
    except AttestationInvalid as error:
        return Refused(
            f"The attestation {path} does not count: {error}.", hint=f"{again}.", code=f"attestation_{error.code}"
        )
    return _Found(path=path, attestation=found, key_id=key_id)


def _sentence(found: _Found, age_s: float) -> str:
    one = found.attestation
    said = (
        f"rehearsal {one.id} in {one.environment}, {attestation_objections.age(age_s)} ago, from {one.source}, "
        f"signed by {found.key_id}"
    )
    if one.losses:
        said += f"; its rollback loses data ({one.losses[0].sentence}), {one.of_losses}"
    return said
