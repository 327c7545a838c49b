"""Ed25519 signatures over JSON documents: manifests, attestations, approvals.

A signature covers the document's canonical form and its purpose, so that a signed attestation is never taken for a
signed manifest. Its text is `ed25519:<key id>:<base64>`; the key id is the start of the public key's SHA-256.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from migrator.config.login import Secret
from migrator.errors import ConfigError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

_ALGORITHM = "ed25519"
_KEY_BYTES = 32


class SignatureInvalid(ValueError):
    """The signature is missing, malformed, by an unknown key, or not of this document."""


def canonical(document: Mapping[str, object]) -> bytes:
    """The one byte string that stands for this JSON document, whatever its order and white space."""
    return json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False).encode()


@dataclass(frozen=True)
class SigningKey:
    """A private key that signs; its repr shows its id only."""

    id: str
    _private: Ed25519PrivateKey = field(repr=False)

    @classmethod
    def parse(cls, secret: Secret) -> SigningKey:
        """The key in `secret`: PEM (PKCS #8), OpenSSH, or base64 of its 32 bytes; never with a passphrase.

        Raises: ConfigError, without the key's text.
        """
        from cryptography.exceptions import UnsupportedAlgorithm
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
        from cryptography.hazmat.primitives.serialization import load_pem_private_key, load_ssh_private_key

        # A PEM file in an environment variable often has its line ends written as two characters.
        text = secret.reveal().replace("\\n", "\n").strip()
        try:
            if "OPENSSH PRIVATE KEY" in text:
                key: object = load_ssh_private_key(text.encode() + b"\n", password=None)
            elif text.startswith("-----BEGIN"):
                key = load_pem_private_key(text.encode() + b"\n", password=None)
            else:
                key = Ed25519PrivateKey.from_private_bytes(_raw(text))
        except (ValueError, TypeError, UnsupportedAlgorithm):
            # Not chained: the cause may quote the key.
            raise ConfigError(
                "signing.key is not a readable Ed25519 private key without a passphrase.",
                hint="Make one with: openssl genpkey -algorithm ed25519",
            ) from None
        if not isinstance(key, Ed25519PrivateKey):
            raise ConfigError(
                "signing.key is a private key, but not an Ed25519 one.",
                hint="Make one with: openssl genpkey -algorithm ed25519",
            )
        return cls(_key_id(key.public_key()), key)

    @property
    def public(self) -> PublicKeys:
        """What checks this key's own signatures."""
        return PublicKeys({self.id: self._private.public_key()})

    def sign(self, document: Mapping[str, object], *, purpose: str) -> str:
        """The signature of `document` for `purpose`; the same every time."""
        signature = self._private.sign(_message(document, purpose))
        return f"{_ALGORITHM}:{self.id}:{base64.b64encode(signature).decode()}"


@dataclass(frozen=True)
class PublicKeys:
    """The keys whose signatures count. Empty: signatures are not asked for."""

    keys: Mapping[str, Ed25519PublicKey] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.keys)

    @classmethod
    def load(cls, paths: Iterable[Path]) -> PublicKeys:
        """Every key in these files: PEM, OpenSSH (`ssh-ed25519 ...`), or base64 of its 32 bytes; one a file.

        Raises: ConfigError naming the file.
        """
        keys = {}
        for path in paths:
            key = _public_key(path)
            keys[_key_id(key)] = key
        return cls(keys)

    def check(self, document: Mapping[str, object], signature: str | None, *, purpose: str) -> str:
        """The id of the key that signed `document` for `purpose`.

        Raises: SignatureInvalid saying what is wrong.
        """
        from cryptography.exceptions import InvalidSignature

        if signature is None:
            raise SignatureInvalid("it is not signed, and public keys are configured")
        algorithm, _, rest = signature.partition(":")
        key_id, _, encoded = rest.partition(":")
        if algorithm != _ALGORITHM:
            raise SignatureInvalid(f"its signature is not of the kind {_ALGORITHM}")
        if key_id not in self.keys:
            raise SignatureInvalid(f"it is signed by the key {key_id!r}, which is not among the public keys")
        try:
            self.keys[key_id].verify(_decoded(encoded), _message(document, purpose))
        except (InvalidSignature, binascii.Error, ValueError):
            raise SignatureInvalid(f"its signature by the key {key_id} does not fit its content") from None
        return key_id


def _message(document: Mapping[str, object], purpose: str) -> bytes:
    return b"migrator " + purpose.encode() + b"\n" + canonical(document)


def _decoded(text: str) -> bytes:
    """The bytes of this base64. Raises: ValueError for a text that is not the one that stands for them."""
    found = base64.b64decode(text, validate=True)
    if base64.b64encode(found).decode() != text:  # the last character has bits that count for nothing
        raise ValueError("not the one base64 of these bytes")
    return found


def _key_id(key: Ed25519PublicKey) -> str:
    return hashlib.sha256(key.public_bytes_raw()).hexdigest()[:16]


def _raw(text: str) -> bytes:
    raw = base64.b64decode(text, validate=True)
    if len(raw) != _KEY_BYTES:
        raise ValueError(f"a key has {_KEY_BYTES} bytes")
    return raw


def _public_key(path: Path) -> Ed25519PublicKey:
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.hazmat.primitives.serialization import load_pem_public_key, load_ssh_public_key

    try:
        data = path.read_bytes().strip()
    except OSError as error:
        raise ConfigError(f"signing.public_keys: {path} cannot be read: {error.strerror}.") from error
    try:
        if data.startswith(b"-----BEGIN"):
            key: object = load_pem_public_key(data + b"\n")
        elif data.startswith(b"ssh-"):
            key = load_ssh_public_key(data)
        else:
            key = Ed25519PublicKey.from_public_bytes(_raw(data.decode("ascii")))
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise ConfigError(
            f"signing.public_keys: {path} is not a public key.",
            hint="Write one with: openssl pkey -in private.pem -pubout",
        ) from error
    if not isinstance(key, Ed25519PublicKey):
        raise ConfigError(f"signing.public_keys: {path} is not an Ed25519 key.")
    return key
