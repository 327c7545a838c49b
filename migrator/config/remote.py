"""What stands at AWS and is asked for when it is needed. Who asks is given by the command line: see `Remote`."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Protocol, get_args

from migrator.config.aws import AwsSettings
from migrator.config.login import Login, PasswordSource
from migrator.errors import ConfigError

Kind = Literal["aws-secret", "ssm"]
KINDS: tuple[str, ...] = get_args(Kind)
_ARN = re.compile(r"arn:aws[a-z-]*:(secretsmanager|ssm):[a-z0-9-]+:\d{12}:(secret:|parameter/)\S+")
_SECRET = re.compile(r"[A-Za-z0-9/_+=.@!-]{1,512}")  # RDS calls the secrets that it manages itself rds!db-...
_PARAMETER = re.compile(r"/?[A-Za-z0-9_.-]+(/[A-Za-z0-9_.-]+)*(:[A-Za-z0-9_.-]+)?")


@dataclass(frozen=True, kw_only=True)
class Pointer:
    """One reference: ${aws-secret:NAME#KEY#STAGE} or ${ssm:/PATH}."""

    kind: Kind
    name: str
    key: str | None = None  # of the JSON object that the secret holds
    stage: str | None = None  # as AWSPREVIOUS

    def __str__(self) -> str:
        more = "" if self.key is None and self.stage is None else f"#{self.key or ''}"
        return f"${{{self.kind}:{self.name}{more}{f'#{self.stage}' if self.stage else ''}}}"


class Remote(Protocol):
    """Who asks AWS. What is lasting is asked once; what changes by itself is asked again after a while."""

    def value(self, pointer: Pointer, aws: AwsSettings, *, where: str) -> str:
        """What the reference stands for; `where` names the setting. Raises: ConfigError."""
        ...

    def password(self, pointer: Pointer, aws: AwsSettings, *, where: str) -> PasswordSource:
        """A password that is asked for when it is used, and again where it may have been rotated. Raises nothing."""
        ...

    def token(self, login: Login, aws: AwsSettings) -> PasswordSource:
        """A password for this login that is made anew for every connection. Raises nothing."""
        ...


Lookup = Callable[[Pointer, str], str]  # the value of a reference in the setting that the text names


def pointer(kind: str, text: str, where: str) -> Pointer:
    """The reference that the text between the braces means. Raises: ConfigError."""
    name, *rest = (part.strip() for part in text.split("#"))
    if kind == "ssm":
        if rest or not (_PARAMETER.fullmatch(name) or _ARN.fullmatch(name)):
            raise ConfigError(
                f"{where}: ${{ssm:{text}}} names no parameter", hint="write ${ssm:/path/name} or ${ssm:/path/name:3}"
            )
        return Pointer(kind="ssm", name=name)
    if len(rest) > 2 or not (_SECRET.fullmatch(name) or _ARN.fullmatch(name)):
        raise ConfigError(
            f"{where}: ${{aws-secret:{text}}} names no secret",
            hint="write ${aws-secret:NAME}, ${aws-secret:NAME#JSON_KEY} or ${aws-secret:NAME#JSON_KEY#AWSPREVIOUS}",
        )
    key, stage = (*rest, "", "")[:2]
    return Pointer(kind="aws-secret", name=name, key=key or None, stage=stage or None)


class StandIn:
    """For a command that shows settings and uses none: nothing is asked, every value is a mask."""

    def value(self, pointer: Pointer, aws: AwsSettings, *, where: str) -> str:  # noqa: ARG002
        return "********"

    def password(self, pointer: Pointer, aws: AwsSettings, *, where: str) -> PasswordSource:  # noqa: ARG002
        return _Nothing()

    def token(self, login: Login, aws: AwsSettings) -> PasswordSource:  # noqa: ARG002
        return _Nothing()


class _Nothing:
    def current(self) -> None:
        return None
