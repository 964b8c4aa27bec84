"""Effect of the dual's optimizer in constrained learning, on the problem of Cooper's tutorial.

Logistic regression on 300 points of three classes; the squared parameter norm is at most 1. Every
step uses all points. The parameters train with SGD of rate 0.1, in float64. Each method runs with
five dual rates. *Settled* is the first step from which the violation stays below 1e-3 and the
multiplier within 1 % of its solution. *Overshoot* is the largest multiplier over the solution.

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

PRIMAL_RATE = 0.1
DUAL_RATES = (0.003, 0.01, 0.03, 0.1, 0.3)
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


def clusters() -> tuple[np.ndarray, np.ndarray]:
    """300 points of three classes as ``float[300, 5]``, and their labels."""
    rng = np.random.default_rng(0)
    labels = rng.integers(3, size=300)
    return rng.normal(size=(300, 5)) + 2 * np.eye(3, 5)[labels], labels


def solution(inputs: Any, labels: Any, steps: int) -> float:
    """The multiplier after many steps of a method that settles."""
    game = osj.games.norm_constrained_logistic(inputs, labels, classes=3)
    runs = osj.grid(seeds=1, primal_learning_rate=PRIMAL_RATE, dual_learning_rate=0.1)
    make = partial(nupi, kp=10.0)
    result = osj.sweep(game, make, runs, steps=steps, record_every=steps)
    found = osj.games.feasibility(game, result.players, tolerance=1e-6)
    multiplier = float(result.players.dual.inequality[0])
    print(f"{found.sentence[0]} multiplier {multiplier:.6g}")
    return multiplier


def measured(name: str, inputs: Any, labels: Any, target: float, steps: int) -> dict[str, Any]:
    """A row: settling step, overshoot and last violation at each dual rate."""
    make, penalty, evaluations = METHODS[name]
    game = osj.games.norm_constrained_logistic(inputs, labels, classes=3, penalty=penalty)
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
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--out", type=Path, default=Path("experiments/results/constrained.csv"))
    arguments = parser.parse_args()
    jax.config.update("jax_enable_x64", True)
    inputs, labels = clusters()
    target = solution(inputs, labels, 4 * arguments.steps)
    rows = []
    for name in METHODS:
        rows.append(measured(name, inputs, labels, target, arguments.steps))
        print(rows[-1], flush=True)
    write_table(arguments.out, rows, digits=3)


if __name__ == "__main__":
    main()
