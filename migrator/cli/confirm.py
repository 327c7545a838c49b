"""Questions to the person at the terminal."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from migrator.errors import Refused

if TYPE_CHECKING:
    from migrator.config.models import Environment

ConfirmedName = Annotated[
    str | None,
    typer.Option("--confirm", metavar="NAME", help="The environment's name, where nobody can be asked for it."),
]


def confirm(question: str, *, assume_yes: bool) -> None:
    """The person said yes, or gave --yes. Raises: Refused for a no, and where there is nobody to ask."""
    if assume_yes:
        return
    if not _somebody_is_here():
        raise Refused(
            f"nobody is here to answer: {question}", hint="give --yes where no terminal is attached", code="unconfirmed"
        )
    if not typer.confirm(question, default=False, err=True):
        raise Refused("the answer was no", code="unconfirmed")


def confirm_protected(environment: Environment, question: str, *, assume_yes: bool) -> None:
    """As `confirm`, in a protected environment; elsewhere nothing is asked."""
    if environment.protected:
        confirm(f"{environment.name} is protected. {question}", assume_yes=assume_yes)


def confirm_name(name: str, given: str | None, *, replaced: str) -> None:
    """The person typed the environment's name, or gave it as --confirm: what is named may be replaced.

    Raises: Refused for another name, and where there is nobody to ask.
    """
    if given is None:
        if not _somebody_is_here():
            raise Refused(
                f"nobody is here to confirm that {replaced} is to be replaced",
                hint=f"give --confirm {name} where no terminal is attached",
                code="unconfirmed",
            )
        question = f"Type the environment's name ({name}) to replace {replaced}"
        given = typer.prompt(question, err=True, default="", show_default=False)
    if given != name:
        raise Refused(f"{given!r} is not the environment's name: nothing was touched", code="unconfirmed")


def _somebody_is_here() -> bool:
    return sys.stdin.isatty() and sys.stderr.isatty()
