"""The carousel, arm by arm."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

import onesided_jax as osj

from .common import (
    ADAPTIVE,
    EARLY,
    PLAIN,
    RING,
    Row,
    Scaled,
    Tables,
    Task,
    at,
    curve,
    play,
    theory_rate,
)

CAROUSEL: dict[str, tuple[str, Row, float]] = {
    "plain": ("amsgrad", PLAIN | {"b1": 0.0}, 2.0),
    "EG": ("amsgrad_eg", ADAPTIVE, 2.0),
    "EG, slow dual": ("amsgrad_eg", ADAPTIVE, 0.2),
    "EG-DRD, p=0.25": ("amsgrad_eg_drd", ADAPTIVE | {"power": 0.25}, 2.0),
    "EG-DRD, p=0.5": ("amsgrad_eg_drd", ADAPTIVE | {"power": 0.5}, 2.0),
    "EG-DRD, p=1": ("amsgrad_eg_drd", ADAPTIVE | {"power": 1.0}, 2.0),
    "XEG": ("amsgrad_xeg", ADAPTIVE, 2.0),
}


def carousel(scaled: Scaled) -> list[Task]:
    stops = scaled((200, 1000, 2000), (1000, 10_000, 100_000, 600_000))
    arms = scaled(("plain", "EG-DRD, p=1", "XEG"), CAROUSEL)
    return [Task(arm, carousel_arm, {"arm": arm, "stops": stops}) for arm in arms]


def carousel_arm(arm: str, stops: Sequence[int]) -> Tables:
    method, options, dual_rate = CAROUSEL[arm]
    game = at(osj.games.carousel(), *RING)
    rates = {"primal_learning_rate": theory_rate(game), "dual_learning_rate": dual_rate}
    theorem = "T5" if method == "amsgrad" else "T1"  # both have the same left side
    result, found = play(game, method, options, rates, steps=stops[-1], every=stops[0], record=10)
    bound, places = found[theorem], np.searchsorted(found.steps, stops)
    row = {"arm": arm, "dual_rate": dual_rate}
    row |= {f"average {T}": bound.lhs[0, i] for T, i in zip(stops, places, strict=True)}
    row |= {
        "radius": np.linalg.norm(result.players.primal[0]),
        "bound": found["T1"].rhs[0, -1],
        "worst lhs/rhs of T1": found["T1"].worst_ratio[0],
        "worst C0 residual": found["C0"].worst_ratio[0],
        "worst lhs/rhs of C1": found["C1"].worst_ratio[0],
        **{name: found[name].status[0] for name in ("C0", "C1", "T1", "T2", "T5")},
        "smallest dual gradient": result.metrics["gradient_norm_dual"].min(),
    }
    points = curve(bound, found.steps, arm=arm)
    if stops[0] >= EARLY:
        _, early = play(game, method, options, rates, steps=stops[0], every=10)
        points = curve(early[theorem], early.steps, arm=arm) + points[1:]
    return {"carousel": [row], "carousel_curve": points}
