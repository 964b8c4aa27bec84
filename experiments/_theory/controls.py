"""Games without the condition: they must break the bound, and must not be certified."""

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
    EARLY,
    RING,
    Row,
    Scaled,
    Tables,
    Task,
    at,
    counted,
    curve,
    decade_slope,
    play,
    theory_rate,
)

DRD: Row = {"power": 0.5}
CONTROLS: dict[str, tuple[str, str, Row]] = {
    "stick_slip: XEG": ("stick_slip", "amsgrad_xeg", {}),
    "stick_slip: EG-DRD, p=0.5": ("stick_slip", "amsgrad_eg_drd", DRD),
    "stick_slip: XEG-DRD, p=0.5": (
        "stick_slip", "amsgrad_eg_drd", DRD | {"dual_extrapolation": False},
    ),
    "moving_target: XEG": ("moving_target", "amsgrad_xeg", {}),
    "bilinear: XEG": ("bilinear", "amsgrad_xeg", {"dual_eps": DELTA}),
    "bilinear: EG": ("bilinear", "amsgrad_eg", {"dual_eps": DELTA}),
}  # fmt: skip


def controls(scaled: Scaled) -> list[Task]:
    return [
        Task(
            arm,
            control_arm,
            {
                "arm": arm,
                "steps": scaled(4000, 1_000_000 if name == "stick_slip" else 100_000),
                "starts": scaled(2, 8),
            },
        )
        for arm, (name, _, _) in CONTROLS.items()
        if scaled(arm in ("moving_target: XEG", "bilinear: EG"), True)
    ]


def control_arm(arm: str, steps: int, starts: int) -> Tables:
    """The first start is that of the carousel section; the others are standard normal."""
    name, method, options = CONTROLS[arm]
    game: Any = osj.games.make_game(name)
    shapes = jax.tree.map(lambda a: a.size, game.init(jax.random.key(0))[0])
    rng = np.random.default_rng(0)
    xs, ys = (rng.normal(size=(starts, size)) for size in shapes)
    xs[0], ys[0] = np.resize(RING[0], shapes.primal), np.resize(RING[1], shapes.dual)
    game = at(game, xs, ys)
    if name == "bilinear":  # L_xx = 0, so both players take the step of the joint constant
        rate = dual_rate = DELTA / (math.sqrt(2) * game.facts.lipschitz)
    else:
        rate, dual_rate = theory_rate(game), DUAL_RATE
    rates = {"primal_learning_rate": rate, "dual_learning_rate": dual_rate}
    settings = {
        "options": ADAPTIVE | options,
        "rates": rates,
        "seeds": np.arange(starts),
        "solution": None
        if game.facts.primal_solution is not None
        else PrimalDual(np.zeros(shapes.primal), None),
    }
    every = steps // 200
    _, found = play(game, method, **settings, steps=steps, every=every)
    bound = found["T1"]
    points = curve(bound, found.steps, arm=arm)
    if every >= EARLY:
        _, early = play(game, method, **settings, steps=every, every=5)
        points = curve(early["T1"], early.steps, arm=arm) + points[1:]
    broken = np.where(bound.first_violation > 0, bound.first_violation, np.inf)
    total = found.steps[None]
    row = {
        "arm": arm,
        "steps": steps,
        "first violation": broken[0],
        "earliest": broken.min(),
        "latest": broken.max(),
        "worst lhs/rhs": bound.worst_ratio[0],
        "exponent of lhs": decade_slope(found.steps, bound.lhs[:1] * total)[0],
        "exponent of rhs": decade_slope(found.steps, bound.rhs[:1] * total)[0],
        "smallest sum of <g, x - x*>": found.sum_minty.min(),
        **counted(found, ("C0", "C1", "T1", "T2", "T4", "T5")),
    }
    return {"controls": [row], "controls_curve": points}
