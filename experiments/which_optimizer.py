"""Which optimizer converges where: every optimizer on five games with known answers.

Each optimizer plays each game with 16 pairs of learning rates, from 4 starts. A player *converges*
if the median of its gradient norm over the last tenth of the steps is below 1e-3 (all games are of
order one). The figure shows the share of runs with each outcome: both players converge, only the
primal, only the dual, neither, or the run diverges. This needs no tuning of rates.

    python experiments/which_optimizer.py            # docs/figures/which-optimizer.svg and .csv
    python experiments/which_optimizer.py --steps 200 --out /tmp/w
"""

from __future__ import annotations

import argparse
import csv
import functools
import time
from pathlib import Path

import jax
import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Patch

import onesided_jax as osj
from onesided_jax.report import svg_bytes

PRIMAL_RATES = (0.003, 0.01, 0.03, 0.1)
DUAL_RATES = (0.003, 0.03, 0.3, 3.0)
STARTS = 4
THRESHOLD, LOST = 1e-3, 1e3

ADAPTIVE = {"b2": 0.99, "eps": 0.5}  # large eps: the theory's delta, of the gradients' order
ADAM = ADAPTIVE | {"b1": 0.0}
OPTIMIZERS = {
    "sgda": {},
    "adam": ADAM,
    "adam, b1=0.5": ADAM | {"b1": 0.5},
    "alternating_adam": ADAM,
    "alex_gda": {},
    "tiada": {"initial_accumulator": 1.0},
    "amsgrad": ADAM,
    "lookahead_adam": ADAM,
    "optimistic_adam": ADAM,
    "oadagrad": {"initial_accumulator": 1.0},
    "past_extra_adam": ADAM,
    "past_amsgrad_eg": ADAPTIVE,
    "extra_sgd": {},
    "extra_plus_sgd": {},
    "extra_adam": ADAM,
    "extra_adam, b1=0.5": ADAM | {"b1": 0.5},
    "amsgrad_eg": ADAPTIVE,
    "amsgrad_eg_drd": ADAPTIVE,
    "amsgrad_xeg": ADAPTIVE,
    "acgd": ADAPTIVE,
}
GAMES = {
    "quadratic": "strongly monotone",
    "bilinear": "MVI with equality",
    "forsaken": "no MVI: limit cycle",
    "carousel": "one-sided MVI only",
    "moving_target": "no condition holds",
}
OUTCOMES = {  # colours of Okabe and Ito: distinct in print and for colour-blind readers
    "both converge": "#0072b2",
    "only the primal": "#56b4e9",
    "only the dual": "#e69f00",
    "neither": "#d8dee4",
    "diverges": "#d55e00",
}


def outcomes(label: str, game: str, steps: int) -> np.ndarray:
    """Share of the runs with each outcome, in the order of ``OUTCOMES``."""
    options = OPTIMIZERS[label]
    make = osj.OPTIMIZERS[label.split(",")[0]]
    runs = osj.grid(seeds=STARTS, primal_learning_rate=PRIMAL_RATES, dual_learning_rate=DUAL_RATES)
    result = osj.sweep(
        osj.games.make_game(game),
        functools.partial(make, **options),
        runs,
        steps=steps,
        record_every=max(1, steps // 200),
    )
    late = {}
    for player in ("primal", "dual"):
        norms = result.metrics[f"gradient_norm_{player}"]
        late[player] = np.median(norms[:, -norms.shape[1] // 10 :], axis=1)
    lost = (result.diverged_at >= 0) | (late["primal"] > LOST) | (late["dual"] > LOST)
    primal, dual = (~lost & (late[player] < THRESHOLD) for player in ("primal", "dual"))
    alive = ~lost & ~primal & ~dual
    return np.array(
        [(primal & dual).mean(), (primal & ~dual).mean(), (dual & ~primal).mean(),
         alive.mean(), lost.mean()]
    )  # fmt: skip


def draw(shares: dict[tuple[str, str], np.ndarray], steps: int) -> Figure:
    """One row per optimizer, one column per game, a stacked bar in each cell."""
    figure = Figure(figsize=(10.4, 0.3 * len(OPTIMIZERS) + 1.5), layout="constrained")
    panels = figure.subplots(1, len(GAMES), sharey=True)
    labels, pairs = list(OPTIMIZERS)[::-1], len(PRIMAL_RATES) * len(DUAL_RATES)
    for axes, (game, fact) in zip(panels, GAMES.items(), strict=True):
        left = np.zeros(len(labels))
        for i, colour in enumerate(OUTCOMES.values()):
            width = np.array([shares[label, game][i] for label in labels])
            axes.barh(labels, width, left=left, color=colour, height=0.72)
            left += width
        axes.set_title(f"{game.replace('_', ' ')}\n", fontsize=9.5, loc="left")
        axes.text(0, 1.012, fact, transform=axes.transAxes, fontsize=8, color="#57606a")
        axes.set_xlim(0, 1)
        axes.set_xticks([0, 0.5, 1], ["0", "half", "all"], fontsize=8)
        axes.tick_params(axis="y", length=0, labelsize=8.5)
        axes.tick_params(axis="x", length=2)
        axes.spines[["top", "right", "left", "bottom"]].set_visible(False)
    figure.legend(
        handles=[Patch(color=colour, label=name) for name, colour in OUTCOMES.items()],
        loc="outside lower center",
        ncols=len(OUTCOMES),
        frameon=False,
        fontsize=8.5,
        title=f"share of {pairs} pairs of rates × {STARTS} starts, {steps:,} steps",
        title_fontsize=8.5,
    )
    return figure


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--steps", type=int, default=40_000)
    parser.add_argument("--out", type=Path, default=Path("docs/figures/which-optimizer"))
    arguments = parser.parse_args()
    jax.config.update("jax_enable_x64", True)
    shares = {}
    for game in GAMES:
        for label in OPTIMIZERS:
            start = time.perf_counter()
            shares[label, game] = outcomes(label, game, arguments.steps)
            row = "  ".join(f"{share:4.0%}" for share in shares[label, game])
            print(f"{game:14} {label:20} {row}  {time.perf_counter() - start:5.1f} s", flush=True)
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    with arguments.out.with_suffix(".csv").open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["game", "optimizer", *OUTCOMES])
        for (label, game), share in shares.items():
            writer.writerow([game, label, *(f"{s:.4f}" for s in share)])
    arguments.out.with_suffix(".svg").write_bytes(svg_bytes(draw(shares, arguments.steps)))


if __name__ == "__main__":
    main()
