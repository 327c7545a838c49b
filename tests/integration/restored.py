"""A database's dump, restored beside it."""

from __future__ import annotations

import subprocess
import tempfile
from pathlib import Path

from psycopg import sql

from migrator.config.login import Login
from migrator.postgres import client_tools
from migrator.postgres.transactions import statement
from tests.conftest import Server


def restored(server: Server, database: Login) -> Login:
    """The superuser's login to a new database with what the dump of `database` holds; dropped with the original."""
    name = f"{database.database}_restored"
    with server.session() as admin:
        admin.execute(
            statement("CREATE DATABASE {} TEMPLATE template0 OWNER migrator", sql.Identifier(name)),
        )
    tools = client_tools.find(server.major)
    with tempfile.TemporaryDirectory() as folder:
        dump = str(Path(folder) / "dump")
        with client_tools.passfile(server.admin, Path(folder)) as passfile:
            env = client_tools.environment(server.admin, passfile=passfile, application_name="test", tools=tools)
            for argv in (
                [str(tools.pg_dump), "-Fc", "-Z1", "-f", dump, "-d", database.database],
                [str(tools.pg_restore), "-e", "-d", name, dump],
            ):
                done = subprocess.run(argv, env=env, capture_output=True, text=True, timeout=120, check=False)
                assert done.returncode == 0, done.stderr
    return server.admin.to(name)
