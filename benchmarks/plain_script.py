"""The plain script that a guarded run replaces: pg_dump, six Liquibase command lines, two Great Expectations scripts.

Written as a careful team would write it, and no slower than it has to be: what can be done while users still work is
done before, and no step runs twice. Users are held from writing by SQL meanwhile. It proves nothing, and knows no way
back but the dump.

    plain_script.py <settings.json>         settings: see `Settings`; the password comes from PGPASSWORD

Prints one JSON object: the seconds of every step, and the time from read-only to writable again.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import psycopg
from psycopg import sql


@dataclass(frozen=True, kw_only=True)
class Settings:
    host: str
    port: int
    user: str
    database: str
    java: str  # the program
    jars: list[str]  # Liquibase, what it needs, and the PostgreSQL driver
    pg_dump: str
    root: str  # the folder that the changelog's paths are relative to
    changelog: str
    suites: str  # the folder of the suites
    python: str  # the interpreter that has Great Expectations
    output: str  # where the dump and what the tools say go


class Script:
    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.steps: dict[str, float] = {}

    def run(self) -> float:
        """The database is migrated; returns the seconds for which nobody could write."""
        self._liquibase("validate")
        self._liquibase("status")
        self._checks("before")
        with self._step("read-only on"):
            started = time.monotonic()
            self._read_only("on")
        self._pg_dump()
        self._liquibase("tag", "--tag=before-release")
        self._liquibase("update-sql")
        self._liquibase("update")
        self._liquibase("history")
        self._checks("after")
        with self._step("read-only off"):
            self._read_only("off")
        return time.monotonic() - started

    @contextmanager
    def _step(self, name: str) -> Iterator[None]:
        started = time.monotonic()
        yield
        self.steps[name] = round(time.monotonic() - started, 3)

    def _liquibase(self, command: str, *options: str) -> None:
        s = self.settings
        # Its own session may write while the database's default says no.
        url = f"jdbc:postgresql://{s.host}:{s.port}/{s.database}?options=-c%20default_transaction_read_only%3Doff"
        argv = [s.java, "-cp", os.pathsep.join(s.jars), "liquibase.integration.commandline.LiquibaseCommandLine"]
        argv += [f"--search-path={s.root}", f"--url={url}", f"--username={s.user}", "--show-banner=false", command]
        if command not in {"history", "tag"}:
            argv.append(f"--changelog-file={s.changelog}")
        env = {
            **os.environ,
            "LIQUIBASE_COMMAND_PASSWORD": os.environ["PGPASSWORD"],
            "LIQUIBASE_ANALYTICS_ENABLED": "false",
        }
        self._tool(f"liquibase {command}", [*argv, *options], env)

    def _pg_dump(self) -> None:
        s = self.settings
        argv = [s.pg_dump, "-Fc", f"--host={s.host}", f"--port={s.port}", f"--username={s.user}", "--no-password"]
        self._tool("pg_dump", [*argv, f"--file={Path(s.output, 'before.dump')}", s.database])

    def _checks(self, when: str) -> None:
        s = self.settings
        url = f"postgresql+psycopg://{s.user}@{s.host}:{s.port}/{s.database}"
        self._tool(f"checks {when}", [s.python, str(Path(__file__).with_name("plain_checks.py")), url, s.suites])

    def _tool(self, name: str, argv: list[str], env: dict[str, str] | None = None) -> None:
        log = Path(self.settings.output, f"{name.replace(' ', '-')}.log")
        with self._step(name), log.open("w", encoding="utf-8") as out:
            done = subprocess.run(
                argv, check=False, env=env, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT
            )
        if done.returncode != 0:
            said = log.read_text(encoding="utf-8", errors="replace")[-2000:]
            raise SystemExit(f"{name} ended with {done.returncode}:\n{said}")

    def _read_only(self, state: str) -> None:
        s = self.settings
        with psycopg.connect(
            host=s.host,
            port=s.port,
            user=s.user,
            dbname="postgres",
            password=os.environ["PGPASSWORD"],
            autocommit=True,
        ) as connection:
            database = sql.Identifier(s.database)
            if state == "on":
                connection.execute(sql.SQL("ALTER DATABASE {} SET default_transaction_read_only = on").format(database))
                connection.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                    "WHERE datname = %s AND backend_type = 'client backend'",
                    [s.database],
                )
            else:
                connection.execute(sql.SQL("ALTER DATABASE {} RESET default_transaction_read_only").format(database))


def save(settings: Settings, path: Path) -> Path:
    """The settings lie in the file that the script takes."""
    path.write_text(json.dumps(asdict(settings)), encoding="utf-8")
    return path


if __name__ == "__main__":
    script = Script(Settings(**json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))))
    downtime_s = script.run()
    json.dump({"downtime_s": round(downtime_s, 3), "steps": script.steps}, sys.stdout)
