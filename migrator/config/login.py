"""How a database is reached."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Protocol, runtime_checkable


class Secret:
    """A string that shows itself only when it is asked to: `reveal()`. Its repr, str and format are masked."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        return self._value

    def current(self) -> Secret:
        """A constant is a source of itself: see `PasswordSource`."""
        return self

    def __repr__(self) -> str:
        return "********"

    __str__ = __repr__

    def __format__(self, spec: str) -> str:
        return format(repr(self), spec)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other._value == self._value

    def __hash__(self) -> int:
        return hash(self._value)

    def __reduce__(self) -> tuple[type[Secret], tuple[str]]:
        raise TypeError("a secret is not pickled")


class PasswordSource(Protocol):
    """Where a password comes from. A `Secret` is one that never changes."""

    def current(self) -> Secret | None:
        """The password that the server takes now. Ask for every connection. Raises: ConnectionFailed."""
        ...


@runtime_checkable
class RotatedSource(PasswordSource, Protocol):
    """A source that remembers its password for a while, and can be asked anew."""

    def renewed(self) -> Secret | None:
        """The password as it stands there now, whatever is remembered. Raises: ConnectionFailed."""
        ...


@dataclass(frozen=True, kw_only=True)
class Login:
    """One database of one server, and who logs in. Never holds the password in plain sight."""

    host: str
    port: int = 5432
    database: str
    user: str
    password: PasswordSource | None = None
    options: Mapping[str, str] = field(
        default_factory=lambda: MappingProxyType({})
    )  # libpq names: sslmode, sslrootcert

    def to(self, database: str) -> Login:
        """The same server and user, another database."""
        return replace(self, database=database)

    def secret(self) -> Secret | None:
        """The password of this moment, for one connection. Raises: ConnectionFailed where it cannot be had."""
        return None if self.password is None else self.password.current()

    def renewed(self, refused: Secret | None) -> Secret | None:
        """Another password than the one that the server refused: it may have been rotated. None where there is none.

        Raises: ConnectionFailed.
        """
        source = self.password
        found = source.renewed() if isinstance(source, RotatedSource) else None
        return None if found == refused else found

    def settled(self) -> Login:
        """The same with the password of this moment, for a child process that connects at once and only once.

        Raises: ConnectionFailed.
        """
        source = self.password
        return replace(self, password=source.renewed() if isinstance(source, RotatedSource) else self.secret())

    def __str__(self) -> str:
        return f"postgresql://{self.user}@{self.host}:{self.port}/{self.database}"
