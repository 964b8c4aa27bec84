"""Minibatch noise."""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import onesided_jax as osj

from .common import ADAPTIVE, DELTA, Row, Scaled, Tables, Task, counted, play, theory_rate
from .controls import DRD

NOISE_ARMS: dict[str, tuple[str, Row, float]] = {
    "EG, slow dual": ("amsgrad_eg", ADAPTIVE, 0.2),
    "EG-DRD, p=0.5": ("amsgrad_eg_drd", ADAPTIVE | DRD, 2.0),
    "XEG": ("amsgrad_xeg", ADAPTIVE, 2.0),
}


def noise(scaled: Scaled) -> list[Task]:
    names, deviations = scaled(("carousel",), ("carousel", "wind_log")), scaled((0.1,), (0.1, 0.3))
    settings = {"steps": scaled(500, 10_000), "seeds": scaled(8, 128)}
    return [
        Task(f"{name}, {std}: {arm}", noise_arm, {"name": name, "std": std, "arm": arm, **settings})
        for name in names
        for std in deviations
        for arm in scaled(("XEG",), NOISE_ARMS)
    ]


def noise_arm(name: str, std: float, arm: str, steps: int, seeds: int) -> Tables:
    calm = osj.games.make_game(name)
    game: Any = osj.games.with_noise(calm, std)
    method, options, dual_rate = NOISE_ARMS[arm]
    step = theory_rate(game) / math.sqrt(2)  # Theorem 3's step: delta / (2 L_x)
    result, found = play(
        game,
        method,
        options,
        {"primal_learning_rate": step, "dual_learning_rate": dual_rate},
        steps=steps,
        every=steps // 50,
        seeds=np.arange(seeds),
    )
    bound, total = found["T3"], found.steps
    late = np.argmin(np.abs(total - 0.9 * total[-1]))
    tail = (bound.lhs[0, -1] * total[-1] - bound.lhs[0, late] * total[late]) / (
        total[-1] - total[late]
    )
    exact = jax.vmap(lambda z: jnp.sum(calm.field(z, (), ())[0].primal ** 2))
    last = [step for step in result.checkpoints if step > 0.9 * steps]
    row = {
        "game": name,
        "noise": std,
        "arm": arm,
        "runs": seeds,
        "worst lhs/rhs of T3": bound.worst_ratio.max(),
        "tail with noise": tail,
        "tail of the mean gradient": np.mean([exact(result.checkpoints[s].players) for s in last]),
        "noise floor in the bound": 6 * game.facts.noise_variance / DELTA,
    }
    return {"noise": [row | counted(found, ("C0", "T3", "T1"))]}
