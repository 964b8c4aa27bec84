"""The theory in numbers: bounds, separations, rates, controls and momentum, on small games.

Every table of docs/theory is made here, from our own optimizers, games and certificates, in
float64. Sections are independent; each writes its tables when it ends and is skipped next time.

    python experiments/theory.py                       # all sections: most of an hour, two cores
    python experiments/theory.py carousel controls     # some of them
    python experiments/theory.py --scale small --out x --figure x/theory.svg   # in minutes
    python experiments/theory.py --draw                # only the figure, from the tables
"""

from __future__ import annotations

import argparse
import csv
import functools
import json
import math
import multiprocessing
import os
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter

import onesided_jax as osj
from onesided_jax import PrimalDual
from onesided_jax.report._style import svg_bytes

Row = dict[str, Any]
Tables = dict[str, list[Row]]
Scaled = Callable[[Any, Any], Any]  # (small, paper) -> the one to use

DELTA, DUAL_RATE = 0.5, 2.0
PLAIN: Row = {"eps": DELTA, "b2": 0.99, "convention": "classic"}
ADAPTIVE: Row = PLAIN | {"dual_eps": 1e-3}
RING = ([[1.5, 0.9]], [[0.3]])  # the carousel's start: on its ring
STATUSES = ("holds", "violated", "not covered")
EARLY = 500  # a curve whose first snapshot is later than this has its beginning from a short run


class Task(NamedTuple):
    """One arm of a section: ``run(**arguments)`` in a process of its own gives rows of tables."""

    label: str
    run: Callable[..., Tables]
    arguments: dict[str, Any]


# --- what the sections share


def play(
    game, method, options, rates, *, steps, every=None, record=None, seeds=None, solution=None
) -> tuple[Any, Any]:
    """A sweep over zipped hyperparameters and its certificate; a snapshot every ``every`` steps."""
    columns = {name: np.atleast_1d(np.asarray(v, float)) for name, v in rates.items()}
    runs = max(len(v) for v in columns.values()) if seeds is None else len(seeds)
    every = every or steps
    result = osj.sweep(
        game,
        lambda h: osj.OPTIMIZERS[method](**h, **options),
        seeds=np.arange(runs) if seeds is None else seeds,
        hyperparameters={name: np.broadcast_to(v, (runs,)) for name, v in columns.items()},
        steps=steps,
        checkpoint_every=every,
        record_every=record or math.gcd(every, 100),
        observers={"certificate": osj.certificate(game, method, options, solution=solution)},
    )
    return result, osj.certify(result)


def theory_rate(game: Any, delta: Any = DELTA) -> Any:
    """The largest primal rate of Theorem 1."""
    return delta / (2 * game.facts.lipschitz_xx)


def at(game, xs, ys):
    """The game in which the run with seed ``i`` starts at ``(xs[i], ys[i])``."""
    xs, ys = jnp.asarray(xs, float), jnp.asarray(ys, float)
    marks = _marks(len(xs))

    def init(key):
        row = jnp.argmax(marks == _bits(key))
        return PrimalDual(xs[row], ys[row]), ()

    return game._replace(init=init)


def _bits(key):
    return jax.random.bits(key, dtype=jnp.uint32)


@functools.cache
def _marks(seeds: int) -> np.ndarray:
    """What the key that a sweep hands to ``init`` draws for each seed: it tells them apart."""

    def init(key):
        bits = _bits(key).astype(float)  # float64 holds 32 bits
        return PrimalDual(bits, bits), ()

    field = osj.games.zero_sum_field(lambda x, y: 0.0 * x * y)
    probe = osj.sweep(
        osj.Game(init, lambda key: (), field),
        lambda h: osj.sgda(0.0, 0.0),
        seeds=np.arange(seeds),
        hyperparameters={},
        steps=1,
    )
    return np.asarray(probe.players.primal).astype(np.uint32)


def decade_slope(steps: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Slope of ``log values`` against ``log steps`` over the last decade, for every run."""
    first = np.argmin(np.abs(steps - steps[-1] / 10))
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.log(values[:, -1] / values[:, first])
    return ratio / np.log(steps[-1] / steps[first])


def running_mean(values: np.ndarray) -> np.ndarray:
    return np.cumsum(values, axis=1) / np.arange(1, values.shape[1] + 1)


def tail_mean(values: np.ndarray) -> np.ndarray:
    """Mean over the last tenth of the records, for every run."""
    return values[:, -max(1, values.shape[1] // 10) :].mean(axis=1)


def counted(found, names: Iterable[str]) -> Row:
    """Number of runs with each status, ``"T1 holds"`` and so on."""
    counts = {name: Counter(found[name].status) for name in names}
    return {f"{name} {status}": counts[name][status] for name in names for status in STATUSES}


def thinned(steps: np.ndarray, count: int = 60) -> np.ndarray:
    """Indices of about ``count`` steps, evenly spaced on a log scale."""
    wanted = np.geomspace(steps[0], steps[-1], count)
    return np.unique(np.searchsorted(steps, wanted).clip(0, len(steps) - 1))


def curve(bound, steps: np.ndarray, **labels: Any) -> list[Row]:
    """Both sides of the first run against the number of steps."""
    return [
        {**labels, "T": steps[i], "lhs": bound.lhs[0, i], "rhs": bound.rhs[0, i]}
        for i in thinned(steps)
    ]


# --- 1: the carousel, arm by arm

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
    theorem = "T5" if method == "amsgrad" else "T1"  # the same left side
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


# --- 2: which optimizers the carousel separates


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
    result = osj.sweep(
        game, lambda h: make(), seeds=np.arange(6), hyperparameters={}, steps=steps, record_every=5
    )
    tails = tail_mean(result.metrics["gradient_norm_primal"] ** 2)
    met = tails.min() > 0.1 if expected == STALLS else tails.max() < 1e-10
    row = {"arm": arm, "tail min": tails.min(), "tail max": tails.max(), "expected": expected}
    return {"separation": [row | {"met": met}]}


# --- 3: the bounds on every one-sided game

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
    if name == "strong_wind":  # its constants hold in a box
        whole = game.init
        game = game._replace(init=lambda key: (jax.tree.map(lambda a: a / 2, whole(key)[0]), ()))
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


# --- 4: games without the condition must break the bound, and must not be certified

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
    """The first start is the carousel's of section 1, the others are standard normal."""
    name, method, options = CONTROLS[arm]
    game: Any = osj.games.make_game(name)
    shapes = jax.tree.map(lambda a: a.size, game.init(jax.random.key(0))[0])
    rng = np.random.default_rng(0)
    xs, ys = (rng.normal(size=(starts, size)) for size in shapes)
    xs[0], ys[0] = np.resize(RING[0], shapes.primal), np.resize(RING[1], shapes.dual)
    game = at(game, xs, ys)
    if name == "bilinear":  # L_xx = 0: the joint constant's step, for both players
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


# --- 5: rates under dual rate decay, and two-sided convergence

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
    if game.facts.primal_solution is None:  # a point to measure from; it proves nothing
        solution = PrimalDual(np.zeros(game.init(jax.random.key(0))[0].primal.size), None)
    numbers, grid = osj.grid(
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
        seeds=numbers,
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


# --- 6: primal momentum

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
    """Where ``f(x, y) = x y`` turns unstable, from the linear map and from runs on either side."""
    rows = []
    for who, one in (("both players", False), ("the primal only", True)):
        low, high = 0.0, 0.99
        for _ in range(50):
            middle = (low + high) / 2
            low, high = (low, middle) if spectral_radius(middle, rate, one) > 1 else (middle, high)
        rows.append({"momentum of": who, "momentum": low, "spectral radius": 1.0, "what": "limit"})
    for b1 in (0.25, 0.45):
        # A metric of 100 that the gradients do not move: the map above.
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
    """Of extragradient with a running mean in its update, ``z = (x, y)``, state ``(z, m)``."""
    J, eye = np.array([[0.0, 1.0], [-1.0, 0.0]]), np.eye(2)
    keep = np.diag([b1, 0.0 if primal_only else b1])
    update = (eye - keep) @ J @ (eye - rate * J)  # m = (1 - b1) J (z - rate J z) + b1 m
    whole = np.block([[eye - rate * update, -rate * keep], [update, keep]])
    return float(np.abs(np.linalg.eigvals(whole)).max())


# --- 7: minibatch noise

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
    step = theory_rate(game) / math.sqrt(2)  # of Theorem 3: delta / (2 L_x)
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


# --- 8: thousands of certified runs at once


def sweep(scaled: Scaled) -> list[Task]:
    """Two halves of one grid, so that two processes share it."""
    side, steps = scaled(8, 64), scaled(500, 100_000)
    halves = np.array_split(np.geomspace(1e-3, 1e-1, side), 2)
    return [
        Task(f"half {i + 1}", sweep_half, {"half": half, "side": side, "steps": steps})
        for i, half in enumerate(halves)
    ]


def sweep_half(half: np.ndarray, side: int, steps: int) -> Tables:
    began = time.perf_counter()
    seeds, grid = osj.grid(
        seeds=1,
        primal_learning_rate=half.tolist(),
        dual_learning_rate=np.geomspace(1e-2, 3, side).tolist(),
    )
    _, found = play(
        osj.games.carousel(),
        "amsgrad_eg_drd",
        ADAPTIVE | DRD,
        grid,
        steps=steps,
        every=steps // 10,
        seeds=seeds,
    )
    row = {"runs": len(seeds), "steps": steps, "seconds": time.perf_counter() - began}
    row |= {"smallest rate": half.min(), "largest rate": half.max()}
    row["worst lhs/rhs of T1"] = found["T1"].worst_ratio.max()
    return {"sweep": [row | counted(found, ("C0", "C1", "T1"))]}


SECTIONS: dict[str, Callable[[Scaled], list[Task]]] = {
    "carousel": carousel,
    "separation": separation,
    "one_sided": one_sided,
    "controls": controls,
    "rates": rates,
    "momentum": momentum,
    "noise": noise,
    "sweep": sweep,
}


# --- the figure

COLOURS = {  # Okabe and Ito
    "plain": "#000000",
    "EG": "#d55e00",
    "EG, slow dual": "#e69f00",
    "EG-DRD, p=0.25": "#56b4e9",
    "EG-DRD, p=0.5": "#0072b2",
    "EG-DRD, p=1": "#009e73",
    "XEG": "#cc79a7",
}
CONTROL_COLOURS = dict(
    zip(CONTROLS, ("#d55e00", "#0072b2", "#56b4e9", "#009e73", "#cc79a7", "#000000"), strict=True)
)


def draw(out: Path) -> Figure:
    figure = Figure(figsize=(10.4, 7.6), layout="constrained")
    figure.get_layout_engine().set(w_pad=0.12, h_pad=0.1)  # pyright: ignore[reportOptionalMemberAccess, reportCallIssue]
    panels = figure.subplots(2, 2).flat
    titles = {
        draw_carousel: "carousel: who converges\nrunning mean of |∇ₓf|², in the metric, against T",
        draw_rates: "dual rate decay: the rate it buys\nslope of the running mean over the last "
        "decade against p",
        draw_controls: "no one-sided MVI: the bound breaks\nlhs / rhs of Theorem 1 against T",
        draw_one_sided: "one-sided MVI: it never does\nworst lhs / rhs over all steps and draws",
    }
    for axes, (panel, title) in zip(panels, titles.items(), strict=True):
        head, note = title.split("\n")
        axes.set_title(f"{head}\n", fontsize=10, loc="left")
        axes.text(0, 1.015, note, transform=axes.transAxes, fontsize=8.5, color="#57606a")
        axes.tick_params(labelsize=8.5)
        axes.spines[["top", "right"]].set_visible(False)
        panel(axes, out)
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.yaxis.set_minor_formatter(NullFormatter())
        columns = 2 if panel is draw_controls else 3
        below = {"loc": "upper center", "bbox_to_anchor": (0.5, -0.13), "ncols": columns}
        if axes.get_legend_handles_labels()[0]:
            axes.legend(**below, fontsize=8, frameon=False)
    return figure


def draw_carousel(axes, out: Path) -> None:
    rows = read(out / "carousel_curve.csv")
    for arm, colour in COLOURS.items():
        mine = [row for row in rows if row["arm"] == arm]
        if not mine:
            continue
        T = [float(row["T"]) for row in mine]
        axes.loglog(T, [float(row["lhs"]) for row in mine], color=colour, label=arm, lw=1.5)
        if arm == "XEG":
            bound = [float(row["rhs"]) for row in mine]
            axes.loglog(T, bound, color=colour, ls="--", lw=1.2, label="bound of XEG")


def draw_rates(axes, out: Path) -> None:
    rows = read(out / "rates.csv")
    p = np.linspace(0, 1, 101)
    axes.plot(p, -np.minimum(2 * p, 1), color="#0072b2", lw=1.2, ls="--", label="−min(2p, 1): MVI")
    axes.plot(p, -p, color="#d55e00", lw=1.2, ls=":", label="−min(p, 1): freezing, no MVI")
    marks = {"carousel": ("#0072b2", "o", -0.008), "stick_slip": ("#d55e00", "s", 0.008)}
    for game, (colour, mark, shift) in marks.items():
        mine = [row for row in rows if row["game"] == game]
        if not mine:
            continue
        centre, low, high = (
            np.array([float(row[c]) for row in mine]) for c in ("slope", "slope min", "slope max")
        )
        axes.errorbar(
            [float(row["power"]) + shift for row in mine], centre,
            yerr=[centre - low, high - centre],
            color=colour, fmt=mark, ms=5.5, capsize=3, lw=1, label=game.replace("_", " "),
        )  # fmt: skip
    axes.set_xticks(POWERS)


def draw_controls(axes, out: Path) -> None:
    rows = read(out / "controls_curve.csv")
    axes.axhline(1, color="#57606a", lw=0.9)
    for arm, colour in CONTROL_COLOURS.items():
        mine = [row for row in rows if row["arm"] == arm]
        if not mine:
            continue
        ratio = [float(row["lhs"]) / float(row["rhs"]) for row in mine]
        axes.loglog(
            [float(row["T"]) for row in mine], ratio, color=colour, lw=1.5,
            label=arm.replace("_", " "),
        )  # fmt: skip


def draw_one_sided(axes, out: Path) -> None:
    rows = read(out / "one_sided.csv")
    games = [name for name in ONE_SIDED if any(row["game"] == name for row in rows)][::-1]
    for offset, arm in zip(np.linspace(0.26, -0.26, len(ONE_SIDED_ARMS)), ONE_SIDED_ARMS):
        mine = [row for row in rows if row["arm"] == arm]
        if not mine:
            continue
        axes.plot(
            [float(row["worst T1"]) for row in mine],
            [games.index(row["game"]) + offset for row in mine],
            "o", ms=5, color=COLOURS[arm], label=arm,
        )  # fmt: skip
    axes.axvline(1, color="#57606a", lw=0.9)
    axes.set_xscale("log")
    axes.set_yticks(range(len(games)), [name.replace("_", " ") for name in games])
    axes.tick_params(axis="y", length=0)
    axes.set_ylim(-0.6, len(games) - 0.4)


# --- files and processes


def read(path: Path) -> list[dict[str, str]]:
    if not path.exists():
        return []
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def write(path: Path, rows: list[Row]) -> None:
    columns = list(dict.fromkeys(name for row in rows for name in row))
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, columns, restval="", lineterminator="\n")
        writer.writeheader()
        for row in rows:
            shown = {
                name: f"{v:.6g}" if isinstance(v, (float, np.floating)) else v
                for name, v in row.items()
            }
            writer.writerow(shown)


def set_up() -> None:
    jax.config.update("jax_enable_x64", True)


def timed(task: Task) -> tuple[Tables, float]:
    began = time.perf_counter()
    return task.run(**task.arguments), time.perf_counter() - began


def run_section(name: str, scale: str, pool: ProcessPoolExecutor) -> Tables:
    """All arms of a section; their rows in the order of the arms, whichever ends first."""
    tasks = SECTIONS[name](lambda small, paper: small if scale == "small" else paper)
    futures = {pool.submit(timed, task): task for task in tasks}
    for future in as_completed(futures):
        seconds = future.result()[1]
        print(f"{name:11} {futures[future].label:34} {seconds:7.1f} s", flush=True)
    tables: Tables = {}
    for future in futures:
        for table, rows in future.result()[0].items():
            tables.setdefault(table, []).extend(rows)
    return tables


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("sections", nargs="*", metavar="SECTION", help=", ".join(SECTIONS))
    parser.add_argument("--scale", choices=("small", "paper"), default="paper")
    parser.add_argument("--out", type=Path, default=Path("experiments/results/theory"))
    parser.add_argument("--figure", type=Path, default=Path("docs/figures/theory.svg"))
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="processes")
    parser.add_argument("--force", action="store_true", help="run what has been run already too")
    parser.add_argument("--draw", action="store_true", help="only draw")
    arguments = parser.parse_args()
    for name in arguments.sections:
        if name not in SECTIONS:
            parser.error(f"unknown section {name!r}: expected some of {', '.join(SECTIONS)}")
    out = arguments.out
    out.mkdir(parents=True, exist_ok=True)
    log = out / "theory.json"
    done = json.loads(log.read_text()) if log.exists() else {}
    if not arguments.draw:
        wanted = [
            name
            for name in arguments.sections or SECTIONS
            if arguments.force
            or done.get(name, {}).get("scale") != arguments.scale
            or not (out / f"{name}.csv").exists()
        ]
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(arguments.jobs, context, initializer=set_up) as pool:
            for name in wanted:
                began = time.perf_counter()
                for table, rows in run_section(name, arguments.scale, pool).items():
                    write(out / f"{table}.csv", rows)
                done[name] = {
                    "scale": arguments.scale,
                    "command": " ".join(["python", *sys.argv]),
                    "seconds": round(time.perf_counter() - began, 1),
                    "processes": arguments.jobs,
                    **{package: version(package) for package in ("jax", "jaxlib", "optax")},
                }
                log.write_text(json.dumps(done, indent=2) + "\n")
                print(f"{name:11} done in {done[name]['seconds']:.1f} s", flush=True)
    arguments.figure.parent.mkdir(parents=True, exist_ok=True)
    arguments.figure.write_bytes(svg_bytes(draw(out)))


if __name__ == "__main__":
    main()
