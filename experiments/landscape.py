"""What the game is like at the core's checkpoints: rotation, attraction, the theorem's premises.

Reads what gradient_norms.py trained. Leading eigenvalues of the field's Jacobian and of both
players' Hessians, the path-angle from the start of training to its end, and of the premises what
can be measured on a GAN: is the preconditioner monotone, is the step small enough for the
curvature; where it is not, does extragradient rest where the game does not? Ends after
``--minutes`` with everything saved (exit code 3).

    python experiments/landscape.py                     # scale "paper", after gradient_norms.py
    python experiments/landscape.py --scale small       # a minute; numbers mean nothing
    python experiments/landscape.py --draw              # only the table and figures
"""

from __future__ import annotations

import itertools
import math
import sys
from collections.abc import Mapping, Sequence

import numpy as np
from _design import core
from _jobs import Job, Row, grouped, read_table, write_table
from _landscape import TABLES, large_batch
from _measure import trained
from matplotlib.figure import Figure
from numpy.typing import NDArray

from onesided_jax.report._style import DUAL, PRIMAL, svg_bytes
from onesided_jax.runs import cells

CONVERGED = 0.05  # residual over magnitude
LOOK_AHEAD = ("amsgrad_eg", "amsgrad_xeg", "amsgrad_eg_drd")  # two points a step


def work(job: Job) -> None:
    """All tables of one kind before the next: the eigenvalues, which take longest, come last."""
    data = job.scale.data[0]
    wanted = core(data, job.scale)
    arms = {cell.label: cell for cell in cells(wanted) if cell.label in job.scale.mvi_arms}
    left = [
        (name, label, path)
        for name, (label, arm) in itertools.product(TABLES, arms.items())
        if not (path := job.out / data / f"{name}-{label}.csv").exists()
        and (name != "midpoints" or arm.spec.name in LOOK_AHEAD)
    ]
    needed = dict.fromkeys(label for _, label, _ in left)
    found = {source.label: (what, source) for what, source in trained(job, wanted, needed)}
    batch = None
    for name, label, path in left:
        what, source = found[label]
        batch = large_batch(what.game) if batch is None else batch
        job.check()
        write_table(path, TABLES[name](job, what, source, arms[label], batch))
        job.say(f"{data}/{label}: {name}")


# --- tables of tables


def load(job: Job, name: str) -> list[dict[str, str]]:
    """All rows of one kind, with the data set in front."""
    return [
        {"data": data, **row}
        for data in job.scale.data
        for path in sorted((job.out / data).glob(f"{name}-*.csv"))
        for row in read_table(path)
    ]


def summarise(job: Job) -> None:
    """One row per run and place: rotation, curvature, and the step that Theorem 1 would allow."""
    rates = {spec.label: spec.axes for spec in core(job.scale.data[0], job.scale).optimizers}
    rows: list[Row] = []
    keys = ("data", "arm", "seed", "step")
    for place, found in grouped(load(job, "spectrum"), *keys).items():
        row: Row = dict(zip(keys, place))
        of = {player: _values(found, player) for player in ("both", "primal", "dual")}
        row["largest"] = float(np.abs(of["both"]).max(initial=0))
        angles = np.abs(of["both"].imag) / np.maximum(np.abs(of["both"]), 1e-30)
        row["largest_rotation"] = float(angles.max(initial=0))
        row["negative"] = float(np.mean(of["both"].real < 0)) if len(of["both"]) else math.nan
        for player in ("primal", "dual"):
            row[f"{player}_curvature"] = float(np.abs(of[player]).max(initial=0))
            row[f"{player}_lowest"] = float(of[player].real.min(initial=0))
        axes = rates[row["arm"].split()[0]]
        row["rate"] = float(axes["primal_learning_rate"][0])
        # Theorem 1's condition is its rate <= eps / (2 L_xx), for AMSGrad extragradient.
        eps, extra = axes.get("eps"), row["arm"].startswith(("amsgrad_eg", "amsgrad_xeg"))
        curvature = row["primal_curvature"]
        row["rate_allowed"] = eps[0] / (2 * curvature) if extra and eps and curvature else ""
        rows.append(row)
    if rows:
        job.table("landscape", rows)
        job.table("curvature", _of_arms(read_table(job.out / "landscape.csv")))


def _of_arms(points: Sequence[Mapping[str, str]]) -> list[Row]:
    """Medians over runs and places, the first place of a run apart: it is early in training."""
    first = min(int(point["step"]) for point in points)
    marked = [{**p, "late": "" if int(p["step"]) == first else "yes"} for p in points]
    rows: list[Row] = []
    for (data, arm, _), found in grouped(marked, "data", "arm", "late").items():
        steps = sorted({int(point["step"]) for point in found})
        row: Row = {"data": data, "arm": arm, "first_step": steps[0], "last_step": steps[-1]}
        for column in ("primal_curvature", "dual_curvature", "largest_rotation", "negative"):
            row[column] = float(np.median([float(point[column]) for point in found]))
        row["rate"] = found[0]["rate"]
        allowed = [float(point["rate_allowed"]) for point in found if point["rate_allowed"]]
        row["rate_allowed"] = float(np.median(allowed)) if allowed else ""
        rows.append(row)
    return rows


def along_the_runs(job: Job) -> None:
    """Of every arm, over its runs and checkpoints: what Theorem 1 takes to be bounded, or monotone.

    The Lipschitz ratio of the field between two checkpoints is a lower bound of its constant.
    """
    rows: list[Row] = []
    for (data, arm), found in grouped(load(job, "premises"), "data", "arm").items():
        gradient, lipschitz, fallen = (
            np.array([float(row[column]) for row in found])
            for column in ("gradient", "lipschitz", "moments_fallen")
        )
        row: Row = {"data": data, "arm": arm, "points": len(found)}
        row |= {"gradient": np.median(gradient), "gradient_largest": gradient.max()}
        row |= {"lipschitz": np.median(lipschitz), "lipschitz_largest": lipschitz.max()}
        rows.append(row | {"moments_fallen": fallen.mean()})
    if rows:
        job.table("premises", rows)


def at_midpoints(job: Job) -> None:
    """Of every arm that looks ahead: medians over runs and checkpoints."""
    rows: list[Row] = []
    for (data, arm), found in grouped(load(job, "midpoints"), "data", "arm").items():
        row: Row = {"data": data, "arm": arm, "points": len(found)}
        for column in itertools.product(("primal", "dual", "dual_loss"), ("", "_midpoint")):
            name = "".join(column)
            row[name] = float(np.median([float(r[name]) for r in found]))
        rows.append(row)
    if rows:
        job.table("midpoints", rows)


def _values(rows: Sequence[Mapping[str, str]], player: str) -> NDArray[np.complex128]:
    """Those eigenvalues of a point that Arnoldi's method has found well."""
    mine = [row for row in rows if row["player"] == player]
    values = np.array([complex(float(r["real"]), float(r["imaginary"])) for r in mine], complex)
    good = [float(r["residual"]) <= CONVERGED * abs(v) for r, v in zip(mine, values)]
    return values[good] if len(values) else values


# --- figures


def conclude(job: Job) -> None:
    summarise(job)
    along_the_runs(job)
    at_midpoints(job)
    for data in job.scale.data:
        spectrum = [row for row in load(job, "spectrum") if row["data"] == data]
        path = [row for row in load(job, "path") if row["data"] == data]
        if spectrum and path:
            figure = draw_landscape(spectrum, path)
            (job.out / f"landscape-{data}.svg").write_bytes(svg_bytes(figure))


def draw_landscape(
    spectrum: Sequence[Mapping[str, str]], path: Sequence[Mapping[str, str]]
) -> Figure:
    """A column per arm: eigenvalues early (hollow) and late, and the path-angle of each run."""
    arms = list(dict.fromkeys(row["arm"] for row in spectrum))
    figure = Figure(figsize=(3.1 * len(arms), 5.2), layout="constrained")
    grid = figure.subplots(2, len(arms), squeeze=False, sharex="row", sharey="row")
    for (above, below), arm in zip(grid.T, arms):
        mine = [row for row in spectrum if row["arm"] == arm and row["player"] == "both"]
        steps = sorted({int(row["step"]) for row in mine})
        for step, fill in ((steps[0], "none"), (steps[-1], DUAL)):
            points = [(float(r["real"]), float(r["imaginary"])) for r in mine
                      if int(r["step"]) == step]  # fmt: skip
            above.scatter(
                *zip(*points), s=16, facecolors=fill, edgecolors=DUAL, linewidths=0.8,
                label=f"eigenvalues at step {step:,}",
            )  # fmt: skip
        above.axhline(0, color="0.8", linewidth=0.6, zorder=0)
        above.axvline(0, color="0.8", linewidth=0.6, zorder=0)
        above.set_title(arm.replace("_", " "), fontsize=9)
        above.set_xlabel("real part", fontsize=8)
        for rows in grouped([r for r in path if r["arm"] == arm], "seed").values():
            below.plot(
                [float(r["alpha"]) for r in rows], [float(r["cosine"]) for r in rows],
                color=PRIMAL, linewidth=1,
            )  # fmt: skip
        below.axvline(1, color="0.8", linewidth=0.6, zorder=0)
        below.axhline(0, color="0.8", linewidth=0.6, zorder=0)
        below.set_xlabel("from start (0) to end (1) of training", fontsize=8)
    first = grid[0, 0]
    first.margins(0.08)
    first.set_xscale("symlog", linthresh=1, linscale=0.4)
    first.set_xticks(x := (-100, -1, 1, 100), map(str, x))
    first.set_yscale("symlog", linthresh=1, linscale=0.4)
    first.set_yticks(y := (-10, -1, 0, 1, 10), map(str, y))
    first.set_ylabel("imaginary part", fontsize=8)
    grid[1, 0].set_ylabel("cosine of field and path", fontsize=8)
    figure.legend(
        *first.get_legend_handles_labels(), loc="outside upper center", ncols=2,
        frameon=False, fontsize=8,
    )  # fmt: skip
    for axes in grid.flat:
        axes.tick_params(labelsize=7)
        axes.spines[["top", "right"]].set_visible(False)
    return figure


if __name__ == "__main__":
    sys.exit(Job("landscape", (__doc__ or "").splitlines()[0]).go(work, conclude))
