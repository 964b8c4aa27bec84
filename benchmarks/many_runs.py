"""Analysis and report of many runs against few: the cost per run must not grow with their number.

The runs train the carousel on a square grid of learning rates, for 30 steps with a checkpoint
after each, with four seeds per setting.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import onesided_jax as osj
from benchmarks.harness import Row, Scale, interleave, progress, ratio_row, spread
from onesided_jax.runs import GameSpec, OptimizerSpec, Recipe, Run

GROWTH = 1.2  # most growth of the time per run
ROUNDS = 2  # at most: a round takes minutes
SEEDS = 4


def rows(scale: Scale) -> tuple[list[Row], dict[str, Any]]:
    """The rows and details that the suite `analysis` adds."""
    few, many = scale.pick((2, 4), (16, 50))  # values of each rate
    with tempfile.TemporaryDirectory() as folder:
        runs = {side: train(Path(folder) / str(side), side) for side in (few, many)}
        sides = {
            f"{name} {side}": timed(work, run)
            for name, work in (("analyze", osj.analyze), ("report", draw))
            for side, run in runs.items()
        }
        first = {name: side() for name, side in sides.items()}  # compiles; writes what `draw` reads
        measured = interleave(sides, min(scale.rounds, ROUNDS), "many runs")
        sizes = {
            name: (runs[many].path / name).stat().st_size
            for name in ("analysis.nc", "verdict.json", "gradient_norms.csv", "report.html")
        }
    counts = {side: SEEDS * side**2 for side in (few, many)}
    times = counts[many] / counts[few]
    progress(f"{counts[many]:,} runs, MB: { ({name: v / 1e6 for name, v in sizes.items()}) }")
    found = [
        ratio_row(
            f"{name} of {counts[many]:,} runs", f"{counts[few]:,} runs",
            measured[f"{name} {many}"], measured[f"{name} {few}"],
            goal=round(GROWTH * times, 3), better="lower", note=f"{times:.3g} times the runs",
        )
        for name in ("analyze", "report")
    ]  # fmt: skip
    seconds = {name: spread(values) for name, values in measured.items()}
    return found, {"runs": counts, "seconds": seconds, "first": first, "bytes": sizes}


def train(folder: Path, side: int) -> Run:
    rates = tuple(np.geomspace(1e-3, 1e-1, side).tolist())
    axes = {"primal_learning_rate": rates, "dual_learning_rate": rates}
    recipe = Recipe(
        name="many",
        game=GameSpec("carousel"),
        optimizers=(OptimizerSpec("amsgrad_xeg", axes=axes),),
        seeds=tuple(range(SEEDS)),
        steps=30,
        checkpoint_every=1,
    )
    return osj.run(recipe, folder)


def draw(run: Run) -> None:
    from onesided_jax.analysis import load_analysis
    from onesided_jax.report import Section, write_report

    section = Section("many", *load_analysis(run), dict(run.manifest))
    write_report([section], run.path / "report.html", run.path / "figures")


def timed(work: Callable[[Run], Any], run: Run) -> Callable[[], float]:
    def measure() -> float:
        start = time.perf_counter()
        work(run)
        return time.perf_counter() - start

    return measure
