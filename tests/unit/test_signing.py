from __future__ import annotations

import base64
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from migrator.backups.signing import PublicKeys, SignatureInvalid, SigningKey, canonical
from migrator.config.login import Secret
from migrator.errors import ConfigError

DOCUMENT = {"b": [1, {"ü": None}], "a": "text"}


def spellings(key: Ed25519PrivateKey) -> dict[str, str]:
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    return {
        "pem": pem,
        "pem in one line": pem.strip().replace("\n", "\\n"),
        "openssh": key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()).decode(),
        "base64": base64.b64encode(key.private_bytes_raw()).decode() + "\n",
    }


def test_every_spelling_of_a_key_signs_alike_and_every_spelling_of_its_public_key_checks(tmp_path: Path) -> None:
    private = Ed25519PrivateKey.generate()
    public = private.public_key()
    files = {
        "pem": public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo),
        "ssh": public.public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH) + b" somebody@example\n",
        "raw": base64.b64encode(public.public_bytes_raw()) + b"\n",
    }
    signatures = {
        SigningKey.parse(Secret(text)).sign(DOCUMENT, purpose="manifest") for text in spellings(private).values()
    }
    assert len(signatures) == 1
    [signature] = signatures
    for name, content in files.items():
        path = tmp_path / name
        path.write_bytes(content)
        keys = PublicKeys.load([path])
        assert keys.check(dict(reversed(DOCUMENT.items())), signature, purpose="manifest") in signature


def test_changed_document_other_purpose_other_key_and_garbage_are_refused() -> None:
    key, other = (SigningKey.parse(Secret(spellings(Ed25519PrivateKey.generate())["base64"])) for _ in range(2))
    good = key.sign(DOCUMENT, purpose="manifest")
    cases = [
        ({**DOCUMENT, "a": "texts"}, good, "manifest", "does not fit"),
        (DOCUMENT, good, "attestation", "does not fit"),
        (DOCUMENT, other.sign(DOCUMENT, purpose="manifest"), "manifest", "not among"),
        (DOCUMENT, None, "manifest", "not signed"),
        (DOCUMENT, good[:-8], "manifest", "does not fit"),
        (DOCUMENT, good + "!", "manifest", "does not fit"),
        (DOCUMENT, "", "manifest", "kind"),
        (DOCUMENT, f"ed25519:{key.id}:é", "manifest", "does not fit"),
        (DOCUMENT, "none:x:y", "manifest", "kind"),
    ]
    for document, signature, purpose, said in cases:
        with pytest.raises(SignatureInvalid, match=said):
            key.public.check(document, signature, purpose=purpose)
    assert key.public.check(DOCUMENT, good, purpose="manifest") == key.id


def test_unusable_private_key_is_refused_without_showing_it() -> None:
    elliptic = generate_private_key(SECP256R1()).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    short = base64.b64encode(b"s3cret").decode()
    for text in ("", short, "not base64 s3cret", "-----BEGIN PRIVATE KEY-----\ns3cret\n", elliptic.decode()):
        with pytest.raises(ConfigError, match=r"signing\.key") as caught:
            SigningKey.parse(Secret(text))
        assert caught.value.__cause__ is None
        assert text[:60] not in f"{caught.value}" or not text


def test_unusable_public_key_is_named_by_file(tmp_path: Path) -> None:
    elliptic = generate_private_key(SECP256R1()).public_key()
    for name, content in {
        "empty.pub": b"",
        "text.pub": b"hello",
        "binary.pub": b"\xff\xfe",
        "elliptic.pub": elliptic.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo),
    }.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ConfigError, match=name):
            PublicKeys.load([tmp_path / name])
    with pytest.raises(ConfigError, match=r"absent\.pub"):
        PublicKeys.load([tmp_path / "absent.pub"])


def test_repr_shows_no_key() -> None:
    key = SigningKey.parse(Secret(spellings(Ed25519PrivateKey.generate())["base64"]))
    assert repr(key) == f"SigningKey(id={key.id!r})"


def test_canonical_form_does_not_depend_on_order() -> None:
    assert canonical({"b": 1, "a": 2}) == canonical({"a": 2, "b": 1}) == b'{"a":2,"b":1}'
