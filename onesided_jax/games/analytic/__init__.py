"""Small games with known answers, to study optimizers and to validate tests."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from onesided_jax.errors import check_choice, nearest
from onesided_jax.games.analytic.controls import flip, moving_target, stick_slip
from onesided_jax.games.analytic.one_sided import (
    carousel,
    multi_carousel,
    ridge_star,
    strong_wind,
    wind_log,
)
from onesided_jax.games.analytic.stochastic import finite_sum_bilinear, robust_glm, with_noise
from onesided_jax.games.analytic.two_sided import (
    bilinear,
    dirac_gan,
    dirac_non_saturating,
    dirac_wgan,
    logarithmic,
    quadratic,
    quartic,
)
from onesided_jax.games.analytic.weak import forsaken, polar, weak_minty
from onesided_jax.games.game import Game

__all__ = [
    "GAMES",
    "bilinear",
    "carousel",
    "dirac_gan",
    "dirac_non_saturating",
    "dirac_wgan",
    "finite_sum_bilinear",
    "flip",
    "forsaken",
    "logarithmic",
    "make_game",
    "moving_target",
    "multi_carousel",
    "polar",
    "quadratic",
    "quartic",
    "ridge_star",
    "robust_glm",
    "stick_slip",
    "strong_wind",
    "weak_minty",
    "wind_log",
    "with_noise",
]

GAMES: dict[str, Callable[..., Game]] = {
    game.__name__: game
    for game in (
        bilinear,
        carousel,
        dirac_gan,
        dirac_non_saturating,
        dirac_wgan,
        finite_sum_bilinear,
        flip,
        forsaken,
        logarithmic,
        moving_target,
        multi_carousel,
        polar,
        quadratic,
        quartic,
        ridge_star,
        robust_glm,
        stick_slip,
        strong_wind,
        weak_minty,
        wind_log,
    )
}
"""Name to ``factory(**parameters)`` of an analytic game."""


def make_game(name: str, **parameters: Any) -> Game:
    """Builds an analytic game by name, for recipes and the command line.

    Args:
      name: a key of ``GAMES``.
      **parameters: keyword arguments of the game's factory.

    Returns:
      The game.

    Raises:
      ValueError: for an unknown name or parameter, naming the nearest valid choice.

    Example:
      >>> from onesided_jax import games
      >>> games.make_game("bilinear", dim=3).facts.mvi
      True
    """
    check_choice("game", name, sorted(GAMES))
    known = list(inspect.signature(GAMES[name]).parameters)
    for parameter in parameters:
        if parameter not in known:
            raise ValueError(
                f"{parameter!r} is no parameter of game {name!r}: expected one of "
                f"{known}{nearest(parameter, known)}"
            )
    return GAMES[name](**parameters)
