"""Constrained problems as games: the dual player is the Lagrange multipliers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from onesided_jax.games.game import Game, GameInfo
from onesided_jax.players import ArrayTree, PrimalDual, PRNGKey, make_key

__all__ = ["Multipliers", "lagrangian"]


class Multipliers(NamedTuple):
    r"""One value per constraint; the dual player of :func:`lagrangian`.

    Attributes:
      inequality: :math:`\lambda \ge 0`, shaped like the result of ``inequality``, or ``()``.
      equality: :math:`\mu`, shaped like the result of ``equality``, or ``()``.
    """

    inequality: Any = ()
    equality: Any = ()


def lagrangian(
    objective: Callable[..., jax.Array],
    init: Callable[[PRNGKey], ArrayTree],
    *,
    inequality: Callable[..., ArrayTree] | None = None,
    equality: Callable[..., ArrayTree] | None = None,
    proxy: Callable[..., Multipliers] | None = None,
    penalty: float = 0.0,
    sample: Callable[..., ArrayTree] | None = None,
    data: ArrayTree = (),
) -> Game:
    r"""The game of ``min f(x)`` subject to ``g(x) <= 0`` and ``h(x) = 0``.

    .. math::
      \min_x \max_{\lambda \ge 0, \mu} L(x, \lambda, \mu) = f(x) + \langle \lambda, g(x) \rangle
      + \langle \mu, h(x) \rangle

    The primal player is your params; the dual player is :class:`Multipliers`, which start at 0. The
    game's ``project`` keeps :math:`\lambda \ge 0`. :func:`make_step` and :func:`sweep` apply it
    after every step and at every look-ahead; in your own loop wrap the optimizer in
    :func:`projected`. A parametrisation such as :math:`\lambda = e^y` would not do, because a
    multiplier must be able to reach 0 and leave it again.

    With a penalty :math:`c > 0` the primal descends the *augmented* Lagrangian:

    .. math::
      f(x) + \frac{1}{2c} \sum_i \big(\max(\lambda_i + c\,g_i(x), 0)^2 - \lambda_i^2\big)
      + \langle \mu, h(x) \rangle + \frac{c}{2} \|h(x)\|^2

    The dual always ascends along the true ``g(x)`` and ``h(x)``. If objective and constraints
    compute the same network output, XLA evaluates it once.

    Args:
      objective: ``f``, ``params -> scalar``; ``(params, batch) -> scalar`` if there is a
        ``sample``. The functions below take the same arguments.
      init: ``key -> params``, any pytree of arrays.
      inequality: ``g``, returns an array or a pytree of arrays, each entry a constraint ``<= 0``.
      equality: ``h``, the same for ``= 0``.
      proxy: differentiable substitutes for constraints that are not differentiable, such as an
        error rate; returns :class:`Multipliers` shaped like ``(g, h)``. The primal's gradient uses
        the substitutes and the dual's the true constraints, so the game is not zero-sum.
      penalty: ``c >= 0``; 0 is the plain Lagrangian.
      sample: ``key -> batch``, or ``(key, data) -> batch`` if there are ``data``.
      data: arrays that ``sample`` reads, see :class:`Game`.

    Returns:
      A :class:`Game`. Its primal loss is the (augmented) Lagrangian, with the proxies if given; its
      dual loss is minus the plain Lagrangian. ``F.dual`` is minus the constraint values;
      :func:`feasibility` and :func:`max_violation` read them there.

    Raises:
      ValueError: without a constraint, or for a negative ``penalty``; from ``init``, for
        constraints that are not floating point, and for a ``proxy`` of another structure or shape.

    Example:
      >>> import jax.numpy as jnp
      >>> import onesided_jax as osj
      >>> game = osj.games.lagrangian(  # the point nearest to 0 with x + y >= 1
      ...     lambda x: x @ x,
      ...     init=lambda key: jnp.zeros(2),
      ...     inequality=lambda x: 1 - x.sum(),
      ... )
      >>> runs = osj.grid(seeds=1, primal_learning_rate=0.1, dual_learning_rate=0.1)
      >>> result = osj.sweep(game, osj.extra_sgd, runs, steps=500)
      >>> result.players.primal.round(3).tolist(), float(result.players.dual.inequality[0].round(3))
      ([[0.5, 0.5]], 1.0)

    References:
      Arrow, Hurwicz & Uzawa, Studies in Linear and Non-linear Programming, 1958.
      Cotter, Jiang & Sridharan, `Two-Player Games for Efficient Non-Convex Constrained Optimization
      <https://arxiv.org/abs/1804.06500>`_, 2019 (proxy constraints).
      Nocedal & Wright, Numerical Optimization, 2006, section 17.4 (augmented Lagrangian).
    """
    if inequality is None and equality is None:
        raise ValueError("inequality=None, equality=None: expected at least one constraint")
    if not 0 <= penalty < float("inf"):
        raise ValueError(f"penalty={penalty}: expected a finite number with 0 <= penalty")
    inequality, equality = inequality or _nothing, equality or _nothing

    def true(params, *batch):
        return Multipliers(inequality(params, *batch), equality(params, *batch))

    def start(key):
        params = init(key)
        batch = [] if sample is None else [_abstract_batch(sample, data)]
        values = jax.eval_shape(true, params, *batch)
        _check_constraints(values)
        if proxy is not None:
            _check_proxy(jax.eval_shape(proxy, params, *batch), values)
        return PrimalDual(params, jax.tree.map(lambda a: jnp.zeros(a.shape, a.dtype), values)), ()

    def field(players, state, batch):
        batch = [] if sample is None else [batch]
        multipliers = players.dual

        def primal_loss(params):
            values = true(params, *batch)
            seen = values if proxy is None else proxy(params, *batch)
            f = objective(params, *batch)
            return f + _penalised(multipliers, seen, penalty), (f, values)

        (loss, (f, values)), grad = jax.value_and_grad(primal_loss, has_aux=True)(players.primal)
        F = PrimalDual(grad, jax.tree.map(jnp.negative, values))
        return F, GameInfo(PrimalDual(loss, -(f + _inner(multipliers, values))), state)

    draw = (lambda key: ()) if sample is None else sample
    return Game(start, draw, field, data=data, project=_project)


def _nothing(*args: Any) -> tuple:
    del args
    return ()


def _project(players: PrimalDual) -> PrimalDual:
    dual = players.dual
    positive = jax.tree.map(lambda leaf: jnp.maximum(leaf, 0), dual.inequality)
    return PrimalDual(players.primal, dual._replace(inequality=positive))


def _inner(multipliers: Any, values: Any) -> Any:
    products = jax.tree.map(lambda a, b: jnp.sum(a * b), multipliers, values)
    return sum(jax.tree.leaves(products))


def _penalised(multipliers: Multipliers, values: Multipliers, penalty: float) -> Any:
    """The constraints' terms in the primal player's loss."""
    if penalty == 0:
        return _inner(multipliers, values)

    def augmented(multiplier, value):
        shifted = jnp.maximum(multiplier + penalty * value, 0)
        return jnp.sum(shifted**2 - multiplier**2) / (2 * penalty)

    unequal = jax.tree.map(augmented, multipliers.inequality, values.inequality)
    squares = jax.tree.map(lambda value: jnp.sum(value**2), values.equality)
    return (
        sum(jax.tree.leaves(unequal))
        + _inner(multipliers.equality, values.equality)
        + penalty / 2 * sum(jax.tree.leaves(squares))
    )


def _abstract_batch(sample: Callable[..., ArrayTree], data: ArrayTree) -> Any:
    given = [data] if jax.tree.leaves(data) else []
    return jax.eval_shape(sample, make_key(0), *given)


def _check_constraints(values: Multipliers) -> None:
    for name, part in values._asdict().items():
        for path, leaf in jax.tree.flatten_with_path(part)[0]:
            if not jnp.issubdtype(leaf.dtype, jnp.floating):
                raise ValueError(
                    f"{name}{jax.tree_util.keystr(path)} has dtype {leaf.dtype}: expected a "
                    "floating dtype, because its multiplier moves by rate times this value"
                )


def _check_proxy(proxies: Any, values: Multipliers) -> None:
    shapes = [jax.tree.map(lambda a: a.shape, tree) for tree in (proxies, values)]
    if shapes[0] != shapes[1]:
        raise ValueError(
            f"proxy returns {shapes[0]}: expected shapes {shapes[1]}, those of the constraints"
        )
