"""Min-max optimizers as optax gradient transformations, one algorithm per file."""

from onesided_jax.optimizers._checks import check_hyperparameters
from onesided_jax.optimizers._players import with_player_keys
from onesided_jax.optimizers.acgd import AcgdState, acgd
from onesided_jax.optimizers.adam import adam
from onesided_jax.optimizers.alex_gda import AlexState, alex_gda, alternating_extrapolation
from onesided_jax.optimizers.alternating import AlternatingState, alternating, alternating_adam
from onesided_jax.optimizers.amsgrad import amsgrad
from onesided_jax.optimizers.amsgrad_eg import (
    AmsgradEgState,
    amsgrad_eg,
    amsgrad_xeg,
)
from onesided_jax.optimizers.amsgrad_eg_drd import amsgrad_eg_drd
from onesided_jax.optimizers.anchored import AnchoredState, anchored
from onesided_jax.optimizers.apply_if_finite import ApplyIfFiniteState, apply_if_finite
from onesided_jax.optimizers.consensus import consensus
from onesided_jax.optimizers.descent_ascent import descent_ascent
from onesided_jax.optimizers.extragradient import ExtragradientState, extra_adam, extragradient
from onesided_jax.optimizers.extragradient_plus import extra_plus_sgd, extragradient_plus
from onesided_jax.optimizers.iterate import iterate
from onesided_jax.optimizers.lookahead import (
    LookaheadMinmaxState,
    lookahead_adam,
    lookahead_minmax,
)
from onesided_jax.optimizers.nupi import NupiState, nupi
from onesided_jax.optimizers.oadagrad import OadagradState, oadagrad
from onesided_jax.optimizers.optimistic import OptimisticState, optimistic, optimistic_adam
from onesided_jax.optimizers.past_amsgrad_eg import PastAmsgradEgState, past_amsgrad_eg
from onesided_jax.optimizers.past_extragradient import (
    PastExtragradientState,
    past_extra_adam,
    past_extragradient,
)
from onesided_jax.optimizers.projected import projected
from onesided_jax.optimizers.registry import FACTS, OPTIMIZERS, Facts
from onesided_jax.optimizers.reset import reset
from onesided_jax.optimizers.schedules import dual_rate_decay
from onesided_jax.optimizers.sgd import extra_sgd, sgda
from onesided_jax.optimizers.tiada import TiadaState, tiada

__all__ = [
    "FACTS",
    "OPTIMIZERS",
    "AcgdState",
    "AlexState",
    "AlternatingState",
    "AmsgradEgState",
    "AnchoredState",
    "ApplyIfFiniteState",
    "ExtragradientState",
    "Facts",
    "LookaheadMinmaxState",
    "NupiState",
    "OadagradState",
    "OptimisticState",
    "PastAmsgradEgState",
    "PastExtragradientState",
    "TiadaState",
    "acgd",
    "adam",
    "alex_gda",
    "alternating",
    "alternating_adam",
    "alternating_extrapolation",
    "amsgrad",
    "amsgrad_eg",
    "amsgrad_eg_drd",
    "amsgrad_xeg",
    "anchored",
    "apply_if_finite",
    "check_hyperparameters",
    "consensus",
    "descent_ascent",
    "dual_rate_decay",
    "extra_adam",
    "extra_plus_sgd",
    "extra_sgd",
    "extragradient",
    "extragradient_plus",
    "iterate",
    "lookahead_adam",
    "lookahead_minmax",
    "nupi",
    "oadagrad",
    "optimistic",
    "optimistic_adam",
    "past_amsgrad_eg",
    "past_extra_adam",
    "past_extragradient",
    "projected",
    "reset",
    "sgda",
    "tiada",
    "with_player_keys",
]
