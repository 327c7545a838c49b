"""Canaries in every place where a secret comes from; afterwards they are looked for in every place where none may be.

A secret may stand in three places: in the environment of `migrator` itself, where whoever starts it has put it; in a
PGPASSFILE of mode 0600, for as long as pg_dump or pg_restore runs; and on the way through a pipe to the child that
logs in. Not seen here: a core dump, swap, and the server's own log.
"""

from __future__ import annotations

import base64
import json
import os
import secrets
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from urllib.parse import quote

import pytest
from psycopg import sql

from migrator.config.login import Login, Secret
from migrator.postgres.connect import connect
from tests.acceptance.stage import PASSWORD, Stage, configure, crash_template, staged
from tests.conftest import Server
from tests.integration.aws import proxy as proxies
from tests.integration.aws.conftest import endpoint
from tests.integration.aws.server import REGION, account

__all__ = ["crash_template", "endpoint"]

ENVIRONMENT = {
    "AWS_ACCESS_KEY_ID": "AKIACANARYKEYCANARY1",
    "AWS_SECRET_ACCESS_KEY": "CanarySecretAccessKey/+CanarySecretAccess",
    "AWS_SESSION_TOKEN": "CanarySessionToken" * 3,
    "CANARY_SIGNING_KEY": base64.b64encode(b"canary signing key, 32 bytes ok!").decode(),
}
SUITE = (
    "name: orders\ntable: public.orders\nexpectations:\n"
    "- type: expect_column_values_to_not_be_null\n  kwargs: {column: customer_id}\n  severity: critical\n"
)


def spellings(secret: str) -> set[str]:
    """Every text that gives the secret away."""
    return {
        secret,
        quote(secret, safe=""),
        json.dumps(secret)[1:-1],
        secret.replace("'", "''"),
        secret.replace("\\", "\\\\").replace(":", "\\:"),
        base64.b64encode(secret.encode()).decode().rstrip("="),
        secret.encode().hex(),
    }


@dataclass(kw_only=True)
class Watched:
    """What was seen of a program and all that it started."""

    answers: list[str] = field(default_factory=list)
    programs: set[str] = field(default_factory=set)
    seen: list[str] = field(default_factory=list)  # of /proc: whose, and what


class Canaries:
    def __init__(self, password: str) -> None:
        self.all = {spelling for secret in (password, *ENVIRONMENT.values()) for spelling in spellings(secret)}

    def within(self, text: str) -> bool:
        return any(canary in text for canary in self.all)


@contextmanager
def polled(root: int, canaries: Canaries, watched: Watched) -> Iterator[None]:
    """For the length of the block every process that `root` starts is looked at; not `root`, whom others started."""
    stop = threading.Event()

    def look() -> None:
        while not stop.wait(0.005):
            for pid in _below(root) - {root}:
                command = _read(pid, "cmdline")
                if not command or command == _read(root, "cmdline"):  # between fork and exec it is what it was
                    continue
                watched.programs.add(command.partition("\0")[0].rpartition("/")[2])
                for text in (command, _read(pid, "environ")):
                    if canaries.within(text) and _read(pid, "cmdline") == command:
                        watched.seen.append(f"{command[:80]}: {text[:300]}")

    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(10)


def _read(pid: int, name: str) -> str:
    try:
        return Path(f"/proc/{pid}/{name}").read_bytes().decode(errors="replace")
    except OSError:
        return ""


def _below(root: int) -> set[int]:
    parents = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with suppress(OSError, IndexError):
                parents[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
    found = front = {root}
    while front:
        front = {pid for pid, parent in parents.items() if parent in front}
        found = found | front
    return found


def run(stage: Stage, canaries: Canaries, watched: Watched, *arguments: str, **environ: str) -> int:
    """The program's exit code; all that can be seen of it has been looked at."""
    records = stage.folder.parent / "records"
    argv = [sys.executable, "-m", "tests.acceptance.recorded", str(records), *arguments, *stage._common(arguments)]
    home = stage.folder / "home"
    home.mkdir(exist_ok=True)
    env = {**os.environ, **ENVIRONMENT, "HOME": str(home), "TMPDIR": str(home), "XDG_STATE_HOME": str(home), **environ}
    env.setdefault("XDG_CACHE_HOME", str(Path.home() / ".cache"))  # the pinned jars need not be fetched again
    process = subprocess.Popen(
        argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2], env=env
    )
    with polled(process.pid, canaries, watched):
        out, err = process.communicate(timeout=180)
    watched.answers += [out, err]
    return process.returncode


@contextmanager
def canary_role(server: Server, password: str) -> Iterator[Login]:
    """A role with the canary for a password, which may do what the migrating role may."""
    role = f"canary_{secrets.token_hex(3)}"
    with server.session() as admin:
        admin.execute(
            sql.SQL("CREATE ROLE {} LOGIN CREATEDB CREATEROLE PASSWORD {} IN ROLE {}, pg_signal_backend, pg_monitor")
            .format(sql.Identifier(role), sql.Literal(password), sql.Identifier(server.migrator.user))
            .as_string(None)
        )
    try:
        yield replace(server.migrator, user=role, password=Secret(password))
    finally:  # of what it owned the databases are gone by now
        with server.session() as admin:
            admin.execute(sql.SQL("DROP OWNED BY {0}; DROP ROLE {0}").format(sql.Identifier(role)).as_string(None))


@pytest.mark.slow
def test_no_secret_is_written_down_anywhere(server: Server, crash_template: Login, tmp_path: Path) -> None:
    folder = tmp_path / "project"
    folder.mkdir()
    password = "c4n4ry a!b@c$d()e*_,/:;=?[]22 \\'\"é" + secrets.token_hex(6)
    canaries, watched = Canaries(password), Watched()
    with canary_role(server, password) as role, staged(server, crash_template, folder) as stage:
        login = role.to(stage.database)
        configure(folder, login)
        text = (folder / "migrator.toml").read_text()
        text = text.replace("[environments.crash.checks]", '[environments.crash.checks]\nsuites = ["checks/*.yaml"]')
        (folder / "migrator.toml").write_text('[signing]\nkey = "${env:CANARY_SIGNING_KEY}"\n' + text)
        stage.write("checks/orders.yaml", SUITE)
        given = {PASSWORD: password}

        def migrator(*arguments: str, **environ: str) -> int:
            return run(stage, canaries, watched, *arguments, **(given | environ))

        assert migrator("doctor") in {0, 3}
        assert migrator("config", "show") == 0
        assert migrator("run", "bad-without-rollback.sql", "--way", "stepwise") == 7
        assert migrator("run", "good.sql", "--json") == 0
        assert migrator("status", "--json") == 0
        assert migrator("backup", "create") == 0
        assert migrator("run", "nonsense.sql") == 2
        assert migrator("run", "good.sql", **{PASSWORD: password + "!"}) == 3
        assert migrator("run", "good.sql", "--set", f"url=postgresql://u:{quote(password, safe='')}@h/d") == 2
        assert migrator("backup", "create", MIGRATOR_FAIL_POINTS="enabled", MIGRATOR_FAIL_AT="bug@manifest.before") != 0
        assert migrator("history", "--json") == 0
        with closing(connect(login.to("postgres"), role="look", run_id="test")) as session:
            activity = session.rows("select query from pg_stat_activity")
    assert {"pg_dump", "pg_restore"} <= watched.programs, watched.programs
    assert_nowhere(canaries, watched, tmp_path)
    assert not canaries.within(str(activity))


def assert_nowhere(canaries: Canaries, watched: Watched, folder: Path) -> None:
    """No secret was seen of a process, said by the program, or is in a file of the folder."""
    assert not watched.seen, watched.seen[:3]
    for answer in watched.answers:
        assert not canaries.within(answer), answer
    for line in (folder / "records").read_text().splitlines():
        assert not canaries.within(json.loads(line).__repr__()), line
        assert not canaries.within(line), line
    for path in folder.rglob("*"):
        if path.is_file() and not path.is_symlink():
            found = path.read_bytes().decode("utf-8", errors="replace")
            assert not canaries.within(found), f"{path} holds a secret"


def told(code: str) -> proxies.Answer:
    """What S3 answers to a signature that it does not take: with what it was given, as S3 itself does."""
    key_id, token = ENVIRONMENT["AWS_ACCESS_KEY_ID"], ENVIRONMENT["AWS_SESSION_TOKEN"]
    given = f"<AWSAccessKeyId>{key_id}</AWSAccessKeyId><Token-0>{token}</Token-0>"
    body = f"<Error><Code>{code}</Code><Message>told to</Message>{given}</Error>"
    return proxies.Answer(403 if code != "ExpiredToken" else 400, body.encode())


REFUSALS = ("InvalidAccessKeyId", "ExpiredToken", "SignatureDoesNotMatch", "AccessDenied")


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_no_secret_of_aws_is_written_down_anywhere(
    server: Server, crash_template: Login, tmp_path: Path, endpoint: str
) -> None:
    """The keys are at work: backups are sent to S3 and fetched from it, and S3 refuses some."""
    folder, name = tmp_path / "project", f"b{secrets.token_hex(8)}"
    folder.mkdir()
    canaries, watched = Canaries("no password here " + secrets.token_hex(6)), Watched()
    s3 = account(endpoint).client("s3")
    s3.create_bucket(Bucket=name, CreateBucketConfiguration={"LocationConstraint": REGION})
    with staged(server, crash_template, folder) as stage, proxies.before(endpoint) as proxy:
        text = (folder / "migrator.toml").read_text()
        text = text.replace("[environments.crash.backup]", f'[environments.crash.backup]\nstore = "s3://{name}/shop"')
        text += f'[aws]\nregion = "{REGION}"\nendpoint_url = "{proxy.url}"\nattempts = 2\nlongest_pause_s = 0.01\n'
        (folder / "migrator.toml").write_text(text)

        def migrator(*arguments: str, **environ: str) -> int:
            return run(stage, canaries, watched, *arguments, **environ)

        assert migrator("doctor") in {0, 3}
        assert migrator("run", "bad-without-rollback.sql", "--way", "stepwise") == 7
        assert migrator("run", "good.sql", "--json", "--set", "store.spool=false") == 0
        assert migrator("backup", "list", "--json") == 0
        harm = {"MIGRATOR_FAIL_POINTS": "enabled", "MIGRATOR_FAIL_AT": "bug@provider_call.before#5"}
        assert migrator("backup", "create", **harm) == 1
        for code in REFUSALS:
            proxy.harm = lambda asked, code=code: told(code) if asked.method == "PUT" else None  # type: ignore[misc]
            assert migrator("backup", "create") != 0
        changelog = "--liquibase formatted sql\n--changeset crash:more\nselect 1;\n--rollback empty\n"
        assert migrator("run", stage.write("more.sql", changelog), "--json") == 5
        assert {ENVIRONMENT["AWS_ACCESS_KEY_ID"]} == {asked.key_id for asked in proxy.asked}, "these keys are in use"
    assert any("InvalidAccessKeyId" in answer for answer in watched.answers), "refused, and told"
    assert_nowhere(canaries, watched, tmp_path)
    for one in s3.list_objects_v2(Bucket=name)["Contents"]:
        kept = s3.get_object(Bucket=name, Key=one["Key"])["Body"].read().decode(errors="replace")
        assert not canaries.within(kept), f"{one['Key']} holds a secret"
