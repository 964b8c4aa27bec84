"""Adaptive competitive gradient descent, matrix-free."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from onesided_jax.optimizers._checks import check_count, check_hyperparameters, checked_grad_fn
from onesided_jax.optimizers._players import over_players, two_counts
from onesided_jax.optimizers._trees import cast_like, rate_at, single_zeros
from onesided_jax.optimizers.registry import register
from onesided_jax.players import PrimalDual

__all__ = ["AcgdState", "acgd"]


class AcgdState(NamedTuple):
    """State of :func:`acgd`.

    Attributes:
      count: int32 scalars, steps done, one for each player.
      nu: second moment of the field, float32 at least.
    """

    count: PrimalDual  # pyright: ignore[reportIncompatibleMethodOverride]
    nu: PrimalDual


@register(looks_ahead=True)
def acgd(
    primal_learning_rate: Any,
    dual_learning_rate: Any,
    *,
    b2: Any = 0.99,
    eps: Any = 1e-5,
    max_iterations: int = 20,
    tolerance: Any = 1e-6,
) -> optax.GradientTransformationExtraArgs:
    r"""ACGD: both players step to the equilibrium of the game's local bilinear model.

    With :math:`A_x = \eta_x / (\sqrt{\hat\nu_x} + \epsilon)`, :math:`A_y` likewise (RMSprop's
    metric, bias-corrected) and :math:`D_{xy} = \nabla_{xy} f`:

    .. math::
      \Delta x = -(A_x^{-1} + D_{xy} A_y D_{yx})^{-1} (\nabla_x f + D_{xy} A_y \nabla_y f), \qquad
      \Delta y = A_y (\nabla_y f + D_{yx} \Delta x)

    Conjugate gradients solve the system with Jacobian-vector products of ``grad_fn``; no matrix is
    built. They run in the widest of float32 and the players' dtypes. The method does not spiral out
    of bilinear games at any rate. It is for zero-sum games only, because it assumes
    :math:`D_{yx} = D_{xy}^\top`. Call it under ``jit``; otherwise its loop is compiled at every
    step. The authors solve two systems per step. Here there is one, because the dual's step is the
    best response to the primal's.

    Args:
      primal_learning_rate: non-negative float, scalar array, tracer, or schedule of the iteration.
      dual_learning_rate: the same for the dual player.
      b2: decay of the second moment, in ``[0, 1)``.
      eps: added outside the root.
      max_iterations: limit of conjugate-gradient iterations, ``>= 1``; each costs two
        Jacobian-vector products.
      tolerance: relative residual at which the iterations stop.

    Returns:
      A transformation of ``PrimalDual`` trees with ``update(F, state, params, *, grad_fn)``;
      ``grad_fn(players, 0)`` must allow forward-mode differentiation. The state holds one copy of
      the players. The update itself can be differentiated in forward mode only, because its loop
      has no fixed length.

    Raises:
      ValueError: for a concrete number out of range; from ``init`` for complex players; from
        ``update`` if ``params`` or ``grad_fn`` is missing or the players are not a pair.

    Example:
      >>> import optax
      >>> from onesided_jax import PrimalDual, acgd
      >>> field = lambda z, i: PrimalDual(z.dual, -z.primal)  # f(x, y) = x * y
      >>> tx = acgd(0.5, 0.5)
      >>> players = PrimalDual(1.0, 1.0)
      >>> state = tx.init(players)
      >>> for _ in range(100):
      ...     updates, state = tx.update(field(players, 0), state, players, grad_fn=field)
      ...     players = optax.apply_updates(players, updates)
      >>> bool(abs(players.primal) + abs(players.dual) < 1e-2)
      True

    References:
      Schaefer & Anandkumar, `Competitive Gradient Descent <https://arxiv.org/abs/1905.12103>`_,
      2019. Schaefer, Zheng & Anandkumar, `Implicit competitive regularization in GANs
      <https://arxiv.org/abs/1910.05852>`_, 2020 (ACGD).
    """
    check_hyperparameters(
        primal_learning_rate=primal_learning_rate,
        dual_learning_rate=dual_learning_rate,
        b2=b2,
        eps=eps,
        tolerance=tolerance,
    )
    check_count("max_iterations", max_iterations)
    rates = PrimalDual(primal_learning_rate, dual_learning_rate)

    def init(params):
        if any(map(jnp.iscomplexobj, jax.tree.leaves(params))):
            raise ValueError(
                "acgd: expected real players, because its linear system is symmetric only for them"
            )
        return AcgdState(two_counts(), single_zeros(params))

    def update(updates, state, params=None, *, grad_fn=None, **extra_args):
        del extra_args
        grad_fn = checked_grad_fn("acgd", updates, params, grad_fn)
        assert params is not None
        dtype = jnp.result_type(jnp.float32, *map(jnp.result_type, jax.tree.leaves(params)))

        def wide(tree):  # conjugate gradients need one dtype
            return jax.tree.map(lambda a: jnp.asarray(a, dtype), tree)

        F, here = wide(updates), wide(params)
        counts = PrimalDual(*map(optax.safe_increment, state.count))
        nu = jax.tree.map(
            lambda g, v: jnp.asarray(1 - b2, v.dtype) * (g * g) + jnp.asarray(b2, v.dtype) * v,
            cast_like(updates, state.nu),
            state.nu,
        )

        def metric(part, rate, before, count):
            rate = rate_at(rate, before)
            return jax.tree.map(
                lambda v: (
                    jnp.asarray(rate, v.dtype)
                    / (
                        jnp.sqrt(v / jnp.asarray(1 - b2**count, v.dtype))
                        + jnp.asarray(eps, v.dtype)
                    )
                ),
                part,
            )

        A_x, A_y = wide(tuple(map(metric, nu, rates, state.count, counts)))
        root = jax.tree.map(jnp.sqrt, A_x)
        _, jacobian = jax.linearize(lambda z: wide(grad_fn(cast_like(z, params), 0)), here)

        def mixed_xy(v):
            return jacobian(PrimalDual(jax.tree.map(jnp.zeros_like, here.primal), v)).primal

        def mixed_yx(u):  # F_y = -grad_y f
            still = jax.tree.map(jnp.zeros_like, here.dual)
            return _negative(jacobian(PrimalDual(u, still)).dual)

        def system(u):  # symmetric, eigenvalues >= 1
            response = mixed_xy(_times(A_y, mixed_yx(_times(root, u))))
            return jax.tree.map(lambda a, r, b: a + r * b, u, root, response)

        ascent = _negative(F.dual)
        force = jax.tree.map(lambda g, r: g + r, F.primal, mixed_xy(_times(A_y, ascent)))
        solution = _conjugate_gradients(system, _times(root, force), tolerance, max_iterations)
        step_x = _negative(_times(root, solution))
        step_y = _times(A_y, jax.tree.map(lambda a, r: a + r, ascent, mixed_yx(step_x)))
        return PrimalDual(step_x, step_y), AcgdState(counts, nu)

    return over_players("acgd", optax.GradientTransformationExtraArgs(init, update))


def _conjugate_gradients(system: Any, force: Any, tolerance: Any, max_iterations: int) -> Any:
    """Solves ``system(u) = force``, also under ``shard_map`` and on explicit meshes.

    ``jax.scipy``'s cg fails there: its result counts as varying over devices, and its inner
    products contract sharded dimensions, which is ambiguous. Sums of products are not.
    """
    start = _inner(force, force)
    tiny = tolerance**2 * start

    def unfinished(carry):
        _, _, _, size, iteration = carry
        return (size > tiny) & (iteration < max_iterations)

    def advance(carry):
        u, residual, direction, size, iteration = carry
        image = system(direction)
        length = size / _inner(direction, image)
        u = _plus(u, length, direction)
        residual = _plus(residual, -length, image)
        after = _inner(residual, residual)
        return u, residual, _plus(residual, after / size, direction), after, iteration + 1

    nothing = jax.tree.map(jnp.zeros_like, force)
    return jax.lax.while_loop(unfinished, advance, (nothing, force, force, start, 0))[0]


def _inner(a: Any, b: Any) -> Any:
    return sum(jnp.sum(x * y) for x, y in zip(*map(jax.tree.leaves, (a, b))))


def _plus(a: Any, scale: Any, b: Any) -> Any:
    return jax.tree.map(lambda x, y: x + scale * y, a, b)


def _times(a: Any, b: Any) -> Any:
    return jax.tree.map(lambda x, y: x * y, a, b)


def _negative(a: Any) -> Any:
    return jax.tree.map(lambda x: -x, a)
