"""Claim 1 on standard data: does the generator converge while the discriminator does not?

Trains the core (experiments/design.md), measures unbiased gradient norms of both players at every
checkpoint, the quality of the samples, and judges P1 to P4 and P6 to P8. Ends after ``--minutes``
with everything saved (exit code 3); the same command goes on.

    python experiments/gradient_norms.py                    # scale "paper", jobs of an hour
    python experiments/gradient_norms.py --scale small      # a minute; numbers mean nothing
    python experiments/gradient_norms.py --draw             # only verdicts and figures
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from _compare import compare_arms
from _design import AVERAGED, BASELINE, CONTROLS, FAST, FROZEN, at_other_rates, core
from _jobs import TIME_IS_OVER, Job, Row, Rows, UnfinishedError
from _judge import Judged, judge, ratio_columns
from _measure import (
    Norms,
    Opened,
    measure,
    measure_samples,
    measured,
    norms_of,
    opened,
    real_data,
    references,
    trained,
    unmeasured,
)
from _show import legend_of_players, ratio_axis
from matplotlib.figure import Figure

import onesided_jax as osj
from onesided_jax.analysis.source import Snapshot, Source
from onesided_jax.analysis.verdict import Verdict
from onesided_jax.report._style import DUAL, PRIMAL, svg_bytes
from onesided_jax.runs import Criteria, build_game, open_run, unpack
from onesided_jax.sweeps import Observer

EMA = 0.999
FIRST = "first"  # folder of earlier tables of arms that were trained again, see design.md


def work(job: Job) -> None:
    for data in job.scale.data:
        recipe, folder = core(data, job.scale), job.out / data
        what = None
        for what, source in trained(
            job, recipe, unmeasured(folder, [spec.label for spec in recipe.optimizers])
        ):
            measure(job, what, real_data(what, recipe), source, folder)
        if unmeasured(folder, [FROZEN]):
            what, source = _control(job, FROZEN, recipe, what, *_frozen(recipe))
            measure(job, what, real_data(what, recipe), source, folder)
        if unmeasured(folder, [AVERAGED], ["quality"]):
            what, source = _control(job, AVERAGED, recipe, what, *_averaged(recipe))
            path = folder / "quality" / f"{AVERAGED}.csv"
            measure_samples(job, what, real_data(what, recipe), source, path)
        for what, source in trained(
            job, at_other_rates(data, job.scale), unmeasured(folder, [FAST])
        ):
            measure(job, what, real_data(what, recipe), source, folder)


def _frozen(recipe: osj.Recipe) -> tuple[Callable[..., Any], dict[str, Observer]]:
    """Adam whose discriminator stops half way: theorem T5 alone makes the generator converge."""

    def make(h: Mapping[str, Any]) -> Any:
        def dual_rate(count: Any) -> Any:
            return jnp.where(count < recipe.steps // 2, h["dual_learning_rate"], 0.0)

        return osj.adam(h["primal_learning_rate"], dual_rate, b1=h["b1"], b2=h["b2"])

    return make, {}


def _averaged(recipe: osj.Recipe) -> tuple[Callable[..., Any], dict[str, Observer]]:
    """Adam, and beside it the exponential moving average of the generator."""

    def update(average: Any, view: Any) -> Any:
        return jax.tree.map(lambda a, x: EMA * a + (1 - EMA) * x, average, view.after.primal)

    ema = Observer(init=lambda players: players.primal, update=update)
    return lambda h: osj.adam(**h), {"ema": ema}


def _control(
    job: Job,
    name: str,
    recipe: osj.Recipe,
    like: Opened | None,
    make: Callable[..., Any],
    observers: Mapping[str, Any],
) -> tuple[Opened, Source]:
    """An arm that no recipe can name, trained by `osj.sweep` at the core's seeds and cadence.

    Where an average of the generator was observed, it stands in the generator's place.
    """
    path = job.runs / f"{name}-{recipe.game.options['dataset']}"

    def on_chunk(progress: Any) -> None:
        if job.time_is_over() and progress.step < progress.steps:
            raise UnfinishedError(TIME_IS_OVER)  # what is being written is finished first

    if not (path.exists() and open_run(path).finished()):
        job.check()
        seeds, columns = osj.grid(seeds=recipe.seeds, **{k: v[0] for k, v in BASELINE.axes.items()})
        game = build_game(recipe.game, recipe.precision) if like is None else like.game
        osj.sweep(
            game, make, seeds=seeds, hyperparameters=columns, observers=observers, out=path,
            steps=recipe.steps, checkpoint_every=recipe.checkpoint_every,
            record_every=recipe.record_every, on_chunk=on_chunk,
        )  # fmt: skip
        job.say(f"{path.name}: trained")
    what = opened(open_run(path), recipe, like=like)
    source = what.source("sweep")._replace(label=name)
    if not observers:
        return what, source
    store, snapshot = what.run.store("sweep"), source.snapshot
    return what, source._replace(
        snapshot=lambda step: _with_average(snapshot(step), store.read(step))
    )


def _with_average(snapshot: Snapshot, stored: Mapping[str, Any]) -> Snapshot:
    """The averaged generator in the place of the last one."""
    average = unpack(stored["observers"]["ema"], snapshot.players.primal)
    return snapshot._replace(players=snapshot.players._replace(primal=average))


# --- verdicts


def conclude(job: Job) -> None:
    """Verdicts, their sensitivity, the claims that compare arms, and the figures.

    All from the tables alone, of those arms that have been measured.
    """
    tables: dict[str, dict[str, list[Row]]] = {}
    for data in job.scale.data:
        criteria, total = core(data, job.scale).criteria, job.scale.steps
        norm_rows, quality = load(job, data)
        if not norm_rows:
            continue
        judged = judge(norm_rows, quality, criteria, total)
        tables[data] = {
            **judged.tables,
            **compare_arms(judged.arms, quality, criteria, total),
            "classifiers": references(job.out / data),
            "machines": _machines(
                judged, measured(job.out / data / FIRST, "norms"), criteria, total
            ),
        }
        draw(job, data, judged)
    job.tables(tables)


def _machines(judged: Judged, first: Rows, criteria: Criteria, total_steps: int) -> list[Row]:
    """Ratios of arms trained twice, on two machines: the same seeds, rounded otherwise."""
    rows: list[Row] = []
    for name, found in first.items():
        if name not in judged.arms:
            continue
        row: Row = {"arm": name}
        both = {"first": norms_of(found), "again": judged.arms[name]}
        for when, norms in both.items():
            row |= ratio_columns(norms, criteria.early_window, criteria, total_steps, when)
        rows.append(row)
    return rows


def load(job: Job, data: str) -> tuple[Rows, Rows]:
    """Rows of norms, and of sample quality, of every arm measured; in the core's order."""
    order = [spec.label for spec in core(data, job.scale).optimizers] + list(CONTROLS)

    def in_order(rows: Rows) -> Rows:
        return {name: rows[name] for name in sorted(rows, key=lambda n: order.index(n.split()[0]))}

    norms, quality = (in_order(measured(job.out / data, kind)) for kind in ("norms", "quality"))
    return norms, quality


# --- figures


def draw(job: Job, data: str, judged: Judged) -> None:
    """Both figures of a data set."""
    criteria = core(data, job.scale).criteria
    windows = [
        (low * job.scale.steps, high * job.scale.steps)
        for low, high in (criteria.early_window, criteria.late_window)
    ]
    (job.out / f"norms-{data}.svg").write_bytes(svg_bytes(draw_norms(judged.arms, windows)))
    (job.out / f"ratios-{data}.svg").write_bytes(svg_bytes(draw_ratios(judged.verdicts)))


def draw_norms(arms: Mapping[str, Norms], windows: Sequence[tuple[float, float]]) -> Figure:
    """Both players' gradient norms along training, a panel per arm: median and range of seeds.

    Grey are the windows, of steps, whose norms are compared.
    """
    columns = min(4, len(arms))
    rows = -(-len(arms) // columns)
    figure = Figure(figsize=(2.6 * columns, 1.9 * rows + 0.4), layout="constrained")
    grid = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    for axes, (name, norms) in zip(grid.flat, arms.items()):
        for window in windows:
            axes.axvspan(*window, color="0.93", linewidth=0, zorder=0)
        for player, colour in (("primal", PRIMAL), ("dual", DUAL)):
            value = np.sqrt(np.maximum(getattr(norms, player).value, 0))
            value = np.where(value > 0, value, np.nan)
            low, middle, high = np.nanquantile(value, [0, 0.5, 1], axis=0)
            axes.fill_between(norms.steps, low, high, color=colour, alpha=0.2, linewidth=0)
            label = {"primal": "generator", "dual": "discriminator"}[player]
            axes.plot(norms.steps, middle, color=colour, linewidth=1.2, label=label)
        axes.set_title(name.replace("_", " "), fontsize=8)
        axes.set_yscale("log")
        axes.tick_params(labelsize=7)
        axes.spines[["top", "right"]].set_visible(False)
    for axes in grid.flat[len(arms) :]:
        axes.set_visible(False)
    for axes in grid.flat[max(0, len(arms) - columns) : len(arms)]:
        axes.tick_params(labelbottom=True)  # the lowest of its column
    figure.supxlabel("training step", fontsize=8)
    figure.supylabel("gradient norm", fontsize=8)
    handles, names = grid.flat[0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside upper center", ncols=2, frameon=False, fontsize=8)
    return figure


def draw_ratios(verdicts: Mapping[str, Verdict]) -> Figure:
    """Late over early norm of both players, a mark per seed: does it pass the gate?"""
    figure = Figure(figsize=(5.6, 0.36 * len(verdicts) + 1.0), layout="constrained")
    axes = figure.subplots()
    for place, verdict in enumerate(verdicts.values()):
        details = verdict.details
        passes = details["quality_gate"]["passes"]
        for player, colour, shift in (("primal", PRIMAL, 0.14), ("dual", DUAL, -0.14)):
            ratios = np.array(details["seeds"][f"{player}_ratio"], float)
            where = np.full(len(ratios), shift - place)
            if passes is None:
                axes.scatter(ratios, where, s=22, color=colour, linewidths=1, marker="x")
                continue
            axes.scatter(
                ratios, where, s=22, edgecolors=colour, linewidths=1,
                facecolors=[colour if ok else "none" for ok in passes],
            )  # fmt: skip
    ratio_axis(axes)
    axes.set_ylim(0.5 - len(verdicts), 0.5)
    axes.set_yticks([-i for i in range(len(verdicts))], [n.replace("_", " ") for n in verdicts])
    axes.tick_params(labelsize=8)
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_xlabel(
        "late / early gradient norm, a mark per seed\nhollow: fails the gate, ×: not asked",
        fontsize=8,
    )
    legend_of_players(figure, linestyle="")
    return figure


if __name__ == "__main__":
    sys.exit(Job("gradient_norms", (__doc__ or "").splitlines()[0]).go(work, conclude))
