"""The rows of the migrated database beside what they were: equal, counted, or for the checks to decide."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import ExitStack, closing, contextmanager
from fnmatch import fnmatchcase

from migrator.plans import own_tables
from migrator.postgres import relation_state, row_fingerprint
from migrator.postgres.catalog import Relation
from migrator.postgres.row_fingerprint import TableFingerprint
from migrator.postgres.session import Session
from migrator.runs import inspection
from migrator.runs.facts import TableState
from migrator.runs.record import TableRecord, Way
from migrator.runs.run import Run
from migrator.runs.words import count

_ASK_AGAIN_S = 0.2


def compare(run: Run, session: Session, relations: Sequence[Relation]) -> list[str]:
    """Unwritten tables are equal; tables with DDL alone kept their rows and surviving columns; others are counted;
    the checks hold. Unwritten tables are hashed in sessions of their own while `session` is busy with the rest.
    """
    before = run.facts.tables_before or {}
    # What ran outside a transaction may have written whatever a changeset names.
    written = set(run.record.write_set) | (set(run.facts.named) if run.facts.unobserved else set())
    with_dml = set(run.facts.written) | {name for name in written if is_expected(run, name)}
    now = {relation.qualified: relation for relation in relations}
    compared = [n for n in before if n in now and not own_tables.is_own(n)]
    altered = [now[n] for n in compared if n in written and n not in with_dml]
    untouched: list[Relation] = []
    if run.record.proof.level == "full" or run.record.way is not Way.ATOMIC:
        untouched = [now[n] for n in compared if n not in written]
    # What the transaction keeps even readers from is hashed within it.
    atomic = run.record.way is Way.ATOMIC and bool(untouched)
    locked = relation_state.locked_exclusively(session) if atomic else frozenset()
    with _hashed_beside(run, [relation for relation in untouched if relation.qualified not in locked]) as beside:
        problems = _altered_tables(run, session, altered, before)
        within = row_fingerprint.of_tables([session], [r for r in untouched if r.qualified in locked])
        _count(run, session, [now[n] for n in before if n in now and n in with_dml & written], before)
        of_checks = inspection.after(run, session)
        found = beside.result() | within
    if untouched:
        problems += _untouched_tables(run, found, before)
    changed = [n for n in before if n in written and n in with_dml]
    if changed:
        run.not_proven(
            f"Rows of {', '.join(changed[:5])}{' ...' if changed[5:] else ''} were changed by the changelog itself: "
            "their counts are reported, and the checks decide."
        )
    if run.facts.fingerprinted is not None:
        run.not_proven(f"Only {count(len(before), 'table')} hashed (proof {run.record.proof.level}).")
    return problems + of_checks


@contextmanager
def _hashed_beside(run: Run, relations: Sequence[Relation]) -> Iterator[Future[dict[str, TableFingerprint]]]:
    """The relations are being hashed in `jobs` sessions of their own; an exception in the block ends that at once."""
    with ExitStack() as stack:
        jobs = run.environment.backup.jobs if relations else 0
        opened = [stack.enter_context(closing(run.session("verify", read_only=True))) for _ in range(jobs)]
        for one in opened:
            one.execute("begin isolation level repeatable read read only")
        pool = stack.enter_context(ThreadPoolExecutor(1, thread_name_prefix="verify"))
        found = pool.submit(row_fingerprint.of_tables, opened, relations)
        try:
            yield found
        except BaseException:
            while not found.done():  # a session that is asked between two statements does not hear it
                for one in opened:
                    one.cancel()
                wait([found], timeout=_ASK_AGAIN_S)
            raise


def _altered_tables(
    run: Run, session: Session, relations: Sequence[Relation], before: dict[str, TableState]
) -> list[str]:
    problems: list[str] = []
    kept: list[str] = []
    for relation in relations:
        was = before[relation.qualified]
        types = relation_state.columns(session, relation)
        surviving = [name for name, kind in was.columns.items() if types.get(name) == kind]
        whole = len(surviving) == len(was.columns)
        digest = was.digest if whole else was.digest_of(surviving)
        found = row_fingerprint.of_table(session, relation, columns=tuple(was.columns if whole else was.kept_columns))
        _set_rows(run, relation.qualified, was.rows, found.rows)
        if found.rows != was.rows:
            problems.append(
                f"{relation.qualified} had {was.rows} rows and has {found.rows}, though it was only altered"
            )
        elif digest is None:
            run.not_proven(f"The values of {relation.qualified}: columns that no changeset names changed their type.")
        elif found.digest != digest:
            problems.append(f"{relation.qualified} has other values in columns that were not to change")
        else:
            named = "all" if whole else ", ".join(was.kept_columns)
            kept.append(f"{relation.qualified} ({named})")
    if kept:
        run.prove(f"Altered tables kept their number of rows and the values of these columns: {'; '.join(kept)}.")
    return unless_others(run, problems)


def _untouched_tables(run: Run, found: Mapping[str, TableFingerprint], before: Mapping[str, TableState]) -> list[str]:
    problems = []
    for name, state_now in found.items():
        was = before[name]
        _set_rows(run, name, was.rows, state_now.rows)
        if (state_now.rows, state_now.digest) != (was.rows, was.digest):
            problems.append(f"{name} changed ({was.rows} rows before, {state_now.rows} now), though nothing names it")
    equal = len(found) - len(problems)
    if equal:
        run.prove(f"{count(equal, 'unwritten table')} with equal fingerprints before and after.")
    if run.environment.maintenance.database != "none":
        return problems
    for problem in problems:  # nobody was held off, and the locks tell that it was not this run
        run.not_proven(f"{problem}: others were free to write it.")
    return []


def _count(run: Run, session: Session, relations: Sequence[Relation], before: dict[str, TableState]) -> None:
    for relation in relations:
        _set_rows(run, relation.qualified, before[relation.qualified].rows, relation_state.count(session, relation))


def _set_rows(run: Run, name: str, before: int, after: int) -> None:
    for table in run.record.tables:
        if table.name == name:
            table.rows_before, table.rows_after = before, after
            return
    run.record.tables.append(
        TableRecord(name=name, rows_before=before, rows_after=after, inserted=0, updated=0, deleted=0)
    )


def unless_others(run: Run, problems: list[str]) -> list[str]:
    """The problems; none of them where others were free to write what a stepwise run compares: that is only said."""
    if run.record.way is Way.ATOMIC or run.environment.maintenance.database != "none":
        return problems
    for problem in problems:
        run.not_proven(f"{problem}: others were free to write it.")
    return []


def is_expected(run: Run, name: str) -> bool:
    """Whether the environment says that the table may be written though no changeset names it."""
    return any(fnmatchcase(name, pattern) for pattern in run.environment.checks.expected_writes)
