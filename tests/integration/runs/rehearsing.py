"""A shop whose rehearsals are signed, and one that asks for them."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from migrator.plans.attestation import Loss
from migrator.rehearsals import rehearsal
from migrator.rehearsals.origin import Origin
from migrator.rehearsals.record import RehearsalRecord
from migrator.rehearsals.rehearsal import Wish
from tests.shop import Shop

KEYS = {name: base64.b64encode(bytes([number]) * 32).decode() for number, name in enumerate(("team", "stranger"), 1)}


@dataclass(kw_only=True)
class Signing(Shop):
    """The folder has the public key of the team; what is signed here is signed with `signs`."""

    signs: str = "team"

    def __post_init__(self) -> None:
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

        key = Ed25519PrivateKey.from_private_bytes(base64.b64decode(KEYS["team"]))
        self.write("keys/team.pub", base64.b64encode(key.public_key().public_bytes_raw()).decode())
        self.toml += '\n[signing]\nkey = "${env:KEY}"\npublic_keys = ["keys/*.pub"]\n'

    def environ(self) -> dict[str, str]:
        return {**super().environ(), "KEY": KEYS[self.signs]}

    @property
    def attestations(self) -> list[Path]:
        return sorted((self.folder / "attestations").glob("*.json"))


def rehearse(
    shop: Shop,
    changelog: str,
    source: str = "clone",
    settings: Mapping[str, object] | None = None,
    *,
    allow_lossy_rollback: bool = False,
    parameters: Mapping[str, str] | None = None,
) -> RehearsalRecord:
    """The rehearsal has ended, the target is what it was, and nothing of the copy is left on its server."""
    before, databases = shop.dump(), shop.query("select datname from pg_database order by 1")
    run = shop.open(changelog, settings, parameters=parameters)
    record = rehearsal.rehearse(run, Wish(origin=Origin.parse(source), allow_lossy_rollback=allow_lossy_rollback))
    assert shop.dump() == before
    assert shop.query("select datname from pg_database order by 1") == databases
    assert json.loads(record.model_dump_json())["passed"] is record.passed
    assert record.exit_code == (0 if record.passed else 3)
    return record


def losses(record: RehearsalRecord) -> dict[str, list[Loss]]:
    """Id of a changeset -> what its rollback does not bring back; only of those that lose something."""
    return {one.id: one.losses for one in record.changesets if one.losses}
