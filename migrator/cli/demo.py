"""`migrator demo`: the main job on a sample database, good and bad, in a minute."""

from __future__ import annotations

import shlex
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from migrator.cli import conduct, opening, output
from migrator.errors import Refused

if TYPE_CHECKING:
    from migrator.config.configuration import Config
    from migrator.config.login import Login
    from migrator.runs.record import RunRecord
    from migrator.runs.reporter import Reporter

# In an installed package the sample lies inside it, in a checkout beside it.
_SAMPLES = (Path(__file__).parents[1] / "sample", Path(__file__).parents[2])
_STORY = (
    (
        "changelogs/2026.02-loyalty/changelog.xml",
        "A good changelog: planned, backed up, applied, verified.",
        "migrated",
    ),
    (
        "changelogs/broken/fails-midway.sql",
        "A changelog that fails halfway: everything is taken back.",
        "rolled_back",
    ),
    (
        "changelogs/broken/wrong-data.sql",
        "The data is wrong: a check sees it before the commit.",
        "rolled_back",
    ),
)


def demo(
    *,
    folder: Annotated[Path, typer.Option("--folder", help="Where the sample, its server and the reports go.")] = Path(
        ".migrator/demo"
    ),
    keep_server: Annotated[bool, typer.Option("--keep-server", help="Leave the embedded server running.")] = False,
) -> None:
    """Show the main job on a sample shop in an embedded PostgreSQL: one run that succeeds, two that are taken back.

    \b
    migrator demo
    """
    from datetime import UTC, datetime

    from migrator.postgres import embedded
    from migrator.runs import opening as runs
    from migrator.runs.reporter import SilentReporter

    _copy_sample(folder)
    loaded = opening.configuration(folder / "migrator.toml")
    output.note("Starting an embedded PostgreSQL ...")
    server = embedded.ensure_running(loaded.state / "pg")
    try:
        login = server.create_database(f"shop_{runs.new_id(datetime.now(UTC))}")
        output.note("Creating the sample shop and filling it (about 210,000 rows) ...\n")
        _must(_run(loaded, login, "changelogs/2026.01-base/changelog.sql", SilentReporter()), "migrated")
        for number, (changelog, says, expected) in enumerate(_STORY, start=1):
            output.note(f"\n── {number} of {len(_STORY)} ── {says}\n")
            _must(_run(loaded, login, changelog, conduct.reporter(silent=False)), expected)
        output.note(f"\nAll reports are in {loaded.state / 'runs'}.")
        output.note(f"Play on:           cd {shlex.quote(str(folder))} && {_program()} doctor --env local")
        output.note(f"Your own database: {_program()} init, in the folder of your changelogs")
    finally:
        if not keep_server:
            server.stop()


def _program() -> str:
    """How this program can be called from any folder."""
    return "migrator" if shutil.which("migrator") else shlex.quote(str(Path(sys.argv[0]).absolute()))


def _run(config: Config, login: Login, changelog: str, reporter: Reporter) -> RunRecord:
    from migrator.runs import engine
    from migrator.runs.opening import new
    from migrator.runs.run import Options

    options = Options(changelog=changelog)
    run = new(config, config.environment("local"), options, reporter=reporter, login=login)
    return conduct.story(run, engine.execute)


def _must(record: RunRecord, expected: str) -> None:
    if record.outcome != expected:
        said = record.error.message if record.error is not None else "no error"
        raise Refused(f"the demo expected the outcome {expected} and saw {record.outcome}: {said}", code="demo")


def _copy_sample(folder: Path) -> None:
    """The sample's changelogs, checks and migrator.toml are in the folder; what a person changed there is replaced.

    Raises: Refused when this installation has no sample.
    """
    sample = next((place for place in _SAMPLES if (place / "changelogs" / "broken").is_dir()), None)
    if sample is None:
        raise Refused("the sample is not part of this installation", hint="run `make demo` in a checkout")
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    for name in ("changelogs", "checks"):
        shutil.copytree(sample / name, folder / name, dirs_exist_ok=True)
    shutil.copyfile(sample / "migrator.toml", folder / "migrator.toml")
