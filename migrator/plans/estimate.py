"""How long a run's backup, proof and restore take, before any of it is begun."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from statistics import median

from migrator.plans.plan import Estimate

# One connection, compressed; slow on purpose, so that the estimate is on the safe side.
_DUMP_BYTES_PER_S = 60e6
_RESTORE_BYTES_PER_S = 40e6
_COPY_BYTES_PER_S = 200e6
_COMPARABLE = 10  # a run of a database that was more times smaller, or larger, tells little
_LATEST = 5


@dataclass(frozen=True, kw_only=True)
class Measured:
    """What an earlier run of the same environment took. None: it did not do that."""

    size_bytes: int  # of its tables
    dump_s: float | None = None
    copy_s: float | None = None


@dataclass(frozen=True, kw_only=True)
class Work:
    """What there is to do."""

    size_bytes: int  # of all tables
    jobs: int
    dumps: bool
    copies: bool  # the database is copied, to be migrated or as a backup
    hashed_s: float  # of one session that hashes what is to be hashed


def of(work: Work, earlier: Iterable[Measured] = ()) -> Estimate:
    """By earlier runs, the newest first, where they tell; else by the size."""
    known = [one for one in earlier if _is_comparable(one.size_bytes, work.size_bytes)]
    dump_rates = _rates((one.size_bytes, one.dump_s) for one in known)
    copy_rates = _rates((one.size_bytes, one.copy_s) for one in known)
    dump_rate = median(dump_rates) if dump_rates else _DUMP_BYTES_PER_S * work.jobs
    copy_rate = median(copy_rates) if copy_rates else _COPY_BYTES_PER_S
    backup_s = (work.size_bytes / dump_rate if work.dumps else 0.0) + (
        work.size_bytes / copy_rate if work.copies else 0.0
    )
    told = len(dump_rates) if work.dumps else len(copy_rates) if work.copies else 0
    runs = "the last run" if told == 1 else f"the last {told} runs"
    return Estimate(
        backup_s=backup_s,
        proof_s=work.hashed_s / work.jobs,
        restore_s=work.size_bytes / _RESTORE_BYTES_PER_S / work.jobs,
        basis=f"{runs} of this environment" if told else "the size",
    )


def _is_comparable(size_bytes: int, other: int) -> bool:
    return size_bytes > 0 and other <= size_bytes * _COMPARABLE and size_bytes <= other * _COMPARABLE


def _rates(pairs: Iterable[tuple[int, float | None]]) -> list[float]:
    return [size_bytes / seconds for size_bytes, seconds in pairs if seconds is not None and seconds > 0][:_LATEST]
