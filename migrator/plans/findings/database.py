"""What the rules ask of the target database: its tables, their rows, and what hangs on them. Reads only."""

from __future__ import annotations

from migrator.postgres.session import Session


class Database:
    """The target, asked when a rule needs it; each answer is kept."""

    def __init__(self, session: Session, *, default_schema: str | None = None) -> None:
        self._session = session
        self._default_schema = default_schema
