"""Min-max games: pure functions of players, state and minibatch."""

from onesided_jax.games.analytic import (
    GAMES,
    bilinear,
    carousel,
    dirac_gan,
    dirac_non_saturating,
    dirac_wgan,
    finite_sum_bilinear,
    flip,
    forsaken,
    logarithmic,
    make_game,
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
    with_noise,
)
from onesided_jax.games.augment import AUGMENTATIONS, diff_augment
from onesided_jax.games.constrained import norm_constrained_logistic
from onesided_jax.games.feasibility import (
    Feasibility,
    feasibility,
    max_multiplier,
    max_violation,
)
from onesided_jax.games.game import Game, GameFacts, GameInfo, zero_sum_field
from onesided_jax.games.gan import GanBatch, gan
from onesided_jax.games.lagrangian import Multipliers, lagrangian
from onesided_jax.games.losses import LOSSES, Loss
from onesided_jax.games.sharding import shard_batch

__all__ = [
    "AUGMENTATIONS",
    "GAMES",
    "LOSSES",
    "Feasibility",
    "Game",
    "GameFacts",
    "GameInfo",
    "GanBatch",
    "Loss",
    "Multipliers",
    "bilinear",
    "carousel",
    "diff_augment",
    "dirac_gan",
    "dirac_non_saturating",
    "dirac_wgan",
    "feasibility",
    "finite_sum_bilinear",
    "flip",
    "forsaken",
    "gan",
    "lagrangian",
    "logarithmic",
    "make_game",
    "max_multiplier",
    "max_violation",
    "moving_target",
    "multi_carousel",
    "norm_constrained_logistic",
    "polar",
    "quadratic",
    "quartic",
    "ridge_star",
    "robust_glm",
    "shard_batch",
    "stick_slip",
    "strong_wind",
    "weak_minty",
    "wind_log",
    "with_noise",
    "zero_sum_field",
]
