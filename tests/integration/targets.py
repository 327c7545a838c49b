"""A database to fence, copy and swap, under a name that has to be quoted, in the three ways to have rights on it."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace

from psycopg import sql

from migrator.config.login import Login
from migrator.errors import ConnectionFailed
from migrator.postgres.connect import PgSession, connect
from tests.conftest import Server

KINDS = ("owner", "member", "superuser")


@dataclass(frozen=True, kw_only=True)
class Target:
    server: Server
    admin: PgSession  # to the database postgres, by `login`
    superuser: PgSession  # to the database postgres
    login: Login  # to the target
    name: str
    token: str  # part of the name of every database that the test makes
    owner: str
    stranger: str  # a role that has nothing to do with anything

    @property
    def app(self) -> Login:
        return self.server.app.to(self.name)

    def superuser_login(self) -> Login:
        return self.server.admin.to(self.name)

    def sql(self, template: str, *names: str) -> None:
        """The superuser ran this; the first {} is the database's name, the others are roles."""
        parts = [sql.Identifier(name) for name in (self.name, *names)]
        self.superuser.execute(sql.SQL(template).format(*parts).as_string(None))


@contextmanager
def target(server: Server, kind: str) -> Iterator[Target]:
    token = secrets.token_hex(4)
    name = f"test_{token} \"q' --x;{{}}%s é"
    name += "z" * (63 - len(name.encode()))
    owner = server.migrator.user if kind == "owner" else f"Test Owner {token}"
    stranger = f'test "{token}" stranger'
    login = (server.admin if kind == "superuser" else server.migrator).to(name)
    with server.session() as superuser, server.session(login.to("postgres"), role="admin") as admin:
        made = Target(
            server=server,
            admin=admin,
            superuser=superuser,
            login=login,
            name=name,
            token=token,
            owner=owner,
            stranger=stranger,
        )
        made.sql("CREATE ROLE {1}", stranger)
        if kind != "owner":
            made.sql("CREATE ROLE {1}", owner)
        if kind == "member":
            made.sql("GRANT {1} TO {2}", owner, login.user)
        made.sql("CREATE DATABASE {0} OWNER {1}", owner)
        try:
            yield made
        finally:
            _clean_up(made)


def _clean_up(made: Target) -> None:
    with made.server.session() as superuser:  # the test may have ended the other session
        fresh = replace(made, superuser=superuser)
        for (name,) in superuser.rows(f"SELECT datname FROM pg_database WHERE position('{made.token}' IN datname) > 0"):
            replace(fresh, name=name or "").sql("DROP DATABASE {} WITH (FORCE)")
        for role in {made.stranger, made.owner} - {made.server.migrator.user}:
            fresh.sql("DROP ROLE IF EXISTS {1}", role)


def gets_in(login: Login) -> bool:
    """Whether this login can connect; any refusal but a missing privilege or a closed database is an error."""
    try:
        connect(login, role="test", run_id="visitor").close()
    except ConnectionFailed as error:
        if error.code not in ("no_connect_privilege", "closed"):
            raise
        return False
    return True


@contextmanager
def visitor(login: Login, *, application: str = "visitor") -> Iterator[PgSession]:
    """A session that is none of a run's, and that somebody may end."""
    session = connect(login, role="test", run_id="visitor")
    session.execute(sql.SQL("SET application_name = {}").format(sql.Literal(application)).as_string(None))
    try:
        yield session
    finally:
        with suppress(ConnectionFailed):
            session.close()
