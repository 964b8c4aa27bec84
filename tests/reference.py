"""The update rules of ``theory.md`` section 2 and three of its games, in plain float64 NumPy.

Written from the text alone, never from ``onesided_jax``: two programs that agree to rounding are
the check. ``gx``, ``gy`` are gradients of a zero-sum ``f(x, y)``: ``x`` descends, ``y`` *ascends*.
Rates are numbers or schedules of the 0-based iteration; ``b1``, ``b2``, ``eps`` and ``convention``
are one value for both players or a pair ``(of x, of y)``. Every method returns its trajectory: the
list of ``(x, y)`` after each of the ``T`` iterations.
"""

from functools import partial
from typing import NamedTuple

import numpy as np

# ---- one player's moments: theory.md 2.1, in its order of operations ----


class Moments(NamedTuple):
    m: np.ndarray
    v: np.ndarray
    vh: np.ndarray
    t: int = 0


def moments(z, initial_accumulator=0.0):
    return Moments(np.zeros_like(z), np.zeros_like(z), np.full_like(z, initial_accumulator))


def advance(s, g, b1, b2, eps, convention):
    """Feeds ``g`` to the moments; returns them with the direction ``d`` and the metric ``h``."""
    t = s.t + 1
    m = (1 - b1) * g + b1 * s.m
    v = (1 - b2) * (g * g) + b2 * s.v
    c1, c2 = (1.0, 1.0) if convention == "classic" else (1 - b1**t, 1 - b2**t)
    vh = v / c2 if convention == "adam" else np.maximum(s.vh, v / c2)
    h = np.sqrt(vh) + eps
    return Moments(m, v, vh, t), (m / c1) / h, h


def _rate(lr, k):
    return lr(k) if callable(lr) else lr


def _players(**options):
    """Splits options into those of x and those of y (a pair is one value for each)."""
    pairs = {k: v if isinstance(v, tuple) else (v, v) for k, v in options.items()}
    return ({k: v[player] for k, v in pairs.items()} for player in (0, 1))


# ---- theory.md 2.2: descent-ascent without extrapolation ----


def simultaneous(gx, gy, x, y, T, lr_x, lr_y, *, b1=0.9, b2=0.999, eps=1e-8, convention="adam"):
    of_x, of_y = _players(b1=b1, b2=b2, eps=eps, convention=convention)
    sx, sy, path = moments(x), moments(y), []
    for k in range(T):
        g, a = gx(x, y), gy(x, y)
        sx, dx, _ = advance(sx, g, **of_x)
        sy, dy, _ = advance(sy, a, **of_y)
        x, y = x - _rate(lr_x, k) * dx, y + _rate(lr_y, k) * dy
        path.append((x, y))
    return path


adam = simultaneous


def amsgrad(*args, convention="optax", **options):
    return simultaneous(*args, convention=convention, **options)


# ---- theory.md 2.3: extragradient ----


def extragradient(
    gx, gy, x, y, T, lr_x, lr_y, *, extrapolation_state="carried", clock="iteration",
    b1=0.9, b2=0.999, eps=1e-8, convention="adam",
):  # fmt: skip
    """``clock="state"``: schedules are read at the number of gradients the moments have seen."""
    of_x, of_y = _players(b1=b1, b2=b2, eps=eps, convention=convention)
    update, extrapolation, path = (moments(x), moments(y)), (moments(x), moments(y)), []

    def half_step(states, k, z, z_gradient):
        (sx, dx, _), (sy, dy, _) = (
            advance(s, g, **of) for s, g, of in zip(states, z_gradient, (of_x, of_y), strict=True)
        )
        k = k if clock == "iteration" else states[0].t
        return (sx, sy), (z[0] - _rate(lr_x, k) * dx, z[1] + _rate(lr_y, k) * dy)

    for k in range(T):
        z = (x, y)
        looks = extrapolation if extrapolation_state == "separate" else update
        extrapolation, zt = half_step(looks, k, z, (gx(*z), gy(*z)))
        if extrapolation_state == "carried":  # EG-MOMENTS-TWICE; discarded: EG-EXTRAP-LOOKS
            update = extrapolation
        update, (x, y) = half_step(update, k, z, (gx(*zt), gy(*zt)))
        path.append((x, y))
    return path


extra_adam = partial(extragradient, extrapolation_state="carried", clock="iteration")


def amsgrad_eg(
    gx, gy, x, y, T, lr_x, lr_y, *, b2=0.99, eps=1e-3, dual_eps=None, dual_extrapolation=True,
    convention="optax", initial_accumulator=0.0, power=0.0, decay="both",
):  # fmt: skip
    """EG-SHARED: one metric per iteration, from the extrapolation gradient; no momentum."""
    eps = (eps, eps if dual_eps is None else dual_eps)
    of_x, of_y = _players(b1=0.0, b2=b2, eps=eps, convention=convention)
    sx, sy, path = moments(x, initial_accumulator), moments(y, initial_accumulator), []
    for k in range(T):
        eta, eta_y = _rate(lr_x, k), _rate(lr_y, k)
        decayed = eta_y * (k + 1) ** -power
        update_rate = decayed if decay == "both" else eta_y
        g, a = gx(x, y), gy(x, y)
        sx, _, h = advance(sx, g, **of_x)
        sy, _, hy = advance(sy, a, **of_y)
        xt, yt = x - eta * g / h, (y + decayed * a / hy if dual_extrapolation else y)
        x, y = x - eta * gx(xt, yt) / h, y + update_rate * gy(xt, yt) / hy
        path.append((x, y))
    return path


amsgrad_xeg = partial(amsgrad_eg, dual_extrapolation=False)


def amsgrad_eg_drd(*args, power=0.5, **options):
    return amsgrad_eg(*args, power=power, **options)


# ---- theory.md 4: games, as (gx, gy) ----


def carousel(c=1.25, omega=3.0, mu=0.5, radius=2.0):
    """O1 (2+1): one-sided MVI at ``x = 0``, no MVI."""

    def parts(x, y):
        s, (cos, sin) = x @ x, (np.cos(y[0]), np.sin(y[0]))
        w, dw = (2 - s, -1.0) if s <= 1 else (1 / s, -1 / s**2)
        return s, w, dw, np.array([[cos, sin], [sin, -cos]]), np.array([[-sin, cos], [cos, sin]])

    def gx(x, y):
        s, w, dw, S, _ = parts(x, y)
        r, Sx = np.sqrt(s), S @ x
        wall = mu * (r - radius) * x / r if r > radius else 0.0
        return 2 * dw * (c * s + x @ Sx) * x + 2 * w * (c * x + Sx) + wall

    def gy(x, y):
        _, w, _, _, dS = parts(x, y)
        return np.array([w * (x @ dS @ x) + omega])

    return gx, gy


def bilinear_matrix(n=4, seed=0):
    """``A = U diag(1 .. 0.4) V^T`` of G1, with random orthogonal ``U`` and ``V``."""
    rng = np.random.default_rng(seed)
    u, v = (np.linalg.qr(rng.normal(size=(n, n)))[0] for _ in range(2))
    return u @ np.diag(np.linspace(1.0, 0.4, n)) @ v.T


def bilinear(A):
    """G1 (n+n): MVI with equality, no one-sided MVI."""
    return (lambda x, y: A @ y), (lambda x, y: A.T @ x)


def moving_target(omega=2.0):
    """N2 (2+1): neither MVI; its primal gradient falls under dual rate decay all the same."""

    def e(y):
        return np.array([np.cos(y[0]), np.sin(y[0])])

    def gy(x, y):
        return np.array([-(x - e(y)) @ np.array([-np.sin(y[0]), np.cos(y[0])]) + omega])

    return (lambda x, y: x - e(y)), gy
