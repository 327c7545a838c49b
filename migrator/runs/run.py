"""The run in flight: what its steps share. All that must outlive the process is in `record` and `facts`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from migrator.config.login import Login
from migrator.runs.access import Access
from migrator.runs.clock import steady
from migrator.runs.facts import Facts, Undo
from migrator.runs.record import Direction, RunRecord, StepName

if TYPE_CHECKING:
    from migrator.checks.runner import SuiteRunner
    from migrator.config.configuration import Config
    from migrator.config.models import Environment
    from migrator.liquibase.session import Liquibase
    from migrator.plans.findings import Findings
    from migrator.plans.plan import Plan
    from migrator.postgres.catalog import Relation
    from migrator.postgres.client_tools import ClientTools
    from migrator.postgres.connect import PgSession, ServerInfo
    from migrator.runs.companions import DumpUnderWay, Watching
    from migrator.runs.journal import Journal
    from migrator.runs.reporter import Reporter

MANUAL = "manual"  # the run id of a fence that a person put up by hand


class Step(Protocol):
    """A unit of a run, with its way back.

    `run` returns one line for the story, or None. `undo` is idempotent, does not assume that `run` finished, and
    works in another process than the one that ran the step.
    """

    name: StepName
    title: str
    undo_title: str | None  # None: nothing that a person need hear of

    def run(self, run: Run) -> str | None: ...

    def undo(self, run: Run) -> str | None: ...


@dataclass(frozen=True, kw_only=True)
class Options:
    """What the person who starts the run says beside the configuration."""

    changelog: str  # relative to liquibase.root
    accept_no_way_back: bool = False
    plan: Plan | None = None  # what the run is held to: it is refused where it would do anything else
    plan_file: Path | None = None  # where that plan stands, for the commands that are told
    attestation: Path | None = None  # the file that stands behind the run; None: it is looked for
    override_gate: str | None = None  # why a closed gate is passed all the same, where the configuration allows it
    rehearsal: bool = False  # on a scratch copy: no gate is asked
    confirm: Callable[[str], bool] = lambda _question: True  # asked where the environment is protected


@dataclass(frozen=True, kw_only=True)
class Picture:
    """Liquibase's own snapshot of the schema."""

    text: str  # JSON
    schema_digest: str  # of the schema fingerprint, read before: equal later on, the picture is still true


@dataclass(kw_only=True)
class Run:
    config: Config
    environment: Environment
    login: Login  # to the target database
    options: Options
    record: RunRecord
    facts: Facts
    journal: Journal
    reporter: Reporter
    folder: Path  # logs and reports of this run
    now: Callable[[], datetime] = field(default_factory=steady)
    write_reports: Callable[[RunRecord], None] = field(default=lambda _record: None)  # may raise StepFailed

    # Live resources: opened by a step, gone with the process.
    lock: PgSession | None = None
    admin: PgSession | None = None
    server: ServerInfo | None = None
    tools: ClientTools | None = None
    liquibase: Liquibase | None = None
    suites: SuiteRunner | None = None
    watch: Watching | None = None
    relations: list[Relation] = field(default_factory=list)
    picture: Picture | None = None
    plan: Plan | None = None  # what preflight has found out; None before, and of a rollback
    findings: Findings | None = None  # what the rules say of its changesets; None until preflight has looked
    dumping: DumpUnderWay | None = None
    rehearsed_s: float = 0.0  # what its changesets took in the rehearsal behind it
    schema_left: Mapping[str, str] | None = None  # the objects of the verified database, by which drift is known later
    reconstructed: bool = False  # from the fence: the journal does not know it yet

    @property
    def id(self) -> str:
        return self.record.run_id

    @property
    def database(self) -> str:
        return self.login.database

    @property
    def undoes(self) -> bool:
        """Whether its changesets are undone, not executed."""
        return self.record.direction is Direction.ROLLBACK

    @property
    def status_before(self) -> str:
        """What a changeset's status is until the run has done something with it."""
        return "executed" if self.undoes else "pending"

    @property
    def undo(self) -> Undo:
        """What is to be undone. Only of a run that undoes."""
        return self.facts.undo or Undo()

    @property
    def work_login(self) -> Login:
        """To the database that is migrated and verified: a copy as long as there is one, else the target itself."""
        copied = self.facts.copied and not self.facts.swapped and self.facts.copy_name is not None
        return self.login.to(self.facts.copy_name or "") if copied else self.login

    @property
    def ledger_schema(self) -> str | None:
        """Where Liquibase keeps its tables; None: the first schema of the search path."""
        return self.environment.liquibase_schema or self.environment.default_schema

    @property
    def parameters(self) -> dict[str, str]:
        """Changelog parameters: the environment's, and those of the command line over them."""
        return {**self.environment.parameters, **self.facts.changelog_parameters}

    @property
    def offline(self) -> bool:
        """Whether nobody but this run can have written since the fence was put up."""
        return self.environment.maintenance.database == "offline" and not self.facts.fence_lost

    @property
    def others_write(self) -> bool:
        """Whether others were let in to write meanwhile; under read-only one that does has broken the fence."""
        return self.environment.maintenance.database == "none" or self.facts.fence_lost

    @property
    def target(self) -> str:
        """The journal's key of the database: the same from every machine."""
        return f"{self.facts.system_identifier}/{self.database}"

    def the_admin(self) -> PgSession:
        """The session in the maintenance database, opened anew when it was lost."""
        from migrator.postgres import connect

        if self.admin is None or self.admin.closed:
            self.admin = self.session("orchestrator", database=self.environment.maintenance_database)
            self._notice_failover(connect.timeline(self.admin))
        return self.admin

    def _notice_failover(self, timeline: str | None) -> None:
        if timeline is None or timeline == self.facts.timeline:
            return
        if self.facts.timeline is not None:
            self.facts.failed_over = True
            self.warn(
                f"Another server has taken over (timeline {self.facts.timeline} became {timeline}): what this run "
                "committed last may be lost, so it is looked at anew."
            )
        self.facts.timeline = timeline

    def session(self, role: str, *, read_only: bool = False, database: str | None = None) -> PgSession:
        """A new session in the database that is worked on, or in another one of the server."""
        access = Access(
            login=self.work_login, run_id=self.id, connect_timeout_s=self.environment.limits.connect_timeout_s
        )
        return access.session(role, read_only=read_only, database=database)

    def save(self) -> None:
        """Record and facts are in the journal."""
        self.journal.save(self.record, self.facts.model_dump(mode="json"))

    def progress(self, step: StepName, text: str, done: float | None = None) -> None:
        self.reporter.step_progress(step, text, done)

    def heed_alarm(self) -> None:
        """The watch has seen nothing that ends what is waited for; on the way back nothing does.

        Raises: the first alarm.
        """
        if self.watch is not None and not self.facts.going_back:
            self.watch.check_alarm()

    def warn(self, text: str) -> None:
        if text not in self.record.warnings:
            self.record.warnings.append(text)
            self.reporter.warning(text)

    def keep(self, sentence: str) -> None:
        if sentence not in self.record.kept:
            self.record.kept.append(sentence)

    def drop_kept(self, beginning: str) -> None:
        self.record.kept = [one for one in self.record.kept if not one.startswith(beginning)]

    def prove(self, sentence: str) -> None:
        if sentence not in self.record.proof.proven:
            self.record.proof.proven.append(sentence)

    def not_proven(self, sentence: str) -> None:
        if sentence not in self.record.proof.not_proven:
            self.record.proof.not_proven.append(sentence)

    def forget_proofs(self) -> None:
        """What was proven of the migrated database no longer counts; a backup stays one."""
        kept = ("Backup ", "Transaction ")  # that an attempt's transaction was rolled back stays true
        self.record.proof.proven = [one for one in self.record.proof.proven if one.startswith(kept)]
        holds_nobody = "Login roles that the fence does not hold"  # whatever becomes of the run
        self.record.proof.not_proven = [one for one in self.record.proof.not_proven if one.startswith(holds_nobody)]
        self.record.proof.others_wrote = []

    def end_workers(self) -> None:
        """The child processes of this run are gone. Safe to repeat."""
        liquibase, self.liquibase = self.liquibase, None
        if liquibase is not None:
            liquibase.kill()

    def close(self) -> None:
        """Every child and session of this process is gone; nothing of it is undone. Safe to repeat."""
        if self.watch is not None:
            self.watch.stop()
        self.end_workers()
        suites, self.suites = self.suites, None
        if suites is not None:
            suites.kill()
        for session in (self.admin, self.lock):
            if session is not None:
                session.close()
        self.admin = self.lock = None
