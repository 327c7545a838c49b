"""`migrator github`: the workflows of a repository that migrates its databases with GitHub Actions."""

from __future__ import annotations

import re
import stat
from pathlib import Path
from typing import Annotated

import typer

from migrator.cli import output
from migrator.cli.options import AsJson
from migrator.errors import Refused, UsageError

app = typer.Typer(help="GitHub Actions.", no_args_is_help=True)

# In an installed package the templates lie inside it, in a checkout they are its own workflows.
_PLACES = (Path(__file__).parents[1] / "sample" / "github", Path(__file__).parents[2] / ".github")
_OWN = {"ci.yml", "image.yml"}  # of this project alone
_SCRIPTS = ("recovery.sh", "validate.sh", "comment.sh")  # the others come with the action
_ENVIRONMENTS = ("dev", "qa", "staging", "production")
_PINNED = re.compile(r"[A-Za-z0-9_.-]+/[A-Za-z0-9_.-]+@[0-9a-f]{40}")


@app.command(short_help="Write the workflows into a repository.")
def init(
    *,
    uses: Annotated[
        str,
        typer.Option(
            "--uses", metavar="OWNER/REPO@COMMIT", help="The action: where migrator lies on GitHub, and which commit."
        ),
    ],
    environments: Annotated[
        list[str] | None,
        typer.Option("--env", "-e", metavar="NAME", help="An environment. Repeatable. Default: dev to production."),
    ] = None,
    folder: Annotated[Path, typer.Option("--folder", help="The repository.", file_okay=False)] = Path(),
    force: Annotated[bool, typer.Option("--force", help="Overwrite files that are there.")] = False,
    as_json: AsJson = False,
) -> None:
    """Write the workflows into a repository: one to migrate each environment, and those to rehearse, validate, recover.

    The action is pinned to a commit, as all others are: a tag can be moved to other code.

    \b
    migrator github init --uses acme/migrator@11bd71901bbe5b1630ceea73d27597364c9af683
    migrator github init --uses acme/migrator@11bd71901bbe5b1630ceea73d27597364c9af683 -e staging -e production
    """
    from migrator.config.models import ENVIRONMENT_NAME

    if not _PINNED.fullmatch(uses):
        raise UsageError(f"--uses {uses!r} is no pinned action", hint="write OWNER/REPO@ and the 40 digits of a commit")
    chosen = tuple(dict.fromkeys(environments or _ENVIRONMENTS))
    for name in chosen:
        if not re.fullmatch(ENVIRONMENT_NAME, name):
            raise UsageError(f"--env {name!r}: letters, digits, '-' and '_' make up an environment's name")
    files = dict(_files(uses, chosen))
    taken = [path for path in files if (folder / path).exists()]
    if taken and not force:
        raise Refused(
            f"{len(taken)} of the files are there already: {', '.join(str(path) for path in taken[:3])}",
            hint="--force overwrites them; look at the difference in your version control afterwards",
        )
    for path, text in files.items():
        _write(folder / path, text)
    if as_json:
        output.json_result({"files": [str(path) for path in files], "environments": list(chosen), "uses": uses})
        return
    output.result("\n".join(str(path) for path in files))
    output.note(
        "next, in the repository's settings: environments NAME-plan (no reviewers) and NAME (reviewers) for each,"
    )
    output.note("with the secrets that migrator.toml refers to; the first lines of _db-migrate.yml name them")


def _files(uses: str, environments: tuple[str, ...]) -> list[tuple[Path, str]]:
    place = next((place for place in _PLACES if (place / "workflows" / "_db-migrate.yml").is_file()), None)
    if place is None:
        raise Refused("this installation came without the workflows", hint="install migrator from its wheel")
    found = []
    for path in sorted((place / "workflows").glob("*.yml")):
        if path.name in _OWN or path.name.startswith("db-migrate-"):
            continue
        found.append((Path(".github/workflows") / path.name, _workflow(path.read_text("utf-8"), uses, environments)))
    one = (place / "workflows" / "db-migrate-dev.yml").read_text("utf-8")
    for name in environments:
        text = re.sub(r"\bdev\b", name, one)
        found.append((Path(f".github/workflows/db-migrate-{name}.yml"), text))
    found += [(Path(".github/scripts") / name, (place / "scripts" / name).read_text("utf-8")) for name in _SCRIPTS]
    return sorted(found)


def _workflow(text: str, uses: str, environments: tuple[str, ...]) -> str:
    text = re.sub(r"(?m)uses: \./$", f"uses: {uses}", text)
    text = text.replace("[dev, qa, staging, production]", f"[{', '.join(environments)}]")
    kept: list[str] = [name for name in ("staging", "production") if name in environments] or list(environments)
    text = text.replace("[staging, production]", f"[{', '.join(kept)}]")
    if "staging" not in environments:
        text = re.sub(r"\bstaging\b", environments[0], text)
    return text


def _write(path: Path, text: str) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        if path.suffix == ".sh":
            path.chmod(path.stat().st_mode | stat.S_IXUSR | stat.S_IXGRP | stat.S_IXOTH)
    except OSError as error:
        raise Refused(f"{path} cannot be written: {error.strerror}") from error
