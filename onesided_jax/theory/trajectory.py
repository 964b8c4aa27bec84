"""Certificates of runs that your own loop recorded."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from onesided_jax.games import Game
from onesided_jax.optimizers.iteration import float64
from onesided_jax.players import PrimalDual
from onesided_jax.theory.bounds import Progress, advance, start
from onesided_jax.theory.field import check_solution, known_of, recorded_follows
from onesided_jax.theory.moves import find_method
from onesided_jax.theory.sums import Known, Move

__all__ = ["Trajectory", "follow"]

_KINDS = ("extragradient", "plain", "past")


class Trajectory(NamedTuple):
    """A recorded run of ``T`` iterations, for :func:`certify`; the first axis is time.

    Attributes:
      players: ``z_1, ..., z_{T+1}``, leaves ``f[T+1, ...]``.
      midpoints: ``z~_1, ..., z~_T``, leaves ``f[T, ...]``. For a method without extrapolation,
        ``players`` without the last point.
      preconditioners: ``h_1, ..., h_T``, leaves ``f[T, ...]``, positive: the update was
        ``z_{t+1} = z_t - eta_t q_t / h_t``. Ones for a method without preconditioner.
      learning_rates: ``eta_t`` of the updates, ``f[T]`` or a scalar for each player.
      extrapolation_learning_rates: the same for the extrapolations, if they differ.
    """

    players: PrimalDual | None = None
    midpoints: PrimalDual | None = None
    preconditioners: PrimalDual | None = None
    learning_rates: PrimalDual | None = None
    extrapolation_learning_rates: PrimalDual | None = None


def follow(
    trajectory: Trajectory,
    game: Game | None,
    method: str | None,
    *,
    solution: PrimalDual | None = None,
    radius: float | None = None,
) -> Progress:
    """Sums and checks after every iteration of a trajectory, ``[T, ...]``; see :func:`certify`."""
    names = trajectory._fields[:4]
    missing = [name for name in names if getattr(trajectory, name) is None]
    if missing:
        raise ValueError(
            f"the trajectory lacks {', '.join(missing)}: record at every step the players before "
            "it (and after the last step), the midpoint that grad_fn got, the preconditioner h and "
            "the rates; see Trajectory"
        )
    if game is None or method is None:
        raise ValueError(
            "certify expected the game and the method with a Trajectory: "
            "certify(trajectory, game, method)"
        )
    kind = method if method in _KINDS else find_method(method).kind
    if kind == "past":
        raise ValueError(
            f"method={method!r}: a Trajectory of extrapolation from the past is not supported; "
            f"carry osj.certificate(game, {method!r}, ...) through a sweep"
        )
    with jax.enable_x64(True):
        known = known_of(game, kind, solution=solution, radius=radius)
        arrays = float64(trajectory)
        length = _check_shapes(arrays, known.solution)
        least = [
            min(float(jnp.min(leaf)) for leaf in jax.tree.leaves(part))
            for part in arrays.preconditioners
        ]
        known = known._replace(delta=PrimalDual(*least))
        return jax.jit(lambda: _scan(game, known, arrays, length))()


def _scan(game: Game, known: Known, arrays: Trajectory, length: int) -> Progress:
    def step(progress: Progress, recorded: tuple[Any, ...]) -> tuple[Progress, Progress]:
        before, middle, after, scale, rates, look_rates = recorded
        pairs = zip(jax.tree.leaves(middle.dual), jax.tree.leaves(before.dual), strict=True)
        move = Move(
            active=True,
            before=before,
            look=jax.tree.map(jnp.subtract, middle, before),
            step=jax.tree.map(jnp.subtract, after, before),
            metric=PrimalDual(
                *(jax.tree.map(lambda a, r=r: a / r, h) for h, r in zip(scale, rates, strict=True))
            ),
            rates=look_rates,
            shrink=jax.tree.map(jnp.divide, rates, look_rates),
            b1=(0, 0, 0),
            dual_looks=jnp.stack([jnp.any(a != b) for a, b in pairs]).any(),
            exact=True,
        )
        move = move._replace(exact=recorded_follows(game, known, move))
        progress = advance(progress, move, known)
        return progress, progress

    def each_step(rates: PrimalDual) -> PrimalDual:
        return jax.tree.map(lambda a: jnp.broadcast_to(a, (length,)), rates)

    assert arrays.learning_rates is not None
    rates = each_step(arrays.learning_rates)
    looks = arrays.extrapolation_learning_rates
    looks = rates if looks is None else each_step(looks)
    before = jax.tree.map(lambda a: a[:-1], arrays.players)
    after = jax.tree.map(lambda a: a[1:], arrays.players)
    first = jax.tree.map(lambda a: a[0], arrays.players)
    steps = (before, arrays.midpoints, after, arrays.preconditioners, rates, looks)
    return jax.lax.scan(step, start(first, known, momentum=False), steps)[1]


def _check_shapes(trajectory: Trajectory, solution: PrimalDual) -> int:
    players = trajectory.players
    assert players is not None
    length = jax.tree.leaves(players)[0].shape[0] - 1
    if length < 1:
        raise ValueError("players: expected z_1 to z_{T+1} with T >= 1, got one point")
    leads = {"players": length + 1, "midpoints": length, "preconditioners": length}
    for name, lead in leads.items():
        want = jax.tree.map(lambda a, lead=lead: (lead, *a.shape[1:]), players)
        got = jax.tree.map(lambda a: a.shape, getattr(trajectory, name))
        if got != want:
            raise ValueError(f"{name} has shapes {got}, expected {want} for these players")
    check_solution(solution, jax.tree.map(lambda a: a[0], players))
    if not all(bool(jnp.all(h > 0)) for h in jax.tree.leaves(trajectory.preconditioners)):
        raise ValueError("preconditioners: expected positive numbers")
    return length
