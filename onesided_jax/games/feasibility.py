"""Whether the players of a constrained problem satisfy its constraints."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from onesided_jax.games.game import Game
from onesided_jax.games.lagrangian import Multipliers
from onesided_jax.players import PrimalDual, make_key

__all__ = ["Feasibility", "feasibility", "max_multiplier", "max_violation"]

SHRINKS = 0.5  # a violation below this share of its earlier value is shrinking


class Feasibility(NamedTuple):
    """Result of :func:`feasibility`; with a leading axis ``R`` if the players have one.

    Attributes:
      status: ``"feasible"``, ``"violated"`` or ``"growing"``; array of strings.
      max_violation: largest of ``max(g, 0)`` and ``|h|``.
      max_multiplier: largest absolute multiplier.
      complementarity: largest ``|multiplier * g|`` of the inequalities; 0 at a solution.
      values: ``g`` and ``h`` of every constraint.
      multipliers: multiplier of every constraint.
      sentence: the finding in words, one sentence per run.
    """

    status: np.ndarray
    max_violation: np.ndarray
    max_multiplier: np.ndarray
    complementarity: np.ndarray
    values: Multipliers
    multipliers: Multipliers
    sentence: tuple[str, ...]


def max_violation(step_view: Any) -> jax.Array:
    """A metric for ``sweep(record=...)``: the largest violation before a step, at no extra cost.

    Example:
      >>> import jax.numpy as jnp
      >>> import onesided_jax as osj
      >>> game = osj.games.lagrangian(
      ...     lambda x: x**2, lambda key: jnp.zeros(()), inequality=lambda x: 1 - x
      ... )
      >>> record = {"max_violation": osj.games.max_violation}
      >>> runs = osj.grid(seeds=1, primal_learning_rate=0.1, dual_learning_rate=0.5)
      >>> result = osj.sweep(game, osj.sgda, runs, steps=200, record=record)
      >>> result.metrics["max_violation"][0, [0, -1]].round(3).tolist()
      [1.0, 0.0]
    """
    return _largest_violation(jax.tree.map(jnp.negative, step_view.field.dual))


def max_multiplier(step_view: Any) -> jax.Array:
    """A metric for ``sweep(record=...)``: the largest absolute multiplier after a step.

    Example:
      >>> record = {"max_multiplier": max_multiplier}  # as with :func:`max_violation`
    """
    return _largest(step_view.after.dual)


def feasibility(
    game: Game,
    players: PrimalDual,
    earlier: PrimalDual | None = None,
    *,
    state: Any = (),
    tolerance: float = 1e-3,
    batches: int = 1,
    seed: int = 0,
) -> Feasibility:
    """Reports whether the constraints hold, and whether a multiplier grows without bound.

    In each step a multiplier grows by its rate times the violation. If no params satisfy the
    constraint, it grows without bound, though losses and norms may look normal. This check compares
    two steps, so it needs ``earlier``:

    ============== ==============================================================================
    ``"feasible"`` no violation above ``tolerance``
    ``"violated"`` some violation above ``tolerance``: train longer, or raise the dual rate
    ``"growing"``  a violated constraint whose multiplier grew since ``earlier`` and whose violation
                   did not fall by half: the problem looks infeasible
    ============== ==============================================================================

    Args:
      game: made by :func:`lagrangian`.
      players: of this game, with or without a leading run axis, as in ``result.players``.
      earlier: players at an earlier step, such as ``result.checkpoints[step].players``.
      state: the game's state.
      tolerance: largest violation that counts as none, ``> 0``.
      batches: number of minibatches over which constraint values are averaged, ``>= 1``.
      seed: seed of these minibatches.

    Returns:
      A :class:`Feasibility` of host arrays.

    Raises:
      ValueError: if the game's dual player is not :class:`Multipliers`, or for an argument out of
        range.

    Example:
      >>> import jax.numpy as jnp
      >>> import onesided_jax as osj
      >>> game = osj.games.lagrangian(  # no x has 1 + x^2 <= 0
      ...     lambda x: x**2, lambda key: jnp.zeros(()), inequality=lambda x: 1 + x**2
      ... )
      >>> runs = osj.grid(seeds=1, primal_learning_rate=0.01, dual_learning_rate=0.1)
      >>> result = osj.sweep(game, osj.extra_sgd, runs, steps=200, checkpoint_every=100)
      >>> earlier = result.checkpoints[100].players
      >>> found = osj.games.feasibility(game, result.players, earlier)
      >>> finding, reading = found.sentence[0].split(": ")
      >>> finding, str(found.status[0])
      ('The problem looks infeasible', 'growing')
      >>> reading
      'inequality is still violated by 1 (earlier by 1) while its multiplier grew from 10 to 20.'
    """
    if not isinstance(players.dual, Multipliers):
        raise ValueError(
            f"the dual player is a {type(players.dual).__name__}: expected Multipliers, as in a "
            "game made by lagrangian(...)"
        )
    if tolerance <= 0 or batches < 1:
        raise ValueError(
            f"tolerance={tolerance}, batches={batches}: expected a positive number and an integer "
            ">= 1"
        )
    now = _read(game, players, state, batches, seed)
    before = None if earlier is None else _read(game, earlier, state, batches, seed)
    read = [_one(now, before, i, tolerance) for i in range(len(now.violation))]
    status, sentences = (tuple(part) for part in zip(*read))
    one = not now.stacked

    def shaped(a):
        return a[0] if one else a

    return Feasibility(
        status=shaped(np.array(status)),
        max_violation=shaped(now.violation.max(axis=1)),
        max_multiplier=shaped(np.abs(now.multiplier).max(axis=1)),
        complementarity=shaped(_complementarity(now)),
        values=jax.tree.map(shaped, now.values),
        multipliers=jax.tree.map(shaped, now.multipliers),
        sentence=sentences,
    )


class _Reading(NamedTuple):
    """Trees ``[R, ...]`` of all runs, and flat arrays ``[R, constraints]`` with their names."""

    stacked: bool
    values: Multipliers
    multipliers: Multipliers
    value: np.ndarray
    violation: np.ndarray
    multiplier: np.ndarray
    names: list[str]


def _read(game: Game, players: PrimalDual, state: Any, batches: int, seed: int) -> _Reading:
    plain = jax.eval_shape(game.init, make_key(0))[0].dual
    leaves = zip(jax.tree.leaves(players.dual), jax.tree.leaves(plain), strict=True)
    stacked = all(np.ndim(leaf) == len(alone.shape) + 1 for leaf, alone in leaves)
    players = jax.tree.map(
        jnp.asarray if stacked else lambda leaf: jnp.asarray(leaf)[None], players
    )
    keys = jax.random.split(make_key(seed), batches)

    def values(players, data):
        def one(key):
            return jax.tree.map(
                jnp.negative, game.field(players, state, game.batch(key, data))[0].dual
            )

        return jax.tree.map(lambda a: a.mean(axis=0), jax.lax.map(one, keys))

    means = jax.jit(jax.vmap(values, in_axes=(0, None)))(players, game.data)
    means, multipliers = jax.device_get((means, players.dual))
    flat = [_flat(tree) for tree in (means, multipliers)]
    violations = Multipliers(
        jax.tree.map(lambda a: np.maximum(a, 0), means.inequality),
        jax.tree.map(np.abs, means.equality),
    )
    return _Reading(stacked, means, multipliers, flat[0], _flat(violations), flat[1], _names(plain))


def _flat(tree: Any) -> np.ndarray:
    leaves = jax.tree.leaves(tree)
    return np.concatenate([np.reshape(leaf, (len(leaf), -1)) for leaf in leaves], axis=1)


def _names(plain: Multipliers) -> list[str]:
    """Names such as ``inequality['rate'][2]``, in the order of :func:`_flat`."""
    names = []
    for path, leaf in jax.tree.flatten_with_path(plain)[0]:
        name = jax.tree_util.keystr(path).removeprefix(".")
        for index in np.ndindex(leaf.shape):
            names.append(name + "".join(f"[{i}]" for i in index))
    return names


def _one(now: _Reading, before: _Reading | None, run: int, tolerance: float) -> tuple[str, str]:
    """Status and sentence of one run."""
    violation, multiplier = now.violation[run], np.abs(now.multiplier[run])
    worst = int(np.argmax(violation))
    if not np.isfinite(violation).all():
        return "violated", f"{now.names[worst]} is not finite: the run diverged."
    if violation[worst] <= tolerance:
        return "feasible", f"Every constraint holds within {tolerance:g}."
    if before is not None:
        past, earlier = before.violation[run], np.abs(before.multiplier[run])
        growing = (violation > tolerance) & (violation > SHRINKS * past) & (multiplier > earlier)
        if growing.any():
            i = int(np.argmax(np.where(growing, violation, -1)))
            return "growing", (
                f"The problem looks infeasible: {now.names[i]} is still violated by "
                f"{violation[i]:.3g} (earlier by {past[i]:.3g}) while its multiplier grew from "
                f"{earlier[i]:.3g} to {multiplier[i]:.3g}."
            )
    return "violated", (
        f"{now.names[worst]} is violated by {violation[worst]:.3g}; its multiplier is "
        f"{now.multiplier[run][worst]:.3g}."
    )


def _complementarity(now: _Reading) -> np.ndarray:
    count = sum(name.startswith("inequality") for name in now.names)
    products = np.abs(now.value * now.multiplier)[:, :count]
    return products.max(axis=1, initial=0)


def _largest(tree: Any) -> jax.Array:
    return jnp.max(jnp.stack([jnp.max(jnp.abs(leaf)) for leaf in jax.tree.leaves(tree)]))


def _largest_violation(values: Multipliers) -> jax.Array:
    above = jax.tree.map(lambda leaf: jnp.maximum(leaf, 0), values.inequality)
    return _largest(Multipliers(above, values.equality))
