"""Databases that exist to be tried in: their comment says what they are of, and when nobody needs them any more.

A name `mig_<id>_scratch` says that nothing of value is in it: whoever finds one whose maker has no session left may
drop it. The maker keeps a session on the same server, named after the id, for as long as it needs the database.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass

from psycopg import sql

from migrator.failpoints import Effect, effect
from migrator.postgres import databases, properties, sessions
from migrator.postgres.session import Session
from migrator.postgres.transactions import statement

_PREFIX = "migrator-scratch: "
_MEANING = "made to try something in; it may be dropped as soon as no session named mig:<id>: is connected"


@dataclass(frozen=True, kw_only=True)
class Mark:
    """What the comment of a scratch database says."""

    environment: str
    target: str  # the database that it stands for
    origin: str  # what it was filled from
    since: str  # ISO 8601
    may_go: str = _MEANING


@dataclass(frozen=True, kw_only=True)
class Leftover:
    """A scratch database whose maker is gone."""

    name: str
    oid: int
    run_id: str
    mark: Mark | None  # None: its maker was killed before it could say more than the name does


@effect(Effect.DATABASE_MARK)
def put(admin: Session, database: str, mark: Mark) -> None:
    """The database's comment is the mark. Safe to repeat."""
    text = _PREFIX + json.dumps(asdict(mark))
    admin.execute(statement("COMMENT ON DATABASE {} IS {}", sql.Identifier(database), sql.Literal(text)))


@effect(Effect.GRANTS)
def let_in(admin: Session, database: str, user: str) -> None:
    """This user may connect to the database, which others may not. Safe to repeat."""
    admin.execute(statement("GRANT ALL ON DATABASE {} TO {}", sql.Identifier(database), sql.Identifier(user)))


def read(comment: str | None) -> Mark | None:
    """The mark that a comment is; None for any other comment."""
    if comment is None or not comment.startswith(_PREFIX):
        return None
    try:
        return Mark(**json.loads(comment.removeprefix(_PREFIX)))
    except (ValueError, TypeError):
        return None


def leftovers(admin: Session, *, environment: str, target: str) -> Iterator[Leftover]:
    """Scratch databases of this target, or of nobody knows which, whose maker has no session on the server."""
    for made in databases.run_databases(admin):
        if not made.name.endswith("_scratch") or sessions.of_run(admin, made.run_id):
            continue
        mark = read(properties.read(admin, made.name).comment)
        if mark is None or (mark.environment, mark.target) == (environment, target):
            yield Leftover(name=made.name, oid=made.oid, run_id=made.run_id, mark=mark)
