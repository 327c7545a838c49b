"""The schema that a changelog alone builds, in an empty scratch database that is gone afterwards."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import closing

from migrator.config.configuration import Config
from migrator.config.models import Environment
from migrator.errors import MigrationFailed, Refused
from migrator.liquibase.models import ChangesetEvent
from migrator.postgres import schema_fingerprint
from migrator.rehearsals import outside, scratch
from migrator.rehearsals.origin import Origin
from migrator.runs import byhand, liquibase_session, opening
from migrator.runs.byhand.drift import Seen


def by_changelog(
    config: Config,
    environment: Environment,
    changelog: str,
    parameters: Mapping[str, str],
    *,
    say: Callable[[str], None] = lambda _text: None,
) -> Seen:
    """What the changelog builds with the environment's contexts, labels and parameters. The target is only read.

    Raises: UsageError; Refused where the changelog or every server is unfit, or naming the changeset that failed.
    """
    path = opening.relative_to_root(changelog, config.liquibase.root)
    with closing(byhand.opened(config, environment, doing=path)) as run:
        run.facts.changelog_parameters = dict(parameters)
        origin = Origin.parse("empty")
        reaches = outside.found(run, origin)
        with (
            scratch.made(run, origin, outside=reaches, say=say) as copy,
            closing(copy.run_of(run)) as trial,
        ):
            say(f"building {path} on {copy.where}")
            with liquibase_session.opened(trial, mode="stepwise") as liquibase:
                try:
                    liquibase.update(path, on_event=_ignore, timeout_s=environment.limits.migration_timeout_s)
                except MigrationFailed as error:
                    raise Refused(
                        f"{path} does not build a schema by itself, in an empty database: {error.message}",
                        hint=error.hint or "Name the changelog that has all releases, the first one included.",
                        code="not_built",
                    ) from error
            with closing(trial.session("verify", read_only=True)) as session:
                objects = schema_fingerprint.of_schema(session).objects
            return Seen(what=f"what {path} alone builds", objects=objects, major=copy.server.major)


def _ignore(_event: ChangesetEvent) -> None:
    pass
