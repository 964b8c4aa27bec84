"""The obvious test of the one-sided MVI, on fields where it must not pass.

The test takes the gradients of a training run, its last iterate as ``x*``, and counts how often
``<x_t - x*, g_t>`` is positive. Noise passes it, and so do games without any ``x*``.

    python experiments/naive_test.py
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from _tables import write_table

import onesided_jax as osj

STEPS, SIZE, RATE = 400, 200, 0.01
HALF = SIZE // 2
FIELDS: dict[str, Callable[[np.ndarray, np.random.Generator], np.ndarray]] = {
    "pure noise": lambda x, rng: rng.normal(size=SIZE),
    "f = -|x|^2 / 2, false for every x*": lambda x, rng: -x,
    "rotation, false for every x*": lambda x, rng: np.roll(x, HALF) * np.repeat([1, -1], HALF),
}


def rows() -> list[dict[str, Any]]:
    """One row per field: shares of positive products along plain descent."""
    rng, table = np.random.default_rng(0), []
    for name, field in FIELDS.items():
        x, iterates, gradients = rng.normal(size=SIZE), [], []
        for _ in range(STEPS):
            gradient = field(x, rng)
            iterates.append(x)
            gradients.append(gradient)
            x = x - RATE * gradient
        share, total = osj.analysis.naive_mvi_test(iterates, gradients)
        fresh = np.array([field(x, rng) for x in iterates])
        held_out = ((np.array(iterates[:-1]) - iterates[-1]) * fresh[:-1]).sum(1)
        other = rng.normal(size=SIZE)
        elsewhere = ((np.array(iterates) - other) * fresh).sum(1)
        table.append(
            {
                "gradients": name,
                "naive_positive": share,
                "naive_sum": total,
                "fresh_positive": float((held_out > 0).mean()),
                "other_x_positive": float((elsewhere > 0).mean()),
            }
        )
    return table


def main() -> None:
    """Writes the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    default = Path(__file__).parent / "results" / "naive_test.csv"
    parser.add_argument("--out", type=Path, default=default, help="the table")
    write_table(parser.parse_args().out, rows())


if __name__ == "__main__":
    main()
