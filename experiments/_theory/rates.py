"""Rates under dual rate decay, and two-sided convergence."""

from __future__ import annotations

import math
from typing import Any

import jax
import numpy as np

import onesided_jax as osj
from onesided_jax import PrimalDual

from .common import (
    ADAPTIVE,
    DELTA,
    DUAL_RATE,
    STATUSES,
    Scaled,
    Tables,
    Task,
    counted,
    decade_slope,
    play,
    running_mean,
    tail_mean,
    theory_rate,
)

POWERS = (0.0, 0.25, 0.5, 0.75, 1.0)
TWO_SIDED: dict[str, tuple[str, float]] = {
    "bilinear: EG": ("bilinear", 0.0),
    "quadratic: EG": ("quadratic", 0.0),
    "quartic: EG": ("quartic", 0.0),
    "logarithmic: EG": ("logarithmic", 0.0),
    "bilinear: EG-DRD, p=0.75": ("bilinear", 0.75),
}


def rates(scaled: Scaled) -> list[Task]:
    seeds = scaled(2, 8)
    one_sided = {"steps": scaled(2000, 1_000_000), "seeds": seeds}
    two_sided = {"steps": scaled(2000, 100_000), "seeds": seeds}
    return [
        Task(name, rates_game, {"name": name, **one_sided})
        for name in scaled(("stick_slip",), ("carousel", "stick_slip", "moving_target"))
    ] + [
        Task(arm, two_sided_arm, {"arm": arm, **two_sided})
        for arm in scaled(("bilinear: EG",), TWO_SIDED)
    ]


def rates_game(name: str, steps: int, seeds: int) -> Tables:
    """All powers at once; medians, minima and maxima over the seeds."""
    game: Any = osj.games.make_game(name)
    solution = None
    if game.facts.primal_solution is None:  # a reference point; it proves nothing
        solution = PrimalDual(np.zeros(game.init(jax.random.key(0))[0].primal.size), None)
    grid = osj.grid(
        seeds=seeds,
        power=POWERS,
        primal_learning_rate=theory_rate(game),
        dual_learning_rate=DUAL_RATE,
    )
    result, found = play(
        game,
        "amsgrad_eg_drd",
        ADAPTIVE,
        grid,
        steps=steps,
        every=steps // 10,
        solution=solution,
    )
    slopes = decade_slope(found.steps, found["T1"].lhs)
    duals = running_mean(result.metrics["gradient_norm_dual"] ** 2)
    records = np.arange(1, duals.shape[1] + 1)
    dual_slopes = decade_slope(records, duals)
    rows = []
    for power in POWERS:
        runs = result.hyperparameters["power"] == power
        statuses = {name: np.asarray(found[name].status)[runs] for name in ("T1", "T5")}
        rows.append({
            "game": name,
            "power": power,
            "slope": np.median(slopes[runs]),
            "slope min": slopes[runs].min(),
            "slope max": slopes[runs].max(),
            "guarantee": -min(2 * power if game.facts.one_sided_mvi else power, 1.0),
            "freezing": -min(power, 1.0),
            "average": np.median(found["T1"].lhs[runs, -1]),
            "dual slope": np.median(dual_slopes[runs]),
            "dual average": np.median(duals[runs, -1]),
            **{
                f"{bound} {status}": int((mine == status).sum())
                for bound, mine in statuses.items()
                for status in STATUSES
            },
        })  # fmt: skip
    return {"rates": rows}


def two_sided_arm(arm: str, steps: int, seeds: int) -> Tables:
    name, power = TWO_SIDED[arm]
    game: Any = osj.games.make_game(name)
    rate = DELTA / (math.sqrt(2) * game.facts.lipschitz)
    result, found = play(
        game,
        "amsgrad_eg_drd",
        ADAPTIVE | {"dual_eps": DELTA, "power": power},
        {"primal_learning_rate": rate, "dual_learning_rate": rate},
        steps=steps,
        every=steps // 10,
        seeds=np.arange(seeds),
    )
    row = {"arm": arm, "runs": seeds, "steps": steps}
    for player in PrimalDual._fields:
        squares = result.metrics[f"gradient_norm_{player}"] ** 2
        row[f"{player} average"] = np.median(running_mean(squares)[:, -1])
        row[f"{player} tail"] = np.median(tail_mean(squares))
    row["worst lhs/rhs of T4"] = found["T4"].worst_ratio.max()
    return {"two_sided": [row | counted(found, ("C0", "T4"))]}
