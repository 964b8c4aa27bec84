"""GAN losses per sample, as functions of the discriminator's logits."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax

from onesided_jax.errors import nearest
from onesided_jax.games.analytic._common import require_number

__all__ = ["LOSSES", "Loss", "find_loss", "find_penalty", "find_weight", "smoothed"]


class Loss(NamedTuple):
    """A GAN loss. Each function maps logits ``[B]`` to losses ``[B]``; the game takes the mean.

    Attributes:
      primal: the generator's loss on generated samples.
      real: the discriminator's loss on real samples.
      fake: the discriminator's loss on generated samples.
      gradient_penalty: whether it is a Wasserstein critic's loss, which gets the WGAN-GP term.

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
    # The generator's loss omits E log sigmoid(D(real)), which does not depend on the generator.
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
"""Name to GAN loss."""


def find_loss(loss: str | Loss) -> Loss:
    """Finds a loss by name; a ``Loss`` is returned unchanged."""
    if isinstance(loss, Loss):
        return loss
    if not isinstance(loss, str) or loss not in LOSSES:
        raise ValueError(
            f"loss={loss!r}: expected a Loss or one of {sorted(LOSSES)}{nearest(loss, LOSSES)}"
        )
    return LOSSES[loss]


def find_weight(name: str, value: float) -> float:
    """Returns ``value``; raises ``ValueError`` unless it is a finite number ``>= 0``."""
    require_number(name, value, ">= 0", lambda weight: weight >= 0)
    return value


def find_penalty(loss: str | Loss, weight: float | None) -> float | None:
    """The weight of the gradient penalty; ``None`` for no penalty."""
    if find_loss(loss).gradient_penalty:
        return 10.0 if weight is None else find_weight("gradient_penalty", weight)
    return None if weight is None else find_weight("gradient_penalty", weight) or None


def smoothed(loss: Loss, share: float) -> Loss:
    """The loss with one-sided label smoothing.

    Raises:
      ValueError: for a share outside ``[0, 1)``, or a Wasserstein critic, which has no labels.
    """
    require_number("label_smoothing", share, "in [0, 1)", lambda share: 0 <= share < 1)
    if not share:
        return loss
    if loss.gradient_penalty:
        raise ValueError(
            f"label_smoothing={share!r}: a Wasserstein critic has no labels; expected 0, or "
            "another loss, such as 'non_saturating'"
        )
    real, fake = loss.real, loss.fake
    return loss._replace(real=lambda logits: (1 - share) * real(logits) + share * fake(logits))
