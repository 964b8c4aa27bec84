"""Min-max optimizers as optax gradient transformations, one algorithm per file."""

from onesided_jax.optimizers.aliases import OPTIMIZERS, adam, amsgrad, extra_adam
from onesided_jax.optimizers.amsgrad_eg import (
    AmsgradEgState,
    amsgrad_eg,
    amsgrad_eg_drd,
    amsgrad_xeg,
)
from onesided_jax.optimizers.descent_ascent import descent_ascent
from onesided_jax.optimizers.extragradient import ExtragradientState, extragradient
from onesided_jax.optimizers.schedules import dual_rate_decay

__all__ = [
    "OPTIMIZERS",
    "AmsgradEgState",
    "ExtragradientState",
    "adam",
    "amsgrad",
    "amsgrad_eg",
    "amsgrad_eg_drd",
    "amsgrad_xeg",
    "descent_ascent",
    "dual_rate_decay",
    "extra_adam",
    "extragradient",
]
