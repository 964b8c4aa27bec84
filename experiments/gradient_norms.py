"""Claim 1 on standard data: does the generator converge while the discriminator does not?

Trains the core (experiments/design.md), measures unbiased gradient norms of both players at every
checkpoint, the quality of the samples, and judges P1 to P4 and P6 to P8. Ends after ``--minutes``
with everything saved (exit code 3); the same command goes on.

    python experiments/gradient_norms.py                    # scale "paper", jobs of an hour
    python experiments/gradient_norms.py --scale small      # a minute; numbers mean nothing
    python experiments/gradient_norms.py --draw             # only the figures, from the tables
"""

from __future__ import annotations

import dataclasses
import itertools
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from _gan import (
    BASELINE,
    Job,
    Norms,
    Opened,
    Row,
    TimeIsOverError,
    by_arm,
    core,
    labels,
    mean_quality,
    measure_norms,
    norms_of,
    opened,
    read_table,
    real_data,
    sample_quality,
    span,
    write_table,
)
from matplotlib.figure import Figure

import onesided_jax as osj
from onesided_jax.analysis._sample_quality import SampleQuality
from onesided_jax.analysis.estimators import Interval, loglog_slope, t_interval
from onesided_jax.analysis.gate import Gate
from onesided_jax.analysis.source import Snapshot, Source
from onesided_jax.analysis.verdict import Verdict, one_sided_convergence
from onesided_jax.report._style import DUAL, PRIMAL, svg_bytes
from onesided_jax.runs import Criteria, open_run, unpack
from onesided_jax.sweeps import Observer

EMA = 0.999
FROZEN, AVERAGED = "adam_dual_frozen", "adam_ema"


def work(job: Job) -> None:
    for data in job.scale.data:
        _train_and_measure(job, data)
    judge(job)


def _train_and_measure(job: Job, data: str) -> None:
    recipe, folder = core(data, job.scale), job.out / data
    measured = opened(job.train(recipe), recipe)
    for cell in measured.run.cells:
        measure_norms(job, measured, cell, folder / f"{cell}.csv")
    controls = {
        name: _control(job, name, recipe, measured.game, *make(recipe))
        for name, make in ((FROZEN, _frozen), (AVERAGED, _averaged))
    }
    measure_norms(job, controls[FROZEN], "sweep", folder / f"{FROZEN}.csv", FROZEN)
    _measure_quality(job, recipe, measured, controls)


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
    game: osj.Game,
    make: Callable[..., Any],
    observers: Mapping[str, Any],
) -> Opened:
    """An arm that no recipe can name, trained by `osj.sweep` at the core's seeds and cadence."""
    path = job.runs / f"{name}-{recipe.game.options['dataset']}"

    def on_chunk(progress: Any) -> None:
        if job.time_is_over() and progress.step < progress.steps:
            raise TimeIsOverError  # what is being written is finished first

    if not (path.exists() and open_run(path).finished()):
        job.check()
        seeds, columns = osj.grid(seeds=recipe.seeds, **{k: v[0] for k, v in BASELINE.axes.items()})
        osj.sweep(
            game, make, seeds=seeds, hyperparameters=columns, observers=observers, out=path,
            steps=recipe.steps, checkpoint_every=recipe.checkpoint_every,
            record_every=recipe.record_every, on_chunk=on_chunk,
        )  # fmt: skip
        job.say(f"{path.name}: trained")
    return opened(open_run(path), recipe)


def _measure_quality(
    job: Job, recipe: osj.Recipe, measured: Opened, controls: Mapping[str, Opened]
) -> None:
    """Sample quality of every run of the core, with the gate over the core, and of the controls."""
    data = str(recipe.game.options["dataset"])
    path = job.out / data / "quality.csv"
    if path.exists():
        return
    job.check()
    real = real_data(measured, recipe)
    averaged = controls[AVERAGED].source("sweep")
    store = controls[AVERAGED].run.store("sweep")
    extra = [
        controls[FROZEN].source("sweep")._replace(label=FROZEN),
        averaged._replace(
            label=AVERAGED,
            snapshot=lambda step: _with_average(averaged.snapshot(step), store.read(step)),
        ),
    ]
    rows: list[Row] = []
    for sources in ([measured.source(cell) for cell in measured.run.cells], extra):
        found, about = sample_quality(measured, real, sources)
        for source, quality in zip(sources, found, strict=True):
            rows += _quality_rows(source, quality, sources is not extra)
        job.say(f"{data}: sample quality of {len(sources)} cells")
    write_table(path, rows)
    facts = {k: v for k, v in about.items() if isinstance(v, int | float | str)}
    write_table(path.with_name("quality-reference.csv"), [facts])


def _with_average(snapshot: Snapshot, stored: Mapping[str, Any]) -> Snapshot:
    """The averaged generator in the place of the last one."""
    average = unpack(stored["observers"]["ema"], snapshot.players.primal)
    return snapshot._replace(players=snapshot.players._replace(primal=average))


def _quality_rows(source: Source, quality: SampleQuality, gated: bool) -> list[Row]:
    gate = quality.gate
    rows: list[Row] = []
    for i, label in enumerate(labels(source)):
        row: Row = {"arm": label, "seed": int(source.seeds[i])}
        row |= mean_quality(quality, i)
        judged = gated and gate.passes is not None
        row["gate"] = bool(gate.passes[i]) if judged and gate.passes is not None else ""
        row["reason"] = gate.reasons[i] if judged else gate.note if gated else "a control"
        rows.append(row)
    return rows


# --- verdicts


def judge(job: Job) -> None:
    """Verdicts, their sensitivity, and the claims that compare arms, from the tables alone."""
    verdicts, sensitivity, claims = [], [], []
    for data in job.scale.data:
        criteria, total = core(data, job.scale).criteria, job.scale.steps
        arms, gates = load(job, data)
        for name, norms in arms.items():
            found = _verdict(name, norms, gates.get(name), criteria, total)
            verdicts.append({"data": data, **_verdict_row(found)})
            varied = _sensitivity(name, norms, criteria, total)
            sensitivity += [{"data": data, **row} for row in varied]
        claims += [{"data": data, **row} for row in _claims(arms, gates, criteria, total)]
    job.table("verdicts", verdicts)
    job.table("sensitivity", sensitivity)
    if claims:
        job.table("claims", claims)


def load(job: Job, data: str) -> tuple[dict[str, Norms], dict[str, list[Mapping[str, str]]]]:
    """Norms of every arm on a data set, and its rows of the quality table."""
    folder = job.out / data
    paths = [p for p in sorted(folder.glob("*.csv")) if not p.stem.startswith("quality")]
    rows = by_arm(itertools.chain.from_iterable(map(read_table, paths)))
    order = [spec.label for spec in core(data, job.scale).optimizers]

    def place(name: str) -> int:
        cell = name.split()[0]
        return order.index(cell) if cell in order else len(order)

    arms = {name: norms_of(rows[name]) for name in sorted(rows, key=place)}
    return arms, by_arm(read_table(folder / "quality.csv"))


def _gate_of(rows: Sequence[Mapping[str, str]] | None, seeds: Sequence[int]) -> Gate | None:
    if not rows or rows[0]["gate"] not in ("yes", "no"):
        return None
    place = {int(row["seed"]): row for row in rows}
    passes = np.array([place[seed]["gate"] == "yes" for seed in seeds])
    return Gate(passes, [place[seed]["reason"] for seed in seeds], "", {})


def _verdict(name: str, norms: Norms, rows: Any, criteria: Criteria, total_steps: int) -> Verdict:
    return one_sided_convergence(
        optimizer=name, hyperparameters={}, steps=norms.steps, total_steps=total_steps,
        primal=norms.primal, dual=norms.dual, diverged=norms.diverged, criteria=criteria,
        constant_rates=not name.startswith(("amsgrad_eg_drd", FROZEN)), exact=False,
        quality_gate=_gate_of(rows, norms.seeds),
    )  # fmt: skip


def _verdict_row(verdict: Verdict) -> Row:
    parts = verdict.details
    row: Row = {"arm": verdict.optimizer, "seeds": verdict.runs}
    for part, statistic in (
        ("P1", "primal_ratio"), ("P1", "primal_slope"), ("P2", "dual_ratio"),
        ("P2", "dual_slope"), ("P3", "slope_difference"),
    ):  # fmt: skip
        row[statistic] = span(parts[part][statistic])
    row |= {name: _word(parts[name]["holds"]) for name in ("P1", "P2", "P3")}
    row["P4"] = _word(parts["P4"]["holds"]) if "P4" in parts else "no gate"
    row["passing"] = parts["P4"]["passing_seeds"] if "P4" in parts else ""
    row["verdict"] = _word(verdict.holds)
    row["reason"] = verdict.reason
    return row


def _word(holds: Any) -> str:
    return {True: "supported", False: "refuted"}.get(holds, "inconclusive")


_THRESHOLDS = (
    "primal_ratio_supported", "primal_ratio_refuted", "dual_ratio_supported",
    "dual_ratio_refuted", "dual_slope_supported", "ratio_of_ratios",
)  # fmt: skip


def _sensitivity(name: str, norms: Norms, criteria: Criteria, total_steps: int) -> list[Row]:
    """P1 to P3 with every threshold half as large, and half as large again."""
    rows: list[Row] = []
    for threshold, factor in itertools.product(_THRESHOLDS, (0.5, 1.5)):
        value = factor * getattr(criteria, threshold)
        try:
            changed = dataclasses.replace(criteria, **{threshold: value})
        except ValueError:
            continue  # "supported" would overlap "refuted"
        parts = _verdict(name, norms, None, changed, total_steps).details
        rows.append(
            {"arm": name, "threshold": threshold, "value": value}
            | {part: _word(parts[part]["holds"]) for part in ("P1", "P2", "P3")}
        )
    return rows


def late_norm(norms: Norms, criteria: Criteria, total_steps: int) -> np.ndarray:
    """Median squared primal norm in the late window, per seed; NaN if not above 0."""
    low, high = (w * total_steps for w in criteria.late_window)
    inside = (norms.steps >= low) & (norms.steps <= high)
    found = np.median(norms.primal.value[:, inside], axis=1)
    return np.where(found > 0, found, np.nan)


def _claims(
    arms: Mapping[str, Norms], gates: Mapping[str, Any], criteria: Criteria, total_steps: int
) -> list[Row]:
    """P6 to P8: pairs of arms compared within seeds, on the logarithm of the late squared norm."""
    rows: list[Row] = []
    late = {name: late_norm(norms, criteria, total_steps) for name, norms in arms.items()}
    quality = {
        name: np.array([float(row["frechet"]) for row in found])
        for name, found in gates.items()
        if "frechet" in found[0]
    }
    pairs = [
        ("P6", f"amsgrad_eg_drd power={p:g}", "amsgrad_eg") for p in (0.25, 0.5, 1.0)
    ] + [
        ("P8", "amsgrad_xeg", "amsgrad_eg_drd power=0.5"),
        ("P8", "amsgrad_xeg", "amsgrad"),
        ("extragradient", "extra_adam", "adam"),
        ("extragradient", "amsgrad_eg", "amsgrad"),
        ("AMSGrad", "amsgrad", "adam_b1_0"),
        ("freezing", FROZEN, "adam"),
    ]  # fmt: skip
    for claim, one, other in pairs:
        if one not in late or other not in late:
            continue
        ratio = t_interval(0.5 * np.log(late[one] / late[other]), level=criteria.level)
        row: Row = {"claim": claim, "arm": one, "against": other}
        row["late_norm_ratio"] = span(Interval(*np.exp(ratio)))
        if one in quality and other in quality:
            logs = np.log(quality[one] / quality[other])
            row["frechet_ratio"] = span(Interval(*np.exp(t_interval(logs, level=criteria.level))))
        else:
            row["frechet_ratio"] = ""
        rows.append(row)
    return rows + _rates(arms, criteria, total_steps)


def _rates(arms: Mapping[str, Norms], criteria: Criteria, total_steps: int) -> list[Row]:
    """P7, descriptive: the slope of the running mean of the squared primal norm."""
    rows: list[Row] = []
    for name, norms in arms.items():
        if not name.startswith("amsgrad_eg_drd power="):
            continue
        later = norms.steps > 0
        steps = norms.steps[later]
        mean = np.cumsum(norms.primal.value[:, later], 1) / np.arange(1, later.sum() + 1)
        slope = loglog_slope(
            steps, mean, np.zeros_like(mean), window=criteria.slope_window,
            bins=criteria.slope_bins, total_steps=total_steps, exact=False,
        )  # fmt: skip
        rows.append(
            {
                "claim": "P7", "arm": name, "against": "slope of the running mean",
                "late_norm_ratio": span(t_interval(slope, level=criteria.level)),
                "frechet_ratio": "",
            }
        )  # fmt: skip
    return rows


# --- figures


def draw(job: Job) -> None:
    for data in job.scale.data:
        if (job.out / data / "quality.csv").exists():
            arms, _ = load(job, data)
            figure = draw_norms(arms)
            (job.out / f"norms-{data}.svg").write_bytes(svg_bytes(figure))


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


if __name__ == "__main__":
    sys.exit(Job("gradient_norms", (__doc__ or "").splitlines()[0]).go(work, draw))
