"""A game's constants for a certificate, and whether steps follow its field."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from onesided_jax.games import Game, GameInfo
from onesided_jax.players import PrimalDual, make_key
from onesided_jax.theory.sums import Known, Move, total

__all__ = ["check_solution", "known_of", "recorded_follows", "step_follows"]


def known_of(
    game: Game,
    kind: str,
    *,
    solution: PrimalDual | None = None,
    radius: float | None = None,
    independent: bool = True,
) -> Known:
    """Collects the constants of a run, except the lower bounds of the preconditioners.

    Raises:
      ValueError: for a game without facts or ``x*``, or for ``radius <= 0``.
    """
    facts = game.facts
    if facts is None:
        raise ValueError(
            "the game has no facts: expected Game(..., facts=GameFacts(...)) with x* and the "
            "Lipschitz constants of the primal gradient"
        )
    if radius is not None and not radius > 0:
        raise ValueError(f"radius={radius!r}: expected a number > 0, or None to measure it")
    if solution is None:
        solution = PrimalDual(facts.primal_solution, facts.dual_solution)
    if solution.primal is None:
        raise ValueError(
            "the game has no x*: pass solution=PrimalDual(x_star, None), a point fixed before the "
            "run, e.g. the primal player at the end of another, longer run"
        )

    def objective(players: PrimalDual) -> jax.Array:
        return jnp.asarray(_evaluate(game, players)[1].losses.primal, jnp.float64)

    return Known(
        kind=kind,
        solution=jax.tree.map(lambda a: np.asarray(a, np.float64), solution),
        delta=PrimalDual(None, None),
        facts=facts,
        radius=radius,
        independent=independent,
        objective=objective if facts.noise_variance == 0 else None,
    )


def check_solution(solution: PrimalDual, players: PrimalDual) -> None:
    """Raises ``ValueError`` unless the solution has the shapes of the players."""
    for name, point, player in zip(("x*", "y*"), solution, players, strict=True):
        if point is None:
            continue
        got, want = (jax.tree.map(np.shape, tree) for tree in (point, player))
        if got != want:
            raise ValueError(f"{name} of the solution has shapes {got}, expected {want}")


def recorded_follows(game: Game, known: Known, move: Move) -> Any:
    """Whether a recorded primal step follows the field."""
    begin = _evaluate(game, move.before)[0].primal
    if known.kind != "extragradient":
        return _made_of(begin, move.step.primal, move, "primal")
    middle = jax.tree.map(jnp.add, move.before, move.look)
    look = jax.tree.map(lambda d: d * move.shrink.primal, move.look.primal)
    return _made_of(_evaluate(game, middle)[0].primal, move.step.primal, move, "primal") & _made_of(
        begin, look, move, "primal"
    )


def step_follows(game: Game, known: Known, move: Move, view: Any) -> Any:
    """Whether a step is one of the named method, made with its options.

    The preconditioner in the optimizer's state must respect the floor that the options imply. The
    step must be the field scaled by this preconditioner and by the rates in the options. The second
    check leaves out players with momentum, and extragradient methods on a stochastic game, because
    the second minibatch is not known.
    """
    narrow = [
        a.dtype for a in jax.tree.leaves(view.before) if jnp.issubdtype(a.dtype, jnp.floating)
    ]
    precision = max((float(jnp.finfo(dtype).eps) for dtype in narrow), default=0.0)
    same = jnp.ones((), bool)
    for delta, rate, shrink, metric in zip(known.delta, move.rates, move.shrink, move.metric):
        least = delta / (rate * shrink) * (1 - max(1e-6, 16 * precision))
        for leaf in jax.tree.leaves(metric):
            same &= (jnp.min(leaf, initial=jnp.inf) >= least) | (rate * shrink == 0)
    if known.kind != "extragradient":
        field = view.field
    elif known.objective is not None:  # deterministic
        middle = jax.tree.map(
            lambda z, d, like: jnp.asarray(z + d, like.dtype), move.before, move.look, view.before
        )
        field, _ = _evaluate(game, middle)  # in the players' dtype, as in the method itself
    else:
        return same
    for player, b1 in (("primal", move.b1[0]), ("dual", move.b1[2])):
        parts = getattr(field, player), getattr(move.step, player)
        same &= (jnp.asarray(b1) != 0) | _made_of(*parts, move, player, precision)
    return same


def _evaluate(game: Game, players: PrimalDual) -> tuple[PrimalDual, GameInfo]:
    """The field and losses of a deterministic game without state."""
    return game.field(players, (), game.batch(make_key(0)))


def _made_of(field: Any, displacement: Any, move: Move, player: str, precision: float = 0.0) -> Any:
    """Whether a displacement is minus the field in the inverse metric, up to rounding.

    The relative tolerance is 1e-6, or 16 ``precision`` if that is larger.
    """
    metric = getattr(move.metric, player)  # infinite where a rate is 0
    made = jax.tree.map(lambda m, g: -g / m, metric, field)
    error = total(lambda a, b: (a - b) ** 2, made, displacement)
    size = total(lambda a: a**2, made)
    # A displacement is a difference of two stored points, so its error scales with their size.
    stored = total(lambda z: z**2, move.before)
    relative, absolute = max(1e-6, 16 * precision), max(1e-14, 16 * precision)
    return error <= relative**2 * size + absolute**2 * stored
