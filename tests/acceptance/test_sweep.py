"""A part of `make sweep`, drawn by a seed: runs that are killed anywhere, and resumed, while applications write.

Every day draws another part; the summary of the tests says by which seed, and MIGRATOR_SWEEP_SEED draws it again. A
case that fails is named, and is done again with `python -m tests.sweep --only CASE`.
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from migrator.config.login import Login
from tests.acceptance.stage import crash_template
from tests.conftest import SUMMARY, Server
from tests.sweep.__main__ import grounds
from tests.sweep.cases import SELF, SETTINGS, Blow, Case, Setting, at_every_place, at_random
from tests.sweep.proof import Broken, Ground, prove, trace_of

__all__ = ["crash_template"]

SEED = int(os.environ.get("MIGRATOR_SWEEP_SEED") or f"{datetime.now(UTC):%Y%m%d}")
LIMIT_S = 12.0  # no case of the small sample is begun after so long
AT_MOST = 2
_PLACES = 220  # that the shortest run passes


@pytest.fixture
def ground(server: Server, crash_template: Login, tmp_path: Path) -> Ground:
    return Ground(server=server, template=crash_template, folder=tmp_path)


@pytest.fixture(autouse=True)
def told(record_property: Callable[[str, object], None]) -> None:
    record_property(SUMMARY, f"the sweep's part was drawn by MIGRATOR_SWEEP_SEED={SEED}, which draws it again")


def broken(ground: Ground, case: Case, name: str) -> str:
    """Which promise the case has broken, with all that was said; nothing where every one held."""
    try:
        prove(ground, case, name)
    except Broken as error:
        return f"MIGRATOR_SWEEP_SEED={SEED}: {error}\nagain: python -m tests.sweep --only '{case}'"
    return ""


def test_runs_killed_anywhere_are_ended(ground: Ground) -> None:
    draw, began = random.Random(SEED), time.monotonic()
    for number in range(AT_MOST):
        second = Blow(number=draw.randint(1, _PLACES)) if number == 0 else None
        case = Case(setting=draw.choice(SETTINGS), first=Blow(number=draw.randint(40, _PLACES)), second=second)
        if number == 0 or time.monotonic() - began < LIMIT_S:
            assert broken(ground, case, f"case{number}") == ""


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("setting", SETTINGS, ids=str)
def test_every_kind_of_run_is_ended_wherever_it_is_killed(ground: Ground, setting: Setting) -> None:
    draw = random.Random(f"{SEED} {setting}")
    reached, lasts_s = trace_of(ground, setting)
    cases = draw.sample(list(at_every_place(setting, reached)), 5)
    # A server that is crashed has a test of its own: this one is that of other tests too.
    harms = ["jvm", "dump", *(["restore"] if "restored" in str(setting) else [SELF])]
    cases += [at_random(draw, setting, reached, lasts_s, harm=harm) for harm in harms]
    for number, case in enumerate(cases):
        assert broken(ground, case, f"case{number}") == ""


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_run_whose_server_crashes_is_ended() -> None:
    draw = random.Random(f"{SEED} server")
    with grounds() as ground:
        setting = draw.choice(SETTINGS)
        case = at_random(draw, setting, *trace_of(ground, setting), harm="server")
        assert broken(ground, case, "crashed") == ""
