"""The network between the program and its server goes away for a while, in every phase of a run."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from migrator.config.login import Login
from tests.acceptance.stage import crash_template
from tests.conftest import Server
from tests.proxy import proxied
from tests.sweep.cases import Blow, Case, Setting
from tests.sweep.proof import Ground, prove

__all__ = ["crash_template"]

CUT_S = float(os.environ.get("MIGRATOR_CUT_S", "8"))  # `make matrix` cuts for 30 s
PHASES = {
    "preflight": "process_start.before#2",
    "maintain": "fence_up.before#1",
    "drained": "hold.before#1",
    "back up": "dump.before#1",
    "apply": "update.before#1",
    "verify": "update.after#1",
    "commit": "commit.before#1",
    "committed": "commit.after#1",
    "lift": "fence_down.before#1",
    "lifted": "fence_down.after#1",
}


@pytest.fixture
def ground(server: Server, crash_template: Login, tmp_path: Path) -> Iterator[Ground]:
    with proxied(server.migrator.host, server.migrator.port) as proxy:
        yield Ground(server=server, template=crash_template, folder=tmp_path, proxy=proxy, cut_s=CUT_S)


CASES = [
    *(("atomic", phase, how) for phase in PHASES for how in ("stall", "cut")),
    *(("stepwise", phase, "cut") for phase in PHASES if phase not in {"drained", "commit", "committed"}),
    *(("atomic", phase, "drop") for phase in ("back up", "apply", "commit", "lift")),
]


@pytest.mark.slow
@pytest.mark.parametrize(("way", "phase", "how"), CASES)
def test_network_that_is_cut_is_waited_for_or_the_run_is_ended(ground: Ground, way: str, phase: str, how: str) -> None:
    setting = Setting(way=way, outcome="good", mode="offline")
    told = prove(ground, Case(setting=setting, first=Blow.parse(f"{how}@{PHASES[phase]}")), "case")
    assert len(told.codes) <= 3


@pytest.mark.slow
@pytest.mark.parametrize("place", ["sequences_back.before#1", "ledger_back.before#1", "restore.before#2"])
def test_network_that_is_cut_on_the_way_back_ends_in_the_state_before(ground: Ground, place: str) -> None:
    setting = Setting(way="stepwise", outcome="restored" if "restore" in place else "bad", mode="offline")
    told = prove(ground, Case(setting=setting, first=Blow.parse(f"cut@{place}")), "case")
    assert told.seen in {"what it was", "restored"}


@pytest.mark.slow
def test_slow_network_takes_its_time(ground: Ground) -> None:
    setting = Setting(way="atomic", outcome="good", mode="offline")
    told = prove(ground, Case(setting=setting, first=Blow.parse("slow@update.before#1")), "case")
    assert told.seen == "migrated and verified"
