"""Claim 3 on standard data: the one-sided MVI on trained GANs, tested so that it can fail.

On the core's runs (trained here if `gradient_norms.py` has not): the cross matrix of every seed
with x* from a held-out continuation, other choices of x*, the necessary conditions, the layers, the
dual side, and every control. Beside it the obvious test, passing on pure noise.

    python experiments/one_sided_mvi.py                     # scale "paper", jobs of an hour
    python experiments/one_sided_mvi.py --scale small       # a minute; numbers mean nothing
    python experiments/one_sided_mvi.py --draw              # only verdicts and figure
"""

from __future__ import annotations

import itertools
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from _design import core, varied
from _jobs import Job, Row
from _measure import trained
from _one_run import measure_far_targets, measure_run
from _show import word
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Patch

import onesided_jax as osj
from onesided_jax.analysis.inference import cross_regions, t_interval
from onesided_jax.analysis.mvi_verdict import (
    SignFractions,
    one_sided_mvi,
    sign_fractions,
    too_few_rows,
)
from onesided_jax.analysis.verdict import Verdict, span
from onesided_jax.report._style import PRIMAL, svg_bytes
from onesided_jax.runs import Criteria
from onesided_jax.runs._words import write_bytes_atomically

SHUFFLED = {"small": (2, 5), "paper": (4, 300), "large": (8, 1000)}  # discriminators, steps each


def work(job: Job) -> None:
    job.table("naive", naive())
    for data in job.scale.data:
        recipe = core(data, job.scale)
        left = [arm for arm in job.scale.mvi_arms if not _all_there(job.out / data, arm, recipe)]
        for what, source in trained(job, recipe, left):
            for run, seed in enumerate(recipe.seeds):
                name = f"{source.label}-seed{seed}.json"
                shuffled = SHUFFLED[job.scale_name]
                _write_once(job, f"{data}/{name}", measure_run, what, recipe, source, run, shuffled)
                _write_once(job, f"{data}/far/{name}", measure_far_targets, what, source, run)


def _all_there(folder: Path, arm: str, recipe: osj.Recipe) -> bool:
    names = [f"{arm}-seed{seed}.json" for seed in recipe.seeds]
    return all((part / name).exists() for part in (folder, folder / "far") for name in names)


def _write_once(job: Job, name: str, measure: Callable[..., Row], *arguments: Any) -> None:
    path = job.out / name
    if path.exists():
        return
    job.check()
    text = json.dumps(_plain(measure(*arguments))) + "\n"
    path.parent.mkdir(parents=True, exist_ok=True)
    write_bytes_atomically(path, text.encode())
    job.say(name)


# --- the obvious test


def naive() -> list[Row]:
    """The obvious test, with a run's own gradients and x* its own final iterate, where it is wrong.

    Plain descent with step 0.01 for 400 steps of n = 200 numbers.
    """
    steps, size, rate = 400, 200, 0.01
    rng = np.random.default_rng(0)
    fields = {
        "pure noise": lambda x: rng.normal(size=size),
        "f = -|x|^2 / 2, false for every x*": lambda x: -x,
        "rotation, false for every x*": lambda x: np.concatenate([x[size // 2 :], -x[: size // 2]]),
    }
    rows = []
    for name, field in fields.items():
        x, iterates, gradients = rng.normal(size=size), [], []
        for _ in range(steps):
            gradient = field(x)
            iterates.append(x)
            gradients.append(gradient)
            x = x - rate * gradient
        share, total = osj.analysis.naive_mvi_test(iterates, gradients)
        fresh = [field(x) for x in iterates]
        offsets = np.array(iterates[:-1]) - iterates[-1]
        held_out = (offsets * np.array(fresh[:-1])).sum(1)
        other = rng.normal(size=size)
        elsewhere = ((np.array(iterates) - other) * np.array(fresh)).sum(1)
        rows.append(
            {
                "gradients": name,
                "naive_positive": share,
                "naive_sum": total,
                "fresh_positive": float((held_out > 0).mean()),
                "other_x_positive": float((elsewhere > 0).mean()),
            }
        )
    return rows


# --- all seeds


def conclude(job: Job) -> None:
    """Verdicts, every number behind them as mean and interval over seeds, and the figures."""
    verdicts, details, sensitivity = [], [], []
    shares: dict[tuple[str, str], Row] = {}  # at a glance: a column per arm
    conditions: dict[tuple[str, str], Row] = {}
    for data in job.scale.data:
        criteria, tests = core(data, job.scale).criteria, load(job, data)
        if tests:
            (job.out / f"matrix-{data}.svg").write_bytes(svg_bytes(draw_matrices(tests)))
        for cell, found in tests.items():
            there = [f for f in found if not f["diverged"]]
            if not there:
                continue
            verdict = _verdict(cell, there, criteria)
            part = verdict.details["P5"]
            for threshold, value, changed in varied(criteria, _THRESHOLDS):
                row: Row = {"data": data, "arm": cell, "threshold": threshold, "value": value}
                row["verdict"] = word(_verdict(cell, there, changed).holds)
                sensitivity.append(row)
            verdicts.append(
                {
                    "data": data, "arm": cell, "seeds": verdict.runs,
                    "negative": span(part["negative"]), "positive": span(part["positive"]),
                    "verdict": word(verdict.holds), "reason": verdict.reason,
                }
            )  # fmt: skip
            for name, (negative, positive) in _numbers(there, criteria).items():
                # A seed without such entries is left out.
                both = [t_interval(v, level=criteria.level) for v in (negative, positive)]
                row = {"data": data, "arm": cell, "what": name}
                details.append(row | dict(zip(("negative", "positive"), map(span, both))))
                glance = " / ".join(f"{100 * interval.mean:.0f}" for interval in both)
                shares.setdefault((data, name), {})[cell] = glance
            for name, values in _conditions(there).items():
                text = span(t_interval(values, level=criteria.level))
                conditions.setdefault((data, name), {})[cell] = text
            details += [{"data": data, "arm": cell, **row} for row in _within_seeds(there)]
    if verdicts:
        job.table("verdicts", verdicts)
        job.table("details", details)
        job.table("sensitivity", sensitivity)
        for table, found in (("shares", shares), ("conditions", conditions)):
            job.table(table, ({"data": d, "what": what, **row} for (d, what), row in found.items()))


_THRESHOLDS = (
    "mvi_negative_supported", "mvi_positive_supported", "mvi_negative_refuted", "mvi_valid_share",
)  # fmt: skip


def _verdict(cell: str, found: Sequence[Row], criteria: Criteria) -> Verdict:
    exact = all(f["flip_exact"] for f in found)
    return one_sided_mvi(
        optimizer=cell,
        hyperparameters={},
        signs=[f["sign"] for f in found],
        valid=[f["valid"] for f in found],
        target="held-out continuation",
        criteria=criteria,
        null=_fractions(found, "null"),
        fresh_dual=_fractions(found, "fresh_dual"),
        flipped_dual=_fractions(found, "flipped_dual") if exact else None,
    )


def load(job: Job, data: str) -> dict[str, list[Row]]:
    """What was measured of every run of an arm, in the order of the seeds."""
    return {
        cell: [_load_run(path) for path in sorted(paths)]
        for cell in job.scale.mvi_arms
        if (paths := list((job.out / data).glob(f"{cell}-seed*.json")))
    }


def _load_run(path: Path) -> Row:
    found, far = json.loads(path.read_text()), path.parent / "far" / path.name
    if far.exists() and not found["diverged"]:
        found["targets"] |= json.loads(far.read_text())
    return found


def _fractions(found: Sequence[Row], name: str) -> SignFractions | None:
    values = [f[name] for f in found]
    if any(v is None for v in values):
        return None
    return SignFractions(
        *(np.array([v[sign] for v in values]) for sign in ("negative", "positive"))
    )


_REGIONS = {
    "diagonal": "diagonal", "near": "next to the diagonal", "newer_dual": "newer discriminator",
    "older_dual": "older discriminator", "off_diagonal": "off the diagonal",
}  # fmt: skip
_CONTROLS = {
    "null": "control: x* at random", "fresh_dual": "control: untrained discriminators",
    "flipped_dual": "control: flipped discriminator",
    "label_shuffle": "control: discriminators trained on shuffled labels",
}  # fmt: skip


def _numbers(found: Sequence[Row], criteria: Criteria) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Shares of negative and positive entries per seed, for everything that was tried."""

    def both(values: Sequence[Mapping[str, Any]]) -> tuple[np.ndarray, np.ndarray]:
        negative, positive = (
            np.array([np.mean(v[sign]) for v in values]) for sign in ("negative", "positive")
        )
        return negative, positive

    numbers = {
        f"held-out x*, {_REGIONS[k]}": both([f["shares"][k] for f in found])
        for k in found[0]["shares"]
    }
    short = too_few_rows([_counted(f) for f in found], criteria)  # without a number in P5
    if short.any() and not short.all():
        negative, positive = numbers[f"held-out x*, {_REGIONS['off_diagonal']}"]
        numbers["held-out x*, off the diagonal, without seeds that have too few rows"] = (
            np.where(short, np.nan, negative), np.where(short, np.nan, positive)
        )  # fmt: skip
    numbers["held-out x*, off the diagonal, later generators (not planned)"] = both(
        [_later(f) for f in found]
    )
    for name in found[0]["targets"]:
        if all(name in f["targets"] for f in found):
            numbers[f"x* = {name}"] = both([f["targets"][name] for f in found])
    for name, words in _CONTROLS.items():
        if all(f[name] is not None for f in found):
            numbers[words] = both([f[name] for f in found])
    for player, words in (("primal", "generator"), ("dual", "dual side, discriminator")):
        for layer in found[0][f"{player}_layers"]:
            values = [f[f"{player}_layers"][layer] for f in found]
            numbers[f"{words}, {layer}"] = both(values)
    return numbers


def _counted(found: Row) -> np.ndarray:
    """The entries off the diagonal that the truncation leaves."""
    steps = np.array(found["steps"])
    return np.array(found["valid"]) & cross_regions(steps, steps)["off_diagonal"]


def _later(found: Row, quarter: float = 0.25) -> Mapping[str, Any]:
    """Off the diagonal without the first quarter of the generators."""
    counted = _counted(found)
    counted &= (np.arange(len(counted)) >= quarter * len(counted))[:, None]
    return sign_fractions(found["sign"], counted)._asdict()


def _conditions(found: Sequence[Row]) -> dict[str, list[float]]:
    """How large the cosines are, and the necessary conditions of the strong form, per seed."""
    return {
        "|cosine| of x_s - x* and the gradient, median": [_median_cosine(f) for f in found],
        # Where the gradient of x_t itself is below its noise floor, the file has null.
        "|grad f(x*, y_t)| / |grad f(x_t, y_t)|, median over t": [
            float(np.nanmedian(np.array(f["necessary"], float))) for f in found
        ],
        "share of entries with f(x*, y_t) <= f(x_s, y_t)": [f["dominance"] for f in found],
    }


def _within_seeds(found: Sequence[Row]) -> list[Row]:
    rows: list[Row] = []
    for f in found:
        row: Row = {"what": f"two-way bootstrap within seed {f['seed']}"}
        for sign in ("negative", "positive"):
            low, high = f["two_way_bootstrap"][sign]
            row[sign] = f"[{low:.3g}, {high:.3g}]"
        rows.append(row)
    return rows


def _median_cosine(found: Row) -> float:
    cosine = np.array(found["cosine"], float)[np.array(found["valid"])]
    return float(np.nanmedian(np.abs(cosine)))


def _plain(value: Any) -> Any:
    """JSON types; what is not finite becomes None."""
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, np.ndarray | np.generic):
        value = value.tolist()
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    return None if isinstance(value, float) and not np.isfinite(value) else value


# --- figures


_SIGNS = ((1, PRIMAL, "positive"), (0, "white", "not significant"), (-1, "#d1242f", "negative"))
_LEFT_OUT = "#d0d7de"


def draw_matrices(found: Mapping[str, Sequence[Row]]) -> Figure:
    """Significant signs of every cross matrix: a row per arm, a column per seed."""
    columns = max(map(len, found.values()))
    figure = Figure(figsize=(1.55 * columns + 0.6, 1.6 * len(found) + 0.7), layout="constrained")
    grid = figure.subplots(len(found), columns, sharex=True, sharey=True, squeeze=False)
    colours = ListedColormap([colour for _, colour, _ in reversed(_SIGNS)])
    for panels, (cell, runs) in zip(grid, found.items(), strict=True):
        panels[0].set_ylabel(cell.replace("_", " "), fontsize=8)
        for axes, run in itertools.zip_longest(panels, runs):
            axes.tick_params(labelsize=7)
            axes.set_facecolor(_LEFT_OUT)
            if run is None or run["diverged"]:
                axes.set_axis_off()
                continue
            axes.set_title(f"seed {run['seed']}", fontsize=8)
            shown = np.where(run["valid"], np.array(run["sign"], float), np.nan)
            axes.imshow(shown, cmap=colours, vmin=-1, vmax=1, origin="lower")
            steps = run["steps"]
            ticks = [0, len(steps) - 1]
            axes.set_xticks(ticks, [f"{steps[i]:,}" for i in ticks])
            axes.set_yticks(ticks, [f"{steps[i]:,}" for i in ticks])
    figure.supxlabel("discriminator of step t", fontsize=8)
    figure.supylabel("generator of step s", fontsize=8)
    names = [(colour, name) for _, colour, name in _SIGNS] + [(_LEFT_OUT, "too near x*")]
    handles = [Patch(facecolor=c, edgecolor="#57606a", linewidth=0.5, label=n) for c, n in names]
    figure.legend(handles=handles, loc="outside upper center", ncols=4, frameon=False, fontsize=8)
    return figure


if __name__ == "__main__":
    sys.exit(Job("one_sided_mvi", (__doc__ or "").splitlines()[0]).go(work, conclude))
