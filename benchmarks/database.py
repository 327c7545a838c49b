"""The database that both ways migrate: filled once by the server itself, then copied for every measurement."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from psycopg import sql

from migrator.config.login import Login
from migrator.liquibase.jars import Jars
from migrator.postgres.connect import PgSession, connect
from migrator.postgres.embedded import EmbeddedServer

SHOP = Path(__file__).with_name("shop")
TEMPLATE, NAME = "bench_template", "bench"

# Rows for a database of 1 GB, indexes included. Orders refer to customers, items to orders: keep the proportions.
_ROWS = {"customer": 150_000, "orders": 1_200_000, "order_item": 3_000_000, "event": 1_700_000}
_FILL = {
    "customer": """
        select i, 'customer' || i || '@example.com', 'Customer ' || initcap(substr(md5(i::text), 1, 8)),
               (i * 7919 % 100000) / 100.0,
               jsonb_build_object('newsletter', i % 3 = 0, 'language', (array['en', 'de', 'fr', 'pl'])[1 + i % 4],
                                  'seen', jsonb_build_array(i % 97, i % 89, i % 83)),
               timestamptz '2024-01-01' + i * interval '5 minutes'
        from generate_series(1, {rows}::bigint) i""",
    "orders": """
        select i, 1 + (i * 7919) % {customers}, (array['open', 'paid', 'shipped', 'shipped', 'cancelled'])[1 + i % 5],
               1 + (i * 104729 % 50000) / 100.0, timestamptz '2024-06-01' + i * interval '40 seconds',
               case when i % 4 = 0 then 'Leave it with the neighbour on floor ' || i % 9 || ', please ring twice' end
        from generate_series(1, {rows}::bigint) i""",
    "order_item": """
        select i, 1 + (i * 7919) % {orders}, 'SKU-' || lpad((i * 31 % 20000)::text, 6, '0'), 1 + i % 7,
               (1 + i % 9973) / 100.0
        from generate_series(1, {rows}::bigint) i""",
    "event": """
        select i, timestamptz '2025-01-01' + i * interval '7 seconds',
               (array['view', 'click', 'cart', 'pay'])[1 + i % 4],
               jsonb_build_object('session', md5((i / 12)::text), 'page', '/products/' || i * 31 % 20000,
                                  'agent', 'Mozilla/5.0 (X11; Linux x86_64) Firefox/' || 100 + i % 40,
                                  'ms', i * 7919 % 4000, 'price', (i % 9973) / 100.0,
                                  'tags', jsonb_build_array('season-' || i % 12, 'shop'), 'referrer', null)
        from generate_series(1, {rows}::bigint) i""",
}


@dataclass(frozen=True, kw_only=True)
class Tools:
    """The programs that the plain script starts."""

    java: Path
    jars: Jars
    pg_dump: Path


def fill(server: EmbeddedServer, tools: Tools, *, gb: float, progress: Callable[[str], None]) -> int:
    """The template database holds about `gb` gigabytes and the ledger of its first release; its size in bytes."""
    login = create(server, TEMPLATE, tools)
    rows = {table: max(100, round(count * gb)) for table, count in _ROWS.items()}
    with connect(login, role="fill", run_id="bench") as session:
        session.execute("set synchronous_commit = off")
        for table, count in rows.items():
            progress(f"filling {table}: {count} rows")
            query = sql.SQL(_FILL[table]).format(
                rows=sql.Literal(count), customers=sql.Literal(rows["customer"]), orders=sql.Literal(rows["orders"])
            )
            statement = sql.SQL("insert into {} {}").format(sql.Identifier(table), query)
            session.execute(statement.as_string(None))
        session.execute("vacuum (analyze, freeze)")
        [(size,)] = session.rows("select pg_database_size(current_database())")
    return int(size or 0)


def create(server: EmbeddedServer, name: str, tools: Tools) -> Login:
    """The database has the tables of its first release, made by Liquibase, and no rows; its owner's login."""
    login = server.create_database(name)
    argv = [str(tools.java), "-cp", os.pathsep.join(map(str, tools.jars.paths))]
    argv += ["liquibase.integration.commandline.LiquibaseCommandLine", "--show-banner=false"]
    argv += [f"--search-path={SHOP}", f"--url=jdbc:postgresql://{login.host}:{login.port}/{name}"]
    argv += [f"--username={login.user}", "update", "--changelog-file=base.sql"]
    env = {**os.environ, "LIQUIBASE_COMMAND_PASSWORD": password(login), "LIQUIBASE_ANALYTICS_ENABLED": "false"}
    done = subprocess.run(argv, check=False, env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    if done.returncode != 0:
        raise SystemExit(f"The first release could not be applied to {name}:\n{done.stdout}{done.stderr}")
    return login


def fresh(server: EmbeddedServer, template: str = TEMPLATE, name: str = NAME) -> Login:
    """`name` is a new copy of the template, with nothing left for the server or the disk to write."""
    with connect(server.admin, role="copy", run_id="bench") as session:
        drop(session, name)
        copy = sql.SQL("create database {} template {} owner {} strategy file_copy")
        session.execute(
            copy.format(sql.Identifier(name), sql.Identifier(template), sql.Identifier(server.migrator.user)).as_string(
                None
            )
        )
        session.execute("checkpoint")
    os.sync()
    return server.migrator.to(name)


def drop(session: PgSession, name: str) -> None:
    """The database is gone. Safe to repeat."""
    session.execute(sql.SQL("drop database if exists {} with (force)").format(sql.Identifier(name)).as_string(None))


def releases(login: Login) -> int:
    """How many changesets the ledger holds; SystemExit unless the last release is there, whole."""
    with connect(login, role="look", run_id="bench", read_only=True) as session:
        [(count,)] = session.rows("select count(*) from databasechangelog where filename = 'release.yaml'")
        [(gold,)] = session.rows("select count(*) from customer where tier = 'gold'")
        [(index,)] = session.rows("select count(*) from pg_class where relname = 'orders_by_customer'")
        [(writable,)] = session.rows(
            "select count(*) from pg_db_role_setting s join pg_database d on d.oid = s.setdatabase "
            "where d.datname = current_database()"
        )
    if int(count or 0) != 6 or int(gold or 0) == 0 or index != "1" or writable != "0":
        raise SystemExit(f"{login.database} is not migrated: {count} changesets, {gold} gold customers, {index} index.")
    return int(count or 0)


def password(login: Login) -> str:
    """The login's password, for a child's environment."""
    if login.password is None:
        raise SystemExit(f"{login.user} has no password")
    return login.password.reveal()
