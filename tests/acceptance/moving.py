"""Two million rows that are moved by the installed program while an application writes them, and a witness of both."""

from __future__ import annotations

import json
import os
import random
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg

from migrator.config.login import Login
from tests.acceptance.stage import Answer, ended, settled
from tests.conftest import Server
from tests.shop import SAMPLE, conninfo

ENVIRONMENT = "online"
ROWS = 2_000_000
PASSWORD = "ONLINE_TEST_PASSWORD"
_LEDGER = "create table databasechangelog (id text, author text, filename text, dateexecuted timestamp,"
_LEDGER += " orderexecuted int, exectype text, md5sum text)"
_WITHIN_S = 300.0


@dataclass(kw_only=True)
class Moving:
    """One of the sample's examples with many rows, in a database and a folder of its own."""

    server: Server
    login: Login
    folder: Path
    name: str  # the example's, and so its backfill's
    rows: int = ROWS
    pace: str = ""  # more of the backfill's file
    _look: psycopg.Connection | None = None

    def set_up(self) -> None:
        """The rows are there, and the new columns or table for them; the application may write."""
        self.execute(self.changelog("1-base"))
        self.execute(self.changelog("2-expand") + _LEDGER)
        [after] = re.findall(r'after = "(.+)::shop"', self.backfill)
        self.execute(
            f"insert into databasechangelog values ('{after}', 'shop', 'changelogs/x.sql', now(), 1, 'EXECUTED')"
        )
        self.execute("grant select, insert, update, delete on all tables in schema public to app")
        self.execute("grant usage on all sequences in schema public to app; analyze")
        place = self.folder / "changelogs" / f"{self.name}.backfill.toml"
        place.parent.mkdir()
        place.write_text(self.backfill + self.pace)
        (self.folder / "migrator.toml").write_text(
            f'[environments.{ENVIRONMENT}]\nprofile = "online"\npassword = "${{env:{PASSWORD}}}"\n'
            f'url = "postgresql://{self.login.user}@{self.login.host}:{self.login.port}/{self.login.database}"\n'
        )

    @property
    def backfill(self) -> str:
        return (self.example / "2-expand" / f"{self.name}.backfill.toml").read_text()

    @property
    def example(self) -> Path:
        return SAMPLE / "changelogs" / "backfills" / self.name

    def changelog(self, release: str) -> str:
        """Its SQL, with as many rows as are wanted."""
        return (self.example / release / "changelog.sql").read_text().replace("20000", str(self.rows))

    def execute(self, text: str) -> None:
        with psycopg.connect(conninfo(self.login), autocommit=True) as connection:
            connection.execute(text.encode())

    def execute_one_by_one(self, text: str) -> None:
        """Each statement a transaction of its own, as CREATE INDEX CONCURRENTLY wants it."""
        for one in re.sub(r"(?m)^--.*$", "", text).split(";"):
            if one.strip():
                self.execute(one)

    def query(self, text: str) -> list[tuple[Any, ...]]:
        with psycopg.connect(conninfo(self.login), autocommit=True) as connection:
            return connection.execute(text.encode()).fetchall()

    def value(self, text: str) -> Any:
        [(value,)] = self.query(text)
        return value

    def begin(self, *arguments: str) -> subprocess.Popen[str]:
        assert self.login.password is not None
        return subprocess.Popen(
            [Path(sys.executable).parent / "migrator", "backfill", *arguments, "--env", ENVIRONMENT],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=self.folder,
            env={**os.environ, PASSWORD: self.login.password.reveal()},
        )

    def migrator(self, *arguments: str) -> Answer:
        return ended(self.begin(*arguments), within_s=_WITHIN_S)

    def status(self) -> dict[str, Any]:
        [found] = json.loads(self.migrator("status", self.name, "--json").out)["backfills"]
        assert isinstance(found, dict)
        return found

    def moved_rows(self, phase: str = "move") -> int:
        """Rows that are committed, by the ledger, which is not there before the first batch."""
        if self._look is None:
            self._look = psycopg.connect(conninfo(self.login), autocommit=True)
        if self._look.execute("select to_regclass('migrator_backfill_ranges')").fetchone() == (None,):
            return 0
        text = "select coalesce(sum(rows_done), 0) from migrator_backfill_ranges where phase = %s"
        [(rows,)] = self._look.execute(text, (phase,)).fetchall()
        return int(rows)

    def killed(self, *arguments: str, counted: str, after_rows: int) -> None:
        """The command was killed by SIGKILL when it had committed so many rows more."""
        process = self.begin(*arguments)
        there = self.moved_rows(counted)
        settled(
            lambda: self.moved_rows(counted) >= there + after_rows or process.poll() is not None,
            lambda: f"{arguments}: no more than {self.moved_rows(counted) - there} rows",
            within_s=_WITHIN_S,
        )
        process.send_signal(signal.SIGKILL)
        answer = ended(process)
        assert answer.code == -signal.SIGKILL, answer


@dataclass(kw_only=True)
class Writer:
    """An application that does one thing after the other; `did` has what was confirmed."""

    login: Login
    deed: Callable[[psycopg.Connection, random.Random], tuple[str, int]]  # what it did, to which id
    did: list[tuple[str, int]] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    longest_s: float = 0.0
    stop: threading.Event = field(default_factory=threading.Event)

    def loop(self, seed: int) -> None:
        dice = random.Random(seed)
        with psycopg.connect(conninfo(self.login), autocommit=True) as connection:
            while not self.stop.is_set():
                began = time.monotonic()
                try:
                    self.did.append(self.deed(connection, dice))
                except psycopg.Error as error:
                    self.refused.append(str(error))
                self.longest_s = max(self.longest_s, time.monotonic() - began)
                self.stop.wait(0.002)


@contextmanager
def writing(writer: Writer, *, count: int = 2) -> Iterator[Writer]:
    threads = [threading.Thread(target=writer.loop, args=(number,), daemon=True) for number in range(count)]
    for thread in threads:
        thread.start()
    try:
        settled(lambda: len(writer.did) > count, lambda: f"it cannot write: {writer.refused[-1:]}")
        yield writer
    finally:
        writer.stop.set()
        for thread in threads:
            thread.join(30)


def checksum(moving: Moving, columns: str, table: str) -> Any:
    """Of all rows of a table, whatever their order."""
    with closing(psycopg.connect(conninfo(moving.login))) as connection:
        text = f"select count(*), sum(hashtextextended(row({columns})::text, 0)::numeric) from {table}"
        return connection.execute(text.encode()).fetchone()
