"""Min-max games: pure functions of players, state and minibatch."""

from onesided_jax.games.analytic import (
    GAMES,
    bilinear,
    carousel,
    make_game,
    moving_target,
    stick_slip,
)
from onesided_jax.games.game import Game, GameFacts, GameInfo, zero_sum_field
from onesided_jax.games.gan import GanBatch, gan
from onesided_jax.games.losses import LOSSES, Loss

__all__ = [
    "GAMES",
    "LOSSES",
    "Game",
    "GameFacts",
    "GameInfo",
    "GanBatch",
    "Loss",
    "bilinear",
    "carousel",
    "gan",
    "make_game",
    "moving_target",
    "stick_slip",
    "zero_sum_field",
]
