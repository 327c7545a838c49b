"""What must hold of the migrated database. Runs on any session: in atomic mode on the uncommitted data itself."""

from __future__ import annotations

from collections.abc import Sequence

from migrator.errors import VerificationFailed
from migrator.liquibase import ledger
from migrator.liquibase.ledger import LedgerRow
from migrator.plans import impact, own_tables
from migrator.postgres import catalog, row_fingerprint, schema_fingerprint, soundness
from migrator.postgres.catalog import Relation
from migrator.postgres.schema_fingerprint import SchemaFingerprint
from migrator.postgres.session import Session
from migrator.runs import inspection, rows, state, undoing, written
from migrator.runs.facts import Planned
from migrator.runs.record import StepName, TableRecord, Way
from migrator.runs.run import Run
from migrator.runs.words import count


def verify(run: Run, session: Session) -> str:
    """Everything holds, and the record says what was proven and what was not.

    Raises: VerificationFailed with the first problem and the number of the others.
    """
    problems: list[str] = []
    problems += _hidden_errors(run)
    problems += _ledger_without(run, session) if run.undoes else _ledger(run, session)
    problems += _soundness(run, session)
    relations = catalog.tables(session)
    _schema(run, session)
    problems += _surprises(run)
    if run.undoes:
        problems += _dropped(run, relations)
        undoing.compare_with_before(run, session)
    problems += _gone(run, relations)
    problems += _large_objects(run, session)
    run.progress(StepName.VERIFY, "fingerprints and checks")
    problems += rows.compare(run, session, relations)
    if problems:
        more = f" (and {len(problems) - 1} more)" if problems[1:] else ""
        raise VerificationFailed(
            f"{problems[0]}{more}",
            hint="The report lists every check; correct the changelog or the data and run again.",
        )
    checks = [check for check in run.record.checks if check.phase == "after"]
    return f"{count(len(checks), 'check')}, {count(len(run.record.write_set), 'written table')}, no surprise"


def _hidden_errors(run: Run) -> list[str]:
    return [
        f"changeset {c.path}::{c.id}::{c.author} failed, and failOnError=false hid it"
        for c in run.record.changesets
        if c.status == "failed_ignored"
    ]


def _ledger(run: Run, session: Session) -> list[str]:
    """The ledger holds the planned changesets, and besides them exactly what it held."""
    rows = ledger.read(session, run.ledger_schema) or []
    after = {row.key: row for row in rows}
    before = {row.key: row for row in state.ledger_rows(run.facts) or []}
    planned = {p.key: p for p in run.facts.planned}
    skipped = {(c.path, c.id, c.author) for c in run.record.changesets if c.status == "skipped"}
    problems = [
        f"the ledger has no row for {'::'.join(key)}" for key in planned if key not in after and key not in skipped
    ]
    problems += [
        f"the ledger has a row that was not planned: {'::'.join(key)}"
        for key in after
        if key not in before and key not in planned
    ]
    problems += [
        f"the ledger's row of {'::'.join(key)} {'was changed' if key in after else 'is gone'}"
        for key, row in before.items()
        if key not in planned and (key not in after or after[key].columns != row.columns)
    ]
    problems += [
        f"the ledger's row of {'::'.join(key)} has another checksum than the changeset that was planned"
        for key, one in planned.items()
        if key in after and key not in skipped and _is_of_another_text(one, after[key])
    ]
    if not problems:
        run.prove(f"The ledger holds the {count(len(planned), 'planned changeset')}, and nothing else of it changed.")
    return problems


def _is_of_another_text(planned: Planned, row: LedgerRow) -> bool:
    """Whether two checksums of the same kind differ; one of another kind (9:... and 8:...) tells nothing."""
    ours, theirs = planned.checksum or "", row.columns.get("md5sum") or ""
    return ours.partition(":")[0] == theirs.partition(":")[0] and ours != theirs


def _ledger_without(run: Run, session: Session) -> list[str]:
    """The ledger has lost the planned changesets, and holds besides them exactly what it held."""
    after = {row.key: row for row in ledger.read(session, run.ledger_schema) or []}
    before = {row.key: row for row in state.ledger_rows(run.facts) or []}
    planned = {p.key for p in run.facts.planned}
    problems = [f"the ledger still has the row of {'::'.join(key)}" for key in planned if key in after]
    problems += [f"the ledger has a new row: {'::'.join(key)}" for key in after if key not in before]
    problems += [
        f"the ledger's row of {'::'.join(key)} {'was changed' if key in after else 'is gone'}"
        for key, row in before.items()
        if key not in planned and (key not in after or after[key].columns != row.columns)
    ]
    if not problems:
        undone = f"{count(len(planned), 'changeset')} that {'was' if len(planned) == 1 else 'were'}"
        run.prove(f"The ledger has lost the {undone} to be undone, and nothing else of it changed.")
    return problems


def _dropped(run: Run, relations: Sequence[Relation]) -> list[str]:
    """A table that is gone is one that the undone changesets name; the report says how many rows went with it."""
    there = {relation.qualified for relation in relations}
    gone = [name for name in run.facts.existing if name not in there and not own_tables.is_own(name)]
    for name in set(gone) & set(run.facts.named):
        was = (run.facts.tables_before or {}).get(name)
        if was is not None and was.rows:
            run.warn(f"{name} was dropped, and {count(was.rows, 'row')} with it; the backup has them.")
            run.record.tables.append(TableRecord(name=name, rows_before=was.rows, rows_after=0))
    return [f"{name} is gone, though no changeset names it" for name in gone if name not in set(run.facts.named)]


def _soundness(run: Run, session: Session) -> list[str]:
    problems = sorted(soundness.unsound(session) - set(run.facts.unsound_before))
    if not problems:
        run.prove("No index is invalid and no constraint unvalidated that was not so before.")
    return problems


def _schema(run: Run, session: Session) -> None:
    """What changed in the schema is in the report; an object that no changeset names is a warning."""
    after = schema_fingerprint.of_schema(session)
    run.schema_left = after.objects
    if run.facts.schema_before is None:
        return
    diff = SchemaFingerprint(objects=run.facts.schema_before).diff(after)
    words = set(run.facts.words) | set(own_tables.NAMES)
    for kind, identities in (("appeared", diff.added), ("is gone", diff.removed), ("changed", diff.changed)):
        for identity in identities:
            if not inspection.is_named(identity, words):
                run.warn(f"Schema: {identity} {kind}, though no changeset names it.")
    run.prove(
        f"The schema changed in {len(diff.added)} new, {len(diff.removed)} removed and {len(diff.changed)} "
        "altered objects; the report's warnings name those that no changeset names."
    )


def _surprises(run: Run) -> list[str]:
    """Tables that were there before, that this run wrote, and that no changeset names or the checks expect."""
    existed = set(run.facts.existing)
    expected = run.environment.checks.expected_writes
    beyond = written.beyond_the_write_set(run)
    known = written.is_known(run) or run.record.way is Way.ATOMIC
    run.record.surprises = sorted(
        name
        for name in {*run.record.write_set, *(() if known else beyond)}
        if name in existed
        and name not in set(run.facts.named)
        and not own_tables.is_own(name)
        and not rows.is_expected(run, name)
    )
    if known and beyond:
        names = ", ".join(beyond)
        run.warn(
            f"{names}: written behind the fence, but not by what this run committed. Look who else could be there."
        )
        run.not_proven(f"That nobody else wrote {names} behind the fence.")
    unseen = sorted({*run.facts.unobserved, *(() if run.record.way is Way.ATOMIC else written.hidden(run))})
    if unseen:
        run.not_proven(
            f"What {', '.join(unseen[:3])} wrote outside a transaction is not in the write set: "
            "there was no moment to look at its locks."
        )
    elif not run.record.surprises:
        run.prove(
            f"Write set: {count(len(run.record.write_set), 'table')} locked for writing, each named by a changeset"
            f"{' or expected' if expected else ''}; every other table is unwritten (relation locks)."
        )
        run.not_proven(
            "The write set cannot see dblink and foreign tables, direct writes to catalogues, or extensions in C."
        )
    return [
        f"{name} was written, though no changeset names it (a cascade, a trigger or a function)"
        for name in run.record.surprises
    ]


def _large_objects(run: Run, session: Session) -> list[str]:
    """No lock is kept on large objects that were written or unlinked: only their fingerprint tells."""
    before = run.facts.large_objects_before
    if before is None:
        run.not_proven("Large objects were not compared.")
        return []
    if inspection.is_named("large object", run.facts.words):
        run.not_proven("Large objects were not compared: a changeset names functions that write them.")
        return []
    now = row_fingerprint.of_large_objects(session)
    if (now.rows, now.digest) == (before.rows, before.digest):
        run.prove(f"{count(now.rows, 'large object')} with equal fingerprints before and after.")
        return []
    problem = f"the large objects changed ({before.rows} before, {now.rows} now), though no changeset names a function"
    return rows.unless_others(run, [problem])


def _gone(run: Run, relations: Sequence[Relation]) -> list[str]:
    """Tables that were there before and are not now: what was dropped is in no write set."""
    now, named, words = {relation.qualified for relation in relations}, set(run.facts.named), set(run.facts.words)
    gone = [name for name in run.facts.existing if name not in now and not own_tables.is_own(name)]
    if gone:
        run.not_proven(f"Rows of tables that were dropped or got another name: {', '.join(gone)}.")
    return [
        f"{name} is gone, though no changeset names it"
        for name in gone
        if name not in named and not rows.is_expected(run, name) and not _schema_is_named(name, words)
    ]


def _schema_is_named(name: str, words: set[str]) -> bool:
    schema = min(impact.identifiers(name) - {impact.bare(name)}, default="")
    return schema != "public" and schema in words
