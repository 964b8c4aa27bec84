"""Every optimizer of two learning rates, by name."""

from __future__ import annotations

from collections.abc import Callable

import optax

from onesided_jax.optimizers.acgd import acgd
from onesided_jax.optimizers.adam import adam
from onesided_jax.optimizers.alternating import alternating_adam
from onesided_jax.optimizers.amsgrad import amsgrad
from onesided_jax.optimizers.amsgrad_eg import amsgrad_eg, amsgrad_eg_drd, amsgrad_xeg
from onesided_jax.optimizers.extragradient import extra_adam
from onesided_jax.optimizers.lookahead import lookahead_adam
from onesided_jax.optimizers.oadagrad import oadagrad
from onesided_jax.optimizers.optimistic import optimistic_adam
from onesided_jax.optimizers.past_amsgrad_eg import past_amsgrad_eg
from onesided_jax.optimizers.past_extragradient import past_extra_adam
from onesided_jax.optimizers.sgd import extra_sgd, sgda

__all__ = ["OPTIMIZERS"]

OPTIMIZERS: dict[str, Callable[..., optax.GradientTransformationExtraArgs]] = {
    "acgd": acgd,
    "adam": adam,
    "alternating_adam": alternating_adam,
    "amsgrad": amsgrad,
    "amsgrad_eg": amsgrad_eg,
    "amsgrad_eg_drd": amsgrad_eg_drd,
    "amsgrad_xeg": amsgrad_xeg,
    "extra_adam": extra_adam,
    "extra_sgd": extra_sgd,
    "lookahead_adam": lookahead_adam,
    "oadagrad": oadagrad,
    "optimistic_adam": optimistic_adam,
    "past_amsgrad_eg": past_amsgrad_eg,
    "past_extra_adam": past_extra_adam,
    "sgda": sgda,
}
"""By name: ``factory(primal_learning_rate, dual_learning_rate, **hyperparameters)``."""
