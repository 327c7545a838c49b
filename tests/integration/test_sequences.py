from __future__ import annotations

from collections.abc import Iterator

import pytest

from migrator.config.login import Login
from migrator.errors import StepFailed
from migrator.postgres import sequences
from migrator.postgres.connect import PgSession, connect
from migrator.postgres.sequences import SequenceState
from tests.conftest import Server
from tests.integration.restored import restored


@pytest.fixture
def session(database: Login) -> Iterator[PgSession]:
    with connect(database, role="test", run_id="test") as session:
        session.execute(
            """CREATE SEQUENCE fresh; CREATE SEQUENCE "Odd ""name" START -5 INCREMENT -1;
            CREATE TABLE t (id int GENERATED ALWAYS AS IDENTITY, b bigserial); INSERT INTO t DEFAULT VALUES;
            SELECT nextval('"Odd ""name"'), nextval('"Odd ""name"')"""
        )
        yield session


STATES = {
    "public.fresh": SequenceState(last_value=1, is_called=False),
    'public."Odd ""name"': SequenceState(last_value=-6, is_called=True),
    "public.t_id_seq": SequenceState(last_value=1, is_called=True),
    "public.t_b_seq": SequenceState(last_value=1, is_called=True),
}


def test_every_sequence_is_read(session: PgSession) -> None:
    assert sequences.read(session) == STATES


def test_sequences_are_the_same_after_dump_and_restore(server: Server, database: Login, session: PgSession) -> None:
    with connect(restored(server, database), role="test", run_id="test") as copy:
        assert sequences.read(copy) == STATES


def test_a_rollback_leaves_them_and_they_are_put_back(session: PgSession) -> None:
    before = sequences.read(session)
    session.execute("BEGIN; INSERT INTO t DEFAULT VALUES; SELECT nextval('fresh'); ROLLBACK")
    assert sequences.changed(before, sequences.read(session)) == ["public.fresh", "public.t_b_seq", "public.t_id_seq"]
    assert sequences.put_back(session, before) == ["public.fresh", "public.t_b_seq", "public.t_id_seq"]
    assert sequences.read(session) == before
    assert sequences.put_back(session, before) == []
    assert session.rows("SELECT nextval('fresh')") == [("1",)]


def test_one_that_is_gone_or_new_is_left_alone(session: PgSession) -> None:
    before = sequences.read(session)
    session.execute("DROP SEQUENCE fresh; CREATE SEQUENCE extra; SELECT nextval('extra')")
    assert sequences.put_back(session, before) == []


def test_no_lock_outlives_the_reading(session: PgSession) -> None:
    session.execute("BEGIN")
    sequences.read(session)
    locks = "SELECT count(*) FROM pg_locks WHERE pid = pg_backend_pid() AND locktype = 'relation' AND relation >= 16384"
    assert session.rows(locks) == [("0",)]


def test_those_that_may_not_be_read_are_named(server: Server, database: Login, session: PgSession) -> None:
    with (
        connect(server.app.to(database.database), role="test", run_id="test") as app,
        pytest.raises(StepFailed, match=r'public\."Odd ""name", public\.fresh') as failure,
    ):
        sequences.read(app)
    assert failure.value.code == "unreadable"
