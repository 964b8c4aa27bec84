"""The one-sided Minty variational inequality in the late part of a run.

The matrix ``M[s, t] = <x_s - x*, grad_x f(x_s, y_t)>`` is measured on fresh data at late
checkpoints ``x_s`` and ``y_t``. ``x*`` is the known solution or the end of the run. The inequality
requires entries >= 0. Statistics leave out the diagonal, because a path that ends at ``x*`` makes
it positive for any function.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import ArrayLike

from onesided_jax.analysis.estimators import NOISE_FLOOR, Array, below_noise_floor
from onesided_jax.analysis.measure import Probe
from onesided_jax.games import Game
from onesided_jax.players import ArrayTree, PrimalDual

__all__ = [
    "CONTROLS",
    "MintyTest",
    "late_steps",
    "minty_test",
    "naive_mvi_test",
    "negative_mass",
    "significant_signs",
]

CONTROLS = ("x* = start", "flipped critic")
_LATE = 2 / 3  # of a run: begin of its late part
_FEW_ROWS, _ENOUGH_ROWS = 3, 5
_CONTROL_ROWS = 5  # checkpoints in the cross matrices of the controls
_ROUNDING = 1e3  # an exact cosine below so many units of its precision is rounding


class MintyTest(NamedTuple):
    """The cross matrix of one run, and its statistics; NumPy float64.

    Attributes:
      inner: ``[S, T]``, means of ``<x_s - x*, grad_x f(x_s, y_t)>``; 0 for an exact entry within
        rounding of zero.
      error: ``[S, T]``, standard errors of ``inner``; 0 for a deterministic game.
      cosine: ``[S, T]``; NaN if the gradient is below the noise floor.
      necessary: ``[T]``, ``||grad_x f(x*, y_t)|| / ||grad_x f(x_t, y_t)||``; about 0 if the
        inequality holds for all ``x`` near ``x*``.
      negative_mass: share of the negative entries in the sum of all absolute values.
      noise_mass: the negative mass that the errors alone would give if all entries were positive.
      mean_cosine: mean of the finite cosines; NaN if there are none.
      controls: control to negative mass, which must be large.
    """

    inner: Array
    error: Array
    cosine: Array
    necessary: Array
    negative_mass: float
    noise_mass: float
    mean_cosine: float
    controls: dict[str, float]


def late_steps(steps: list[int], most: int) -> list[int]:
    """Chooses the checkpoints to test: those of the last third, or the last five if that has fewer.

    The end of the run is left out, because it is ``x*``. At most ``most`` steps are chosen, evenly.
    The list is empty if the run has too few checkpoints.

    Example:
      >>> late_steps(list(range(0, 101, 5)), 4)
      [70, 80, 85, 95]
      >>> late_steps([0, 20, 40, 60, 80, 100], 12), late_steps([0, 50, 100], 12)
      ([20, 40, 60, 80], [])
    """
    trained = [step for step in steps if step > 0][:-1]
    late = [step for step in trained if step >= _LATE * steps[-1]]
    chosen = late if len(late) >= _ENOUGH_ROWS else trained[-_ENOUGH_ROWS:]
    if len(chosen) < _FEW_ROWS:
        return []
    places = np.linspace(0, len(chosen) - 1, min(most, len(chosen))).round().astype(int)
    return [chosen[i] for i in places]


def negative_mass(entries: ArrayLike) -> float:
    """Share of the negative entries in the sum of all absolute values, without NaN.

    Example:
      >>> negative_mass([[3.0, -1.0], [float("nan"), 0.0]]), negative_mass([0.0])
      (0.25, 0.0)
    """
    entries = np.asarray(entries, np.float64)
    whole = np.nansum(np.abs(entries))
    return float(np.nansum(np.maximum(-entries, 0)) / whole) if whole > 0 else 0.0


def noise_mass(inner: Array, error: Array) -> float:
    """The expected negative mass of positive entries of this size, with these normal errors."""
    from scipy.special import ndtr

    size = np.abs(inner)
    with np.errstate(all="ignore"):
        z = size / error
        negative = error * np.exp(-(z**2) / 2) / np.sqrt(2 * np.pi) - size * ndtr(-z)
    negative = np.where(error > 0, negative, 0.0)
    whole = (size + 2 * negative).sum()  # of the absolute values
    return float(negative.sum() / whole) if whole > 0 else 0.0


def minty_test(
    game: Game,
    probe: Probe,
    *,
    players: PrimalDual,
    state: ArrayTree,
    start: ArrayTree,
    target: ArrayTree,
) -> MintyTest:
    """Measures one run.

    Args:
      game: the game.
      probe: compiled measurements of the game.
      players: players at the late checkpoints, leaves ``[S, ...]``.
      state: the game's state.
      start: the primal player before training; as ``x*`` it is a control that must fail.
      target: ``x*``.
    """
    primals, duals = players
    count = len(jax.tree.leaves(primals)[0])
    with_target = jax.tree.map(lambda rows, x: np.stack([*rows, x]), primals, target)
    norms = probe.primal_norms(with_target, duals, state)  # the last row belongs to x*
    every_length = np.sqrt(np.maximum(norms.value, 0))
    seen = ((norms.value > 0) & ~below_noise_floor(norms))[:-1]
    length, at_target = every_length[:-1], every_length[-1]

    off = ~np.eye(count, dtype=bool)
    inner, error = _entries(probe, players, state, target, length)
    distance = _distances(primals, target)[:, None]
    with np.errstate(all="ignore"):
        cosine = np.where(seen & (distance > 0), inner / (distance * length), np.nan)
        necessary = at_target / np.where(np.diag(seen), np.diag(length), np.nan)

    rows = np.unique(np.linspace(0, count - 1, _CONTROL_ROWS).round().astype(int))
    square = np.ix_(rows, rows)
    some = PrimalDual(*(jax.tree.map(lambda leaf: leaf[rows], player) for player in players))
    cases = {"x* = start": (some, start)}
    if game.flip_dual is not None:
        cases["flipped critic"] = (some._replace(dual=jax.vmap(game.flip_dual)(some.dual)), target)
    controls = {}
    for name, (shown, point) in cases.items():
        entries, _ = _entries(probe, shown, state, point, length[square])
        controls[name] = negative_mass(entries[off[square]])
    known = cosine[off & np.isfinite(cosine)]
    return MintyTest(
        inner,
        error,
        cosine,
        necessary,
        negative_mass(inner[off]),
        noise_mass(inner[off], error[off]),
        float(known.mean()) if known.size else np.nan,
        controls,
    )


def _entries(
    probe: Probe, players: PrimalDual, state: ArrayTree, target: ArrayTree, length: Array
) -> tuple[Array, Array]:
    """Means and standard errors ``[S, T]``; ``length`` holds the norms of the primal gradients."""
    samples = probe.cross(*players, state, target)
    mean = samples.mean(-1)
    if not probe.exact:
        return mean, samples.std(-1, ddof=1) / np.sqrt(samples.shape[-1])
    precision = float(jnp.finfo(jnp.result_type(*jax.tree.leaves(target))).eps)
    tolerance = min(max(1e-9, _ROUNDING * precision), 0.05)  # the latter in half precision
    # A much smaller gradient is a difference of large numbers, with their rounding errors.
    magnitude = np.maximum(length, 0.1 * length[np.isfinite(length)].max(initial=0.0))
    scale = _distances(players.primal, target)[:, None] * magnitude
    return np.where(np.abs(mean) > tolerance * scale, mean, 0.0), np.zeros_like(mean)


def significant_signs(inner: Array, error: Array) -> Array:
    """The sign of each entry, or 0 where it is within two standard errors of 0."""
    return np.where(np.abs(inner) >= NOISE_FLOOR * error, np.sign(inner), 0.0)


def naive_mvi_test(iterates: ArrayLike, gradients: ArrayLike) -> tuple[float, float]:
    r"""The obvious test of the one-sided MVI. It is NOT EVIDENCE: it passes on pure noise.

    It uses training gradients, and the final iterate as ``x*``. Then the sum depends only on the
    path: for :math:`x_{t+1} = x_t - M^{-1} g_t`,

    .. math:: \sum_{t<T} \langle g_t, x_t - x_T\rangle
              = \tfrac12 \|x_1 - x_T\|_M^2 + \tfrac12 \sum_{t<T} \|g_t\|^2_{M^{-1}} > 0

    for any function. It is here for demonstration; no verdict uses it.

    Args:
      iterates: ``[T, n]``; the last one is ``x*``.
      gradients: training gradients at the iterates, ``[T, n]``; the last one is not used.

    Returns:
      ``(fraction, total)``: the share of positive inner products among the first ``T - 1``, and
      their sum.

    Example:
      >>> import numpy as np
      >>> noise = np.random.default_rng(0).normal(size=(400, 200))
      >>> path = -0.1 * np.cumsum(noise, axis=0)
      >>> fraction, total = naive_mvi_test(path[:-1], noise[1:])
      >>> fraction > 0.8, total > 0
      (True, True)
    """
    iterates, gradients = np.asarray(iterates, np.float64), np.asarray(gradients, np.float64)
    products = ((iterates[:-1] - iterates[-1]) * gradients[:-1]).sum(-1)
    return float((products > 0).mean()), float(products.sum())


def _distances(primals: ArrayTree, target: ArrayTree) -> Array:
    """Distances of primal players from a target, ``f64[S]``."""

    def squares(p: Any, q: Any) -> Array:
        p, q = np.asarray(p, np.float64), np.asarray(q, np.float64)
        return ((p - q) ** 2).reshape(len(p), -1).sum(1)

    return np.sqrt(sum(jax.tree.leaves(jax.tree.map(squares, primals, target))))
