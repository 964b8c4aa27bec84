"""The observer that computes a certificate during a sweep."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

from onesided_jax.games import Game
from onesided_jax.players import PrimalDual
from onesided_jax.theory.bounds import advance, start
from onesided_jax.theory.field import check_solution, known_of, step_follows
from onesided_jax.theory.moves import (
    Options,
    check_optimizer,
    find_method,
    first_memory,
    may_carry_momentum,
    next_move,
    read_settings,
)

__all__ = ["Observer", "certificate"]


class Observer(NamedTuple):
    """What `sweep` takes as an observer; theory does not import sweeps."""

    init: Callable[[PrimalDual], Any]
    update: Callable[[Any, Any], Any]


def certificate(
    game: Game,
    method: str,
    options: Options = None,
    *,
    solution: PrimalDual | None = None,
    radius: float | None = None,
    independent_samples: bool = True,
) -> Any:
    r"""An observer that computes a run's certificate during a sweep, at every step.

    Give it to :func:`onesided_jax.sweep` as ``observers={"certificate": ...}``, and the sweep's
    result to :func:`certify`. It holds scalars and five vectors of the players' size. They are
    float64, because C1 is an equality on some games and float32 sums would violate it.

    It also compares the steps of players without momentum with the field. If they are not those of
    the named method with these options, no theorem covers the run. For extragradient methods the
    comparison takes one more evaluation and is made on deterministic games only.

    Args:
      game: the sweep's game, with ``facts``.
      method: the optimizer's name, such as "amsgrad_xeg", "extra_sgd" or "adam". Its
        :class:`~onesided_jax.optimizers.Facts` must have a ``method``; the error lists all.
      options: the optimizer's keyword arguments beside the swept hyperparameters of the same
        names; or a function ``hyperparameters -> all arguments``.
      solution: ``PrimalDual(x*, y*)`` if the game's facts have none; ``y*`` may be ``None``. Fix it
        before the run: a solution fitted to the run proves nothing.
      radius: bound on ``|x_{t,i} - x*_i|`` for the right sides, ``> 0``; ``None`` measures it.
      independent_samples: as in the sweep; the stochastic Theorem 3 needs ``True``.

    Returns:
      An observer, ``(init(players), update(sums, step_view))``.

    Raises:
      ValueError: for an unknown method, a game without ``facts`` or ``x*``, or if JAX's float64 is
        off. When the sweep starts: for missing options, a ``solution`` of other shapes than the
        players, and another or a wrapped optimizer.

    Example:
      >>> import functools
      >>> import jax
      >>> import onesided_jax as osj
      >>> jax.config.update("jax_enable_x64", True)
      >>> game, options = osj.games.carousel(), {"eps": 0.5}
      >>> runs = osj.grid(seeds=2, primal_learning_rate=0.0138, dual_learning_rate=2.0)
      >>> result = osj.sweep(
      ...     game,
      ...     functools.partial(osj.amsgrad_xeg, **options),
      ...     runs,
      ...     steps=100,
      ...     observers={"certificate": osj.certificate(game, "amsgrad_xeg", options)},
      ... )
      >>> osj.certify(result)["T2"].status
      ['holds', 'holds']
      >>> jax.config.update("jax_enable_x64", False)

    References:
      This project (docs/theory), with the proofs.
    """
    following = find_method(method)
    if jax.dtypes.canonicalize_dtype(np.float64) != np.float64:
        raise ValueError(
            "a certificate needs float64: call jax.config.update('jax_enable_x64', True) first, or "
            "set JAX_ENABLE_X64=1"
        )
    known = known_of(
        game, following.kind, solution=solution, radius=radius, independent=independent_samples
    )
    momentum = may_carry_momentum(following, options)

    def init(players: PrimalDual) -> dict[str, Any]:
        check_solution(known.solution, players)
        memory = first_memory(following, players)
        return {"progress": start(players, known, momentum), "memory": memory}

    def update(carried: dict[str, Any], view: Any) -> dict[str, Any]:
        settings = read_settings(method, options, view.hyperparameters)
        check_optimizer(method, settings, view)
        memory, move = next_move(following, carried["memory"], view, settings)
        here = known._replace(delta=following.floor(settings))
        move = move._replace(exact=step_follows(game, here, move, view))
        return {"progress": advance(carried["progress"], move, here), "memory": memory}

    return Observer(init, update)
