"""Passwords of RDS that last a quarter of an hour: one a connection."""

from __future__ import annotations

import re
from dataclasses import dataclass

from migrator.aws.account import Account
from migrator.config.login import Secret
from migrator.errors import AwsFailed, ConnectionFailed

_ENDPOINT = re.compile(r"\.([a-z]{2}(?:-[a-z]+)+-\d)\.rds\.amazonaws\.com(\.cn)?$")


@dataclass(frozen=True, kw_only=True)
class Token:
    """A source of tokens for one user at one endpoint. Each is signed here; AWS is asked for credentials at most."""

    account: Account
    host: str  # the endpoint itself: another name of it is not signed for
    port: int
    user: str

    def current(self) -> Secret:
        """A token that RDS takes for the next 15 minutes. Raises: ConnectionFailed."""
        found = _ENDPOINT.search(self.host)
        try:
            region = found[1] if found else self.account.region
            rds = self.account.service("rds")
            token = rds.once(
                lambda client: client.generate_db_auth_token(self.host, self.port, self.user, region),
                doing=f"Making a token for {self.user} at {self.host}",
            )
        except AwsFailed as error:
            raise ConnectionFailed(error.message, hint=error.hint, code="no_password") from error
        return Secret(str(token))
