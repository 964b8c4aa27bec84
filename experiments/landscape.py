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
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from _design import core
from _jobs import Job, Row, grouped, read_table, write_table
from _measure import Opened, labels, trained
from matplotlib.figure import Figure
from numpy.typing import NDArray

import onesided_jax as osj
from onesided_jax.analysis import jacobian_spectrum, path_angle
from onesided_jax.analysis.source import Source
from onesided_jax.report._style import DUAL, PRIMAL, svg_bytes
from onesided_jax.runs import Cell, cells, unpack

MINIBATCHES = 4  # side by side: one large batch, the same at all points
KRYLOV = 40  # Arnoldi's steps
KEPT = 12  # eigenvalues a table keeps
CONVERGED = 0.05  # residual over magnitude
LOOK_AHEAD = ("amsgrad_eg", "amsgrad_xeg", "amsgrad_eg_drd")  # two points a step
PLACES = 5  # checkpoints, evenly, the first after the start
RUNS = 2  # of each arm


def work(job: Job) -> None:
    """All tables of one kind before the next: the eigenvalues, which take longest, come last."""
    data = job.scale.data[0]
    wanted = core(data, job.scale)
    arms = {cell.label: cell for cell in cells(wanted) if cell.label in job.scale.mvi_arms}
    left = [
        (name, label, path)
        for name, (label, arm) in itertools.product(_TABLES, arms.items())
        if not (path := job.out / data / f"{name}-{label}.csv").exists()
        and (name != "midpoints" or arm.spec.name in LOOK_AHEAD)
    ]
    needed = dict.fromkeys(label for _, label, _ in left)
    found = {source.label: (what, source) for what, source in trained(job, wanted, needed)}
    batch = None
    for name, label, path in left:
        what, source = found[label]
        batch = _large_batch(what.game) if batch is None else batch
        job.check()
        write_table(path, _TABLES[name](job, what, source, arms[label], batch))
        job.say(f"{data}/{label}: {name}")


def _large_batch(game: osj.Game) -> Any:
    parts = [game.sample(key) for key in jax.random.split(jax.random.key(2109_14216), MINIBATCHES)]
    return jax.tree.map(lambda *a: jnp.concatenate(a), *parts)


def places(steps: Sequence[int]) -> list[int]:
    """``PLACES`` of the checkpoints after the start, the last among them."""
    later = [step for step in steps if step > 0]
    return [later[i] for i in np.linspace(0, len(later) - 1, PLACES).round().astype(int)]


def _runs(source: Source) -> list[int]:
    return [i for i in range(len(source.seeds)) if source.diverged_at[i] < 0][:RUNS]


def _at(source: Source, step: int, run: int) -> tuple[osj.PrimalDual, Any]:
    return jax.tree.map(lambda leaf: leaf[run], tuple(source.snapshot(step)))


def spectra(job: Job, what: Opened, source: Source, arm: Cell, batch: Any) -> list[Row]:
    rows: list[Row] = []
    points = itertools.product(_runs(source), places(source.steps), ("both", "primal", "dual"))
    for run, step, player in points:
        job.check()
        players, state = _at(source, step, run)
        entries = sum(leaf.size for leaf in jax.tree.leaves(players))
        found = jacobian_spectrum(
            what.game, players, state=state, batch=batch, player=player,
            method="arnoldi", count=min(KRYLOV, entries // 4),
        )  # fmt: skip
        for rank, (value, residual) in enumerate(zip(found.eigenvalues, found.residuals)):
            if rank == KEPT:
                break
            rows.append(
                {
                    "arm": labels(source)[run], "seed": int(source.seeds[run]), "step": step,
                    "player": player, "rank": rank, "real": float(value.real),
                    "imaginary": float(value.imag), "residual": float(residual),
                }
            )  # fmt: skip
    return rows


def paths(job: Job, what: Opened, source: Source, arm: Cell, batch: Any) -> list[Row]:
    rows: list[Row] = []
    for run in _runs(source):
        start, _ = _at(source, source.steps[0], run)
        end, state = _at(source, source.steps[-1], run)
        found = path_angle(what.game, start, end, state=state, batch=batch)
        rows += [
            {
                "arm": labels(source)[run], "seed": int(source.seeds[run]), "alpha": float(alpha),
                "cosine": float(cosine), "norm": float(norm),
            }
            for alpha, cosine, norm in zip(*found)
        ]  # fmt: skip
    return rows


def premises(job: Job, what: Opened, source: Source, arm: Cell, batch: Any) -> list[Row]:
    """Between checkpoints: the share of the second moments that fell, and the Lipschitz ratio."""
    store, length = what.run.store(source.label), optax.tree.norm
    field = jax.jit(lambda players, state: what.game.field(players, state, batch)[0])
    rows: list[Row] = []
    before: dict[int, tuple[Any, ...]] = {}  # of each run
    for step in source.steps:
        opt_state = store.read(step)["opt_state"]
        for run in _runs(source):
            players, state = _at(source, step, run)
            F, moments = field(players, state), second_moments(opt_state, run)
            if run in before:
                players_before, F_before, moments_before = before[run]
                moved = float(length(optax.tree.sub(players, players_before)))
                row: Row = {"arm": labels(source)[run], "seed": int(source.seeds[run])}
                row |= {"step": step, "gradient": float(length(F.primal)), "moved": moved}
                row["lipschitz"] = float(length(optax.tree.sub(F, F_before))) / max(moved, 1e-30)
                row["moments_fallen"] = float(np.mean(moments < moments_before))
                rows.append(row)
            before[run] = players, F, moments
    return rows


def midpoints(job: Job, what: Opened, source: Source, arm: Cell, batch: Any) -> list[Row]:
    """Both players' norms where a step begins, and where it looks ahead to, on one large batch.

    Extragradient moves by the field at the midpoint. If the step is too long for the curvature the
    field may vanish there and not where the step began: the method is at rest, the game is not.
    """
    store, length = what.run.store(source.label), optax.tree.norm
    field = jax.jit(lambda players, state: what.game.field(players, state, batch))
    rows: list[Row] = []
    steps = places(source.steps)
    opt_states = {step: store.read(step)["opt_state"] for step in steps}  # of all runs
    for run, step in itertools.product(_runs(source), steps):
        players, state = _at(source, step, run)
        tx = arm.make_optimizer({k: column[run] for k, column in source.hyperparameters.items()})
        like = jax.eval_shape(jax.vmap(tx.init), source.snapshot(step).players)
        mine = unpack(opt_states[step], like)
        opt_state = jax.tree.map(lambda leaf: jnp.asarray(leaf[run]), mine)  # noqa: B023
        seen: list[osj.PrimalDual] = []

        def grad_fn(at: osj.PrimalDual, _: Any) -> osj.PrimalDual:
            seen.append(at)  # noqa: B023
            return field(at, state)[0]  # noqa: B023

        tx.update(field(players, state)[0], opt_state, players, grad_fn=grad_fn)
        row: Row = {"arm": labels(source)[run], "seed": int(source.seeds[run]), "step": step}
        for name, point in (("", players), ("_midpoint", seen[-1])):
            F, info = field(point, state)
            row[f"primal{name}"] = float(length(F.primal))
            row[f"dual{name}"] = float(length(F.dual))
            row[f"dual_loss{name}"] = float(info.losses.dual)
        rows.append(row)
    return rows


_TABLES = {"midpoints": midpoints, "premises": premises, "path": paths, "spectrum": spectra}


def second_moments(opt_state: Any, run: int) -> np.ndarray:
    """What the primal player's preconditioner is made of, flat: running maxima where there are."""
    leaves = jax.tree_util.tree_leaves_with_path(opt_state)
    named = [([str(getattr(k, "key", k)) for k in path], leaf) for path, leaf in leaves]
    for name in ("nu_max", "nu"):
        found = [np.ravel(leaf[run]) for path, leaf in named if name in path and "primal" in path]
        if found:
            return np.concatenate(found)
    raise ValueError("the optimizer's state has no second moments nu")


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
