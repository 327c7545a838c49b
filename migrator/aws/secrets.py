"""Values that stand in Secrets Manager and Parameter Store, and passwords of RDS: for the configuration.

Nothing is asked before it is needed, and nothing is kept anywhere but in memory.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from migrator.aws.account import Account, account_of
from migrator.aws.refusals import code_of
from migrator.aws.tokens import Token
from migrator.config.aws import AwsSettings
from migrator.config.login import Login, PasswordSource, Secret
from migrator.config.remote import Pointer
from migrator.errors import AwsFailed, ConfigError, ConnectionFailed

LASTS_S = 60.0  # for which a password is not asked for again; a rotated one is known after it
_NOT_THERE = ("ResourceNotFoundException", "ParameterNotFound", "ParameterVersionNotFound")


@dataclass
class Secrets:
    """`migrator.config.remote.Remote`, with boto3. Safe to use from several threads."""

    clock: Callable[[], float] = time.monotonic
    _known: dict[tuple[AwsSettings, Pointer], tuple[float, Secret]] = field(
        default_factory=dict, init=False, repr=False
    )

    def value(self, pointer: Pointer, aws: AwsSettings, *, where: str) -> str:
        """What the reference stands for. Raises: ConfigError naming setting, secret and what is missing."""
        try:
            return self._of(pointer, aws, where, lasts_s=float("inf")).reveal()
        except AwsFailed as error:
            raise ConfigError(error.message, hint=error.hint, code=error.code) from error

    def password(self, pointer: Pointer, aws: AwsSettings, *, where: str) -> PasswordSource:
        """A password that is asked for when it is used, and again when it may have been rotated."""
        return _Password(self, pointer, aws, where)

    def token(self, login: Login, aws: AwsSettings) -> PasswordSource:
        """A token of RDS for this login, made anew whenever it is asked for."""
        return Token(account=self.account(aws), host=login.host, port=login.port, user=login.user)

    def account(self, aws: AwsSettings) -> Account:
        """The same account for the same settings."""
        return account_of(aws)

    def current(self, pointer: Pointer, aws: AwsSettings, where: str) -> Secret:
        """The same, at most a minute old. Raises: ConfigError, AwsFailed."""
        return self._of(pointer, aws, where, lasts_s=LASTS_S)

    def renewed(self, pointer: Pointer, aws: AwsSettings, where: str) -> Secret:
        """The same, as it stands there now. Raises: ConfigError, AwsFailed."""
        return self._of(pointer, aws, where, lasts_s=0.0)

    def _of(self, pointer: Pointer, aws: AwsSettings, where: str, *, lasts_s: float) -> Secret:
        key = (aws, pointer)
        known = self._known.get(key)
        if known is not None and self.clock() - known[0] < lasts_s:
            return known[1]
        try:
            found = Secret(self._asked(pointer, aws, where))
        except AwsFailed:
            # In the middle of a run an old password is better than none: whether it still holds the server will say.
            if known is None:
                raise
            return known[1]
        self._known[key] = (self.clock(), found)
        return found

    def _asked(self, pointer: Pointer, aws: AwsSettings, where: str) -> str:
        doing = f"{where}: reading {pointer}"
        try:
            if pointer.kind == "ssm":
                text = _parameter(self.account(aws), pointer, doing)
            else:
                text = _secret(self.account(aws), pointer, doing)
        except AwsFailed as error:
            if code_of(error) not in _NOT_THERE:
                raise
            what = "parameter" if pointer.kind == "ssm" else "secret"
            raise ConfigError(
                f"{where}: there is no {what} {pointer.name} in region {self.account(aws).region}",
                hint="check its name, [aws] region, and whose credentials these are: aws sts get-caller-identity",
            ) from error
        if pointer.key is not None:
            text = _member(text, pointer, where)
        if not text:
            raise ConfigError(f"{where}: {pointer} is empty")
        return text


@dataclass(frozen=True)
class _Password:
    """A password at AWS; a JSON object as RDS manages it gives its `password`."""

    secrets: Secrets
    pointer: Pointer
    aws: AwsSettings
    where: str

    def current(self) -> Secret:
        """Raises: ConnectionFailed: so a run that is under way goes back as it does for a server out of reach."""
        return self._taken(self.secrets.current)

    def renewed(self) -> Secret:
        """The same, asked for now: the one before may have been rotated away. Raises: ConnectionFailed."""
        return self._taken(self.secrets.renewed)

    def _taken(self, ask: Callable[[Pointer, AwsSettings, str], Secret]) -> Secret:
        try:
            text = ask(self.pointer, self.aws, self.where).reveal()
            if self.pointer.key is None and text.lstrip().startswith("{") and '"password"' in text:
                text = _member(text, replace(self.pointer, key="password"), self.where)
        except (AwsFailed, ConfigError) as error:
            raise ConnectionFailed(error.message, hint=error.hint, code="no_password") from error
        if "\0" in text:
            raise ConnectionFailed(f"{self.where}: {self.pointer} holds a NUL character", code="no_password")
        return Secret(text)


def _secret(account: Account, pointer: Pointer, doing: str) -> str:
    stage = {} if pointer.stage is None else {"VersionStage": pointer.stage}
    answer = account.service("secretsmanager").idempotent(
        lambda client: client.get_secret_value(SecretId=pointer.name, **stage), doing=doing
    )
    text = answer.get("SecretString")
    if text is None:
        raise ConfigError(f"{doing} failed: it is binary", hint="a text or a JSON object is wanted")
    return str(text)


def _parameter(account: Account, pointer: Pointer, doing: str) -> str:
    answer = account.service("ssm").idempotent(
        lambda client: client.get_parameter(Name=pointer.name, WithDecryption=True), doing=doing
    )
    return str(answer["Parameter"]["Value"])


def _member(text: str, pointer: Pointer, where: str) -> str:
    """Raises: ConfigError that shows nothing of the secret but the names of its keys."""
    try:
        found = json.loads(text)
    except ValueError:
        found = None  # the error itself quotes the secret
    if not isinstance(found, dict) or pointer.key not in found:
        names = ", ".join(sorted(found)) if isinstance(found, dict) else "none, it is no JSON object: leave #KEY out"
        raise ConfigError(f"{where}: the secret {pointer.name} has no key {pointer.key!r}", hint=f"its keys: {names}")
    value = found[pointer.key]
    return value if isinstance(value, str) else json.dumps(value)
