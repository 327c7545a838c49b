"""`migrator init`: a migrator.toml to start from."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from migrator.cli import output
from migrator.cli.options import AsJson
from migrator.errors import Refused, UsageError

if TYPE_CHECKING:
    from migrator.config.login import Login

# At 155 MB/s, seen with two jobs, a restore takes about the half hour that a run may hold users off by default.
_GUARDED_UP_TO_BYTES = 250 * 10**9


def init(
    *,
    config: Annotated[Path, typer.Option("--config", metavar="PATH", help="The file to write.")] = Path(
        "migrator.toml"
    ),
    url: Annotated[
        str | None, typer.Option("--url", metavar="URL", help="A database to write a section for, without a password.")
    ] = None,
    env: Annotated[str, typer.Option("--env", "-e", metavar="NAME", help="The name of that section.")] = "staging",
    password_env: Annotated[
        str | None, typer.Option("--password-env", metavar="VARIABLE", help="The variable that holds its password.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite a file that is there.")] = False,
    as_json: AsJson = False,
) -> None:
    """Write a commented migrator.toml. With --url, look at the database's size and propose a profile.

    \b
    migrator init
    migrator init --url postgresql://migrator@db.internal/shop --env staging --password-env STAGING_DB_PASSWORD
    """
    from migrator.config import template

    if config.exists() and not force:
        raise Refused(
            f"{config.absolute()} is there already",
            hint="go to the folder of your changelogs, or give --config PATH; --force overwrites this one",
        )
    profile, reason, text = None, None, template.starting_file()
    if url is not None:
        profile, reason, text = _proposed(env, url, password_env)
    elif password_env is not None:
        raise UsageError("--password-env is for a database", hint="give its --url")
    _write(config, text)
    if as_json:
        output.json_result({"file": str(config.absolute()), "profile": profile, "reason": reason})
        return
    output.result(f"{config} is written" + (f"; profile {profile}: {reason}" if profile else ""))
    output.note("keep .migrator/ and the backups' folder out of version control: they hold data")
    shown = env if url is not None else "local"
    output.note(f"next: migrator doctor --env {shown}")


def _proposed(env: str, url: str, variable: str | None) -> tuple[str, str, str]:
    """The profile for the database, why, and the file's text. Raises: ConfigError, UsageError, ConnectionFailed."""
    from migrator.config import references, template, urls
    from migrator.config.load import without_file
    from migrator.config.models import ENVIRONMENT_NAME
    from migrator.config.targets import EMBEDDED
    from migrator.reports import wording

    if not re.fullmatch(ENVIRONMENT_NAME, env):
        raise UsageError(f"--env {env!r}: letters, digits, '-' and '_' make up an environment's name")
    given = {"url": url}
    if variable is not None:
        if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", variable):
            raise UsageError("--password-env wants the name of an environment variable, not its value")
        if not os.environ.get(variable):
            raise UsageError(
                f"--password-env: the environment variable {variable} is not set",
                hint=f"set {variable}: its value is needed now, to look at the database's size",
            )
        given["password"] = f"${{env:{variable}}}"
    login = without_file(Path.cwd(), os.environ, given).environment(EMBEDDED).login
    if login is None:
        raise UsageError("--url names no database")
    size_bytes = _size_bytes(login)
    size = wording.size(size_bytes)
    if size_bytes <= _GUARDED_UP_TO_BYTES:
        profile, reason = "guarded", f"{size}: a backup and a way back fit a window of half an hour"
    else:
        profile, reason = "online", f"{size}: a dump and its restore would take longer than a window of half an hour"
    section = template.environment_section(
        env,
        url=url if references.is_reference(url) else urls.render(login),
        password_variable=variable,
        profile=profile,
        reason=reason,
    )
    return profile, reason, template.file_for(env, section)


def _size_bytes(login: Login) -> int:
    from migrator.postgres.connect import connect

    with connect(login, role="init", run_id="init", read_only=True) as session:
        return int(session.rows("SELECT pg_database_size(current_database())")[0][0] or 0)


def _write(path: Path, text: str) -> None:
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        fresh.write_text(text, encoding="utf-8")
        fresh.chmod(0o644)  # no secrets in it, and the team shares it
        fresh.replace(path)
    except OSError as error:
        fresh.unlink(missing_ok=True)
        raise Refused(f"{path} cannot be written: {error.strerror}") from error
