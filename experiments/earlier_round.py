"""Judges the earlier, smaller round on image data again, by the current rules.

Reads the gradient norms of that round (a DCGAN, 2,000 steps, 41 checkpoints) and writes a table of
verdicts. Nothing is trained.

    python experiments/earlier_round.py
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from _tables import read_table, write_table

from onesided_jax import Criteria, PrimalDual
from onesided_jax.analysis.estimators import Change, SquaredNorm, change_of_norm
from onesided_jax.analysis.gate import Gate
from onesided_jax.analysis.verdict import Runs, convergence_verdict
from onesided_jax.runs.criteria import in_window

FOLDER = Path(__file__).parent / "results" / "earlier_round"
STEPS = 2000


def verdicts(criteria: Criteria) -> Iterator[dict[str, object]]:
    """A row per round, data set and optimizer."""
    for path in sorted(FOLDER.glob("*/*/*.csv")):
        rows = read_table(path)
        seeds = sorted({int(row["seed"]) for row in rows})
        diverged = [row["diverged"] == "yes" for row in rows if row["step"] == "0"]
        names = PrimalDual("generator", "discriminator")
        runs = Runs(path.stem, {}, np.array(seeds), np.array(diverged), names)
        change = PrimalDual(*(_change(rows, player, criteria) for player in PrimalDual._fields))
        found = convergence_verdict(runs, change, Gate(), [], criteria)
        yield {
            "round": path.parts[-3].replace("-", " "),
            "data": path.parts[-2],
            "optimizer": found.cell,
            "status": found.status,
            "generator": _span(found.numbers["primal"]),
            "discriminator": _span(found.numbers["dual"]),
            "parting": _span(found.numbers["parting"]),
        }


def _change(rows: list[dict[str, str]], player: str, criteria: Criteria) -> Change:
    steps = sorted({int(row["step"]) for row in rows})
    seeds = sorted({int(row["seed"]) for row in rows})
    place = {(int(row["seed"]), int(row["step"])): row for row in rows}
    norm = SquaredNorm(
        *(
            np.array([[float(place[seed, step][name]) for step in steps] for seed in seeds])
            for name in (player, f"{player}_se")
        )
    )
    windows = (in_window(steps, w, STEPS) for w in (criteria.early_window, criteria.late_window))
    return change_of_norm(norm, *windows)


def _span(numbers: list[float]) -> str:
    return "{:.3g} [{:.3g}, {:.3g}]".format(*numbers)


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("--out", type=Path, default=FOLDER / "verdicts.csv")
    out = parser.parse_args(arguments).out
    write_table(out, list(verdicts(Criteria())))


if __name__ == "__main__":
    main(sys.argv[1:])
