"""NumPy's side: ExtraAdam over many runs at once, written without a framework."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

Field = Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]


def carousel(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """``osj.games.carousel()``'s field ``(grad_x f, -grad_y f)`` at ``x[R, 2]`` and ``y[R, 1]``."""
    c, omega, mu, radius = 1.25, 3.0, 0.5, 2.0
    a, b, phase = x[:, 0], x[:, 1], y[:, 0]
    cos, sin = np.cos(phase), np.sin(phase)
    s = a * a + b * b
    outside = s > 1
    inverse = 1 / np.where(outside, s, 1.0)
    weight = np.where(outside, inverse, 2 - s)
    slope = np.where(outside, -inverse * inverse, -1.0)  # derivative of the weight in s
    inner = c * s + (a * a - b * b) * cos + 2 * a * b * sin
    norm = np.sqrt(np.where(s > radius**2, s, radius**2))
    wall = mu * (norm - radius) / norm
    common = 2 * slope * inner + 2 * c * weight + wall
    grad_a = common * a + weight * 2 * (a * cos + b * sin)
    grad_b = common * b + weight * 2 * (a * sin - b * cos)
    grad_phase = weight * (2 * a * b * cos - (a * a - b * b) * sin) + omega
    return np.stack([grad_a, grad_b], 1), -grad_phase[:, None]


def bilinear(matrix: np.ndarray) -> Field:
    """The field of ``x^T A y``."""

    def field(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return y @ matrix.T, -(x @ matrix)

    return field


class ExtraAdam:
    """ExtraAdam of Gidel et al. on ``x[R, n]`` and ``y[R, m]``: one Adam state for both half-steps.

    ``eps`` is added after the bias correction, as in Optax.
    """

    def __init__(
        self,
        field: Field,
        x: np.ndarray,
        y: np.ndarray,
        rate: float,
        b1: float,
        b2: float = 0.999,
        eps: float = 0.0,
    ):
        self.field, self.rate, self.b1, self.b2, self.eps = field, rate, b1, b2, eps
        self.players = [x.copy(), y.copy()]
        self.first = [np.zeros_like(z) for z in self.players]
        self.second = [np.zeros_like(z) for z in self.players]
        self.count = 0

    def step(self) -> None:
        looked = self._moved(self.field(*self.players))
        self.players = self._moved(self.field(*looked))

    def _moved(self, gradients: tuple[np.ndarray, np.ndarray]) -> list[np.ndarray]:
        """The players after Adam's step along these gradients."""
        self.count += 1
        correction1, correction2 = 1 - self.b1**self.count, 1 - self.b2**self.count
        moved = []
        for i, gradient in enumerate(gradients):
            self.first[i] = self.b1 * self.first[i] + (1 - self.b1) * gradient
            self.second[i] = self.b2 * self.second[i] + (1 - self.b2) * gradient**2
            size = np.sqrt(self.second[i] / correction2) + self.eps
            moved.append(self.players[i] - self.rate * (self.first[i] / correction1) / size)
        return moved
