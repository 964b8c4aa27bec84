"""``python -m tests.faults [--full] [NAME ...]``: injects faults and writes the figures.

Every scenario writes a CSV file of its own, ``results.json`` says where and how long.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import errno
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import onesided_jax as osj
from onesided_jax.runs import manifest, open_run
from onesided_jax.runs.checkpoints import without_tracebacks

from . import corruption, disk, divergence, kill, memory, soak
from .figures import Figures
from .victims import COMMAND_LINE, ROOT, nursery, run
from .workload import ONE, recipe, recipe_file

RESULTS = Path(__file__).with_name("results")
GIGABYTE = 2**30
LIMITS = {"10,000 runs of the carousel": 1.5, "64 DCGANs x 50 steps": 8.0}
"""Gigabytes that the process may take at its peak."""


class Scene:
    """A folder, a place to fork victims from, and a sweep without a fault, made when asked for."""

    def __init__(self, folder: Path, full: bool, minutes: float):
        self.folder, self.full, self.minutes = folder, full, minutes

    @contextlib.contextmanager
    def victims(self) -> Iterator[tuple[Callable[..., Any], str, Path]]:
        """``(start, recipe file, undisturbed run directory with analysis and report)``."""
        steps, every = (4_000, 400) if self.full else (60, 15)
        path = recipe_file(self.folder, recipe(steps=steps, every=every))
        with nursery(self.folder) as start:
            out = self.folder / "whole"
            for command in (["sweep", path, "--out", str(out)], ["analyze", str(out)]):
                if not out.exists() or command[0] != "sweep":
                    code, said = run(start, COMMAND_LINE, *command)
                    assert code == 0, said
            code, said = run(start, COMMAND_LINE, "report", str(out))
            assert code == 0, said
            yield start, path, out

    def pick(self, small: Any, full: Any) -> Any:
        return full if self.full else small


def killing(scene: Scene) -> list[Figures]:
    """Kill anywhere, stop by signals, keep a second writer out."""
    with scene.victims() as (start, path, whole):
        common = (start, scene.folder, path, whole)
        points = range(0, 100_000, scene.pick(61, 1))
        return [
            kill.at_random_moments(*common, kills=scene.pick(6, 120)),
            kill.at_every_change(*_short(scene, start), points=points),
            kill.in_analysis_and_report(start, scene.folder, whole, kills=scene.pick(2, 15)),
            kill.by_signal(*common, times=scene.pick(3, 30)),
            kill.second(*common, times=scene.pick(3, 20)),
        ]


def _short(scene: Scene, start: Callable[..., Any]) -> tuple[Callable[..., Any], Path, str, Path]:
    """A sweep of few checkpoints, so that every single one of its changes can be met."""
    folder = scene.folder / "short"
    folder.mkdir()
    path = recipe_file(folder, recipe(steps=4, every=2, optimizers=ONE))
    code, said = run(start, COMMAND_LINE, "sweep", path, "--out", str(folder / "whole"))
    assert code == 0, said
    return start, folder, path, folder / "whole"


def damaging(scene: Scene) -> list[Figures]:
    """Files truncated, zeroed, flipped, overwritten or missing."""
    whole = osj.run(recipe(game="carousel", steps=40, every=4), scene.folder / "whole")
    corruption.analysed(whole.path)
    rng, newest, older = (
        random.Random(0),
        corruption.places(whole, 40),
        corruption.places(whole, 20),
    )
    return [
        corruption.of_newest(scene.folder, whole, rng.sample(newest, scene.pick(8, len(newest)))),
        corruption.of_older(scene.folder, whole, 20, rng.sample(older, scene.pick(2, 40))),
        corruption.of_manifest(scene.folder, whole, every=scene.pick(13, 1)),
    ]


def disks(scene: Scene) -> list[Figures]:
    """Disks that are full, read-only or broken."""
    tiny = recipe(game="carousel", steps=40, every=10)
    whole = osj.run(tiny, scene.folder / "whole").path
    codes = [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO]
    writes = range(0, 10, scene.pick(4, 1))
    found = disk.failing(scene.folder, tiny, whole, writes=writes, codes=codes)
    real = disk.filling(scene.folder, tiny, whole, writes=range(1, 10, scene.pick(4, 1)))
    return [*found, real] if real is not None else found


def diverging(scene: Scene) -> list[Figures]:
    """Runs that turn non-finite."""
    optimizers = scene.pick(("sgda",), ("sgda", "extra_sgd"))
    return [divergence.beside_others(scene.folder, seeds=scene.pick(2, 50), optimizers=optimizers)]


def memories(scene: Scene) -> list[Figures]:
    """Memory that runs out, and how much is taken."""
    tiny = recipe(game="carousel", steps=40, every=10, seeds=[0, 1, 2, 3])
    found = memory.exhausted(scene.folder, tiny, width=8, dispatches=scene.pick(3, 8))
    sizes = {
        "10,000 runs of the carousel": ("many_small", [10_000, scene.pick(100, 1_000)]),
        "64 DCGANs x 50 steps": (
            "many_networks",
            [scene.pick(4, 64), scene.pick(5, 50), 28, scene.pick(4, 32)],
        ),
    }
    with nursery(scene.folder) as start:
        for i, (name, (function, arguments)) in enumerate(sizes.items()):
            to, began = scene.folder / f"peak-{i}.json", time.monotonic()
            code, said = run(
                start,
                "faults.memory:peak_of",
                f"faults.memory:{function}",
                [str(scene.folder / f"many-{i}"), *arguments],
                str(to),
            )
            assert code == 0, said
            peak = json.loads(to.read_text())
            runs, diverged, _ = peak["returned"]
            gigabytes = peak["peak"] / GIGABYTE
            kept = runs == arguments[0] and diverged == 0 and gigabytes <= LIMITS[name]
            note = (
                f"peak {gigabytes:.2f} GB of {LIMITS[name]} GB allowed, "
                f"{time.monotonic() - began:.0f} s"
            )
            found.append(Figures(name, runs, runs if kept else 0, note=note))
    return found


def inputs(scene: Scene) -> list[Figures]:
    """Generated recipes, command lines and data files."""
    counts = scene.folder / "counts.json"
    environment = {
        **os.environ,
        "FAULTS_EXAMPLES": str(scene.pick(40, 3_000)),
        "FAULTS_COUNTS": str(counts),
    }
    command = [sys.executable, "-m", "pytest", "-q", "-n0", "tests/faults/test_input.py"]
    passed = subprocess.run(command, cwd=ROOT, env=environment, check=False).returncode == 0
    return [
        Figures(
            name.removeprefix("test_").replace("_", " "),
            given,
            given if passed else 0,
            note=f"{refused} refused with exit code 2, the others were valid",
        )
        for name, (given, refused) in json.loads(counts.read_text()).items()
    ]


def determining(scene: Scene) -> list[Figures]:
    """The same runs in other circumstances, on eight host devices among others."""
    content = recipe(steps=scene.pick(30, 400), every=scene.pick(10, 40), seeds=[0, 1, 2, 3])
    to = scene.folder / "determinism.json"
    with nursery(scene.folder) as start:
        arguments = [8, str(scene.folder), content.to_json(), str(to)]
        code, said = run(start, "faults.determinism:compare_on", *arguments)
        assert code == 0, said
    return [Figures(**figures) for figures in json.loads(to.read_text())]


def soaking(scene: Scene) -> list[Figures]:
    """A sweep for minutes; its samples are kept beside the figures."""
    out, samples = scene.folder / "run", scene.folder / "samples.csv"
    seconds = 60 * (scene.minutes if scene.full else 0.2)
    checkpoints, every, pause = scene.pick((20, 20, 0.1), (100, 6_000, 1.0))
    with nursery(scene.folder) as start:
        arguments = [str(out), str(samples), seconds, checkpoints, every, pause]
        code, said = run(start, "faults.soak:sweep", *arguments)
        assert code == 0, said
    found = soak.trend(samples, out)
    _write_csv(RESULTS / "soak-trend.csv", [{k: _plain(v) for k, v in found.items()}])
    shutil.copy(samples, RESULTS / "soak-samples.csv")
    store = open_run(out).store("adam")
    broken = [step for step in store.steps() if not store.holds(step)]
    number = found["checkpoints"]
    return [
        Figures("checkpoints in a row", number, number - len(broken), len(broken), note="all whole")
    ]


def _plain(value: Any) -> Any:
    """A range as text."""
    return f"{value[0]:,} to {value[1]:,}" if isinstance(value, list) else value


SCENARIOS: dict[str, Callable[[Scene], list[Figures]]] = {
    "kill": killing,
    "damage": damaging,
    "disk": disks,
    "divergence": diverging,
    "memory": memories,
    "input": inputs,
    "determinism": determining,
    "soak": soaking,
}


def _write_csv(path: Path, rows: list[dict[str, Any]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("scenarios", nargs="*", metavar="NAME", help=", ".join(SCENARIOS))
    parser.add_argument("--full", action="store_true", help="full size; hours, not minutes")
    parser.add_argument("--soak-minutes", type=float, default=30.0)
    parser.add_argument("--out", type=Path, help="where to write; tests/faults/results if --full")
    options = parser.parse_args()
    unknown = set(options.scenarios) - set(SCENARIOS)
    if unknown:
        parser.error(f"unknown: {sorted(unknown)}; expected some of {list(SCENARIOS)}")
    global RESULTS
    RESULTS = options.out or (RESULTS if options.full else Path(tempfile.mkdtemp()))
    RESULTS.mkdir(parents=True, exist_ok=True)
    summary = RESULTS / "results.json"
    results = json.loads(summary.read_text()) if summary.exists() else {}
    kept = True
    for name in options.scenarios or SCENARIOS:
        began = time.monotonic()
        prefix = f"faults-{name}-"
        with tempfile.TemporaryDirectory(prefix=prefix) as folder, without_tracebacks():
            found = SCENARIOS[name](Scene(Path(folder), options.full, options.soak_minutes))
        seconds = time.monotonic() - began
        _write_csv(RESULTS / f"{name}.csv", [figures.row() for figures in found])
        results[name] = {
            "full": options.full,
            "seconds": round(seconds, 1),
            "when": manifest.now(),
            "figures": [figures._asdict() for figures in found],
            **manifest.origin(),
        }
        summary.write_text(json.dumps(results, indent=1) + "\n")
        for figures in found:
            kept &= figures.kept()
            print(f"{name}: {json.dumps(figures.row(), ensure_ascii=False)}", flush=True)
    print(f"{'kept' if kept else 'BROKEN'}; figures in {RESULTS}")
    return 0 if kept else 1


if __name__ == "__main__":
    sys.exit(main())
