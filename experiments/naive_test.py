"""The obvious test of the one-sided MVI passes on fields where the inequality is false.

Runs plain descent with rate 0.01 on 200 numbers for 400 steps; writes `results/naive_test.csv`.

    python experiments/naive_test.py
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
from _tables import write_table

from onesided_jax.analysis import naive_mvi_test

OUT = Path(__file__).parent / "results" / "naive_test.csv"


def rows() -> list[dict[str, object]]:
    """A row per gradient field; ``x*`` is the run's own final iterate."""
    steps, size, rate = 400, 200, 0.01
    rng = np.random.default_rng(0)
    fields = {
        "pure noise": lambda x: rng.normal(size=size),
        "f = -|x|^2 / 2, false for every x*": lambda x: -x,
        "rotation, false for every x*": lambda x: np.concatenate([x[size // 2 :], -x[: size // 2]]),
    }
    table = []
    for name, field in fields.items():
        x, iterates, gradients = rng.normal(size=size), [], []
        for _ in range(steps):
            gradient = field(x)
            iterates.append(x)
            gradients.append(gradient)
            x = x - rate * gradient
        share, total = naive_mvi_test(iterates, gradients)
        fresh = [field(x) for x in iterates]
        offsets = np.array(iterates[:-1]) - iterates[-1]
        held_out = (offsets * np.array(fresh[:-1])).sum(1)
        elsewhere = ((np.array(iterates) - rng.normal(size=size)) * np.array(fresh)).sum(1)
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


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("--out", type=Path, default=OUT)
    out = parser.parse_args(arguments).out
    write_table(out, rows())


if __name__ == "__main__":
    main(sys.argv[1:])
