"""Consensus optimization: both players also descend the squared norm of the field."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.extend.core import ClosedJaxpr, Jaxpr

from onesided_jax.optimizers._checks import (
    check_hyperparameters,
    check_not_masked,
    checked_grad_fn,
)
from onesided_jax.optimizers.extra_args import with_extra_args

__all__ = ["consensus"]

# Primitives that name an axis but communicate nothing over it.
_LOCAL = ("axis_index", "pbroadcast", "pcast", "pvary")


def consensus(
    base: optax.GradientTransformation, strength: Any
) -> optax.GradientTransformationExtraArgs:
    r"""Adds the gradient of the field's squared norm to the field before ``base`` sees it.

    .. math::
      F + \gamma \nabla \tfrac12 \|F\|^2 = F + \gamma J^\top F

    with :math:`J` the Jacobian of ``F``. The extra term is one vector-Jacobian product through
    ``grad_fn``; no matrix is built. It damps rotation, but attracts to *any* stationary point,
    including maxima of the primal.

    Args:
      base: any transformation; for two players ``consensus(descent_ascent(...), strength)``.
      strength: :math:`\gamma \ge 0`; float, scalar array or tracer.

    Returns:
      A transformation with ``update(F, state, params, *, grad_fn, **extra)`` and no state of its
      own. It differentiates ``grad_fn(params, 0)`` at ``params`` in reverse mode. If ``grad_fn``
      draws its own minibatch, :math:`J^\top F` is unbiased. If ``grad_fn`` averages over devices
      (``pmean`` under ``pmap``, ``shard_map`` or a named ``vmap``), so does the product, and
      replicas stay equal.

    Raises:
      ValueError: for a negative ``strength``; from ``update`` if ``params`` or ``grad_fn`` is
        missing, or inside ``partition`` or ``masked``.

    Example:
      >>> import optax
      >>> from onesided_jax import PrimalDual, consensus
      >>> field = lambda z, i: PrimalDual(z.dual, -z.primal)  # f(x, y) = x * y
      >>> tx = consensus(optax.sgd(0.5), strength=1.0)
      >>> players = PrimalDual(1.0, 2.0)
      >>> updates, _ = tx.update(field(players, 0), tx.init(players), players, grad_fn=field)
      >>> [float(u) for u in updates]  # -0.5 * (y + x), -0.5 * (-x + y)
      [-1.5, -0.5]

    References:
      Mescheder, Nowozin & Geiger, `The Numerics of GANs <https://arxiv.org/abs/1705.10461>`_,
      2017.
    """
    check_hyperparameters(strength=strength)
    base = with_extra_args(base)

    def init(params):
        check_not_masked("consensus", params)
        return base.init(params)

    def update(updates, state, params=None, *, grad_fn=None, **extra_args):
        grad_fn = checked_grad_fn("consensus", updates, params, grad_fn)
        field, pullback = jax.vjp(lambda players: grad_fn(players, 0), params)
        cotangent = jax.tree.map(lambda f, g: jnp.asarray(g, f.dtype), field, updates)
        (uphill,) = pullback(cotangent)
        axes = _axes_of_collectives(jax.make_jaxpr(grad_fn)(params, 0).jaxpr)
        if axes:  # the pullback gives each replica one term of the sum only
            uphill = jax.lax.pmean(uphill, tuple(sorted(axes)))
        direction = jax.tree.map(
            lambda g, v: g + jnp.asarray(strength, v.dtype) * v, updates, uphill
        )
        return base.update(direction, state, params, **extra_args)

    return optax.GradientTransformationExtraArgs(init, update)


def _axes_of_collectives(jaxpr: Jaxpr) -> set[str]:
    """Named axes over which a program communicates."""
    axes: set[str] = set()
    for eqn in jaxpr.eqns:
        if eqn.primitive.name not in _LOCAL:
            named = (eqn.params.get(key, ()) for key in ("axes", "axis_name"))
            for names in named:
                names = names if isinstance(names, (tuple, list)) else (names,)
                axes.update(name for name in names if isinstance(name, str))
        for value in eqn.params.values():
            for part in value if isinstance(value, (tuple, list)) else (value,):
                inner = part.jaxpr if isinstance(part, ClosedJaxpr) else part
                if isinstance(inner, Jaxpr):
                    axes |= _axes_of_collectives(inner)
    return axes
