"""A schema compared with what it should be, by hand. The databases are only read."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass, field

from migrator.config.configuration import Config
from migrator.config.models import Environment
from migrator.errors import Refused
from migrator.plans import drift
from migrator.plans.drift import Drift
from migrator.postgres import connect, schema_fingerprint
from migrator.runs import opening
from migrator.runs.journal import Journal

_RUN = "drift"


@dataclass(frozen=True, kw_only=True)
class Seen:
    """A schema, and whose it is."""

    what: str  # in words: "environment staging"
    objects: Mapping[str, str] = field(repr=False)
    major: int | None = None  # of the server; None where not known
    target: str | None = None  # the journal's key of the database; None for one that no journal knows
    database: str | None = None  # its URL without the password


def of_environment(config: Config, environment: Environment) -> Seen:
    """The environment's schema as it is now, by a session that cannot write. Raises: StepFailed."""
    login = opening.login_of(config, environment)
    timeout_s = environment.limits.connect_timeout_s
    with closing(
        connect.connect(login, role="drift", run_id=_RUN, read_only=True, connect_timeout_s=timeout_s)
    ) as session:
        server = connect.server_info(session)
        objects = schema_fingerprint.of_schema(session).objects
    return Seen(
        what=f"environment {environment.name}",
        objects=objects,
        major=server.major,
        target=f"{server.system_identifier}/{login.database}",
        database=str(login),
    )


def of_journal(config: Config, environment: Environment, seen: Seen) -> Seen:
    """The schema that the last verified run of the database left. Raises: Refused when the journal knows none."""
    with closing(Journal.open(config.journal.url, config.base, read_only=True)) as journal:
        kept = journal.schema(seen.target or "")
    if kept is None:
        raise Refused(
            f"The journal ({config.journal.shown}) knows no verified run of {seen.database}: there is nothing to "
            "compare its schema with.",
            hint="Compare it with --against ENV or --against-changelog CHANGELOG; or say that it is right as it is: "
            f"migrator drift --env {environment.name} --accept REASON",
            code="nothing_to_compare",
        )
    return Seen(what=str(kept), objects=kept.objects)


def accept(config: Config, seen: Seen, reason: str) -> None:
    """From now on the schema as it was seen is what the database is compared with. Raises: Refused."""
    with closing(Journal.open(config.journal.url, config.base)) as journal:
        journal.accept_schema(seen.target or "", seen.objects, reason)


def compared(expected: Seen, found: Seen, environment: Environment, *, owners: bool) -> Drift:
    """How the one differs from the other, without what the environment leaves out."""
    return drift.compare(expected.objects, found.objects, ignore=environment.drift.ignore, owners=owners)
