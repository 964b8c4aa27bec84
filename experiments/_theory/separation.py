"""Optimizers that stall on the carousel, and optimizers that converge."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

import onesided_jax as osj

from .common import ADAPTIVE, DUAL_RATE, PLAIN, Row, Scaled, Tables, Task, at, tail_mean


def _eg(power: float = 0.0, **options: Any):
    rate = osj.dual_rate_decay(DUAL_RATE, power)
    return lambda: osj.amsgrad_eg(0.02, rate, **(ADAPTIVE | options))


def _xeg(dual_rate: float, b1: float = 0.0):
    options: Row = ADAPTIVE | {"dual_extrapolation": False, "b1_update": b1}
    return lambda: osj.amsgrad_eg(0.02, dual_rate, **options)


def _past(power: float):
    return lambda: osj.past_amsgrad_eg(0.02, osj.dual_rate_decay(DUAL_RATE, power), **ADAPTIVE)


def _plain(power: float):
    return lambda: osj.amsgrad(0.02, osj.dual_rate_decay(DUAL_RATE, power), b1=0.0, **PLAIN)


STALLS, CONVERGES = "> 0.1", "< 1e-10"
SEPARATION: dict[str, tuple[str, Callable[[], Any]]] = {
    "plain, p=0": (STALLS, _plain(0)),
    "plain, p=0.5": (STALLS, _plain(0.5)),
    "EG, p=0": (STALLS, _eg()),
    "Popov, p=0": (STALLS, _past(0)),
    "EG, p=0.25": (CONVERGES, _eg(0.25)),
    "EG, p=0.5": (CONVERGES, _eg(0.5)),
    "EG, p=0.5, optax": (CONVERGES, _eg(0.5, convention="optax")),
    "EG, p=0.5, torch": (CONVERGES, _eg(0.5, convention="torch")),
    "Popov, p=0.5": (CONVERGES, _past(0.5)),
    "XEG, p=0": (CONVERGES, _xeg(2.0)),
    "XEG, slow dual, momentum 0.25": (CONVERGES, _xeg(0.2, 0.25)),
    "XEG, slow dual, momentum 0.5": (STALLS, _xeg(0.2, 0.5)),
    "XEG, slow dual, momentum 0.9": (STALLS, _xeg(0.2, 0.9)),
}


def separation(scaled: Scaled) -> list[Task]:
    arms = scaled(("EG, p=0", "EG, p=0.5", "Popov, p=0.5"), SEPARATION)
    return [Task(arm, separation_arm, {"arm": arm, "steps": 20_000}) for arm in arms]


def separation_arm(arm: str, steps: int) -> Tables:
    expected, make = SEPARATION[arm]
    angles = np.linspace(0, 5, 6)
    starts = 1.7 * np.stack([np.cos(angles), np.sin(angles)], axis=1)
    game = at(osj.games.carousel(), starts, np.linspace(0, 3, 6)[:, None])
    result = osj.sweep(game, make, osj.Runs(np.arange(6)), steps=steps, record_every=5)
    tails = tail_mean(result.metrics["gradient_norm_primal"] ** 2)
    met = tails.min() > 0.1 if expected == STALLS else tails.max() < 1e-10
    row = {"arm": arm, "tail min": tails.min(), "tail max": tails.max(), "expected": expected}
    return {"separation": [row | {"met": met}]}
