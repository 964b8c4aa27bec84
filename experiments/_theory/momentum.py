"""Momentum of the primal player."""

from __future__ import annotations

import numpy as np

import onesided_jax as osj

from .common import ADAPTIVE, RING, Scaled, Tables, Task, at, play, tail_mean, theory_rate

MOMENTA = (0.0, 0.3, 0.5, 0.9)


def momentum(scaled: Scaled) -> list[Task]:
    steps = scaled(2000, 200_000)
    tasks = [
        Task(f"carousel: XEG, momentum {b1}", momentum_arm, {"b1": b1, "steps": steps})
        for b1 in scaled(MOMENTA[2:3], MOMENTA)
    ]
    return [*tasks, Task("bilinear", bilinear_momentum, {"steps": scaled(2000, 100_000)})]


def momentum_arm(b1: float, steps: int) -> Tables:
    game = at(osj.games.carousel(), *RING)
    result, found = play(
        game,
        "amsgrad_eg",
        ADAPTIVE | {"dual_extrapolation": False, "b1_update": b1},
        {"primal_learning_rate": theory_rate(game), "dual_learning_rate": 0.2},
        steps=steps,
        every=steps // 10,
    )
    row = {
        "momentum": b1,
        "radius": np.linalg.norm(result.players.primal[0]),
        "average": found["T1"].lhs[0, -1],
        "tail": tail_mean(result.metrics["gradient_norm_primal"] ** 2)[0],
        "T1": found["T1"].status[0],
        "T8": found["T8"].status[0],
    }
    return {"momentum": [row]}


def bilinear_momentum(steps: int, rate: float = 1e-2) -> Tables:
    """Momentum at which ``f(x, y) = x y`` turns unstable: linear map, and runs on both sides."""
    rows = []
    for who, one in (("both players", False), ("the primal only", True)):
        low, high = 0.0, 0.99
        for _ in range(50):
            middle = (low + high) / 2
            low, high = (low, middle) if spectral_radius(middle, rate, one) > 1 else (middle, high)
        rows.append({"momentum of": who, "momentum": low, "spectral radius": 1.0, "what": "limit"})
    for b1 in (0.25, 0.45):
        # The gradients do not move a metric of 100, so the run follows the linear map.
        options = {"b1_update": b1, "dual_b1": b1, "eps": 100.0}
        result, _ = play(
            osj.games.dirac_wgan(),
            "amsgrad_eg",
            options,
            {"primal_learning_rate": 100 * rate, "dual_learning_rate": 100 * rate},
            steps=steps,
        )
        first, last = (
            np.linalg.norm(np.concatenate([np.ravel(part) for part in players]))
            for players in (result.checkpoints[0].players, result.players)
        )
        rows.append({
            "momentum of": "both players",
            "momentum": b1,
            "spectral radius": spectral_radius(b1, rate, False),
            "measured radius": (last / first) ** (1 / steps),
            "what": "run",
        })  # fmt: skip
    return {"momentum_bilinear": rows}


def spectral_radius(b1: float, rate: float, primal_only: bool) -> float:
    """Spectral radius of extragradient with a running mean in its update.

    ``z = (x, y)``, state ``(z, m)``.
    """
    J, eye = np.array([[0.0, 1.0], [-1.0, 0.0]]), np.eye(2)
    keep = np.diag([b1, 0.0 if primal_only else b1])
    update = (eye - keep) @ J @ (eye - rate * J)  # m = (1 - b1) J (z - rate J z) + b1 m
    whole = np.block([[eye - rate * update, -rate * keep], [update, keep]])
    return float(np.abs(np.linalg.eigvals(whole)).max())
