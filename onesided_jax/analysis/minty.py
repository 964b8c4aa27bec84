"""The one-sided Minty variational inequality along a run, tested so that it can fail.

For a run with checkpoints ``(x_s, y_s)`` the matrix ``M[s, t] = <x_s - x*, grad_x f(x_s, y_t)>`` is
measured on fresh data, with ``x*`` from a held-out continuation of training (or known), judged off
the diagonal, next to controls that must not pass. Testing a run's own training gradients along its
own path against its own final iterate is an algebraic identity that pure noise passes.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from onesided_jax.analysis.estimators import below_noise_floor
from onesided_jax.analysis.inference import cross_regions, mean_t, significant_signs
from onesided_jax.analysis.measure import Probe
from onesided_jax.analysis.mvi_verdict import SignFractions, sign_fractions
from onesided_jax.games import Game
from onesided_jax.players import ArrayTree, PrimalDual, make_key
from onesided_jax.runs import Criteria

__all__ = ["MintyTest", "minty_test", "test_steps"]

_CONTROL_ROWS = 5  # checkpoints of the cross matrices in the controls
_CONTROL_SEED = 2109_14214
_ROUNDING = 1e3  # of a cosine without noise, in units of the precision it was computed in


class MintyTest(NamedTuple):
    """One run's cross matrix and controls, NumPy float64.

    Attributes:
      inner: ``[S, T]``, means of ``<x_s - x*, grad_x f(x_s, y_t)>``.
      t: ``[S, T]``, their t statistics; NaN for a deterministic game.
      cosine: ``[S, T]``; NaN where the gradient is below the noise floor.
      sign: ``[S, T]``, significant signs -1, 0, +1.
      valid: ``[S, T]``, false near ``x*``, where both factors are noise.
      necessary: ``[T]``, ``||grad_x f(x*, y_t)|| / ||grad_x f(x_t, y_t)||``, about 0 if the
        condition holds for all ``x`` near ``x*``.
      dominance: share of valid entries with ``f(x*, y_t) <= f(x_s, y_t)``, 1 if the condition
        holds along rays.
      null: fractions at random ``x*``, ``[random_targets]`` each.
      fresh_dual: fractions at freshly initialised duals, ``[fresh_duals]`` each, or ``None`` for
        a known ``x*``, where the condition is claimed for every dual.
      flipped_dual: fractions with the critic's sign flipped, scalars, or ``None`` without critic.
      flip_exact: whether the flip negates every entry, so that it must come out refuted.
    """

    inner: np.ndarray
    t: np.ndarray
    cosine: np.ndarray
    sign: np.ndarray
    valid: np.ndarray
    necessary: np.ndarray
    dominance: float
    null: SignFractions
    fresh_dual: SignFractions | None
    flipped_dual: SignFractions | None
    flip_exact: bool


def test_steps(steps: list[int], total_steps: int, criteria: Criteria) -> list[int]:
    """The checkpoints that are tested: trained ones, held out from the stretch that made x*."""
    last = criteria.held_out_fraction * total_steps
    tested = [step for step in steps if 0 < step <= last]
    if len(tested) <= criteria.mvi_rows:
        return tested
    chosen = np.unique(np.linspace(0, len(tested) - 1, criteria.mvi_rows).round().astype(int))
    return [tested[i] for i in chosen]


test_steps.__test__ = False  # pyright: ignore[reportFunctionMemberAccess]  # not for pytest


def minty_test(
    game: Game,
    probe: Probe,
    criteria: Criteria,
    *,
    steps: list[int],
    players: PrimalDual,
    state: ArrayTree,
    first: ArrayTree,
    target: ArrayTree,
    second_target: ArrayTree | None,
    run_seed: int,
) -> MintyTest:
    """Measures one run.

    Args:
      game: what was played.
      probe: its measurements.
      criteria: sample sizes and thresholds.
      steps: the tested checkpoints' steps.
      players: their players, leaves ``[S, ...]``.
      state: the game's state.
      first: the primal player before training; sets the scale of random targets.
      target: ``x*``.
      second_target: another admissible ``x*``; rows closer to ``x*`` than
        ``criteria.truncation_factor`` times the distance between the two are left out. ``None``
        for a known ``x*``.
      run_seed: makes the controls' random draws differ between runs.

    Returns:
      The measurements.
    """
    primals, duals = players
    only_target = jax.tree.map(lambda leaf: np.asarray(leaf)[None], target)
    distance = _distances(primals, only_target)[0]
    gap = 0.0
    if second_target is not None:
        only_second = jax.tree.map(lambda leaf: np.asarray(leaf)[None], second_target)
        gap = float(_distances(only_second, only_target)[0, 0])
    keep = (distance > 0) & (distance >= criteria.truncation_factor * gap)
    valid = np.broadcast_to(keep[:, None], (len(steps), len(steps)))
    off_diagonal = cross_regions(steps, steps)["off_diagonal"]

    norms = probe.primal_norms(primals, duals, state)
    length = np.sqrt(np.maximum(norms.value, 0))
    # A gradient much smaller than others is a difference of numbers as large as theirs.
    magnitude = np.maximum(length, 0.1 * length[np.isfinite(length)].max(initial=0.0))
    scale = distance[:, None] * magnitude
    precision = jnp.finfo(jnp.result_type(*jax.tree.leaves(target))).eps
    tolerance = min(max(1e-9, _ROUNDING * float(precision)), 0.05)  # of half precision the latter

    def judge(primals, duals, targets, scale):
        """Losses, inner products, t statistics and signs at each target, ``[n, S, T, ...]``."""
        matrix = probe.cross(primals, duals, state, targets)
        inner, t = _mean_and_t(matrix.slope)
        count = max(matrix.slope.shape[-1], 2)
        sign = significant_signs(
            inner, t, count, alpha=criteria.alpha, scale=scale, tolerance=tolerance
        )
        return matrix.loss, inner, t, sign

    (loss,), (inner,), (t,), (sign,) = judge(primals, duals, only_target, scale)
    seen = (norms.value > 0) & ~below_noise_floor(norms)
    with np.errstate(all="ignore"):
        cosine = np.where(seen, inner / (distance[:, None] * length), np.nan)

    # The necessary conditions of the strong form: grad_x f(x*, y) = 0 and f(x*, y) <= f(x, y).
    target_norms = probe.primal_norms(only_target, duals, state)
    with np.errstate(all="ignore"):
        necessary = np.sqrt(np.maximum(target_norms.value[0], 0)) / np.where(
            np.diag(seen), np.diag(length), np.nan
        )
    target_loss = probe.cross(only_target, duals, state, only_target).loss[0]
    higher = (loss - target_loss).mean(-1) >= 0
    dominance = float(higher[valid].mean()) if valid.any() else np.nan

    key = jax.random.fold_in(make_key(_CONTROL_SEED), run_seed)
    null_key, dual_key = jax.random.split(key)
    rows = np.unique(np.linspace(0, len(steps) - 1, _CONTROL_ROWS).round().astype(int))
    some_primals, some_duals = _rows(primals, rows), _rows(duals, rows)
    random_targets = _random_targets(null_key, target, first, criteria.random_targets)
    signs = judge(
        some_primals,
        some_duals,
        random_targets,
        _distances(some_primals, random_targets)[..., None] * magnitude[np.ix_(rows, rows)],
    )[-1]
    some_off_diagonal = off_diagonal[np.ix_(rows, rows)]
    null = sign_fractions(signs, some_off_diagonal)

    fresh_dual = None
    if second_target is not None:
        keys = jax.random.split(dual_key, criteria.fresh_duals)
        fresh = jax.vmap(lambda key: game.init(key)[0].dual)(keys)
        fresh_norms = probe.primal_norms(some_primals, fresh, state) if probe.exact else None
        fresh_scale = distance[rows, None] * (
            np.sqrt(np.maximum(fresh_norms.value, 0)) if fresh_norms is not None else 1.0
        )
        (signs,) = judge(some_primals, fresh, only_target, fresh_scale)[-1]
        fresh_dual = sign_fractions(signs.T[:, :, None], keep[rows, None])  # one matrix per dual

    flipped_dual, flip_exact = None, False
    if game.flip_dual is not None:
        flipped = jax.vmap(game.flip_dual)(some_duals)
        some = np.ix_(rows, rows)
        _, (mirrored,), _, (signs,) = judge(some_primals, flipped, only_target, scale[some])
        flipped_dual = sign_fractions(signs, valid[some] & some_off_diagonal)
        flip_exact = bool(np.allclose(mirrored, -inner[some], atol=1e-4 * np.abs(inner).max()))
    return MintyTest(
        inner,
        t,
        cosine,
        sign,
        valid,
        necessary,
        dominance,
        null,
        fresh_dual,
        flipped_dual,
        flip_exact,
    )


def _mean_and_t(samples: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    if samples.shape[-1] == 1:  # exact
        return samples[..., 0], np.full(samples.shape[:-1], np.nan)
    mean, t, _ = mean_t(samples)
    return mean, t


def _random_targets(key: Any, target: ArrayTree, first: ArrayTree, count: int) -> ArrayTree:
    """Points ``[count, ...]`` as far from ``target`` as training began, in random directions."""
    leaves, treedef = jax.tree.flatten(jax.tree.map(np.asarray, target))
    keys = jax.random.split(key, len(leaves))
    noise = [
        np.asarray(jax.random.normal(k, (count, *leaf.shape)), np.float64)
        for k, leaf in zip(keys, leaves, strict=True)
    ]
    length = np.sqrt(sum((n.reshape(count, -1) ** 2).sum(1) for n in noise))
    only_first = jax.tree.map(lambda leaf: np.asarray(leaf)[None], first)
    only_target = jax.tree.unflatten(treedef, [leaf[None] for leaf in leaves])
    radius = _distances(only_first, only_target)[0, 0] / length
    moved = [
        (leaf + radius.reshape(-1, *[1] * leaf.ndim) * n).astype(leaf.dtype)
        for leaf, n in zip(leaves, noise, strict=True)
    ]
    return jax.tree.unflatten(treedef, moved)


def _distances(primals: ArrayTree, targets: ArrayTree) -> np.ndarray:
    """``[n, S]``, distance of S primal players from n targets, in float64."""

    def squares(p, q):
        p, q = (np.asarray(a, np.float64).reshape(len(a), -1) for a in (p, q))
        return np.stack([((p - target) ** 2).sum(1) for target in q])

    return np.sqrt(sum(jax.tree.leaves(jax.tree.map(squares, primals, targets))))


def _rows(tree: ArrayTree, indices: np.ndarray) -> ArrayTree:
    return jax.tree.map(lambda leaf: leaf[indices], tree)
