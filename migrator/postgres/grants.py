"""Privileges on a database: the effective ACL, and how it is made to be a given one."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import groupby

from psycopg import sql

from migrator.errors import StepFailed
from migrator.failpoints import Effect, effect
from migrator.postgres.session import Session
from migrator.postgres.transactions import acting_as, statement

CONNECT = "CONNECT"
_PRIVILEGES = {"CONNECT": sql.SQL("CONNECT"), "CREATE": sql.SQL("CREATE"), "TEMPORARY": sql.SQL("TEMPORARY")}


@dataclass(frozen=True, kw_only=True)
class Grant:
    """One privilege on a database, as PostgreSQL would apply it."""

    grantee: str | None  # None is PUBLIC
    privilege: str
    grantable: bool
    grantor: str

    def __str__(self) -> str:
        option = " with grant option" if self.grantable else ""
        return f"{self.privilege} to {self.grantee or 'PUBLIC'} by {self.grantor}{option}"


def read(session: Session, database: str) -> tuple[Grant, ...]:
    """The effective ACL in a fixed order, the default spelled out; () where there is no such database."""
    [(found,)] = session.rows(statement(_READ, sql.Literal(database)))
    return in_order(Grant(**item) for item in json.loads(found or "[]"))


def in_order(grants: Iterable[Grant]) -> tuple[Grant, ...]:
    return tuple(sorted(set(grants), key=lambda g: (g.grantor, g.grantee is not None, g.grantee or "", g.privilege)))


def connect_only_for(user: str, *, owner: str, grants: Iterable[Grant]) -> tuple[Grant, ...]:
    """The same ACL with CONNECT for `user` and nobody else, the owner included; other privileges stay."""
    kept = [g for g in grants if g.privilege != CONNECT or (g.grantee == user and g.grantor == owner)]
    if not any(g.privilege == CONNECT for g in kept):
        kept.append(Grant(grantee=user, privilege=CONNECT, grantable=False, grantor=owner))
    return in_order(kept)


@effect(Effect.GRANTS)
def put_back(session: Session, database: str, wanted: Iterable[Grant], *, owner: str) -> None:
    """The effective ACL equals `wanted`; read back, because a REVOKE by a stranger reports success and does nothing.

    Inside a transaction only, which is to be rolled back after an error. Safe to repeat.
    Raises: StepFailed; code `not_as_wanted` when PostgreSQL reported success and the ACL is another all the same.
    """
    should_be = frozenset(wanted)
    grantors = {grant.grantor for grant in read(session, database)}
    # the owner's own first: CASCADE takes with it what was passed on
    for grantor in sorted(grantors, key=lambda name: (name != owner, name)):
        too_many = [g for g in read(session, database) if g.grantor == grantor and g not in should_be]
        _change(session, database, too_many, template="REVOKE {} ON DATABASE {} FROM {} CASCADE")
    while missing := should_be - frozenset(now := read(session, database)):
        able = {(g.grantee, g.privilege) for g in now if g.grantable} | {(owner, name) for name in _PRIVILEGES}
        ready = [g for g in missing if (g.grantor, g.privilege) in able]
        _change(session, database, [g for g in ready if g.grantable], template=_GRANT + " WITH GRANT OPTION")
        _change(session, database, [g for g in ready if not g.grantable], template=_GRANT)
        if missing & frozenset(read(session, database)) != frozenset(ready) or not ready:
            break
    _check(database, read(session, database), should_be)


def _check(database: str, now: tuple[Grant, ...], wanted: frozenset[Grant]) -> None:
    wrong = [f"missing: {g}" for g in in_order(wanted) if g not in now]
    wrong += [f"too many: {g}" for g in now if g not in wanted]
    if wrong:
        raise StepFailed(
            f'the privileges on database "{database}" are not as wanted: {"; ".join(wrong)}',
            hint="Only the role that granted a privilege can take it back; run as a login that may act as it.",
            code="not_as_wanted",
        )


def _change(session: Session, database: str, grants: Iterable[Grant], *, template: str) -> None:
    for grantor, of_one in groupby(in_order(grants), key=lambda g: g.grantor):
        with acting_as(session, grantor):
            for grant in of_one:
                grantee = sql.SQL("PUBLIC") if grant.grantee is None else sql.Identifier(grant.grantee)
                privilege = _PRIVILEGES[grant.privilege]
                session.execute(statement(template, privilege, sql.Identifier(database), grantee))


_GRANT = "GRANT {} ON DATABASE {} TO {}"
_READ = """
SELECT jsonb_agg(jsonb_build_object(
    'grantee', CASE WHEN a.grantee <> 0 THEN pg_get_userbyid(a.grantee) END,
    'privilege', a.privilege_type,
    'grantable', a.is_grantable,
    'grantor', pg_get_userbyid(a.grantor)))
FROM pg_database AS d, aclexplode(coalesce(d.datacl, acldefault('d', d.datdba))) AS a
WHERE d.datname = {}
"""
