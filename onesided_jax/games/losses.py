"""GAN losses, per sample, as functions of the discriminator's logits."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax

from onesided_jax.errors import nearest
from onesided_jax.games.analytic._common import require_number

__all__ = ["LOSSES", "Loss", "check_penalty", "find_loss"]


class Loss(NamedTuple):
    """A GAN loss; every function maps logits ``[B]`` to losses ``[B]``, the game takes means.

    One that takes the mean itself is refused by `gan`.

    Attributes:
      primal: what the generator minimises, of the logits of generated samples.
      real: the discriminator's loss on real samples.
      fake: the discriminator's loss on generated samples.
      gradient_penalty: whether the discriminator's loss gets the WGAN-GP term.

    Example:
      >>> import jax.numpy as jnp
      >>> from onesided_jax.games import LOSSES
      >>> loss = LOSSES["minimax"]
      >>> bool(loss.primal(jnp.ones(1)) == -loss.fake(jnp.ones(1)))  # zero-sum
      True
    """

    primal: Callable[[jax.Array], jax.Array]
    real: Callable[[jax.Array], jax.Array]
    fake: Callable[[jax.Array], jax.Array]
    gradient_penalty: bool = False


LOSSES: dict[str, Loss] = {
    # f(x, y) = E log sigmoid(D(real)) + E log(1 - sigmoid(D(fake))), Goodfellow et al. 2014;
    # E log sigmoid(D(real)) does not depend on the generator and is left out of its loss.
    "minimax": Loss(
        primal=lambda logits: -jax.nn.softplus(logits),
        real=lambda logits: jax.nn.softplus(-logits),
        fake=jax.nn.softplus,
    ),
    # Goodfellow et al. 2014, section 3: the generator maximises E log sigmoid(D(fake)).
    "non_saturating": Loss(
        primal=lambda logits: jax.nn.softplus(-logits),
        real=lambda logits: jax.nn.softplus(-logits),
        fake=jax.nn.softplus,
    ),
    # Gulrajani et al. 2017, arXiv:1704.00028.
    "wasserstein_gp": Loss(
        primal=lambda logits: -logits,
        real=lambda logits: -logits,
        fake=lambda logits: logits,
        gradient_penalty=True,
    ),
    # Lim and Ye 2017, arXiv:1705.02894; Miyato et al. 2018, arXiv:1802.05957, equations 16 and 17.
    "hinge": Loss(
        primal=lambda logits: -logits,
        real=lambda logits: jax.nn.relu(1 - logits),
        fake=lambda logits: jax.nn.relu(1 + logits),
    ),
    # Mao et al. 2017, arXiv:1611.04076, equation 2 with a = 0 and b = c = 1.
    "least_squares": Loss(
        primal=lambda logits: (logits - 1) ** 2 / 2,
        real=lambda logits: (logits - 1) ** 2 / 2,
        fake=lambda logits: logits**2 / 2,
    ),
}
"""Every GAN loss by name."""


def find_loss(loss: str | Loss) -> Loss:
    """Looks a loss up by name; a ``Loss`` passes through."""
    if isinstance(loss, Loss):
        return loss
    if not isinstance(loss, str) or loss not in LOSSES:
        raise ValueError(
            f"loss={loss!r}: expected a Loss or one of {sorted(LOSSES)}{nearest(loss, LOSSES)}"
        )
    return LOSSES[loss]


def check_penalty(loss: str | Loss, weight: float | None) -> float:
    """The weight of a gradient penalty; ``None`` is 10.

    Raises:
      ValueError: for a weight that is no number >= 0, or any beside a loss without a penalty.
    """
    if weight is None:
        return 10.0
    require_number("gradient_penalty", weight, ">= 0", lambda weight: weight >= 0)
    if not find_loss(loss).gradient_penalty:
        having = [name for name, known in LOSSES.items() if known.gradient_penalty]
        raise ValueError(
            f"gradient_penalty={weight!r}: loss={loss!r} has no gradient penalty; expected no such "
            f"option, or one of the losses {having}"
        )
    return weight
