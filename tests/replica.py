"""A server and its physical replica, made by the test, and the failover from one to the other behind one address."""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

from migrator import processes
from migrator.config.login import Login
from migrator.errors import ConnectionFailed
from migrator.postgres import cluster
from migrator.postgres.connect import PgSession, connect
from migrator.postgres.embedded import EmbeddedServer, Options
from tests.acceptance.stage import settled
from tests.conftest import Server
from tests.proxy import Proxy, proxied

_START_S = 60.0


@dataclass(frozen=True, kw_only=True)
class Pair:
    """`server` is whichever of the two the address leads to."""

    server: Server
    primary: EmbeddedServer
    standby: Login  # the superuser's, by its own address
    proxy: Proxy

    def catch_up(self) -> None:
        """The replica has all that the primary has committed."""
        with closing(connect(self.primary.admin, role="test", run_id="test")) as session:
            [(there,)] = session.rows("select pg_current_wal_flush_lsn()")
        with closing(connect(self.standby, role="test", run_id="test")) as session:
            replayed = f"select pg_last_wal_replay_lsn() >= '{there}'::pg_lsn"
            settled(lambda: session.rows(replayed) == [("t",)], lambda: "the replica does not follow")

    def stand_still(self) -> None:
        """The replica receives what the primary commits, and applies none of it until `go_on`."""
        with closing(connect(self.standby, role="test", run_id="test")) as session:
            session.rows("select pg_wal_replay_pause()")
            state = "select pg_get_wal_replay_pause_state()"
            settled(lambda: session.rows(state) == [("paused",)], lambda: "it goes on applying")

    def go_on(self) -> None:
        with closing(connect(self.standby, role="test", run_id="test")) as session:
            session.rows("select pg_wal_replay_resume()")

    def cut_off(self) -> None:
        """What the primary commits from now on does not reach the replica any more."""
        with closing(connect(self.standby, role="test", run_id="test")) as session:
            session.execute("alter system set primary_conninfo = ''")
            session.rows("select pg_reload_conf()")
            receiving = "select count(*) from pg_stat_wal_receiver"
            settled(lambda: session.rows(receiving) == [("0",)], lambda: "it goes on receiving")

    def fail_over(self) -> None:
        """The primary has crashed, and the address leads to the replica, which is a primary of its own now."""
        self.primary.immediate_stop()
        with closing(connect(self.standby, role="test", run_id="test")) as session:
            assert session.rows("select pg_promote(true, 60)") == [("t",)]
        self.proxy.lead_to((self.standby.host, self.standby.port))


@contextmanager
def pair() -> Iterator[Pair]:
    folder = Path(tempfile.mkdtemp(prefix="migrator-test-"))
    folder.chmod(0o711)
    options = Options(major=18, settings={"wal_level": "replica", "hot_standby": "on"})
    try:
        primary = EmbeddedServer.start(folder / "pg", options.that_ends_with_us(remove=folder / "nothing"))
        try:
            with _replica(primary, folder) as port, proxied(primary.admin.host, primary.port) as proxy:
                server = Server(
                    admin=replace(primary.admin, port=proxy.port),
                    migrator=replace(primary.migrator, port=proxy.port),
                    app=replace(primary.app, port=proxy.port),
                    major=18,
                    embedded=None,
                )
                yield Pair(server=server, primary=primary, standby=replace(primary.admin, port=port), proxy=proxy)
        finally:
            primary.immediate_stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _replica(primary: EmbeddedServer, folder: Path) -> Iterator[int]:
    """A replica follows the primary; its port."""
    place = primary._place
    data, port = folder / "standby", cluster._free_port()
    data.mkdir()
    place.give(data)
    login = primary.admin
    assert login.password is not None
    options = ["-h", login.host, "-p", str(login.port), "-U", login.user, "-D", str(data), "-R", "-X", "stream"]
    processes.run(
        place.argv("pg_basebackup", *options, "--checkpoint=fast", "--no-sync"),
        timeout_s=120,
        env=processes.minimal_env(PGPASSWORD=login.password.reveal()),
        cwd=Path("/"),
        identity=place.identity,
    )
    with (data / "postgresql.auto.conf").open("a") as file:
        file.write(f"port = {port}\n")
    argv = place.argv("postgres", "-D", str(data), "-c", f"port={port}")
    process = processes.detach(argv, log=folder / "standby.log", identity=place.identity)
    try:
        settled(lambda: _answers(login, port), (folder / "standby.log").read_text, within_s=_START_S)
        yield port
    finally:
        pid = cluster.postmaster(data)
        with suppress(ProcessLookupError):
            os.kill(pid or process.pid, signal.SIGQUIT)
        process.wait(30)


def _answers(login: Login, port: int) -> bool:
    try:
        session: PgSession = connect(replace(login, port=port), role="test", run_id="test")
    except ConnectionFailed:
        return False
    session.close()
    return True
