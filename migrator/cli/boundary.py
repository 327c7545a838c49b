"""The one place where errors become messages and exit codes."""

from __future__ import annotations

import gc
import os
import platform
import sys
import traceback
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import cast

import typer

from migrator import __version__, failpoints
from migrator.cli import output
from migrator.errors import MigratorError, UsageError

# typer's own root of wrong arguments; it has no public name
_CommandLineError = cast("type[Exception]", typer.BadParameter.__mro__[2])
FAIL_AT, FAIL_POINTS = "MIGRATOR_FAIL_AT", "MIGRATOR_FAIL_POINTS"
_STOPPED = 130  # what shells use for Ctrl-C


def run(app: typer.Typer, arguments: Sequence[str]) -> int:
    """The command was carried out or its error was told; the exit code is returned. Never raises an Exception.

    With --json among the arguments an error is one JSON document on standard output.
    """
    as_json = "--json" in arguments[: arguments.index("--")] if "--" in arguments else "--json" in arguments
    try:
        _arm(os.environ)
        code = app(list(arguments), prog_name="migrator", standalone_mode=False)
    except MigratorError as error:
        _tell(_described(error), error.exit_code, as_json=as_json)
        return error.exit_code
    except _CommandLineError as error:
        return _misused(error, as_json=as_json)
    except (typer.Abort, KeyboardInterrupt):
        output.note("stopped")
        return _STOPPED
    except Exception as error:  # noqa: BLE001 (the boundary: everything unexpected is a bug, and is told as one)
        _tell(_bug(error), MigratorError.exit_code, as_json=as_json)
        return MigratorError.exit_code
    return code if isinstance(code, int) else 0


def _arm(environ: Mapping[str, str]) -> None:
    """Fail points are armed where both variables say so. Raises: UsageError where only one does."""
    fate = environ.get(FAIL_AT)
    if fate is None:
        return
    if environ.get(FAIL_POINTS) != "enabled":
        raise UsageError(
            f"{FAIL_AT} is set, which makes this program come to harm, and {FAIL_POINTS} is not 'enabled'.",
            hint=f"Unset {FAIL_AT}: it is for tests of migrator itself.",
        )
    failpoints.arm(fate)
    output.note(f"fail points are armed: {fate}")


def _described(error: MigratorError) -> dict[str, object]:
    place = getattr(error, "place", None)
    return {
        "code": error.code,
        "message": _safe(error.message),
        "sqlstate": getattr(place, "sqlstate", None) or getattr(error, "sqlstate", None),
        "changeset": getattr(place, "changeset", None),
        "file": getattr(place, "file", None),
        "line": getattr(place, "line", None),
        "hint": _safe(error.hint) if error.hint else None,
    }


def _misused(error: Exception, *, as_json: bool) -> int:
    context = getattr(error, "ctx", None)
    command = context.command_path if context is not None else "migrator"
    if type(error).__name__ == "NoArgsIsHelpError":
        output.note(context.get_help() if context is not None else "see migrator --help")
        return 2
    told = {
        "code": "usage",
        "message": _safe(error.format_message()),  # type: ignore[attr-defined]
        "hint": f"`{command} --help` shows what there is",
    }
    _tell(told, 2, as_json=as_json)
    return 2


def _tell(error: Mapping[str, object], exit_code: int, *, as_json: bool) -> None:
    if as_json:
        output.json_result({"error": error, "exit_code": exit_code})
        return
    output.note(f"error: {error['message']}")
    if error.get("hint"):
        output.note(f"hint: {error['hint']}")


def _bug(error: Exception) -> dict[str, object]:
    said = f"{type(error).__name__}: {error}"
    log = _log(error)
    return {
        "code": MigratorError.code,
        "message": f"this is a bug in migrator: {' '.join(_safe(said).split())}",
        "hint": f"please report it with {log}" if log else "please report it",
        "log": str(log) if log else None,
    }


def _log(error: Exception) -> Path | None:
    """A file with the traceback and without secrets; None where none could be written."""
    from platformdirs import user_log_path

    now = datetime.now(UTC)
    text = "\n".join(
        [
            # not platform.platform(), which starts a program, with all that our environment holds
            f"migrator {__version__}, Python {platform.python_version()}, {platform.system()} {platform.release()} "
            f"{platform.machine()}",
            now.isoformat(),
            _safe("".join(traceback.format_exception(error))),
        ]
    )
    try:
        folder = user_log_path("migrator")
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        path = folder / f"bug-{now:%Y%m%dT%H%M%S%f}.log"
        path.write_text(text, encoding="utf-8")
        path.chmod(0o600)
    except OSError:
        sys.stderr.write(text)
        return None
    return path


def _safe(text: str) -> str:
    """The text without any secret of this process, and without what a terminal would obey."""
    from migrator.config.login import Secret
    from migrator.processes.redaction import redact
    from migrator.reports.wording import visible

    # Whoever raised may not have known every secret; one that is still in memory is found here.
    secrets = [found for found in gc.get_objects() if type(found) is Secret and len(found.reveal()) > 3]
    return visible(redact(text, secrets))
