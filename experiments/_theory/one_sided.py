"""The bounds on every one-sided game."""

from __future__ import annotations

import dataclasses

import jax
import numpy as np

import onesided_jax as osj

from .common import Row, Scaled, Tables, Task, counted, decade_slope, play, theory_rate

ONE_SIDED: dict[str, Row] = {
    "carousel": {},
    "wind_log": {},
    "strong_wind": {},
    "multi_carousel": {"dim": 16},
    "ridge_star": {},
    "robust_glm": {},
}
SMALL_SIZES: dict[str, Row] = {
    "multi_carousel": {"dim": 3},
    "ridge_star": {"dim": 6, "dual_dim": 3, "terms": 20},
    "robust_glm": {"dim": 5, "samples": 8},
}
LARGE = ("multi_carousel", "ridge_star", "robust_glm")
ONE_SIDED_ARMS: dict[str, tuple[str, Row]] = {
    "EG": ("amsgrad_eg", {}),
    "EG-DRD, p=0.25": ("amsgrad_eg_drd", {"power": 0.25}),
    "EG-DRD, p=0.5": ("amsgrad_eg_drd", {"power": 0.5}),
    "EG-DRD, p=1": ("amsgrad_eg_drd", {"power": 1.0}),
    "XEG": ("amsgrad_xeg", {}),
}


def one_sided(scaled: Scaled) -> list[Task]:
    sizes = {name: scaled(SMALL_SIZES.get(name, size), size) for name, size in ONE_SIDED.items()}
    names = scaled(("strong_wind", "ridge_star"), tuple(ONE_SIDED))
    arms = scaled(("EG-DRD, p=0.5", "XEG"), tuple(ONE_SIDED_ARMS))
    return [
        Task(
            f"{name}: {arm}",
            one_sided_arm,
            {
                "name": name,
                "size": sizes[name],
                "arm": arm,
                "draws": scaled(4, 64),
                "steps": scaled(500, 20_000 if name in LARGE else 100_000),
            },
        )
        for name in sorted(names, key=LARGE.__contains__, reverse=True)  # the longest first
        for arm in arms
    ]


def one_sided_arm(name: str, size: Row, arm: str, draws: int, steps: int) -> Tables:
    game = osj.games.make_game(name, **size)
    if name == "strong_wind":  # the constants hold only in a box, so halve the starts
        whole = game.init
        game = dataclasses.replace(
            game, init=lambda key: (jax.tree.map(lambda a: a / 2, whole(key)[0]), ())
        )
    method, options = ONE_SIDED_ARMS[arm]
    _, found = play(
        game,
        method,
        options | {"convention": "classic"},
        random_rates(game, draws),
        steps=steps,
        every=steps // 10,
    )
    row = {"game": name, "arm": arm, "runs": draws, "steps": steps}
    row |= counted(found, ("C0", "C1", "T1", "T2", "T5"))
    for bound in ("C0", "C1", "T1", "T5"):
        row[f"worst {bound}"] = found[bound].worst_ratio.max()
    row["slope"] = np.median(decade_slope(found.steps, found["T1"].lhs))
    return {"one_sided": [row]}


def random_rates(game, count: int) -> dict[str, np.ndarray]:
    """Random hyperparameters inside the step-size condition of Theorem 1."""
    rng = np.random.default_rng(0)
    eps = 10 ** rng.uniform(-1.5, 0, count)
    return {
        "eps": eps,
        "dual_eps": 10 ** rng.uniform(-3, 0, count),
        "b2": 1 - 10 ** rng.uniform(-3, -0.3, count),
        "primal_learning_rate": theory_rate(game, eps) * rng.uniform(0.05, 1, count),
        "dual_learning_rate": 10 ** rng.uniform(-2, 0.5, count),
    }
