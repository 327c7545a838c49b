"""`migrator attestation`: what a rehearsal attested, and whether it still counts."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from migrator.cli import opening, output
from migrator.cli.options import AsJson, ConfigPath, EnvironmentName
from migrator.errors import ConfigError, Refused

if TYPE_CHECKING:
    from migrator.config.configuration import Config
    from migrator.plans.attestation import Attestation

app = typer.Typer(name="attestation", help="Look at the signed records of rehearsals.", no_args_is_help=True)

File = Annotated[Path, typer.Argument(metavar="FILE", help="The attestation.", show_default=False)]


@app.command(short_help="Verify that every byte is as it was signed.")
def verify(file: File, *, config: ConfigPath = None, env: EnvironmentName = None, as_json: AsJson = False) -> None:
    """Verify an attestation: every byte is as it was signed, by a key of signing.public_keys.

    With --env also whether that environment would take it: where it was made, its age. Whether it fits the changesets
    and the schema is seen by `migrator plan` and by a run. Exit code 0: it counts; 3: it does not.

    \b
    migrator attestation verify attestations/20261123t175103_4f1c-staging.json
    migrator attestation verify FILE --env production --json
    """
    loaded = opening.configuration(config, required=False)
    found, key_id = _read(loaded, file)
    if env is not None:
        _refuse_for(loaded, env, file, found)
    if as_json:
        output.json_result({"file": str(file), "valid": True, "signed_by": key_id, **_told(found)})
        return
    output.result(f"{file} counts: every byte is as it was signed, by the key {key_id}.")
    output.result(_text(found))


@app.command()
def show(file: File, *, config: ConfigPath = None, as_json: AsJson = False) -> None:
    """Show what was rehearsed, when, on what, and what came of it. It is verified first.

    \b
    migrator attestation show attestations/20261123t175103_4f1c-staging.json
    """
    found, key_id = _read(opening.configuration(config, required=False), file)
    if as_json:
        output.json_result({"signed_by": key_id, **found.model_dump(mode="json")})
        return
    output.result(_text(found))
    for one in found.changesets:
        output.result(f"  {one.key}: its rollback {_ROLLBACKS[one.rollback]}")
        for loss in one.losses:
            output.result(f"    {loss.sentence}")


def _read(config: Config, file: Path) -> tuple[Attestation, str]:
    """Raises: Refused where it does not count, ConfigError where there is no key to check it with."""
    from migrator.plans import attestation as attestations
    from migrator.runs import attested

    keys = attested.public_keys(config)
    if not keys:
        raise ConfigError(
            "no public key is configured, so nobody can tell who signed it",
            hint='name the keys that count: [signing] public_keys = ["keys/*.pub"]',
        )
    try:
        return attestations.read(file.read_bytes(), keys)
    except OSError as error:
        raise Refused(f"The attestation {file} cannot be read: {error.strerror or error}.", code="missing") from error
    except attestations.AttestationInvalid as error:
        raise Refused(
            f"The attestation {file} does not count: {error}.",
            hint="Rehearse again: migrator rehearse CHANGELOG --env ENV.",
            code=f"attestation_{error.code}",
        ) from error


def _refuse_for(config: Config, env: str, file: Path, found: Attestation) -> None:
    """Raises: Refused where the environment would not take it, whatever the changesets."""
    from migrator.plans import attestation_objections

    wanted = opening.environment(config, env).require_attestation
    faults = attestation_objections.of_itself(found, wanted, now=datetime.now(UTC))
    if faults:
        raise Refused(
            f"{env} would not take the attestation {file}: it {'; '.join(one.message for one in faults)}.",
            hint=f"Rehearse again: migrator rehearse {found.changelog} --env {wanted.from_ or found.environment}.",
            code=f"attestation_{faults[0].fault}",
        )


def _told(found: Attestation) -> dict[str, object]:
    return {
        "id": found.id,
        "environment": found.environment,
        "changelog": found.changelog,
        "made_at": found.made_at.isoformat(),
        "source": found.source,
        "with_data": found.with_data,
        "changesets": [one.key for one in found.changesets],
        "lossy_rollback_allowed": found.lossy_rollback_allowed,
        "losses": [loss.model_dump(mode="json") for loss in found.losses],
    }


def _text(found: Attestation) -> str:
    from migrator.plans.words import count

    lines = [
        f"rehearsal {found.id} of {found.changelog} in {found.environment}, on a copy ({found.source})",
        f"made at {found.made_at:%Y-%m-%d %H:%M:%S} UTC, with PostgreSQL {found.versions.get('postgresql', 'unknown')} "
        f"and Liquibase {found.versions.get('liquibase', 'unknown')}",
        f"{count(len(found.changesets), 'changeset')}, {found.way}; "
        + (
            f"{count(len(found.losses), 'loss', 'losses')} by rollbacks, {found.of_losses}"
            if found.losses
            else ("nothing is lost" if found.with_data else "nothing of the schema is lost; no row was there")
        ),
    ]
    return "\n".join(lines)


_ROLLBACKS = {
    "restores": "restores what was there",
    "restores_schema": "restores the schema; no row was there",
    "loses": "does not bring back what was there",
    "fails": "fails",
    "none": "does not exist",
    "not_tried": "was not tried",
}
