"""Changelogs looked at with no database at hand, and no run."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from migrator.config.configuration import Config
from migrator.config.models import EnvironmentSettings
from migrator.config.references import has_reference
from migrator.errors import Refused
from migrator.liquibase import changelog, install
from migrator.liquibase.models import LiquibaseOptions
from migrator.liquibase.session import Liquibase
from migrator.plans import findings
from migrator.plans.findings import Circumstances, Findings, Subject, control
from migrator.plans.findings.model import joined
from migrator.runs.byhand import committed


def lint(
    config: Config,
    settings: EnvironmentSettings,
    changelogs: Sequence[str],
    *,
    parameters: Mapping[str, str],
    since: str | None = None,
    progress: Callable[[str], None] = lambda _text: None,
) -> Findings:
    """What the rules find in these changelogs (paths below liquibase.root), as an empty database would run them.

    A changelog that no run would take is a finding too. No database is reached and no secret is read. What git's commit
    `since` has too is old. Raises: ToolFailed, Refused when Liquibase or Java are missing, or that commit.
    """
    root = config.liquibase.root
    options = LiquibaseOptions(
        version=config.liquibase.version,
        root=root,
        contexts=settings.contexts,
        labels=settings.labels,
        parameters={**_without_references(settings.parameters), **parameters},
        default_schema=settings.default_schema,
        liquibase_schema=settings.liquibase_schema,
    )
    with ExitStack() as stack:
        earlier = stack.enter_context(committed.tree(root, since)) if since is not None else None
        liquibase = stack.enter_context(_worker(config, progress))
        found = joined([_one(liquibase, options, settings, one) for one in changelogs])
        if earlier is None:
            return found
        then = replace(options, root=earlier)
        there = [one for one in changelogs if (earlier / one).is_file()]
        return found.since(joined([_one(liquibase, then, settings, one) for one in there]))


def _one(liquibase: Liquibase, options: LiquibaseOptions, settings: EnvironmentSettings, path: str) -> Findings:
    major = settings.lint.server_version
    try:
        screened = changelog.screen(options.root, path, options.parameters)
        changesets = liquibase.offline_changesets(path, options=options, server_major=major)
    except Refused as error:
        place = error.place
        return Findings(
            found=(
                control.refused(
                    error.message, file=(place.file if place else None) or path, line=place.line if place else None
                ),
            )
        )
    subject = Subject(changesets=changesets, screened=screened, root=options.root)
    return findings.find(subject, settings.lint, Circumstances(server_major=major))


def _without_references(parameters: Mapping[str, str]) -> dict[str, str]:
    """The parameters; where a value stands elsewhere, the parameter's own name stands for it."""
    return {name: name if has_reference(value) else value for name, value in parameters.items()}


@contextmanager
def _worker(config: Config, progress: Callable[[str], None]) -> Iterator[Liquibase]:
    jars = install.jars_for(config.liquibase.version, config.liquibase.home, progress=progress)
    with TemporaryDirectory(prefix="migrator-lint-") as folder:
        java = install.java_home(config.liquibase.java_home)
        liquibase = Liquibase.start(jars, java, log=Path(folder) / "liquibase.log")
        try:
            yield liquibase
        finally:
            liquibase.close()
