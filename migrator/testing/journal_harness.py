"""What every journal does, wherever it lies. A test module inherits `JournalHarness` and gives the fixture `url`."""
# ruff: noqa: S101, ARG002 - assertions are what it is for; a fixture may be asked for because it is there

from __future__ import annotations

import json
import os
import socket
import threading
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa

from migrator.config.login import Secret
from migrator.errors import Locked, MigratorError, Refused, Unfinished
from migrator.runs.journal import Journal, TakenOver
from migrator.runs.journal_schemas import KEPT_DATABASES
from migrator.runs.record import Outcome, RunRecord, StepName
from migrator.testing.journal_contender import Contender

TARGET = "7000000000000000001/shop"
STARTED = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


def a_record(run_id: str, *, environment: str = "dev") -> RunRecord:
    return RunRecord(
        run_id=run_id,
        environment=environment,
        database="postgresql://migrator@db:5432/shop",
        changelog="changelogs/1.sql",
        started_at=STARTED,
    )


def begin(
    journal: Journal, run_id: str, *, target: str = TARGET, lease_s: float = 600, environment: str = "dev"
) -> str:
    record = a_record(run_id, environment=environment)
    return journal.begin(record, target=target, host=socket.gethostname(), pid=os.getpid(), lease_s=lease_s)


class JournalHarness:
    @pytest.fixture
    def journal(self, url: str, tmp_path: Path) -> Iterator[Journal]:
        journal = Journal.open(url, tmp_path)
        yield journal
        journal.close()

    @pytest.fixture
    def elsewhere(self, journal: Journal, url: str, tmp_path: Path) -> Iterator[Journal]:
        """The same journal, as another process sees it."""
        other = Journal.open(url, tmp_path)
        yield other
        other.close()

    def tamper(self, url: str, base: Path, sql: str) -> None:
        engine = sa.create_engine(url.replace("sqlite:///", f"sqlite:///{base}/"))
        with engine.begin() as connection:
            connection.execute(sa.text(sql))
        engine.dispose()

    def test_a_second_run_of_the_target_is_locked_out_while_the_first_lives(
        self, journal: Journal, elsewhere: Journal
    ) -> None:
        begin(journal, "run-1")
        journal.step_started("run-1", 1, StepName.BACK_UP)
        with pytest.raises(Locked) as caught:
            begin(elsewhere, "run-2")
        assert "run-1" in caught.value.message
        assert f"process {os.getpid()}" in caught.value.message
        assert "back_up" in caught.value.message
        assert [run.run_id for run in elsewhere.open_runs()] == ["run-1"]

    def test_a_run_whose_lease_has_ended_is_unfinished(self, journal: Journal, elsewhere: Journal) -> None:
        begin(journal, "run-1", lease_s=0)
        with pytest.raises(Unfinished) as caught:
            begin(elsewhere, "run-2")
        assert "run-1" in caught.value.message
        assert "migrator resume run-1" in (caught.value.hint or "")

    def test_a_run_whose_process_is_gone_is_unfinished_though_its_lease_lives(
        self, journal: Journal, url: str, tmp_path: Path
    ) -> None:
        other = Contender(url, tmp_path, "run-1", target=TARGET)
        try:
            other.go()
            assert other.answer() == "began"
            with pytest.raises(Locked):
                begin(journal, "run-2")
        finally:
            other.die()
        with pytest.raises(Unfinished):
            begin(journal, "run-2")
        found = journal.unfinished(TARGET)
        assert found is not None
        assert (found.run_id, found.alive) == ("run-1", False)

    def test_of_processes_that_begin_at_once_one_wins_though_none_found_a_journal(
        self, url: str, tmp_path: Path
    ) -> None:
        contenders = [Contender(url, tmp_path, f"run-{number}", target=TARGET) for number in range(4)]
        try:
            for contender in contenders:
                contender.go()
            answers = [contender.answer() for contender in contenders]
        finally:
            for contender in contenders:
                contender.die()
        assert sum(answer == "began" for answer in answers) == 1, answers
        assert sum(answer.startswith("Locked ") for answer in answers) == 3, answers

    def test_a_run_of_another_target_is_not_in_the_way(self, journal: Journal) -> None:
        begin(journal, "run-1")
        begin(journal, "run-2", target="7000000000000000001/other")
        assert len(journal.open_runs()) == 2

    def test_a_closed_run_makes_room_and_closing_twice_is_harmless(self, journal: Journal) -> None:
        begin(journal, "run-1")
        record = a_record("run-1")
        record.outcome = Outcome.MIGRATED
        journal.close_run("run-1", record)
        journal.close_run("run-1", record)
        assert journal.unfinished(TARGET) is None
        begin(journal, "run-2")
        closed = journal.get("run-1")
        assert closed.closed
        assert not closed.alive
        assert closed.record.outcome is Outcome.MIGRATED

    def test_the_schema_that_a_run_left_is_kept_until_the_next(self, journal: Journal, elsewhere: Journal) -> None:
        assert journal.schema(TARGET) is None
        for number in (1, 2):
            begin(journal, f"run-{number}")
            journal.close_run(f"run-{number}", a_record(f"run-{number}"), {"table a.b": f"{number} ☃ \0"})
        begin(journal, "run-3")
        journal.close_run("run-3", a_record("run-3"))  # went back: what is there is what run-2 left
        kept = elsewhere.schema(TARGET)
        assert kept is not None
        assert (kept.run_id, dict(kept.objects)) == ("run-2", {"table a.b": "2 ☃ \0"})
        elsewhere.accept_schema(TARGET, {}, "as it is \0")
        accepted = journal.schema(TARGET)
        assert accepted is not None
        assert (accepted.run_id, accepted.note, dict(accepted.objects)) == (None, "as it is \\0", {})

    def test_the_schemas_of_the_latest_databases_are_kept(self, journal: Journal) -> None:
        for number in range(KEPT_DATABASES + 2):
            journal.accept_schema(f"server/{number}", {}, "test")
        assert journal.schema("server/0") is None
        assert journal.schema("server/1") is None
        assert journal.schema(f"server/{KEPT_DATABASES + 1}") is not None

    def test_a_journal_from_before_schemas_were_kept_gets_its_table(
        self, journal: Journal, url: str, tmp_path: Path
    ) -> None:
        begin(journal, "run-1")
        self.tamper(url, tmp_path, "DROP TABLE migrator_schema")
        with closing(Journal.open(url, tmp_path, read_only=True)) as reader:
            assert reader.schema(TARGET) is None
        journal.close_run("run-1", a_record("run-1"), {"table a.b": "c"})  # begun by an older program
        assert journal.schema(TARGET) is None
        with closing(Journal.open(url, tmp_path)) as writer:
            begin(writer, "run-2")
            writer.close_run("run-2", a_record("run-2"), {"table a.b": "c"})
            assert writer.schema(TARGET) is not None

    def test_a_run_id_is_used_once(self, journal: Journal) -> None:
        begin(journal, "run-1")
        journal.close_run("run-1", a_record("run-1"))
        with pytest.raises(Refused, match="run-1"):
            begin(journal, "run-1")

    def test_history_is_newest_first_by_environment_and_limited(self, journal: Journal) -> None:
        for number in range(4):
            begin(journal, f"run-{number}", environment="dev" if number < 3 else "qa")
            journal.close_run(f"run-{number}", a_record(f"run-{number}", environment="dev" if number < 3 else "qa"))
        assert [run.record.run_id for run in journal.history()] == ["run-3", "run-2", "run-1", "run-0"]
        assert [run.record.run_id for run in journal.history("dev", limit=2)] == ["run-2", "run-1"]

    def test_steps_are_told_apart_by_attempt_and_name(self, journal: Journal) -> None:
        begin(journal, "run-1")
        journal.step_ended("run-1", 1, StepName.LOCK, "done", None)  # begun before the run was known
        journal.step_started("run-1", 1, StepName.APPLY)
        journal.step_ended("run-1", 1, StepName.APPLY, "failed", "null \0 and snow ☃")
        journal.step_started("run-1", 2, StepName.APPLY)
        journal.step_started("run-1", 2, StepName.APPLY)
        steps = journal.get("run-1").steps
        assert [(step.attempt, step.name, step.status) for step in steps] == [
            (1, "lock", "done"),
            (1, "apply", "failed"),
            (2, "apply", "running"),
        ]
        assert steps[1].note == "null \\0 and snow ☃"
        assert steps[1].ended_at is not None
        assert steps[1].ended_at - steps[1].started_at >= timedelta(0)

    def test_record_and_facts_come_back_as_they_were_saved(self, journal: Journal, elsewhere: Journal) -> None:
        begin(journal, "run-1")
        record = a_record("run-1")
        record.warnings.append("naïve ☃ \0 'quoted' {\"json\"}")
        journal.save(record, {"fence": {"since": 1.5, "previous": [None, True, "ä\0"]}})
        found = elsewhere.get("run-1")
        assert found.record == record
        assert found.facts == {"fence": {"since": 1.5, "previous": [None, True, "ä\0"]}}

    def test_a_secret_is_never_stored(self, journal: Journal) -> None:
        begin(journal, "run-1")
        with pytest.raises(MigratorError) as caught:
            journal.save(a_record("run-1"), {"password": Secret("hunter2")})  # type: ignore[dict-item]
        assert "hunter2" not in str(caught.value)
        assert journal.get("run-1").facts == {}

    def test_a_lease_is_renewed_by_its_holder_only(self, journal: Journal, elsewhere: Journal) -> None:
        begin(journal, "run-1", lease_s=1)
        assert journal.renew("run-1", 600)
        found = elsewhere.unfinished(TARGET)
        assert found is not None
        assert found.lease_until > datetime.now(UTC) + timedelta(seconds=60)
        assert not elsewhere.renew("run-1", 600)
        journal.close_run("run-1", a_record("run-1"))
        assert not journal.renew("run-1", 600)

    def test_a_lease_given_before_the_clock_was_set_back_counts_as_ended(
        self, journal: Journal, elsewhere: Journal, url: str, tmp_path: Path
    ) -> None:
        begin(journal, "run-1", lease_s=60)
        self.tamper(url, tmp_path, "UPDATE migrator_run SET lease_until = lease_until + 3600")
        with pytest.raises(Unfinished):
            begin(elsewhere, "run-2")
        assert journal.renew("run-1", 60)
        with pytest.raises(Locked):
            begin(elsewhere, "run-2")

    def test_heartbeats_from_another_thread_do_not_disturb_the_run(self, journal: Journal) -> None:
        begin(journal, "run-1")
        renewed: list[bool] = []

        def beat() -> None:
            renewed.extend(journal.renew("run-1", 600) for _ in range(20))

        threads = [threading.Thread(target=beat) for _ in range(3)]
        for thread in threads:
            thread.start()
        for number in range(20):
            journal.step_started("run-1", number, StepName.APPLY)
            journal.save(a_record("run-1"), {"number": number})
        for thread in threads:
            thread.join(timeout=60)
        assert renewed == [True] * 60
        assert len(journal.get("run-1").steps) == 20

    def test_a_live_run_is_taken_over_by_force_only_and_its_process_notices(
        self, journal: Journal, elsewhere: Journal
    ) -> None:
        begin(journal, "run-1")
        with pytest.raises(Locked):
            elsewhere.take_over("run-1", lease_s=600)
        holder = elsewhere.take_over("run-1", lease_s=600, force=True)
        assert elsewhere.get("run-1").holder == holder
        assert not journal.renew("run-1", 600)
        with pytest.raises(TakenOver, match="run-1"):
            journal.save(a_record("run-1"), {"late": True})
        with pytest.raises(TakenOver):
            journal.step_started("run-1", 1, StepName.COMMIT)
        with pytest.raises(TakenOver):
            journal.close_run("run-1", a_record("run-1"))
        after = elsewhere.get("run-1")
        assert (after.facts, after.steps, after.closed) == ({}, (), False)

    def test_an_abandoned_run_is_taken_over_and_taken_further(self, journal: Journal, elsewhere: Journal) -> None:
        begin(journal, "run-1", lease_s=0)
        elsewhere.take_over("run-1", lease_s=600)
        assert elsewhere.knows("run-1")
        elsewhere.step_started("run-1", 2, StepName.LIFT)
        elsewhere.close_run("run-1", a_record("run-1"))
        assert elsewhere.unfinished(TARGET) is None

    def test_only_an_open_run_that_is_known_is_taken_over(self, journal: Journal) -> None:
        with pytest.raises(Refused, match="run-0"):
            journal.take_over("run-0", lease_s=600)
        begin(journal, "run-1")
        journal.close_run("run-1", a_record("run-1"))
        with pytest.raises(Refused, match="has ended"):
            journal.take_over("run-1", lease_s=600)
        with pytest.raises(Refused, match="run-0"):
            journal.get("run-0")

    def test_a_record_of_a_newer_migrator_is_named_but_not_guessed_at(
        self, journal: Journal, url: str, tmp_path: Path
    ) -> None:
        begin(journal, "run-1")
        newer = json.dumps({**a_record("run-1").model_dump(mode="json"), "something_new": 1})
        self.tamper(url, tmp_path, f"UPDATE migrator_run SET version = '9.9', record = '{newer}'")  # noqa: S608
        with pytest.raises(Unfinished, match=r"9\.9"):
            journal.get("run-1")
        found = journal.unfinished(TARGET)
        assert found is not None
        assert (found.changelog, found.version) == ("changelogs/1.sql", "9.9")
        (shown,) = journal.history()
        assert shown.record.changelog == "changelogs/1.sql"
        assert "9.9" in shown.record.warnings[0]

    @pytest.mark.parametrize(("version", "word"), [(99, "newer"), (0, "too old")])
    def test_a_journal_of_another_version_is_refused_saying_which(
        self, journal: Journal, url: str, tmp_path: Path, version: int, word: str
    ) -> None:
        self.tamper(url, tmp_path, f"UPDATE migrator_journal SET version = {version}")  # noqa: S608
        for read_only in (False, True):
            with pytest.raises(Refused, match=word) as caught:
                Journal.open(url, tmp_path, read_only=read_only)
            assert str(version) in caught.value.message
            assert caught.value.hint

    def test_reading_makes_no_journal_and_sees_one_that_exists(self, url: str, tmp_path: Path) -> None:
        before = Journal.open(url, tmp_path, read_only=True)
        assert before.history() == []
        assert before.open_runs() == []
        assert before.unfinished(TARGET) is None
        with pytest.raises(Refused):
            before.get("run-1")
        assert list(tmp_path.iterdir()) == []
        writer = Journal.open(url, tmp_path)
        begin(writer, "run-1")
        reader = Journal.open(url, tmp_path, read_only=True)
        assert [run.run_id for run in reader.open_runs()] == ["run-1"]
        with pytest.raises(MigratorError):
            begin(reader, "run-2", target="1/other")
        writer.close()
        reader.close()
