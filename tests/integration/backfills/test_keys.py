"""What a table is walked by is what its index says, whatever a name would mean in the search path."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace

import pytest

from migrator.backfills import keys
from migrator.config.login import Login
from migrator.errors import Refused, StepFailed
from tests.conftest import Server
from tests.integration.backfills.stage import Stage, backfill

# As citext is made: compared without regard to case, and a text to whoever does not see its operators.
_WITHOUT_CASE = """
CREATE SCHEMA ext; GRANT USAGE ON SCHEMA ext TO PUBLIC;
CREATE TYPE ext.ci;
CREATE FUNCTION ext.ci_in(cstring) RETURNS ext.ci LANGUAGE internal IMMUTABLE STRICT AS 'textin';
CREATE FUNCTION ext.ci_out(ext.ci) RETURNS cstring LANGUAGE internal IMMUTABLE STRICT AS 'textout';
CREATE TYPE ext.ci (INPUT = ext.ci_in, OUTPUT = ext.ci_out, LIKE = text, COLLATABLE = true, CATEGORY = 'S');
CREATE CAST (ext.ci AS text) WITHOUT FUNCTION AS IMPLICIT;
CREATE CAST (text AS ext.ci) WITHOUT FUNCTION AS ASSIGNMENT;
CREATE FUNCTION ext.ci_cmp(a ext.ci, b ext.ci) RETURNS int LANGUAGE sql IMMUTABLE STRICT
    AS 'SELECT bttextcmp(lower(a::text) COLLATE "C", lower(b::text) COLLATE "C")';
"""
_OPERATOR = """
CREATE FUNCTION ext.ci_{name}(a ext.ci, b ext.ci) RETURNS bool LANGUAGE sql IMMUTABLE STRICT
    AS 'SELECT ext.ci_cmp(a, b) {sign} 0';
CREATE OPERATOR ext.{sign} (LEFTARG = ext.ci, RIGHTARG = ext.ci, FUNCTION = ext.ci_{name});
"""
_ORDERED = """
CREATE OPERATOR CLASS ext.ci_ops DEFAULT FOR TYPE ext.ci USING btree AS
    OPERATOR 1 ext.<, OPERATOR 2 ext.<=, OPERATOR 3 ext.=, OPERATOR 4 ext.>=, OPERATOR 5 ext.>,
    FUNCTION 1 ext.ci_cmp(ext.ci, ext.ci);
"""
_SIGNS = {"lt": "<", "le": "<=", "eq": "=", "ge": ">=", "gt": ">"}


@pytest.fixture
def stage(server: Server, database: Login) -> Stage:
    operators = "".join(_OPERATOR.format(name=name, sign=sign) for name, sign in _SIGNS.items())
    with closing(server.session(replace(server.admin, database=database.database))) as admin:
        admin.execute(_WITHOUT_CASE + operators + _ORDERED)
    return Stage(login=database)


def test_a_key_is_compared_as_its_index_does_though_its_operators_are_not_seen(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("migrator.backfills.pace.LARGEST", 40)
    stage.execute(
        'create table item (tenant int not null, code ext.ci collate "C" primary key, done int, unique (tenant, code));'
        "insert into item select 1, chr(case n % 2 when 0 then 97 else 65 end + n / 2) || n"
        " from generate_series(0, 51) n"
    )
    counting = backfill(
        table="item",
        key=["code"],
        where=None,
        statement="update item t set done = coalesce(done, 0) + 1 from batch b where t.code = b.code",
        verify="select code from item where done is distinct from 1",
        undo="update item t set done = null from batch b where t.code = b.code",
        batch_rows=40,
        jobs=1,
    )
    assert stage.move(counting).rows == 52
    assert stage.verify(counting).violations == 0
    assert stage.undo(counting).rows == 52
    mixed = counting.model_copy(update={"name": "mixed", "key": ("tenant", "code")})
    with pytest.raises(Refused, match="ext is not in the search path") as caught:
        stage.move(mixed)
    assert caught.value.code == "key_operators"
    stage.execute(f'alter database "{stage.login.database}" set search_path = public, ext')
    assert stage.move(mixed).rows == 52
    assert stage.verify(mixed).violations == 0


@pytest.mark.slow
def test_an_index_of_another_order_is_not_walked_by(stage: Stage) -> None:
    stage.execute("create table item (code text not null); create unique index on item (code text_pattern_ops)")
    with pytest.raises(Refused, match="no valid unique index"):
        stage.move(backfill(table="item", key=["code"]))


def test_a_column_that_may_hold_nulls_is_no_key_though_it_is_said_to_hold_none(server: Server, database: Login) -> None:
    if server.major < 18:
        pytest.skip("NOT NULL can be NOT VALID from PostgreSQL 18 on")
    stage = Stage(login=database)
    stage.execute(
        "create table item (code text unique, name text, first_name text);"
        "insert into item values (null, 'a'), ('b', 'b'), ('z', 'z');"
        "alter table item add constraint needed not null code not valid"
    )
    with pytest.raises(Refused, match="code of item may be null") as caught:
        stage.move(backfill(table="item", key=["code"]))
    assert "alter table item validate constraint needed" in (caught.value.hint or "")
    stage.execute("delete from item where code is null; alter table item validate constraint needed")
    naming = backfill(
        table="item",
        key=["code"],
        statement="update item c set first_name = name from batch b where c.code = b.code",
        verify="select code from item where first_name is null",
        undo=None,
    )
    assert stage.move(naming).rows == 2


def test_a_null_is_never_taken_for_a_key() -> None:
    with pytest.raises(StepFailed, match="a row has no key: 7, null"):
        keys.of_row(["7", None])
