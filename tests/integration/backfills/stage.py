"""One database in which backfills are done, without a run around them."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

from migrator.backfills import ledger, mover, undoing, verifying
from migrator.backfills.definition import Backfill
from migrator.backfills.mover import Moved, Progress, Work
from migrator.config.login import Login
from migrator.postgres.connect import PgSession, connect
from migrator.postgres.session import Row

CUSTOMERS = """
CREATE TABLE customer (id bigint PRIMARY KEY, name text, first_name text);
INSERT INTO customer SELECT n * 3, 'first' || n || ' last' || n FROM generate_series(1, {rows}) AS n
"""
SPLIT = {
    "name": "split-name",
    "after": "1::ann",
    "table": "customer",
    "key": ["id"],
    "where": "name is not null",
    "statement": "update customer c set first_name = split_part(c.name, ' ', 1) from batch b where c.id = b.id",
    "verify": "select id from customer where first_name is distinct from split_part(name, ' ', 1)",
    "undo": "update customer c set first_name = null from batch b where c.id = b.id",
    "batch_rows": 100,
}


def backfill(**changes: object) -> Backfill:
    """The split of a name, changed; None takes a key away."""
    given = {**SPLIT, **changes}
    return Backfill.model_validate({key: value for key, value in given.items() if value is not None})


@dataclass(kw_only=True)
class Stage:
    login: Login
    progress: list[Progress] = field(default_factory=list)

    @property
    def work(self) -> Work:
        def open_session(role: str) -> PgSession:
            return connect(self.login, role=role, run_id="test")

        return Work(login=self.login, schema=None, run_id="test", connect=open_session)

    def move(self, backfill: Backfill, *, check: Callable[[], None] = lambda: None) -> Moved:
        return mover.move(backfill, self.work, on_progress=self.progress.append, check=check)

    def undo(self, backfill: Backfill) -> Moved:
        return undoing.undo(backfill, self.work, on_progress=self.progress.append, check=lambda: None)

    def verify(self, backfill: Backfill) -> verifying.Verdict:
        with closing(self.session()) as session:
            return verifying.verify(session, backfill, None)

    def entry(self, name: str = "split-name") -> ledger.Entry:
        with closing(self.session()) as session:
            return ledger.read(session)[name]

    def execute(self, sql: str) -> None:
        with closing(self.session()) as session:
            session.execute(sql)

    def rows(self, sql: str) -> list[Row]:
        with closing(self.session()) as session:
            return session.rows(sql)

    def value(self, sql: str) -> str | None:
        return self.rows(sql)[0][0]

    def session(self) -> PgSession:
        return connect(self.login, role="test", run_id="other")

    def write(self, folder: Path, name: str, text: str) -> Path:
        path = folder / name
        path.write_text(text, encoding="utf-8")
        return path
