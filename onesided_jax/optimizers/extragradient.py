"""Extragradient around any optax transformation, and ExtraAdam."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import optax

from onesided_jax.errors import check_choice
from onesided_jax.optimizers._checks import check_not_masked, check_params, checked_grad_fn
from onesided_jax.optimizers._trees import add, copy, per_half_step
from onesided_jax.optimizers.adam import adam
from onesided_jax.optimizers.extra_args import with_extra_args
from onesided_jax.optimizers.registry import register

__all__ = ["ExtragradientState", "extra_adam", "extragradient"]

EXTRAPOLATION_STATES = ("carried", "discarded", "separate")


class ExtragradientState(NamedTuple):
    """State of :func:`extragradient`.

    Attributes:
      base: state of the base transformation (of the update half-step).
      extrapolation: state of the extrapolation half-step if ``extrapolation_state="separate"``,
        else ``()``.
      anchor: transparent mode only: the params that both half-steps start from, else ``()``.
      phase: int32 scalar, transparent mode only: 0 before the extrapolation, 1 before the update.
    """

    base: Any
    extrapolation: Any
    anchor: Any
    phase: Any


def extragradient(
    base: optax.GradientTransformation,
    *,
    extrapolation_state: Literal["carried", "discarded", "separate"] = "carried",
    opaque_mode: bool = True,
) -> optax.GradientTransformationExtraArgs:
    r"""Looks ahead with one step of ``base``, then steps with the gradient at that midpoint.

    Simultaneous descent-ascent spirals out of ``f(x, y) = x y``; extragradient converges. With
    :math:`B_s` one step of ``base`` from state ``s``:

    .. math::
      \tilde z_t = z_t + B_s(F(z_t)), \qquad z_{t+1} = z_t + B_{s'}(F(\tilde z_t)).

    =============== ====================================== ==================================
    ``"carried"``   ``s'`` is the state left by the         ExtraAdam of Gidel et al.: Adam's
                    extrapolation; it advances twice        moments and count advance twice
                    per iteration
    ``"discarded"`` ``s' = s``; only the update half-step   the extrapolation leaves no trace
                    changes the state
    ``"separate"``  two persistent states                   e.g. momentum per half-step
    =============== ====================================== ==================================

    So a schedule inside a carried ``base`` advances twice per iteration. :func:`extra_adam`
    corrects for that; your own ``base`` must do so itself.

    Args:
      base: any transformation; for two players with different settings
        ``extragradient(descent_ascent(primal, dual))``, never the other way round.
      extrapolation_state: which state the update half-step starts from, see the table.
      opaque_mode: ``True``: one call of ``update`` is one iteration and needs ``grad_fn``.
        ``False`` (transparent mode): calls alternate between extrapolation and update, for loops
        that cannot pass a gradient function. After every odd call the params are the midpoint. The
        state holds one copy of the params.

    Returns:
      A transformation with ``update(F, state, params, *, grad_fn, **extra)``. It calls
      ``grad_fn(params, i) -> F`` once, with the midpoint and ``i = 0``. As with optax's SAM, your
      closure decides whether to draw a fresh minibatch. Updates have the structure of ``params``
      and the dtypes that ``base`` returns.

    Raises:
      ValueError: for an unknown ``extrapolation_state``; from ``update`` if ``params`` or
        ``grad_fn`` is missing, or inside ``partition`` or ``masked``.

    Example:
      >>> import jax, optax
      >>> from onesided_jax import PrimalDual, extragradient
      >>> field = lambda z, i: PrimalDual(z.dual, -z.primal)  # f(x, y) = x * y
      >>> tx = extragradient(optax.sgd(0.5))
      >>> players = PrimalDual(1.0, 1.0)
      >>> state = tx.init(players)
      >>> for _ in range(60):
      ...     updates, state = tx.update(field(players, 0), state, players, grad_fn=field)
      ...     players = optax.apply_updates(players, updates)
      >>> bool(abs(players.primal) + abs(players.dual) < 1e-2)
      True

    References:
      Korpelevich, The extragradient method for finding saddle points and other problems, 1976.
      Gidel et al., `A Variational Inequality Perspective on Generative Adversarial Networks
      <https://arxiv.org/abs/1802.10551>`_, 2019, Algorithm 4.
    """
    check_choice("extrapolation_state", extrapolation_state, EXTRAPOLATION_STATES)
    extrapolate, commit = half_steps(base, extrapolation_state)

    def init(params):
        check_not_masked("extragradient", params)
        state = base.init(params)
        separate = base.init(params) if extrapolation_state == "separate" else ()
        if opaque_mode:
            return ExtragradientState(state, separate, anchor=(), phase=())
        return ExtragradientState(state, separate, copy(params), jnp.zeros((), jnp.int32))

    def opaque_update(updates, state, params=None, *, grad_fn=None, **extra_args):
        grad_fn = checked_grad_fn("extragradient", updates, params, grad_fn)
        looked, state = extrapolate(updates, state, params, extra_args)
        return commit(grad_fn(add(params, looked), 0), state, params, extra_args)

    def transparent_update(updates, state, params=None, *, grad_fn=None, **extra_args):
        del grad_fn
        check_params("extragradient", params)

        def first():
            looked, new = extrapolate(updates, state, params, extra_args)
            anchor = jax.tree.map(lambda p, a: jnp.asarray(p, a.dtype), params, state.anchor)
            # The dtypes of the other branch; gradients may have another dtype than params.
            looked = jax.tree.map(
                lambda a, u: jnp.asarray(u, jnp.result_type(a, u)), anchor, looked
            )
            return looked, new._replace(anchor=anchor, phase=jnp.ones_like(state.phase))

        def second():
            step, new = commit(updates, state, state.anchor, extra_args)
            step = jax.tree.map(lambda a, p, u: (a - p) + u, state.anchor, params, step)
            return step, new._replace(phase=jnp.zeros_like(state.phase))

        return jax.lax.cond(state.phase == 0, first, second)

    return optax.GradientTransformationExtraArgs(
        init, opaque_update if opaque_mode else transparent_update
    )


def half_steps(base: optax.GradientTransformation, extrapolation_state: str):
    """The two half-steps, for a state with fields ``base`` and ``extrapolation``.

    Both map ``(gradients, state, params, extra_args)`` to ``(updates, state)``.
    """
    transformation = with_extra_args(base)
    separate = extrapolation_state == "separate"

    def extrapolate(updates, state, params, extra_args):
        looking = state.extrapolation if separate else state.base
        updates, looked = transformation.update(updates, looking, params, **extra_args)
        if extrapolation_state == "carried":
            state = state._replace(base=looked)
        elif separate:
            state = state._replace(extrapolation=looked)
        return updates, state

    def commit(updates, state, params, extra_args):
        updates, committed = transformation.update(updates, state.base, params, **extra_args)
        return updates, state._replace(base=committed)

    return extrapolate, commit


@register(looks_ahead=True)
def extra_adam(
    primal_learning_rate: Any,
    dual_learning_rate: Any,
    *,
    b1: Any = 0.9,
    b2: Any = 0.999,
    eps: Any = 1e-8,
    opaque_mode: bool = True,
) -> optax.GradientTransformationExtraArgs:
    """ExtraAdam (Gidel et al.): extragradient with one Adam state that both half-steps advance.

    ``extragradient(adam(...), extrapolation_state="carried")``, except that a schedule counts
    iterations, not half-steps. The authors' code and ``cooper-optim`` take the same steps. The
    method has two preconditioners per iteration. The proof of one-sided convergence needs one, as
    in :func:`amsgrad_eg`.

    Args:
      primal_learning_rate: as in :func:`adam`.
      dual_learning_rate: as in :func:`adam`.
      b1: decay of the first moment in ``[0, 1)``. Above about 0.41 on both players it makes
        bilinear games unstable for every small rate.
      b2: decay of the second moment in ``[0, 1)``.
      eps: added outside the root.
      opaque_mode: see :func:`extragradient`.

    Returns:
      A transformation of ``PrimalDual`` trees; ``update`` needs ``grad_fn`` in opaque mode.

    Raises:
      ValueError: for a concrete number out of range; see also :func:`extragradient`.

    Example:
      >>> from onesided_jax import extra_adam
      >>> tx = extra_adam(2e-4, 2e-4, b1=0.0)

    References:
      Gidel et al., `A Variational Inequality Perspective on Generative Adversarial Networks
      <https://arxiv.org/abs/1802.10551>`_, 2019, Algorithm 4.
    """
    base = adam(
        per_half_step(primal_learning_rate),
        per_half_step(dual_learning_rate),
        b1=b1,
        b2=b2,
        eps=eps,
    )
    return extragradient(base, extrapolation_state="carried", opaque_mode=opaque_mode)
