"""What measuring costs: 1,000 changesets applied in one transaction, and tried with every changeset measured.

    python benchmarks/dry_run.py [CHANGESETS]

Both on a fresh database of an embedded server, by the same worker, in turns; the faster of three rounds counts. The dry
run may cost at most 1.2 times what applying costs; more is exit code 1.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path
from typing import Literal

from migrator.config.login import Login
from migrator.liquibase import install
from migrator.liquibase.models import LiquibaseOptions
from migrator.liquibase.session import Liquibase
from migrator.postgres.embedded import EmbeddedServer, Options

_MOST = 1.2
_ROUNDS = 3
_KINDS = (
    "create table t{n} (id int primary key, name text not null, total numeric(12, 2));",
    "insert into t{before} select g, 'n' || g, g from generate_series(1, 50) g;",
    "create index t{before}_by_name on t{before} (name);",
    "alter table t{before} add column note text;",
    "update t{before} set note = name where id % 2 = 0;",
)


def changelog(number: int) -> str:
    """A formatted SQL changelog of that many changesets: tables, rows, indexes, columns, updates."""
    parts = ["--liquibase formatted sql"]
    for n in range(number):
        kind = _KINDS[n % len(_KINDS)]
        parts.append(f"--changeset bench:{n}\n" + kind.format(n=n, before=n - n % len(_KINDS)))
    return "\n".join(parts) + "\n"


def timed(liquibase: Liquibase, login: Login, root: Path, mode: Literal["apply", "dry-run"]) -> float:
    """Seconds from the open transaction to its end."""
    liquibase.connect(
        login,
        application_name="mig:bench:liquibase",
        options=LiquibaseOptions(version="5.0.4", root=root),
        mode="held",
        lock_timeout_s=10,
        measure="target" if mode == "dry-run" else None,
    )
    began = time.monotonic()
    liquibase.begin()
    liquibase.update("changelog.sql", on_event=lambda _event: None, timeout_s=3600)
    liquibase.commit() if mode == "apply" else liquibase.rollback()
    took_s = time.monotonic() - began
    liquibase.disconnect()
    return took_s


def main(number: int) -> int:
    with tempfile.TemporaryDirectory(prefix="migrator-bench-") as name:
        folder = Path(name)
        folder.chmod(0o711)
        (folder / "changelog.sql").write_text(changelog(number), encoding="utf-8")
        server = EmbeddedServer.start(folder / "pg", Options(major=18).that_ends_with_us(remove=folder))
        liquibase = Liquibase.start(
            install.jars_for("5.0.4", None), install.java_home(None), log=folder / "worker.log", heap_mb=256
        )
        try:
            times: dict[str, list[float]] = {"apply": [], "dry-run": []}
            for turn in range(_ROUNDS + 1):
                for mode in ("apply", "dry-run"):
                    took_s = timed(liquibase, server.create_database(f"{mode}_{turn}"), folder, mode)
                    if turn:  # the first round warms the JVM up
                        times[mode].append(took_s)
        finally:
            liquibase.close()
            server.immediate_stop()
    applied, tried = min(times["apply"]), min(times["dry-run"])
    print(f"{number:,} changesets: applied in {applied:.2f} s, tried in {tried:.2f} s, {tried / applied:.2f} times")
    return 0 if tried <= _MOST * applied else 1


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]) if sys.argv[1:] else 1000))
