from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from migrator.cli import boundary
from migrator.cli.app import app
from migrator.plans import attestation as attestations
from tests.unit.test_attestation import KEY, an_attestation

_RAW = bytes(range(32))


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A signed attestation, in a project that knows the key."""
    monkeypatch.chdir(tmp_path)
    public = Ed25519PrivateKey.from_private_bytes(_RAW).public_key().public_bytes_raw()
    (tmp_path / "team.pub").write_text(base64.b64encode(public).decode())
    (tmp_path / "migrator.toml").write_text(
        '[signing]\npublic_keys = ["team.pub"]\n'
        '[environments.production]\nurl = "postgresql://m@db.internal/shop"\n'
        'require_attestation = { from = "qa" }\n'
    )
    path = tmp_path / "attestation.json"
    path.write_bytes(attestations.write(an_attestation(), KEY))
    return path


def test_verify_says_whose_it_is(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert boundary.run(app, ["attestation", "verify", str(file)]) == 0
    told = capsys.readouterr().out
    assert f"by the key {KEY.id}" in told
    assert boundary.run(app, ["attestation", "verify", str(file), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["valid"], found["signed_by"], found["environment"]) == (True, KEY.id, "staging")


def test_verify_refuses_a_changed_one_and_one_that_the_environment_would_not_take(
    file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert boundary.run(app, ["attestation", "verify", str(file), "--env", "production"]) == 3
    assert "one made in qa is asked for" in capsys.readouterr().err
    file.write_bytes(file.read_bytes().replace(b"acme", b"acne").replace(b"clone", b"Clone"))
    assert boundary.run(app, ["attestation", "verify", str(file), "--json"]) == 3
    assert json.loads(capsys.readouterr().out)["error"]["code"] == "attestation_signature"


def test_nothing_counts_without_a_public_key(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (file.parent / "migrator.toml").write_text("")
    assert boundary.run(app, ["attestation", "show", str(file)]) == 2
    assert "no public key is configured" in capsys.readouterr().err


def test_show_tells_what_each_rollback_does(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert boundary.run(app, ["attestation", "show", str(file)]) == 0
    told = capsys.readouterr().out
    assert "db/release.sql::1::kim: its rollback does not bring back what was there" in told
    assert "public.orders.note" in told


def test_one_that_was_made_without_rows_speaks_of_the_schema_alone(
    file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = an_attestation()
    changesets = tuple(one.model_copy(update={"rollback": "restores_schema", "losses": ()}) for one in whole.changesets)
    without = whole.model_copy(update={"with_data": False, "source": "schema", "changesets": changesets})
    file.write_bytes(attestations.write(without, KEY))
    assert boundary.run(app, ["attestation", "verify", str(file)]) == 0
    assert "nothing of the schema is lost; no row was there" in capsys.readouterr().out
    assert boundary.run(app, ["attestation", "show", str(file)]) == 0
    assert "its rollback restores the schema; no row was there" in capsys.readouterr().out


def test_a_gate_is_not_overridden_without_a_reason(capsys: pytest.CaptureFixture[str]) -> None:
    assert boundary.run(app, ["run", "release.sql", "--env", "local", "--override-gate", " "]) == 2
    assert "wants a reason" in capsys.readouterr().err
