"""How the sessions of a run, or of a command that works by itself, come about."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from migrator.config.login import Login

if TYPE_CHECKING:
    from migrator.postgres.connect import PgSession


@dataclass(frozen=True, kw_only=True)
class Access:
    """Who logs in where, and the id by which the server knows the sessions."""

    login: Login
    run_id: str
    connect_timeout_s: float

    def session(self, role: str, *, read_only: bool = False, database: str | None = None) -> PgSession:
        """A new session, in the login's database or in another one of its server. Raises: ConnectionFailed."""
        from migrator.postgres import connect

        return connect.connect(
            self.login,
            role=role,
            run_id=self.run_id,
            read_only=read_only,
            database=database,
            connect_timeout_s=self.connect_timeout_s,
        )
