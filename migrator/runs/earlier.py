"""What earlier runs of the same environment took, from the journal."""

from __future__ import annotations

from collections.abc import Iterator

from migrator.errors import MigratorError
from migrator.plans.estimate import Measured
from migrator.runs.record import StepName
from migrator.runs.run import Run

_LOOKED_AT = 20


def measured(run: Run) -> Iterator[Measured]:
    """The latest runs of this environment's database that made a backup or a copy, the newest first.

    Nothing where the journal cannot be read: an estimate is no reason to refuse anything.
    """
    try:
        found = run.journal.history(run.record.environment, _LOOKED_AT)
    except MigratorError:
        return
    for one in found:
        size = one.facts.get("tables_bytes")
        if one.target.partition("/")[2] != run.database or not isinstance(size, int) or size <= 0:
            continue
        dumps = [backup.duration_s for backup in one.record.backups if backup.kind == "dump"]
        copies = [step.duration_s for step in one.record.steps if step.name is StepName.COPY and step.status == "done"]
        if dumps or copies:
            yield Measured(size_bytes=size, dump_s=dumps[-1] if dumps else None, copy_s=copies[-1] if copies else None)
