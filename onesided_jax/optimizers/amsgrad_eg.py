"""AMSGrad extragradient: the method with the one-sided guarantee."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import optax

from onesided_jax.optimizers._checks import (
    check_choice,
    check_midpoint_arguments,
    check_number,
    check_players,
)
from onesided_jax.optimizers.schedules import dual_rate_decay
from onesided_jax.players import PrimalDual

__all__ = ["AmsgradEgState", "amsgrad_eg", "amsgrad_eg_drd", "amsgrad_xeg"]

Rate = Any  # float, scalar array, tracer, or optax schedule of the iteration count


class AmsgradEgState(NamedTuple):
    """State of :func:`amsgrad_eg`.

    Attributes:
      count: int32 scalar, iterations done.
      nu: second moment of the extrapolation gradients, structure of the players.
      nu_max: its running maximum; the preconditioner is ``sqrt(nu_max) + eps``.
    """

    count: Any  # pyright: ignore[reportIncompatibleMethodOverride]
    nu: PrimalDual
    nu_max: PrimalDual


def amsgrad_eg(
    primal_learning_rate: Rate,
    dual_learning_rate: Rate,
    *,
    b2: Any = 0.99,
    eps: Any = 1e-3,
    dual_eps: Any = None,
    dual_extrapolation: bool = True,
    dual_extrapolation_learning_rate: Rate | None = None,
    convention: Literal["optax", "classic"] = "optax",
    initial_accumulator: Any = 0.0,
) -> optax.GradientTransformationExtraArgs:
    r"""AMSGrad extragradient with one preconditioner per iteration and no primal momentum.

    It differs from :func:`extra_adam` where the proof needs it: the preconditioner is computed
    once per iteration, from the extrapolation gradient, shared by both half-steps, and never
    decreases. With :math:`g = F(z_t)` and :math:`q = F(\tilde z_t)`, elementwise and per player:

    .. math::
      \nu_t &= \beta_2 \nu_{t-1} + (1 - \beta_2) g^2, \qquad
      \hat\nu_t = \max(\hat\nu_{t-1}, \nu_t / c_t), \qquad
      h_t = \sqrt{\hat\nu_t} + \epsilon \\
      \tilde z_t &= z_t - \eta_t g / h_t, \qquad z_{t+1} = z_t - \eta_t q / h_t

    with :math:`c_t = 1 - \beta_2^t` (``"optax"``) or :math:`1` (``"classic"``). Under the
    one-sided MVI and :math:`\eta \le \epsilon / (\sqrt 2 L_x)` the primal gradient reaches zero,
    up to a term in the dual *extrapolation* displacement only: it vanishes when the dual rate
    decays (:func:`amsgrad_eg_drd`) or when only the primal extrapolates (:func:`amsgrad_xeg`).

    Args:
      primal_learning_rate: non-negative float, scalar array, tracer, or schedule of the iteration.
      dual_learning_rate: the same, for both of the dual's half-steps.
      b2: decay of the second moment, in ``[0, 1)``.
      eps: added outside the root; the theory's :math:`\delta`, so not tiny: the order of a typical
        gradient entry.
      dual_eps: the dual's own ``eps``; ``None`` takes ``eps``.
      dual_extrapolation: ``False`` leaves the dual where it is at the midpoint (x-only
        extragradient, XEG).
      dual_extrapolation_learning_rate: the rate of the dual's extrapolation half-step where it
        differs; ``None`` takes ``dual_learning_rate``.
      convention: ``"optax"`` bias-corrects the second moment as ``optax.amsgrad`` does;
        ``"classic"`` (Reddi et al.) does not, and opens with steps about
        :math:`1/\sqrt{1-\beta_2}` times larger.
      initial_accumulator: :math:`\hat\nu_0 \ge 0`, e.g. :math:`\delta^2`.

    Returns:
      A transformation of ``PrimalDual`` trees with ``update(F, state, params, *, grad_fn)``;
      ``grad_fn(players, 0) -> F`` evaluates the field at the midpoint. Two copies of the players
      in the state.

    Raises:
      ValueError: for a concrete number out of range or an unknown convention; from ``update`` if
        ``params`` or ``grad_fn`` is missing or the players are not a ``PrimalDual``.

    Example:
      >>> import optax
      >>> from onesided_jax import PrimalDual, amsgrad_eg
      >>> field = lambda z, i: PrimalDual(z.dual, -z.primal)  # f(x, y) = x * y
      >>> tx = amsgrad_eg(0.7, 0.7, eps=0.5)
      >>> players = PrimalDual(1.0, 1.0)
      >>> state = tx.init(players)
      >>> for _ in range(100):
      ...     updates, state = tx.update(field(players, 0), state, players, grad_fn=field)
      ...     players = optax.apply_updates(players, updates)
      >>> bool(abs(players.primal) + abs(players.dual) < 1e-2)
      True

    References:
      Dou & Li, `On the One-sided Convergence of Adam-type Algorithms in Non-convex Non-concave
      Min-max Optimization <https://arxiv.org/abs/2109.14213>`_, 2021; our reconstruction from
      its abstract, with our proof. Reddi et al., `On the Convergence of Adam and Beyond
      <https://arxiv.org/abs/1904.09237>`_, 2018 (AMSGrad).
    """
    check_number("primal_learning_rate", primal_learning_rate)
    check_number("dual_learning_rate", dual_learning_rate)
    check_number("dual_extrapolation_learning_rate", dual_extrapolation_learning_rate)
    check_number("b2", b2, high=1.0)
    check_number("eps", eps)
    check_number("dual_eps", dual_eps)
    check_number("initial_accumulator", initial_accumulator)
    check_choice("convention", convention, ("optax", "classic"))
    if dual_extrapolation_learning_rate is None:
        dual_extrapolation_learning_rate = dual_learning_rate
    epsilons = PrimalDual(eps, eps if dual_eps is None else dual_eps)

    def init(params):
        check_players("amsgrad_eg", params)
        return AmsgradEgState(
            count=jnp.zeros((), jnp.int32),
            nu=jax.tree.map(jnp.zeros_like, params),
            nu_max=jax.tree.map(lambda p: jnp.full_like(p, initial_accumulator), params),
        )

    def update(updates, state, params=None, *, grad_fn=None, **extra_args):
        del extra_args
        check_midpoint_arguments("amsgrad_eg", params, grad_fn)
        check_players("amsgrad_eg", params)
        assert params is not None
        assert grad_fn is not None
        count = state.count
        next_count = optax.safe_increment(count)
        correction = 1 - b2**next_count if convention == "optax" else 1

        def second_moment(g, v):
            # 1 - b2 before the cast: bfloat16 rounds 0.999 to 1.
            return jnp.asarray(1 - b2, v.dtype) * (g * g) + jnp.asarray(b2, v.dtype) * v

        def running_max(v_max, v):
            return jnp.maximum(v_max, v / jnp.asarray(correction, v.dtype))

        nu = jax.tree.map(second_moment, updates, state.nu)
        nu_max = jax.tree.map(running_max, state.nu_max, nu)
        scale = PrimalDual(*map(_preconditioner, nu_max, epsilons))

        def steps(field, rates):
            return PrimalDual(*map(_preconditioned_step, field, scale, rates))

        primal_rate = _rate_at(primal_learning_rate, count)
        looked = steps(updates, (primal_rate, _rate_at(dual_extrapolation_learning_rate, count)))
        midpoint = PrimalDual(
            primal=optax.apply_updates(params.primal, looked.primal),
            dual=optax.apply_updates(params.dual, looked.dual)
            if dual_extrapolation
            else params.dual,
        )
        step = steps(grad_fn(midpoint, 0), (primal_rate, _rate_at(dual_learning_rate, count)))
        return step, AmsgradEgState(next_count, nu, nu_max)

    return optax.GradientTransformationExtraArgs(init, update)


def amsgrad_xeg(
    primal_learning_rate: Rate,
    dual_learning_rate: Rate,
    *,
    b2: Any = 0.99,
    eps: Any = 1e-3,
    dual_eps: Any = None,
    convention: Literal["optax", "classic"] = "optax",
    initial_accumulator: Any = 0.0,
) -> optax.GradientTransformationExtraArgs:
    """x-only extragradient: :func:`amsgrad_eg` with ``dual_extrapolation=False``.

    The dual's displacement then leaves the one-sided bound altogether: the dual may use any rate,
    constant or not, and the primal guarantee stands (our Theorem 2, docs/theory).

    Args:
      primal_learning_rate: as in :func:`amsgrad_eg`, like all that follow.
      dual_learning_rate: rate of the dual's only half-step.
      b2: decay of the second moment.
      eps: added outside the root.
      dual_eps: the dual's own ``eps``; ``None`` takes ``eps``.
      convention: ``"optax"`` or ``"classic"``.
      initial_accumulator: where the running maximum starts.

    Returns:
      The transformation; see :func:`amsgrad_eg`, also for errors.

    Example:
      >>> from onesided_jax import amsgrad_xeg
      >>> tx = amsgrad_xeg(1e-3, 1e-3, b2=0.99, eps=1e-3)
    """
    return amsgrad_eg(
        primal_learning_rate,
        dual_learning_rate,
        b2=b2,
        eps=eps,
        dual_eps=dual_eps,
        dual_extrapolation=False,
        convention=convention,
        initial_accumulator=initial_accumulator,
    )


def amsgrad_eg_drd(
    primal_learning_rate: Rate,
    dual_learning_rate: Any,
    *,
    power: Any = 0.5,
    decay: Literal["both", "extrapolation"] = "both",
    b2: Any = 0.99,
    eps: Any = 1e-3,
    dual_eps: Any = None,
    dual_extrapolation: bool = True,
    convention: Literal["optax", "classic"] = "optax",
    initial_accumulator: Any = 0.0,
) -> optax.GradientTransformationExtraArgs:
    r"""AMSGrad extragradient with dual rate decay, :math:`\eta_{y,t} = \eta_y t^{-p}`.

    A falling primal gradient under dual rate decay is no evidence for the one-sided MVI: slowing
    the dual down freezes the game, and the gradient falls like :math:`t^{-p}` for any smooth
    ``f`` bounded below in ``x`` (our Theorem 5, docs/theory).

    Args:
      primal_learning_rate: as in :func:`amsgrad_eg`.
      dual_learning_rate: the dual's rate at the first iteration; not a schedule.
      power: exponent ``p >= 0`` of :func:`dual_rate_decay`.
      decay: ``"both"`` half-steps of the dual, or the ``"extrapolation"`` alone, which has the
        same guarantee (our Theorem 2).
      b2: as in :func:`amsgrad_eg`, like all that follow.
      eps: added outside the root.
      dual_eps: the dual's own ``eps``; ``None`` takes ``eps``.
      dual_extrapolation: ``False`` for x-only extragradient.
      convention: ``"optax"`` or ``"classic"``.
      initial_accumulator: where the running maximum starts.

    Returns:
      The transformation; see :func:`amsgrad_eg`, also for errors.

    Raises:
      ValueError: for an unknown ``decay`` or a schedule as dual rate.

    Example:
      >>> from onesided_jax import amsgrad_eg_drd
      >>> tx = amsgrad_eg_drd(1e-3, 1e-3, power=0.25)
    """
    check_choice("decay", decay, ("both", "extrapolation"))
    if callable(dual_learning_rate):
        raise ValueError(
            "amsgrad_eg_drd decays the dual rate itself and expected a number as "
            "dual_learning_rate, got a schedule; pass schedules to amsgrad_eg"
        )
    check_number("dual_learning_rate", dual_learning_rate)
    decayed = dual_rate_decay(dual_learning_rate, power)
    return amsgrad_eg(
        primal_learning_rate,
        decayed if decay == "both" else dual_learning_rate,
        dual_extrapolation_learning_rate=decayed,
        b2=b2,
        eps=eps,
        dual_eps=dual_eps,
        dual_extrapolation=dual_extrapolation,
        convention=convention,
        initial_accumulator=initial_accumulator,
    )


def _rate_at(rate: Rate, count: jax.Array) -> Any:
    return rate(count) if callable(rate) else rate


def _preconditioner(nu_max: Any, eps: Any) -> Any:
    return jax.tree.map(lambda v: jnp.sqrt(v) + jnp.asarray(eps, v.dtype), nu_max)


def _preconditioned_step(field: Any, scale: Any, rate: Any) -> Any:
    return jax.tree.map(lambda g, h: -jnp.asarray(rate, h.dtype) * g / h, field, scale)
