"""What the dual's optimizer changes in constrained learning, on the problem of Cooper's tutorial.

Logistic regression on 500 MNIST digits pooled to 7x7, squared parameter norm at most 1, all
examples in every step, SGD of rate 0.5 for the parameters, float64. Each method meets five dual
rates. *Settled* is the first step from which the violation stays below 1e-3 and the multiplier
within 1 % of its solution; *overshoot* is the largest multiplier over the solution.

    python experiments/constrained.py            # experiments/results/constrained.csv
    python experiments/constrained.py --steps 200 --out /tmp/c.csv
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np
import optax
from _tables import write_table

import onesided_jax as osj

PRIMAL_RATE = 0.5
DUAL_RATES = (0.01, 0.03, 0.1, 0.3, 1.0)
PENALTY = 1.0


def nupi(primal_learning_rate: Any, dual_learning_rate: Any, kp: float) -> Any:
    return osj.descent_ascent(optax.sgd(primal_learning_rate), osj.nupi(dual_learning_rate, kp=kp))


def alternating(primal_learning_rate: Any, dual_learning_rate: Any) -> Any:
    return osj.alternating(optax.sgd(primal_learning_rate), optax.sgd(dual_learning_rate))


# Name: optimizer, penalty, evaluations of the field per step.
METHODS: dict[str, tuple[Callable[..., Any], float, int]] = {
    "simultaneous": (osj.sgda, 0.0, 1),
    "alternating": (alternating, 0.0, 2),
    "extragradient": (osj.extra_sgd, 0.0, 2),
    "Alex-GDA": (osj.alex_gda, 0.0, 2),
    "nuPI, kp=1": (partial(nupi, kp=1.0), 0.0, 1),
    "nuPI, kp=10": (partial(nupi, kp=10.0), 0.0, 1),
    "augmented, c=1": (osj.sgda, PENALTY, 1),
}


def digits() -> tuple[np.ndarray, np.ndarray]:
    """500 digits as ``float[500, 49]``, normalised as in the tutorial, and their labels."""
    data = osj.datasets.mnist5k()
    images = np.asarray(data.data)[::10, :, :, 0] / 255.0
    pooled = images.reshape(-1, 7, 4, 7, 4).mean(axis=(2, 4))
    return (pooled - 0.1307) / 0.3081, np.asarray(data.labels)[::10]


def solution(inputs: Any, labels: Any, steps: int) -> float:
    """The multiplier after many steps of a method that settles."""
    game = osj.games.norm_constrained_logistic(inputs, labels, classes=10)
    runs = osj.grid(seeds=1, primal_learning_rate=PRIMAL_RATE, dual_learning_rate=0.1)
    result = osj.sweep(game, osj.extra_sgd, runs, steps=steps, record_every=steps)
    found = osj.games.feasibility(game, result.players, tolerance=1e-6)
    print(found.sentence[0])
    return float(result.players.dual.inequality[0])


def measured(name: str, inputs: Any, labels: Any, target: float, steps: int) -> dict[str, Any]:
    """A row: at each dual rate the step of settling, the overshoot and the last violation."""
    make, penalty, evaluations = METHODS[name]
    game = osj.games.norm_constrained_logistic(inputs, labels, classes=10, penalty=penalty)
    runs = osj.grid(seeds=1, primal_learning_rate=PRIMAL_RATE, dual_learning_rate=DUAL_RATES)
    record = {"violation": osj.games.max_violation, "multiplier": osj.games.max_multiplier}
    result = osj.sweep(game, make, runs, steps=steps, record=record)
    row: dict[str, Any] = {"method": name, "evaluations": evaluations}
    for i, rate in enumerate(DUAL_RATES):
        violation, multiplier = (result.metrics[metric][i] for metric in record)
        bad = ~((violation < 1e-3) & (np.abs(multiplier / target - 1) < 0.01))
        settled = 0 if not bad.any() else int(np.flatnonzero(bad)[-1]) + 1
        row[f"settled {rate:g}"] = "never" if settled == steps else settled
        row[f"overshoot {rate:g}"] = float(multiplier.max() / target)
        row[f"violation {rate:g}"] = float(violation[-1])
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--out", type=Path, default=Path("experiments/results/constrained.csv"))
    arguments = parser.parse_args()
    jax.config.update("jax_enable_x64", True)
    inputs, labels = digits()
    target = solution(inputs, labels, 5 * arguments.steps)
    rows = []
    for name in METHODS:
        rows.append(measured(name, inputs, labels, target, arguments.steps))
        print(rows[-1], flush=True)
    write_table(arguments.out, rows, digits=3)


if __name__ == "__main__":
    main()
