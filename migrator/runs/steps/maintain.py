"""Users are held off: outside first (load balancer, flag, own commands), then by the database itself."""

from __future__ import annotations

from collections.abc import Collection
from contextlib import closing

from migrator.errors import MaintenanceFailed, StepFailed
from migrator.liquibase import ledger
from migrator.postgres import fence
from migrator.postgres.fence import Mode
from migrator.runs import written
from migrator.runs.outside import notice_drift, providers
from migrator.runs.record import StepName
from migrator.runs.run import Run


class MaintainStep:
    name = StepName.MAINTAIN
    title = "hold users off"
    undo_title: str | None = "let users in again"

    def run(self, run: Run) -> str | None:
        """What stood before is in the journal, the outside providers are on, the fence is up and drained."""
        settings = run.environment.maintenance
        mode = Mode(settings.database)
        run.record.maintenance.mode = mode.value
        if not settings.outside and mode is Mode.NONE:
            run.not_proven("Nobody was held off: others may have read and written while the migration ran.")
            return "none: others go on working"
        if run.record.maintenance.started_at is None:
            run.record.maintenance.started_at = run.now()
        for provider in providers(run):
            run.progress(self.name, f"{provider.name} on")
            # In the journal before the effect, so that a crash between the two is undone all the same.
            run.facts.outside.setdefault(provider.name, provider.standing(run.id))
            run.save()
            provider.on(run.id)
        if mode is Mode.NONE:
            return f"{len(settings.outside)} outside"
        return self._fence(run, mode)

    def _fence(self, run: Run, mode: Mode) -> str:
        admin = run.the_admin()
        run.facts.fence_up = True
        run.save()
        standing = fence.put_up(
            admin,
            run.database,
            run_id=run.id,
            mode=mode,
            keep_user=run.login.user,
            environment=run.environment.name,
            way=run.record.way.value if run.record.way is not None else None,
            reason=f"{'rollback of' if run.undoes else 'migration'} {run.record.changelog}",
        )
        run.facts.fence = standing.to_comment()
        run.save()
        direction = run.record.direction.value
        fence.note(admin, run.database, changelog=run.record.changelog, target=run.database, direction=direction)
        if mode is Mode.READ_ONLY:
            run.not_proven("Nobody wrote while it was read-only: it can be got round, and is sampled once a second.")
        run.progress(self.name, "draining sessions")
        drained = fence.drain(admin, run.database, run_id=run.id, timeout_s=run.environment.limits.drain_s)
        if run.watch is not None:
            run.watch.fenced(mode)
        if run.facts.stale_lock:
            with closing(run.session("ledger", database=run.database)) as session:
                ledger.release(session, run.ledger_schema)
        if mode is Mode.OFFLINE:
            written.count_from_here(run)
        return f"{mode.value}; {drained.terminated} sessions ended"

    def undo(self, run: Run) -> str | None:
        """Users are let in again, in reverse order. Only called when the database is proven to be what it was."""
        return let_in(run)


def let_in(run: Run) -> str | None:
    """The fence is down and every outside provider is off. Safe to repeat.

    Raises: MaintenanceFailed naming everything that is still on.
    """
    if run.watch is not None:
        run.watch.fenced(None)
    problems: list[str] = []
    notice_drift(run)
    if run.facts.fence_up:
        run.facts.users_back = True
        run.save()
        known = fence.Fence.from_comment(run.facts.fence) if run.facts.fence is not None else None
        fence.take_down(run.the_admin(), run.database, run_id=run.id, known=known)
        run.facts.fence_up = False
        run.save()
    for provider in reversed(providers(run)):
        if provider.name not in run.facts.outside:
            continue
        try:
            provider.off(run.id, run.facts.outside[provider.name])
        except StepFailed as error:
            problems.append(f"{provider.name}: {error.message}")
            continue
        del run.facts.outside[provider.name]
        run.save()
    problems += _no_longer_configured(run, known=[provider.name for provider in providers(run)])
    if problems:
        raise MaintenanceFailed(
            f"Maintenance is still on: {'; '.join(problems)}",
            hint=f"Mend it, then: migrator resume {run.id}. Where that cannot be: migrator maintenance off "
            f"--env {run.environment.name} --force",
        )
    _note_end(run)
    downtime_s = run.record.maintenance.downtime_s
    return f"users were held off for {downtime_s:.1f} s" if downtime_s is not None else None


def _no_longer_configured(run: Run, *, known: Collection[str]) -> list[str]:
    """What was turned on, and cannot be turned off any more, with what it was."""
    problems = []
    for name, saved in run.facts.outside.items():
        if name not in known:
            was = ", ".join(f"{key} {value}" for key, value in saved.items() if key != "content")
            problems.append(f"{name} is no longer in maintenance.outside (before the run: {was})")
    return problems


def _note_end(run: Run) -> None:
    record = run.record.maintenance
    if record.started_at is not None and record.ended_at is None:
        record.ended_at = run.now()
        record.downtime_s = round((record.ended_at - record.started_at).total_seconds(), 3)
