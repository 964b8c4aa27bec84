"""AMSGrad extragradient, the method with the one-sided convergence guarantee."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from onesided_jax.errors import check_choice
from onesided_jax.optimizers import _second_moment
from onesided_jax.optimizers._checks import check_hyperparameters, checked_grad_fn
from onesided_jax.optimizers._players import over_players
from onesided_jax.optimizers._second_moment import CONVENTIONS, Convention, SecondMoment
from onesided_jax.optimizers._trees import add, rate_at, single_zeros
from onesided_jax.optimizers.iteration import (
    Iteration,
    Method,
    amsgrad_floor,
    amsgrad_preconditioner,
    displacement,
    float64,
)
from onesided_jax.optimizers.registry import register
from onesided_jax.players import PrimalDual

__all__ = ["AmsgradEgState", "amsgrad_eg", "amsgrad_xeg"]

Rate = Any  # float, scalar array, tracer, or optax schedule of the iteration count


class AmsgradEgState(NamedTuple):
    """State of :func:`amsgrad_eg`.

    Attributes:
      count: int32 scalars, iterations done, one per player, so that :func:`reset` can restart one.
      nu: second moment of the extrapolation gradients, structure of the players, float32 or wider.
      nu_max: running maximum of ``nu`` (in "optax", with its bias corrected); sets ``h``.
      momentum: the running means in use.
    """

    count: PrimalDual  # pyright: ignore[reportIncompatibleMethodOverride]
    nu: PrimalDual
    nu_max: PrimalDual
    momentum: Momentum


class Momentum(NamedTuple):
    """Running means of gradients, one entry per kind of momentum, ``()`` if unused.

    A mean is a ``PrimalDual`` with ``optax.MaskedNode()`` for the other player.

    Attributes:
      update: mean of the primal's update gradients.
      extrapolation: mean of the primal's extrapolation gradients.
      dual: mean of the dual's update gradients.
    """

    update: Any
    extrapolation: Any
    dual: Any


def read_iteration(opt_state, field, count, settings):
    """The last iteration of :func:`amsgrad_eg` or of an alias, which has fewer settings."""
    dual_rate = dual_look_rate = settings["dual_learning_rate"]
    if settings.get("dual_extrapolation_learning_rate") is not None:
        dual_look_rate = settings["dual_extrapolation_learning_rate"]
    rates = float64(
        PrimalDual(rate_at(settings["primal_learning_rate"], count), rate_at(dual_look_rate, count))
    )
    update_scale = dual_scale = settings.get("update_scale", 1)
    if dual_rate is not dual_look_rate:
        dual_scale = update_scale * rate_at(dual_rate, count) / rates.dual
    direction = field
    if jax.tree.leaves(opt_state.momentum.extrapolation):
        direction = field._replace(primal=opt_state.momentum.extrapolation.primal)
    scale = amsgrad_preconditioner(opt_state.count, opt_state.nu_max, settings)
    looked = displacement(direction, scale, rates)
    if not settings["dual_extrapolation"]:
        looked = looked._replace(dual=jax.tree.map(jnp.zeros_like, looked.dual))
    return Iteration(
        preconditioner=scale,
        rates=rates,
        displacement=looked,
        update_scale=(update_scale, dual_scale),
        momentum=tuple(
            rate_at(settings.get(name, 0), count)
            for name in ("b1_update", "b1_extrapolation", "dual_b1")
        ),
        dual_extrapolates=settings["dual_extrapolation"],
    )


def _read_xeg(opt_state, field, count, settings):
    return read_iteration(opt_state, field, count, {**settings, "dual_extrapolation": False})


@register(
    looks_ahead=True,
    method=Method("extragradient", amsgrad_floor, read_iteration, update_momentum="b1_update"),
)
def amsgrad_eg(
    primal_learning_rate: Rate,
    dual_learning_rate: Rate,
    *,
    b2: Any = 0.99,
    eps: Any = 1e-3,
    dual_eps: Any = None,
    dual_extrapolation: bool = True,
    dual_extrapolation_learning_rate: Rate | None = None,
    update_scale: Any = 1.0,
    b1_update: Any = 0.0,
    b1_extrapolation: Any = 0.0,
    dual_b1: Any = 0.0,
    convention: Convention = "optax",
    initial_accumulator: Any = 0.0,
) -> optax.GradientTransformationExtraArgs:
    r"""AMSGrad extragradient with one preconditioner per iteration and no primal momentum.

    Unlike :func:`extra_adam`, it computes the preconditioner once per iteration, from the
    extrapolation gradient, and uses it in both half-steps; it never decreases. The proof needs
    this. With :math:`g = F(z_t)` and :math:`q = F(\tilde z_t)`, elementwise and per player:

    .. math::
      \nu_t &= \beta_2 \nu_{t-1} + (1 - \beta_2) g^2, \qquad
      \hat\nu_t = \max(\hat\nu_{t-1}, \nu_t / c_t), \qquad
      h_t = \sqrt{\hat\nu_t} + \epsilon \\
      \tilde z_t &= z_t - \eta_t g / h_t, \qquad z_{t+1} = z_t - \eta_t q / h_t

    with :math:`c_t = 1 - \beta_2^t` (``"optax"``) or :math:`1` (``"classic"``). ``"torch"`` has
    :math:`c_t = 1` and :math:`h_t = \sqrt{\hat\nu_t / (1 - \beta_2^t)} + \epsilon`.

    Under the one-sided MVI and :math:`\eta \le \epsilon / (\sqrt 2 L_x)` the primal gradient goes
    to zero, up to a term in the dual's *extrapolation* displacement. That term vanishes if the dual
    rate decays (:func:`amsgrad_eg_drd`) or if only the primal extrapolates (:func:`amsgrad_xeg`).

    Args:
      primal_learning_rate: non-negative float, scalar array, tracer, or schedule of the iteration.
      dual_learning_rate: the same, for both of the dual's half-steps.
      b2: decay of the second moment, in ``[0, 1)``.
      eps: added outside the root, the theory's :math:`\delta`. Choose the order of a typical
        gradient entry, not a tiny number.
      dual_eps: ``eps`` for the dual; ``None`` takes ``eps``.
      dual_extrapolation: ``False`` keeps the dual at its iterate in the midpoint (x-only
        extragradient, XEG).
      dual_extrapolation_learning_rate: rate of the dual's extrapolation half-step; ``None`` takes
        ``dual_learning_rate``.
      update_scale: ratio of the update's rate to the extrapolation's, for both players. Below 1
        this is extragradient+ for weak MVIs (our Theorem 9).
      b1_update: momentum of the primal's update half-step, a number in ``[0, 1)`` or a schedule of
        the iteration; the running mean :math:`m_t = (1 - \beta_{1,t}) q_t + \beta_{1,t} m_{t-1}`
        replaces :math:`q_t`. Keep it 0 or summable: a constant above 1/3 on both players makes
        bilinear games unstable for every small rate (our Theorem 8).
      b1_extrapolation: the same for the primal's extrapolation half-step.
      dual_b1: the same for the dual's update half-step; the one-sided results allow any value.
      convention: ``"optax"`` corrects the bias of the second moment as ``optax.amsgrad`` does.
        ``"classic"`` (Reddi et al.) does not; its first steps are about
        :math:`1/\sqrt{1-\beta_2}` times larger. ``"torch"`` corrects after the maximum, so its
        preconditioner may decrease.
      initial_accumulator: :math:`\hat\nu_0 \ge 0`, e.g. :math:`\delta^2`.

    Returns:
      A transformation of ``PrimalDual`` trees with ``update(F, state, params, *, grad_fn)``;
      ``grad_fn(players, 0) -> F`` evaluates the field at the midpoint. The state holds two copies
      of the players, and one copy of a player for each momentum in use. A momentum given as the
      number 0 takes no memory.

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
    check_hyperparameters(
        primal_learning_rate=primal_learning_rate,
        dual_learning_rate=dual_learning_rate,
        dual_extrapolation_learning_rate=dual_extrapolation_learning_rate,
        b2=b2,
        eps=eps,
        dual_eps=dual_eps,
        update_scale=update_scale,
        b1_update=b1_update,
        b1_extrapolation=b1_extrapolation,
        dual_b1=dual_b1,
        initial_accumulator=initial_accumulator,
    )
    check_choice("convention", convention, CONVENTIONS)
    if dual_extrapolation_learning_rate is None:
        dual_extrapolation_learning_rate = dual_learning_rate
    epsilons = PrimalDual(eps, eps if dual_eps is None else dual_eps)

    def init(params):
        momentum = Momentum(
            _no_mean(b1_update, params, "primal"),
            _no_mean(b1_extrapolation, params, "primal"),
            _no_mean(dual_b1, params, "dual"),
        )
        return AmsgradEgState(*_second_moment.init(params, initial_accumulator), momentum)

    def update(updates, state, params=None, *, grad_fn=None, **extra_args):
        del extra_args
        grad_fn = checked_grad_fn("amsgrad_eg", updates, params, grad_fn)
        assert params is not None
        count, mean = state.count, state.momentum
        moment = SecondMoment(count, state.nu, state.nu_max)
        moment = _second_moment.advance(moment, updates, b2, convention)
        scale = PrimalDual(
            *(
                _second_moment.preconditioner(n, part, eps, b2, convention)
                for n, part, eps in zip(moment.count, moment.nu_max, epsilons)
            )
        )
        primal_rate = rate_at(primal_learning_rate, count.primal)
        dual_look_rate = rate_at(dual_extrapolation_learning_rate, count.dual)
        dual_rate = rate_at(dual_learning_rate, count.dual)

        b1 = Momentum(
            rate_at(b1_update, count.primal),
            rate_at(b1_extrapolation, count.primal),
            rate_at(dual_b1, count.dual),
        )
        look, look_mean = _mean(updates, mean.extrapolation, b1.extrapolation, "primal")
        looked = PrimalDual(
            _step(look, scale.primal, primal_rate), _step(updates.dual, scale.dual, dual_look_rate)
        )
        midpoint = PrimalDual(
            primal=add(params.primal, looked.primal),
            dual=add(params.dual, looked.dual) if dual_extrapolation else params.dual,
        )
        field = grad_fn(midpoint, 0)
        move, move_mean = _mean(field, mean.update, b1.update, "primal")
        dual_move, dual_mean = _mean(field, mean.dual, b1.dual, "dual")
        step = PrimalDual(
            _step(move, scale.primal, update_scale * primal_rate),
            _step(dual_move, scale.dual, update_scale * dual_rate),
        )
        return step, AmsgradEgState(*moment, Momentum(move_mean, look_mean, dual_mean))

    return over_players("amsgrad_eg", optax.GradientTransformationExtraArgs(init, update))


@register(looks_ahead=True, method=Method("extragradient", amsgrad_floor, _read_xeg))
def amsgrad_xeg(
    primal_learning_rate: Rate,
    dual_learning_rate: Rate,
    *,
    b2: Any = 0.99,
    eps: Any = 1e-3,
    dual_eps: Any = None,
    convention: Convention = "optax",
    initial_accumulator: Any = 0.0,
) -> optax.GradientTransformationExtraArgs:
    """x-only extragradient: :func:`amsgrad_eg` with ``dual_extrapolation=False``.

    The one-sided bound then has no term in the dual's displacement. So the primal guarantee holds
    for any dual rate, constant or not (our Theorem 2, docs/theory).

    Args:
      primal_learning_rate: as in :func:`amsgrad_eg`; so are the other arguments.
      dual_learning_rate: rate of the dual's only half-step.
      b2: decay of the second moment.
      eps: added outside the root.
      dual_eps: ``eps`` for the dual; ``None`` takes ``eps``.
      convention: ``"optax"``, ``"classic"`` or ``"torch"``.
      initial_accumulator: start of the running maximum.

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


def _no_mean(b1: Any, params: Any, player: str) -> Any:
    if isinstance(b1, (int, float)) and b1 == 0:
        return ()
    if isinstance(params, PrimalDual):  # not a placeholder of optax.tree_map_params
        masked = PrimalDual(optax.MaskedNode(), optax.MaskedNode())
        params = masked._replace(**{player: getattr(params, player)})
    return single_zeros(params)


def _mean(field: PrimalDual, mean: Any, b1: Any, player: str) -> tuple[Any, Any]:
    """Adds a player's gradient to its running mean; returns the direction and the new mean."""
    gradient = getattr(field, player)
    if mean == ():
        return gradient, ()
    new = jax.tree.map(
        lambda g, m: jnp.asarray(1 - b1, m.dtype) * g + jnp.asarray(b1, m.dtype) * m,
        gradient,
        getattr(mean, player),
    )
    return new, mean._replace(**{player: new})


def _step(direction: Any, scale: Any, rate: Any) -> Any:
    return jax.tree.map(lambda g, h: -jnp.asarray(rate, h.dtype) * g / h, direction, scale)
