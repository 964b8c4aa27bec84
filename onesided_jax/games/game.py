"""`Game`: a min-max game as pure functions for jit, vmap and scan."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from onesided_jax.players import ArrayTree, PrimalDual, PRNGKey

__all__ = ["Game", "GameFacts", "GameInfo", "zero_sum_field"]


class GameInfo(NamedTuple):
    """Further results of one evaluation of the field.

    Attributes:
      losses: two scalars, the losses that the primal and the dual player minimise.
      state: network state (such as BatchNorm statistics) after this evaluation, or ``()``.
    """

    losses: PrimalDual
    state: ArrayTree


class GameFacts(NamedTuple):
    """Known facts of an analytic game; ``None`` means "does not exist" or "not known".

    Attributes:
      primal_solution: ``x*`` of the one-sided MVI, in the structure of the primal player.
      dual_solution: ``y*`` of the (two-sided) MVI together with ``primal_solution``.
      one_sided_mvi: whether ``<x - x*, grad_x f(x, y)> >= 0`` for all ``x, y``.
      mvi: whether ``<z - z*, F(z)> >= 0`` for all ``z``.
      lipschitz_xx: bound on the Hessian block ``||grad_xx f||`` on the box.
      lipschitz_xy: bound on ``||grad_xy f||`` on the box.
      lipschitz: joint Lipschitz constant of ``F`` on the box.
      box: the constants hold where every ``|z_i| <= box``; infinity means everywhere. A
        ``PrimalDual`` has one bound per player.
      dual_one_sided_mvi: whether some ``y*`` has ``<y - y*, -grad_y f(x, y)> >= 0`` for all
        ``x, y``.
      monotone: whether ``<z - z', F(z) - F(z')> >= 0`` for all ``z, z'``.
      weak_mvi: a ``rho`` with ``<z - z*, F(z)> >= -rho/2 ||F(z)||^2`` for all ``z``; 0 under the
        MVI.
      star_cocoercivity: a ``c`` with ``<x - x*, grad_x f> >= c ||grad_x f||^2`` for all ``x, y``.
      strong_mvi: a ``mu`` with ``<x - x*, grad_x f> >= mu ||x - x*||^2`` for all ``x, y``.
      noise_variance: ``sigma^2``, bound on ``E ||grad_x f(z; xi) - grad_x f(z)||^2`` of one
        minibatch; 0 for a deterministic game.
    """

    primal_solution: ArrayTree | None
    dual_solution: ArrayTree | None
    one_sided_mvi: bool
    mvi: bool
    lipschitz_xx: float
    lipschitz_xy: float
    lipschitz: float | None = None
    box: float | PrimalDual = math.inf
    dual_one_sided_mvi: bool = False
    monotone: bool = False
    weak_mvi: float | None = None
    star_cocoercivity: float | None = None
    strong_mvi: float | None = None
    noise_variance: float = 0.0

    @property
    def boxes(self) -> PrimalDual:
        """``box`` as one bound per player."""
        return self.box if isinstance(self.box, PrimalDual) else PrimalDual(self.box, self.box)


@dataclass(frozen=True, eq=False)
class Game:
    """A min-max game as pure functions; only the first three are required.

    A game is hashable by identity, so compiled programs can be cached for it. Change a copy with
    ``dataclasses.replace``.

    Attributes:
      init: ``key -> (players, state)``.
      sample: ``key -> batch``, one minibatch; ``()`` for a deterministic game. With ``data`` it is
        ``(key, data) -> batch``.
      field: ``(players, state, batch) -> (F, info)``, the field in **descent** form: for a zero-sum
        ``f``, ``F = (grad_x f, -grad_y f)``. Only the field has the max player's sign.
      generate: ``(players, state, key, n) -> samples[n, ...]``, for GANs. With ``classes`` it has
        an optional fifth argument: one label or ``int[n]``.
      flip_dual: ``dual -> dual`` with the critic's sign flipped; the control of an MVI check.
      facts: known facts of the game.
      primal_slope: ``(players, state, direction, batch) -> (losses[B], slopes[B])``: the primal
        player's loss of every sample, and its derivative at ``x`` along ``direction`` (a tree like
        ``players.primal``). The mean of ``slopes`` is ``<direction, F.primal>``. An MVI check also
        needs the spread over samples; with ``None`` it uses ``field`` and has no spread.
      data: arrays that ``sample`` reads, such as ``uint8[N, 28, 28, 1]`` images. Compiled programs
        take them as an argument, not as a constant.
      project: ``players -> players``, the nearest allowed players, such as multipliers ``>= 0``;
        ``None`` if all are allowed. :func:`make_step` projects every step and every look-ahead; in
        your own loop wrap the optimizer in :func:`projected`.
      classes: number of classes for ``generate``'s labels; ``None`` for no labels.

    Example:
      >>> import jax
      >>> from onesided_jax import Game, GameInfo, PrimalDual
      >>> def field(players, state, batch):  # f(x, y) = x * y
      ...     f = players.primal * players.dual
      ...     F = PrimalDual(players.dual, -players.primal)
      ...     return F, GameInfo(PrimalDual(f, -f), state)
      >>> game = Game(
      ...     init=lambda key: (PrimalDual(*jax.random.normal(key, 2)), ()),
      ...     sample=lambda key: (),
      ...     field=field,
      ... )
    """

    init: Callable[[PRNGKey], tuple[PrimalDual, ArrayTree]]
    sample: Callable[..., ArrayTree]
    field: Callable[[PrimalDual, ArrayTree, ArrayTree], tuple[PrimalDual, GameInfo]]
    generate: Callable[..., Any] | None = None
    flip_dual: Callable[[ArrayTree], ArrayTree] | None = None
    facts: GameFacts | None = None
    primal_slope: Callable[..., tuple[jax.Array, jax.Array]] | None = None
    data: ArrayTree = ()
    project: Callable[[PrimalDual], PrimalDual] | None = None
    classes: int | None = None

    def batch(self, key: PRNGKey, data: ArrayTree = None) -> ArrayTree:
        """One minibatch.

        Args:
          key: a key of ``jax.random``.
          data: arrays to draw from; ``None`` takes the game's own data. Under ``jax.jit`` these
            then become a constant of the program.
        """
        data = jax.tree.map(jnp.asarray, self.data) if data is None else data
        return self.sample(key, data) if jax.tree.leaves(data) else self.sample(key)


def zero_sum_field(
    objective: Callable[..., jax.Array], *, takes_batch: bool = False
) -> Callable[[PrimalDual, ArrayTree, ArrayTree], tuple[PrimalDual, GameInfo]]:
    """The field of a zero-sum game ``f(x, y)``; one backward pass computes both gradients.

    Args:
      objective: ``(x, y) -> scalar``, minimised over ``x`` and maximised over ``y``.
      takes_batch: whether ``objective`` is ``(x, y, batch) -> scalar``, with the game's minibatch.

    Returns:
      A ``field`` for :class:`Game`: ``F = (grad_x f, -grad_y f)``, losses ``(f, -f)``.

    Example:
      >>> from onesided_jax import PrimalDual
      >>> from onesided_jax.games import zero_sum_field
      >>> field = zero_sum_field(lambda x, y: x * y)
      >>> F, info = field(PrimalDual(2.0, 3.0), (), ())
      >>> [float(part) for part in F], float(info.losses.dual)
      ([3.0, -2.0], -6.0)
    """
    value_and_grad = jax.value_and_grad(objective, argnums=(0, 1))

    def field(players, state, batch):
        value, (grad_x, grad_y) = value_and_grad(*players, *([batch] if takes_batch else []))
        F = PrimalDual(grad_x, jax.tree.map(lambda g: -g, grad_y))
        return F, GameInfo(PrimalDual(value, -value), state)

    return field
