"""What a query runs on: our own psycopg connection, or the one transaction that Liquibase works in.

Fingerprints, write set, ledger and invariants are written against this contract, so that the same SQL
verifies committed and uncommitted data. All values travel as PostgreSQL's text form.
"""

from __future__ import annotations

from typing import Protocol

Row = tuple[str | None, ...]


class Session(Protocol):
    """One database session. SQL is complete text: no parameters (build it with `psycopg.sql`)."""

    def rows(self, sql: str) -> list[Row]:
        """The result of one statement, every value as PostgreSQL prints it, NULL as None.

        Raises: StepFailed (or a subclass) with the server's message.
        """
        ...

    def execute(self, sql: str) -> None:
        """One or several statements were executed; results are dropped."""
        ...
