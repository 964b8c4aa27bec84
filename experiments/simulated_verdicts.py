"""Measures how often verdicts err, and how often they decide, on seeds with a known truth.

The functions that judge real runs judge simulated log ratios of both players and simulated negative
masses. At a boundary the claim is false, so "supported" is an error there; at most 5 % are allowed.
"Refuted" at a boundary is an error too.

    python experiments/simulated_verdicts.py              # under a minute
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from _tables import write_table

from onesided_jax.analysis.estimators import Change
from onesided_jax.analysis.judge import judge_convergence, judge_negative_mass
from onesided_jax.runs import Criteria

OUT = Path(__file__).parent / "results" / "simulated_verdicts.csv"
SEEDS = (8, 16)
STATUSES = ("supported", "refuted", "undecided")
SHAPES = {
    "normal": lambda rng, size: rng.normal(size=size),
    "heavy tails": lambda rng, size: rng.standard_t(5, size) / np.sqrt(5 / 3),
}


class Truth(NamedTuple):
    """A known truth: geometric means of both ratios, or the mean negative mass."""

    name: str
    primal: float
    dual: float
    is_boundary: bool = False


CONVERGENCE = (
    Truth("generator at its boundary", 0.5, 4.0, is_boundary=True),
    Truth("discriminator at its boundary", 0.05, 0.5, is_boundary=True),
    Truth("parting at its boundary", 0.45, 0.9, is_boundary=True),
    Truth("strong effect", 0.15, 1.5),
    Truth("effect of the demo", 0.25, 1.7),
    Truth("weak effect", 0.35, 1.0),
    Truth("generator does not fall", 0.9, 1.0),
    Truth("both fall", 0.2, 0.2),
)
MASSES = {"at its boundary": 0.10, "nearly none": 0.02, "some": 0.05, "much": 0.30}
SPREADS = (0.3, 0.7)  # standard deviations of log ratios: the earlier round saw 0.2 to 0.85
MASS_SPREAD = 0.4  # standard deviation of a negative mass over its mean


def simulate(repeats: int) -> Iterator[dict[str, object]]:
    """A row per truth, spread, shape and number of seeds."""
    criteria, rng = Criteria(), np.random.default_rng(2109_14213)
    for truth in CONVERGENCE:
        for shape, spread in [(s, spread) for s in SHAPES for spread in SPREADS]:
            for seeds in SEEDS:
                counts = Counter(
                    _convergence(rng, truth, spread, shape, seeds, criteria) for _ in range(repeats)
                )
                case = {"claim": "only the generator converges", "truth": truth.name}
                case |= {"generator": truth.primal, "discriminator": truth.dual, "mass": ""}
                case |= {"spread": spread, "shape": shape, "seeds": seeds}
                yield case | _shares(counts, repeats, truth.is_boundary)
    for name, mass in MASSES.items():
        for seeds in SEEDS:
            counts = Counter(_mass(rng, mass, seeds, criteria) for _ in range(repeats))
            case = {
                "claim": "the one-sided MVI holds late in the run",
                "truth": f"negative mass {name}",
            }
            case |= {"generator": "", "discriminator": "", "mass": mass}
            case |= {"spread": MASS_SPREAD, "shape": "gamma", "seeds": seeds}
            yield case | _shares(counts, repeats, name == "at its boundary")


def _shares(counts: Counter[str], repeats: int, is_boundary: bool) -> dict[str, object]:
    shares = {status: counts[status] / repeats for status in STATUSES}
    return {"repeats": repeats, "is_boundary": is_boundary, **shares}


def _convergence(
    rng: np.random.Generator,
    truth: Truth,
    spread: float,
    shape: str,
    seeds: int,
    criteria: Criteria,
) -> str:
    no = np.zeros(seeds, bool)
    primal, dual = (
        Change(np.ones(seeds), ratio * np.exp(spread * SHAPES[shape](rng, seeds)), no, no)
        for ratio in (truth.primal, truth.dual)
    )
    return judge_convergence(primal, dual, criteria)[0]


def _mass(rng: np.random.Generator, mean: float, seeds: int, criteria: Criteria) -> str:
    shape = MASS_SPREAD**-2
    masses = np.minimum(rng.gamma(shape, mean / shape, seeds), 1.0)
    return judge_negative_mass(masses, np.zeros(seeds), {}, criteria)[0]


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("--repeats", type=int, default=1000, help="simulated experiments per row")
    parser.add_argument("--out", type=Path, default=OUT, help="the table to write")
    given = parser.parse_args(arguments)
    write_table(given.out, list(simulate(given.repeats)))


if __name__ == "__main__":
    main(sys.argv[1:])
