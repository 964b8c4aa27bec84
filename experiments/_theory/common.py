"""Helpers that the sections share."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import onesided_jax as osj
from onesided_jax import PrimalDual

Row = dict[str, Any]
Tables = dict[str, list[Row]]
Scaled = Callable[[Any, Any], Any]  # (small, paper) -> the value for this scale

DELTA, DUAL_RATE = 0.5, 2.0
PLAIN: Row = {"eps": DELTA, "b2": 0.99, "convention": "classic"}
ADAPTIVE: Row = PLAIN | {"dual_eps": 1e-3}
RING = ([[1.5, 0.9]], [[0.3]])  # a start on the carousel's ring
STATUSES = ("holds", "violated", "not covered")
EARLY = 500  # a curve with a later first snapshot gets its beginning from a short run


class Task(NamedTuple):
    """One arm of a section: ``run(**arguments)`` returns rows of tables, in its own process."""

    label: str
    run: Callable[..., Tables]
    arguments: dict[str, Any]


def play(
    game, method, options, rates, *, steps, every=None, record=None, seeds=None, solution=None
) -> tuple[Any, Any]:
    """Runs a sweep with a snapshot every ``every`` steps; returns result and certificate.

    ``rates`` are ``osj.Runs``, or columns to zip with the seeds.
    """
    runs = rates if isinstance(rates, osj.Runs) else _zipped(rates, seeds)
    every = every or steps
    result = osj.sweep(
        game,
        functools.partial(osj.OPTIMIZERS[method], **options),
        runs,
        steps=steps,
        checkpoint_every=every,
        record_every=record or math.gcd(every, 100),
        observers={"certificate": osj.certificate(game, method, options, solution=solution)},
    )
    return result, osj.certify(result)


def _zipped(rates, seeds) -> osj.Runs:
    columns = {name: np.atleast_1d(np.asarray(v, float)) for name, v in rates.items()}
    count = max(len(v) for v in columns.values()) if seeds is None else len(seeds)
    seeds = np.arange(count) if seeds is None else seeds
    return osj.Runs(seeds, {name: np.broadcast_to(v, (count,)) for name, v in columns.items()})


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

    return dataclasses.replace(game, init=init)


def _bits(key):
    return jax.random.bits(key, dtype=jnp.uint32)


@functools.cache
def _marks(seeds: int) -> np.ndarray:
    """Random bits that each seed's key for ``init`` draws; they identify the seed."""

    def init(key):
        bits = _bits(key).astype(float)  # float64 holds 32 bits
        return PrimalDual(bits, bits), ()

    field = osj.games.zero_sum_field(lambda x, y: 0.0 * x * y)
    probe = osj.sweep(
        osj.Game(init, lambda key: (), field),
        lambda: osj.sgda(0.0, 0.0),
        osj.Runs(np.arange(seeds)),
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
    """Both sides of the bound for the first run, against the number of steps."""
    return [
        {**labels, "T": steps[i], "lhs": bound.lhs[0, i], "rhs": bound.rhs[0, i]}
        for i in thinned(steps)
    ]
