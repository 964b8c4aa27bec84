"""Claim 1 on standard data: does the generator converge while the discriminator does not?

Trains the core (experiments/design.md), measures unbiased gradient norms of both players at every
checkpoint, the quality of the samples, and judges P1 to P4 and P6 to P8. Ends after ``--minutes``
with everything saved (exit code 3); the same command goes on.

    python experiments/gradient_norms.py                    # scale "paper", jobs of an hour
    python experiments/gradient_norms.py --scale small      # a minute; numbers mean nothing
    python experiments/gradient_norms.py --draw             # only verdicts and figures
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from _compare import AVERAGED, FROZEN, compare_arms, rates
from _design import BASELINE, core, varied
from _jobs import Job, Row, TimeIsOverError, grouped
from _measure import Norms, Opened, measure, measure_samples, measured, norms_of, real_data, trained
from _show import legend_of_players, ratio_axis, span, word
from matplotlib.figure import Figure

import onesided_jax as osj
from onesided_jax.analysis.convergence_verdict import one_sided_convergence
from onesided_jax.analysis.gate import Gate, gate_of_runs, quality_gate
from onesided_jax.analysis.source import Snapshot, Source
from onesided_jax.analysis.verdict import Verdict
from onesided_jax.report._style import DUAL, PRIMAL, svg_bytes
from onesided_jax.runs import Criteria, open_run, unpack
from onesided_jax.sweeps import Observer

EMA = 0.999


def work(job: Job) -> None:
    for data in job.scale.data:
        recipe, folder = core(data, job.scale), job.out / data
        real = what = None
        for what, source in trained(job, recipe, [spec.label for spec in recipe.optimizers]):
            real = real or real_data(what, recipe)
            measure(job, what, real, source, folder)
        assert what is not None
        what, source = _control(job, FROZEN, recipe, what, *_frozen(recipe))
        measure(job, what, real, source, folder)
        what, source = _control(job, AVERAGED, recipe, what, *_averaged(recipe))
        measure_samples(job, what, real, source, folder / "quality" / f"{AVERAGED}.csv")


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
    what: Opened,
    make: Callable[..., Any],
    observers: Mapping[str, Any],
) -> tuple[Opened, Source]:
    """An arm that no recipe can name, trained by `osj.sweep` at the core's seeds and cadence.

    Where an average of the generator was observed, it stands in the generator's place.
    """
    path = job.runs / f"{name}-{recipe.game.options['dataset']}"

    def on_chunk(progress: Any) -> None:
        if job.time_is_over() and progress.step < progress.steps:
            raise TimeIsOverError  # what is being written is finished first

    if not (path.exists() and open_run(path).finished()):
        job.check()
        seeds, columns = osj.grid(seeds=recipe.seeds, **{k: v[0] for k, v in BASELINE.axes.items()})
        osj.sweep(
            what.game, make, seeds=seeds, hyperparameters=columns, observers=observers, out=path,
            steps=recipe.steps, checkpoint_every=recipe.checkpoint_every,
            record_every=recipe.record_every, on_chunk=on_chunk,
        )  # fmt: skip
        job.say(f"{path.name}: trained")
    what = what._replace(run=open_run(path))
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
    tables: dict[str, list[Row]] = {name: [] for name in _TABLES}
    for data in job.scale.data:
        criteria, total = core(data, job.scale).criteria, job.scale.steps
        arms, quality = load(job, data)
        gates = judge_quality(quality, criteria)
        verdicts: dict[str, Verdict] = {}
        for name, norms in arms.items():
            found = _verdict(name, norms, gates.get(name), criteria, total)
            verdicts[name] = found
            tables["verdicts"].append({"data": data, **_verdict_row(found)})
            if passing := _passing_row(found):
                tables["passing"].append({"data": data, **passing})
            rows = _sensitivity(name, norms, criteria, total)
            tables["sensitivity"] += [{"data": data, **row} for row in rows]
        varied_gate = _gate_sensitivity(arms, quality, criteria, total)
        tables["gate_sensitivity"] += [{"data": data, **row} for row in varied_gate]
        tables["gate"] += [{"data": data, **row} for row in _gate_rows(quality, gates)]
        tables["quality"] += [{"data": data, **row} for row in _quality_rows(quality, gates)]
        tables["levels"] += [{"data": data, **row} for row in _levels(job, data, criteria, total)]
        compared = compare_arms(arms, quality, criteria, total)
        tables["claims"] += [{"data": data, **row} for row in compared]
        tables["rates"] += [{"data": data, **row} for row in rates(arms, criteria, total)]
        if arms:
            (job.out / f"norms-{data}.svg").write_bytes(svg_bytes(draw_norms(arms)))
            (job.out / f"ratios-{data}.svg").write_bytes(svg_bytes(draw_ratios(verdicts)))
    for name, table in tables.items():
        if table:
            job.table(name, table)


_TABLES = (
    "levels", "verdicts", "passing", "sensitivity", "gate_sensitivity", "quality", "gate", "claims",
    "rates",
)  # fmt: skip

Rows = dict[str, list[Mapping[str, str]]]  # of every arm


def load(job: Job, data: str) -> tuple[dict[str, Norms], Rows]:
    """Norms, and rows of sample quality, of every arm that is measured; in the core's order."""
    order = [spec.label for spec in core(data, job.scale).optimizers] + [FROZEN, AVERAGED]

    def in_order(rows: Rows) -> Rows:
        return {name: rows[name] for name in sorted(rows, key=lambda n: order.index(n.split()[0]))}

    norms, quality = (in_order(measured(job.out / data, kind)) for kind in ("norms", "quality"))
    return {name: norms_of(rows) for name, rows in norms.items()}, quality


def judge_quality(quality: Rows, criteria: Criteria) -> dict[str, Gate]:
    """The gate of every arm; over all arms together, without the controls."""
    judged = {name: rows for name, rows in quality.items() if name not in (FROZEN, AVERAGED)}
    if not judged:
        return {}
    rows = list(itertools.chain.from_iterable(judged.values()))
    sizes = [len(found) for found in judged.values()]
    gate = quality_gate(
        {name: [float(row[name]) for row in rows] for name in ("frechet", "class_entropy")},
        criteria=criteria,
        arms=np.repeat(np.arange(len(sizes)), sizes),
        diverged=[row["diverged"] == "yes" for row in rows],
    )
    places = np.split(np.arange(len(rows)), np.cumsum(sizes)[:-1])
    return {name: gate_of_runs(gate, where) for name, where in zip(judged, places, strict=True)}


def _gate_rows(quality: Rows, gates: Mapping[str, Gate]) -> list[Row]:
    """The samples of every run, and whether and why they pass."""
    rows: list[Row] = []
    for name, found in quality.items():
        gate = gates.get(name)
        for i, row in enumerate(found):
            judged: Row = {"gate": "", "reason": "a control"}
            if gate is not None and gate.passes is not None:
                judged = {"gate": bool(gate.passes[i]), "reason": gate.reasons[i]}
            rows.append({**row, **judged})
    return rows


def _verdict(
    name: str, norms: Norms, gate: Gate | None, criteria: Criteria, total_steps: int
) -> Verdict:
    return one_sided_convergence(
        optimizer=name, hyperparameters={}, steps=norms.steps, total_steps=total_steps,
        primal=norms.primal, dual=norms.dual, diverged=norms.diverged, criteria=criteria,
        constant_rates=not name.startswith(("amsgrad_eg_drd", FROZEN)), exact=False,
        quality_gate=gate,
    )  # fmt: skip


def _verdict_row(verdict: Verdict) -> Row:
    parts = verdict.details
    row: Row = {"arm": verdict.optimizer, "seeds": verdict.runs, **_statistics(parts)}
    row["P4"] = word(parts["P4"]["holds"]) if "P4" in parts else "no gate"
    row["passing"] = parts["P4"]["passing_seeds"] if "P4" in parts else ""
    row["verdict"] = word(verdict.holds)
    row["reason"] = verdict.reason
    return row


def _passing_row(verdict: Verdict) -> Row | None:
    """The same statistics within the seeds that pass the gate."""
    part = verdict.details.get("P4")
    if not part or not part["passing_seeds"]:
        return None
    row: Row = {"arm": verdict.optimizer, "seeds": part["passing_seeds"]}
    return row | _statistics(part["passing"])


def _statistics(parts: Mapping[str, Any]) -> Row:
    row: Row = {}
    for part, statistic in (
        ("P1", "primal_ratio"), ("P1", "primal_slope"), ("P2", "dual_ratio"),
        ("P2", "dual_slope"), ("P3", "slope_difference"),
    ):  # fmt: skip
        row[statistic] = span(parts[part][statistic])
    return row | {name: word(parts[name]["holds"]) for name in ("P1", "P2", "P3")}


_THRESHOLDS = (
    "primal_ratio_supported", "primal_ratio_refuted", "dual_ratio_supported",
    "dual_ratio_refuted", "dual_slope_supported", "ratio_of_ratios",
)  # fmt: skip


def _sensitivity(name: str, norms: Norms, criteria: Criteria, total_steps: int) -> list[Row]:
    """P1 to P3 with every threshold half as large, and half as large again."""
    rows: list[Row] = []
    for threshold, value, changed in varied(criteria, _THRESHOLDS):
        parts = _verdict(name, norms, None, changed, total_steps).details
        rows.append(
            {"arm": name, "threshold": threshold, "value": value}
            | {part: word(parts[part]["holds"]) for part in ("P1", "P2", "P3")}
        )
    return rows


_GATE_THRESHOLDS = ("gate_frechet_ratio", "gate_frechet_factor", "gate_class_entropy")


def _gate_sensitivity(
    arms: Mapping[str, Norms], quality: Rows, criteria: Criteria, total_steps: int
) -> list[Row]:
    """How many seeds pass, and P4, with every threshold of the gate half and half again as large.

    What cannot be asked for is left out: a distance below the best arm's, an entropy above log C.
    """
    rows: list[Row] = []
    for threshold, value, changed in varied(criteria, _GATE_THRESHOLDS):
        for name, gate in judge_quality(quality, changed).items():
            if name not in arms or gate.passes is None:
                continue
            verdict = _verdict(name, arms[name], gate, criteria, total_steps)
            row: Row = {"arm": name, "threshold": threshold, "value": value}
            row["passing"] = int(gate.passes.sum())
            rows.append(row | {"P4": word(verdict.details["P4"]["holds"])})
    return rows


def _quality_rows(quality: Rows, gates: Mapping[str, Gate]) -> list[Row]:
    """The samples of every arm: means over seeds, and how many pass."""
    table: list[Row] = []
    for name, rows in quality.items():
        row: Row = {"arm": name, "seeds": len(rows)}
        row |= {score: float(np.mean([float(r[score]) for r in rows])) for score in _SCORES}
        gate = gates.get(name)
        row["passing"] = "" if gate is None or gate.passes is None else int(gate.passes.sum())
        table.append(row)
    return table


_SCORES = ("frechet", "class_entropy", "class_coverage", "precision", "recall")
_LEVELS = ("primal", "dual", "primal_weights", "dual_weights", "primal_loss", "dual_loss")


def _levels(job: Job, data: str, criteria: Criteria, total_steps: int) -> list[Row]:
    """Early and late norms of gradients and weights, and both losses: what else could have fallen.

    Medians over the checkpoints of a window, then over seeds. A norm per parameter is the norm
    over the square root of their number.
    """
    table: list[Row] = []
    for name, rows in measured(job.out / data, "norms").items():
        row: Row = {"arm": name}
        for column in _LEVELS:
            for window in ("early", "late"):
                low, high = (w * total_steps for w in getattr(criteria, f"{window}_window"))
                medians = [
                    np.median([float(r[column]) for r in one if low <= int(r["step"]) <= high])
                    for one in grouped(rows, "seed").values()
                ]
                if column in ("primal", "dual"):
                    medians = np.sqrt(np.maximum(medians, 0))
                row[f"{column}_{window}"] = float(np.median(medians))
        for player in ("primal", "dual"):
            size = np.sqrt(int(rows[0][f"{player}_parameters"]))
            row[f"{player}_per_parameter"] = row[f"{player}_late"] / size
        table.append(row)
    return table


# --- figures


def draw_norms(arms: Mapping[str, Norms]) -> Figure:
    """Both players' gradient norms along training, a panel per arm: median and range of seeds."""
    columns = min(4, len(arms))
    rows = -(-len(arms) // columns)
    figure = Figure(figsize=(2.6 * columns, 1.9 * rows + 0.4), layout="constrained")
    grid = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    for axes, (name, norms) in zip(grid.flat, arms.items()):
        for player, colour in (("primal", PRIMAL), ("dual", DUAL)):
            value = np.sqrt(np.maximum(getattr(norms, player).value, 0))[:, 1:]
            value = np.where(value > 0, value, np.nan)
            steps = norms.steps[1:]
            low, middle, high = np.nanquantile(value, [0, 0.5, 1], axis=0)
            axes.fill_between(steps, low, high, color=colour, alpha=0.2, linewidth=0)
            label = {"primal": "generator", "dual": "discriminator"}[player]
            axes.plot(steps, middle, color=colour, linewidth=1.2, label=label)
        axes.set_title(name.replace("_", " "), fontsize=8)
        axes.set_yscale("log")
        axes.tick_params(labelsize=7)
        axes.spines[["top", "right"]].set_visible(False)
    for axes in grid.flat[len(arms) :]:
        axes.set_visible(False)
    figure.supxlabel("training step", fontsize=8)
    figure.supylabel("gradient norm", fontsize=8)
    handles, names = grid.flat[0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside upper center", ncols=2, frameon=False, fontsize=8)
    return figure


def draw_ratios(verdicts: Mapping[str, Verdict]) -> Figure:
    """Late over early norm of both players, a dot per seed; hollow where it fails the gate."""
    figure = Figure(figsize=(5.6, 0.36 * len(verdicts) + 1.0), layout="constrained")
    axes = figure.subplots()
    for place, verdict in enumerate(verdicts.values()):
        details = verdict.details
        passes = details["quality_gate"]["passes"]
        for player, colour, shift in (("primal", PRIMAL, 0.14), ("dual", DUAL, -0.14)):
            ratios = np.array(details["seeds"][f"{player}_ratio"], float)
            filled = np.ones(len(ratios), bool) if passes is None else np.asarray(passes, bool)
            axes.scatter(
                ratios, np.full(len(ratios), shift - place), s=22, edgecolors=colour, linewidths=1,
                facecolors=[colour if ok else "none" for ok in filled],
            )  # fmt: skip
    ratio_axis(axes)
    axes.set_ylim(0.5 - len(verdicts), 0.5)
    axes.set_yticks([-i for i in range(len(verdicts))], [n.replace("_", " ") for n in verdicts])
    axes.tick_params(labelsize=8)
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_xlabel(
        "late / early gradient norm; a dot per seed, hollow: fails the gate", fontsize=8
    )
    legend_of_players(figure, linestyle="")
    return figure


if __name__ == "__main__":
    sys.exit(Job("gradient_norms", (__doc__ or "").splitlines()[0]).go(work, conclude))
