"""Where does one-sided convergence hold? One factor of the core at a time, three seeds.

Width, network, loss, minibatch and data set under adam and amsgrad_xeg, and other optimizers; late
over early gradient norms of both players, their slopes, and the quality of the samples. The core's
own row comes from the tables of gradient_norms.py, where they are.

    python experiments/ablations.py                      # scale "paper", jobs of an hour
    python experiments/ablations.py --scale small        # a minute; numbers mean nothing
    python experiments/ablations.py --draw               # only the table and figure
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from _design import ARMS, OTHERS, core, recipe
from _jobs import Job, Row, read_table
from _measure import (
    Norms,
    late_over,
    measure,
    measured,
    norms_of,
    real_data,
    trained,
    unmeasured,
)
from _show import legend_of_players, ratio_axis
from matplotlib.figure import Figure
from numpy.typing import NDArray

import onesided_jax as osj
from onesided_jax.analysis.convergence_verdict import statistics_of_runs
from onesided_jax.analysis.verdict import interval_over_seeds, span
from onesided_jax.report._style import DUAL, PRIMAL, svg_bytes
from onesided_jax.runs import Criteria

ARM_LABELS = ("adam", "amsgrad_xeg")

FACTORS: dict[str, dict[str, Mapping[str, Any]]] = {
    "width": {str(width): {"width": width} for width in (8, 16, 64)},
    "network": {
        "MLP": {"network": "mlp", "width": 128},
        "BatchNorm": {"normalization": "batch"},
    },
    "loss": {
        name: {"loss": name} for name in ("minimax", "hinge", "least_squares", "wasserstein_gp")
    },
    "minibatch": {str(size): {"batch_size": size} for size in (16, 256)},
    "data": {
        "CIFAR-10": {"dataset": "cifar10"},
        "CIFAR-10, SN-ResNet": {"dataset": "cifar10", "network": "sn_resnet", "loss": "hinge"},
    },
    "optimizer": {"others": {}},
}
"""Factor, level, and what it changes in the core's game on MNIST-5k; the core has Fashion-MNIST."""

_SHORTER = {"CIFAR-10, SN-ResNet": 5, "64": 2, "256": 2}  # times fewer steps: they cost more


def recipes(job: Job) -> list[tuple[str, str, osj.Recipe]]:
    """``(factor, level, recipe)`` of everything that is trained."""
    arms = [a for a in ARMS if a.label in ARM_LABELS]
    found = []
    for factor, levels in FACTORS.items():
        if job.scale.factors and factor not in job.scale.factors:
            continue
        for level, change in levels.items():
            fewer = 1 if job.scale_name == "small" else _SHORTER.get(level, 1)
            scale = job.scale._replace(
                steps=job.scale.steps // fewer, checkpoints=job.scale.checkpoints // 2
            )
            game = {**scale.game, "dataset": "mnist5k", **change}
            if game["dataset"] == "cifar10":
                game["dataset"] = job.cifar10
            chosen = OTHERS if factor == "optimizer" else arms
            name = f"ablation-{factor}-{level}".lower().replace(", ", "-")
            found.append((factor, level, recipe(name, scale, game, chosen, scale.seeds[:3])))
    return found


def work(job: Job) -> None:
    for _, _, wanted in recipes(job):
        folder = job.out / wanted.name
        left = unmeasured(folder, [spec.label for spec in wanted.optimizers])
        for what, source in trained(job, wanted, left):
            measure(job, what, real_data(what, wanted), source, folder)


def conclude(job: Job) -> None:
    """A row per setting and arm, one per run, and the figures; from the tables alone."""
    of_the_core = job.folder_of("gradient_norms") / "mnist5k"
    settings = [("core", "core", core("mnist5k", job.scale), of_the_core)]
    settings += [(*found, job.out / found[-1].name) for found in recipes(job)]
    rows, runs = list[Row](), list[Row]()
    for factor, level, wanted, folder in settings:
        for name, norms, quality in load(folder):
            if factor == "core" and name not in ARM_LABELS:
                continue
            setting: Row = {"factor": factor, "level": level, "arm": name}
            found = ratios_and_slopes(norms, wanted.criteria, wanted.steps)
            row = setting | {"steps": wanted.steps} | summary(found, wanted.criteria)
            row["diverged"] = int(norms.diverged.sum())
            for score in ("frechet", "class_entropy"):
                row[score] = float(np.mean([float(q[score]) for q in quality]))
            row["classifier"] = quality[0]["classifier"]
            rows.append(row)
            seeds = np.array(norms.seeds)[~norms.diverged]
            for seed, *values in zip(seeds, *found.values(), strict=True):
                runs.append(setting | {"seed": int(seed)} | dict(zip(found, values, strict=True)))
    if not rows:
        return
    job.table("ablations", rows)
    job.table("runs", runs)
    drawn = read_table(job.out / "runs.csv")
    others = [
        {**run, "factor": run["arm"], "level": run["arm"], "arm": "other optimizers"}
        for run in drawn
        if run["factor"] == "optimizer"
    ]
    factors = [run for run in drawn if run["factor"] != "optimizer"]
    for name, found in (("ablations", factors), ("optimizers", others)):
        if found:
            (job.out / f"{name}.svg").write_bytes(svg_bytes(draw_ratios(found)))


def load(folder: Path) -> list[tuple[str, Norms, Sequence[Mapping[str, str]]]]:
    """``(arm, norms, rows of quality)`` of what has been measured of a setting."""
    norms, quality = (measured(folder, kind) for kind in ("norms", "quality"))
    return [
        (name, norms_of(rows), quality[name]) for name, rows in norms.items() if name in quality
    ]


def ratios_and_slopes(
    norms: Norms, criteria: Criteria, total_steps: int
) -> dict[str, NDArray[np.float64]]:
    """Ratio and slope of both players, of each run that did not diverge; and over the start.

    ``*_from_start`` is the late norm over that of the first checkpoint.
    """
    used = ~norms.diverged
    found = statistics_of_runs(
        norms.steps, total_steps, norms.primal, norms.dual, criteria=criteria, exact=False
    )
    values = {name: found[name][used] for name in RATIOS_AND_SLOPES}
    from_start = late_over(norms, (0.0, 0.0), criteria, total_steps)
    return values | {f"{player}_from_start": ratio for player, ratio in from_start.items()}


RATIOS_AND_SLOPES = ("primal_ratio", "dual_ratio", "primal_slope", "dual_slope")


def summary(found: Mapping[str, NDArray[np.float64]], criteria: Criteria) -> Row:
    """Means and intervals over seeds, and in how many the dual's norm falls less."""
    row: Row = {"seeds": len(found["primal_ratio"])}
    row |= {name: span(interval_over_seeds(values, criteria)) for name, values in found.items()}
    return row | {"above": int((found["dual_ratio"] > found["primal_ratio"]).sum())}


def draw_ratios(runs: Sequence[Mapping[str, str]]) -> Figure:
    """Late over early gradient norm of both players, a line per setting, a panel per arm."""
    settings = list(dict.fromkeys((run["factor"], run["level"]) for run in runs))
    arms = list(dict.fromkeys(run["arm"] for run in runs))
    height = 0.27 * len(settings) + 1.0
    figure = Figure(figsize=(3.4 * len(arms) + 1.6, height), layout="constrained")
    grid = figure.subplots(1, len(arms), sharey=True, sharex=True, squeeze=False)[0]
    for axes, arm in zip(grid, arms, strict=True):
        mine = [run for run in runs if run["arm"] == arm]
        places = np.array([-settings.index((run["factor"], run["level"])) for run in mine])
        for player, colour, shift in (("primal", PRIMAL, 0.13), ("dual", DUAL, -0.13)):
            ratios = [float(run[f"{player}_ratio"]) for run in mine]
            axes.scatter(ratios, places + shift, s=16, facecolors="none", edgecolors=colour)
        ratio_axis(axes)
        axes.set_title(arm.replace("_", " "), fontsize=9)
        axes.tick_params(labelsize=7.5)
        axes.spines[["top", "right"]].set_visible(False)
    names = [level if factor == level else f"{factor}: {level}" for factor, level in settings]
    grid[0].set_yticks([-i for i in range(len(settings))], names)
    figure.supxlabel("late / early gradient norm, a mark per seed", fontsize=8)
    legend_of_players(figure, linestyle="", fillstyle="none")
    return figure


if __name__ == "__main__":
    sys.exit(Job("ablations", (__doc__ or "").splitlines()[0]).go(work, conclude))
