"""make sweep: kills at every fail point of every kind of run, and at N random moments.

python -m tests.sweep                        every fail point, and for a tenth of them a second kill inside the resume
python -m tests.sweep --random 1000          and a thousand random cases
python -m tests.sweep --only CASE ...        these again, as they were printed
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import random
import secrets
import shutil
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from queue import Empty
from typing import Any

from migrator.postgres.embedded import EmbeddedServer, Options
from tests.acceptance.stage import template
from tests.conftest import SETTINGS as SERVER_SETTINGS
from tests.conftest import Server
from tests.sweep.cases import SETTINGS, Case, at_every_place, at_random, killed_twice
from tests.sweep.proof import Broken, Ground, prove, trace_of


def main() -> int:
    asked = _asked()
    seed = asked.seed if asked.seed is not None else secrets.randbelow(10**9)
    print(f"seed {seed}", flush=True)
    deadline = time.monotonic() + asked.limit_s
    cases = [Case.parse(text) for text in asked.only] or _drawn(asked, random.Random(seed))
    print(f"{len(cases)} cases, {asked.jobs} at a time", flush=True)
    found = _all(cases, jobs=asked.jobs, deadline=deadline, keep=asked.keep)
    asked.out.parent.mkdir(parents=True, exist_ok=True)
    asked.out.write_text(json.dumps({"seed": seed, "cases": found}, indent=1), encoding="utf-8")
    broken = [one for one in found if "broken" in one]
    for what, times in sorted(Counter(one.get("seen", "BROKEN") for one in found).items()):
        print(f"{times:6} {what}")
    print(f"{len(found)} of {len(cases)} cases done, {len(broken)} promises broken; all of it is in {asked.out}")
    for one in broken:
        print(f"  again: python -m tests.sweep --only '{one['case']}'")
    return 1 if broken else 0


def _asked() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.sweep", description=__doc__.splitlines()[0])
    parser.add_argument("--random", type=int, default=0, metavar="N", help="so many random cases")
    parser.add_argument("--places", action=argparse.BooleanOptionalAction, default=True, help="every fail point")
    parser.add_argument("--part", type=float, default=1.0, help="this part of the fail points, drawn by the seed")
    parser.add_argument("--setting", default="", help="only runs like this, such as stepwise/good")
    parser.add_argument("--seed", type=int, help="what decides on all that is random")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--limit-s", type=float, default=24 * 3600.0, help="no case is begun after so long")
    parser.add_argument("--only", nargs="+", default=[], metavar="CASE")
    parser.add_argument("--out", type=Path, default=Path("build/sweep.json"))
    parser.add_argument("--keep", type=Path, help="keep the folders of broken cases here")
    return parser.parse_args()


def _drawn(asked: argparse.Namespace, draw: random.Random) -> list[Case]:
    settings = [setting for setting in SETTINGS if str(setting).startswith(asked.setting)]
    traced = {}
    with grounds() as ground:
        for number, setting in enumerate(settings):
            traced[setting] = trace_of(ground, setting, f"traced{number}")
            print(f"{setting}: {len(traced[setting][0])} fail points in {traced[setting][1]:.1f} s", flush=True)
    cases = []
    if asked.places:
        for setting in settings:
            found = [case for case in at_every_place(setting, traced[setting][0]) if draw.random() < asked.part]
            cases += [*found, *killed_twice(draw, found, len(traced[setting][0]))]
    for _ in range(asked.random):
        setting = draw.choice(settings)
        cases.append(at_random(draw, setting, *traced[setting]))
    draw.shuffle(cases)
    return cases


@contextmanager
def grounds() -> Iterator[Ground]:
    """A server of its own, that may be crashed, with a database to copy."""
    folder = Path(tempfile.mkdtemp(prefix="migrator-sweep-"))
    folder.chmod(0o711)
    options = Options(major=18, settings=SERVER_SETTINGS)  # durable: what a crash loses would be ours
    options = options.that_ends_with_us(remove=folder / "nothing")  # it comes back after a crash

    def start() -> EmbeddedServer:
        return EmbeddedServer.start(folder / "pg", options)

    try:
        embedded = start()
        server = Server(admin=embedded.admin, migrator=embedded.migrator, app=embedded.app, major=18, embedded=embedded)
        (folder / "template").mkdir()
        (folder / "cases").mkdir()
        with template(server, folder / "template") as copied:
            yield Ground(server=server, template=copied, folder=folder / "cases", restart=lambda: (start(), None)[1])
    finally:
        start().immediate_stop()
        shutil.rmtree(folder, ignore_errors=True)


def _all(cases: list[Case], *, jobs: int, deadline: float, keep: Path | None) -> list[dict[str, Any]]:
    queue: multiprocessing.Queue[str | None] = multiprocessing.Queue()
    results: multiprocessing.Queue[dict[str, Any] | None] = multiprocessing.Queue()
    for case in cases:
        queue.put(str(case))
    for _ in range(jobs):
        queue.put(None)
    workers = [multiprocessing.Process(target=_work, args=(queue, results, deadline, keep)) for _ in range(jobs)]
    for worker in workers:
        worker.start()
    found: list[dict[str, Any]] = []
    running = jobs
    while running:
        try:
            one = results.get(timeout=5.0)
        except Empty:
            if not any(worker.is_alive() for worker in workers):
                print("the workers are gone", file=sys.stderr)
                break
            continue
        if one is None:
            running -= 1
            continue
        found.append(one)
        print(f"{len(found):5}/{len(cases)} {one['case']}: {one.get('seen', 'BROKEN')} {one['codes']}", flush=True)
        if "broken" in one:
            print(one["broken"], flush=True)
    for worker in workers:
        worker.join()
    return found


def _work(queue: Any, results: Any, deadline: float, keep: Path | None) -> None:
    try:
        with grounds() as ground:
            for number in range(10**9):
                text = queue.get()
                if text is None or time.monotonic() > deadline:
                    break
                results.put(_one(ground, text, f"case{number}", keep))
    except Exception:
        traceback.print_exc()
    finally:
        results.put(None)


def _one(ground: Ground, text: str, name: str, keep: Path | None) -> dict[str, Any]:
    try:
        told = asdict(prove(ground, Case.parse(text), name))
        told.pop("said")
    except Broken as broken:
        if keep is not None:
            shutil.copytree(ground.folder / name, keep / text.replace("/", "_"), dirs_exist_ok=True)
        return {"case": text, "codes": [], "broken": str(broken)}
    finally:
        shutil.rmtree(ground.folder / name, ignore_errors=True)
    return told


if __name__ == "__main__":
    sys.exit(main())
