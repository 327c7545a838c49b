"""Questions to the person at the terminal."""

from __future__ import annotations

import sys

import typer

from migrator.errors import Refused


def confirm(question: str, *, assume_yes: bool) -> None:
    """The person said yes, or gave --yes. Raises: Refused for a no, and where there is nobody to ask."""
    if assume_yes:
        return
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise Refused(
            f"nobody is here to answer: {question}", hint="give --yes where no terminal is attached", code="unconfirmed"
        )
    if not typer.confirm(question, default=False, err=True):
        raise Refused("the answer was no", code="unconfirmed")
