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
    if convention == "torch":
        vh = np.maximum(s.vh, v)
        h = np.sqrt(vh) / np.sqrt(c2) + eps
    else:
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


def simultaneous(
    gx, gy, x, y, T, lr_x, lr_y, *, b1=0.9, b2=0.999, eps=1e-8, convention="adam",
    initial_accumulator=0.0,
):  # fmt: skip
    of_x, of_y = _players(b1=b1, b2=b2, eps=eps, convention=convention)
    sx, sy, path = moments(x, initial_accumulator), moments(y, initial_accumulator), []
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


def alternating_adam(
    gx, gy, x, y, T, lr_x, lr_y, *, b1=0.9, b2=0.999, eps=1e-8, dual_steps=1
):  # fmt: skip
    """ALT: one rate of y for all dual steps of an iteration."""
    of = {"b1": b1, "b2": b2, "eps": eps, "convention": "adam"}
    sx, sy, path = moments(x), moments(y), []
    for k in range(T):
        for _ in range(dual_steps):
            sy, dy, _ = advance(sy, gy(x, y), **of)
            y = y + _rate(lr_y, k) * dy
        sx, dx, _ = advance(sx, gx(x, y), **of)
        x = x - _rate(lr_x, k) * dx
        path.append((x, y))
    return path


def sgda(gx, gy, x, y, T, lr_x, lr_y):
    path = []
    for k in range(T):
        x, y = x - _rate(lr_x, k) * gx(x, y), y + _rate(lr_y, k) * gy(x, y)
        path.append((x, y))
    return path


def lookahead_adam(
    gx, gy, x, y, T, lr_x, lr_y, *, sync_period=5, slow_step_size=0.5, b1=0.9, b2=0.999, eps=1e-8
):
    """LOOKAHEAD-MINMAX: both players at once, base moments not reset."""
    of = {"b1": b1, "b2": b2, "eps": eps, "convention": "adam"}
    sx, sy, slow_x, slow_y, path = moments(x), moments(y), x, y, []
    for k in range(T):
        sx, dx, _ = advance(sx, gx(x, y), **of)
        sy, dy, _ = advance(sy, gy(x, y), **of)
        x, y = x - _rate(lr_x, k) * dx, y + _rate(lr_y, k) * dy
        if (k + 1) % sync_period == 0:
            x = slow_x = slow_x + slow_step_size * (x - slow_x)
            y = slow_y = slow_y + slow_step_size * (y - slow_y)
        path.append((x, y))
    return path


def optimistic_adam(
    gx, gy, x, y, T, lr_x, lr_y, *, first_step="repeat", b1=0.9, b2=0.999, eps=1e-8
):
    """OPTIMISTIC ADAM, ``u`` with its own rate: x - 2 u_t + u_{t-1}."""
    of = {"b1": b1, "b2": b2, "eps": eps, "convention": "adam"}
    sx, sy, last, path = moments(x), moments(y), None, []
    for k in range(T):
        sx, dx, _ = advance(sx, gx(x, y), **of)
        sy, dy, _ = advance(sy, gy(x, y), **of)
        u = (_rate(lr_x, k) * dx, _rate(lr_y, k) * dy)
        if last is None:
            last = u if first_step == "repeat" else (0.0, 0.0)
        x, y = x - 2 * u[0] + last[0], y + 2 * u[1] - last[1]
        last = u
        path.append((x, y))
    return path


def oadagrad(gx, gy, x, y, T, lr_x, lr_y, *, eps=1e-7, initial_accumulator=0.1):
    """OADAGRAD with gt_0 = 0; the visible point is zt. Iteration k owns both of its half-steps."""
    zx, zy, xt, yt = x, y, x, y
    total_x, total_y = np.full_like(x, initial_accumulator), np.full_like(y, initial_accumulator)
    path = []
    for k in range(T):
        g, a = gx(xt, yt), gy(xt, yt)
        zx = zx - _rate(lr_x, k) * g / (eps + np.sqrt(total_x))
        zy = zy + _rate(lr_y, k) * a / (eps + np.sqrt(total_y))
        total_x, total_y = total_x + g * g, total_y + a * a
        xt = zx - _rate(lr_x, k + 1) * g / (eps + np.sqrt(total_x))
        yt = zy + _rate(lr_y, k + 1) * a / (eps + np.sqrt(total_y))
        path.append((xt, yt))
    return path


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


def extra_sgd(gx, gy, x, y, T, lr_x, lr_y):
    path = []
    for k in range(T):
        xt, yt = x - _rate(lr_x, k) * gx(x, y), y + _rate(lr_y, k) * gy(x, y)
        x, y = x - _rate(lr_x, k) * gx(xt, yt), y + _rate(lr_y, k) * gy(xt, yt)
        path.append((x, y))
    return path


def past_extragradient(
    gx, gy, x, y, T, lr_x, lr_y, *, extrapolation_state="carried", clock="iteration",
    b1=0.9, b2=0.999, eps=1e-8, convention="adam",
):  # fmt: skip
    """PAST-EG around Adam: E is the last U. Call n ends iteration n - 1 and extrapolates for n."""
    of_x, of_y = _players(b1=b1, b2=b2, eps=eps, convention=convention)
    update, extrapolation = (moments(x), moments(y)), (moments(x), moments(y))
    z, zt, path = (x, y), (x, y), []

    def half_step(states, iteration, z, g):
        k = iteration if clock == "iteration" else states[0].t
        sx, dx, _ = advance(states[0], g[0], **of_x)
        sy, dy, _ = advance(states[1], g[1], **of_y)
        return (sx, sy), (z[0] - _rate(lr_x, k) * dx, z[1] + _rate(lr_y, k) * dy)

    for n in range(T):
        q = (gx(*zt), gy(*zt))
        if n > 0:
            update, z = half_step(update, n - 1, z, q)
        looks = extrapolation if extrapolation_state == "separate" else update
        extrapolation, zt = half_step(looks, n, z, q)
        if extrapolation_state == "carried":
            update = extrapolation
        path.append(zt)
    return path


past_extra_adam = partial(past_extragradient, extrapolation_state="carried", clock="iteration")


def past_amsgrad_eg(
    gx, gy, x, y, T, lr_x, lr_y, *, b2=0.99, eps=1e-3, dual_eps=None, convention="optax",
    initial_accumulator=0.0,
):  # fmt: skip
    """PAST-EG as proved: h_t from the gradients up to q_{t-1}, one for both half-steps of t."""
    of_x, of_y = _players(
        b1=0.0, b2=b2, eps=(eps, eps if dual_eps is None else dual_eps), convention=convention
    )
    zx, zy, path = x, y, []
    q, a = gx(x, y), gy(x, y)
    sx, _, h = advance(moments(x, initial_accumulator), q, **of_x)
    sy, _, hy = advance(moments(y, initial_accumulator), a, **of_y)
    for k in range(T):
        xt, yt = zx - _rate(lr_x, k) * q / h, zy + _rate(lr_y, k) * a / hy
        path.append((xt, yt))
        q, a = gx(xt, yt), gy(xt, yt)
        zx, zy = zx - _rate(lr_x, k) * q / h, zy + _rate(lr_y, k) * a / hy
        sx, _, h = advance(sx, q, **of_x)
        sy, _, hy = advance(sy, a, **of_y)
    return path


def amsgrad_eg(
    gx, gy, x, y, T, lr_x, lr_y, *, b2=0.99, eps=1e-3, dual_eps=None, dual_extrapolation=True,
    convention="optax", initial_accumulator=0.0, power=0.0, decay="both", update_scale=1.0,
    dual_extrapolation_learning_rate=None, b1_update=0.0, b1_extrapolation=0.0, dual_b1=0.0,
):  # fmt: skip
    """EG-SHARED: one metric per iteration, from the extrapolation gradient."""
    eps = (eps, eps if dual_eps is None else dual_eps)
    of_x, of_y = _players(b1=0.0, b2=b2, eps=eps, convention=convention)
    sx, sy, path = moments(x, initial_accumulator), moments(y, initial_accumulator), []
    mean_u, mean_e, mean_y = np.zeros_like(x), np.zeros_like(x), np.zeros_like(y)
    for k in range(T):
        eta, eta_y = _rate(lr_x, k), _rate(lr_y, k)
        own = dual_extrapolation_learning_rate
        looking = eta_y if own is None else _rate(own, k)
        decayed = looking * (k + 1) ** -power
        update_rate = decayed if decay == "both" and own is None else eta_y
        g, a = gx(x, y), gy(x, y)
        sx, _, h = advance(sx, g, **of_x)
        sy, _, hy = advance(sy, a, **of_y)
        b = _rate(b1_extrapolation, k)
        mean_e = (1 - b) * g + b * mean_e
        xt = x - eta * mean_e / h
        yt = y + decayed * a / hy if dual_extrapolation else y
        q, qy = gx(xt, yt), gy(xt, yt)
        b, by = _rate(b1_update, k), _rate(dual_b1, k)
        mean_u, mean_y = (1 - b) * q + b * mean_u, (1 - by) * qy + by * mean_y
        x = x - update_scale * eta * mean_u / h
        y = y + update_scale * update_rate * mean_y / hy
        path.append((x, y))
    return path


amsgrad_xeg = partial(amsgrad_eg, dual_extrapolation=False)


def amsgrad_eg_drd(*args, power=0.5, **options):
    return amsgrad_eg(*args, power=power, **options)


# ---- the second wave ----


def alex_gda(gx, gy, x, y, T, lr_x, lr_y, *, gamma=1.0, delta=2.0):
    """ALEX-GDA; the visible point is (x_k, yt_k)."""
    yt, path = y, []
    for k in range(T):
        x_next = x - _rate(lr_x, k) * gx(x, yt)
        xt = x + gamma * (x_next - x)
        y_next = y + _rate(lr_y, k) * gy(xt, y)
        yt = y + delta * (y_next - y)
        x, y = x_next, y_next
        path.append((x, yt))
    return path


def tiada(
    gx, gy, x, y, T, lr_x, lr_y, *, primal_power=0.6, dual_power=0.4, initial_accumulator=0.1
):
    """TIADA, Algorithm 1: one scalar sum for each player."""
    vx, vy, path = initial_accumulator, initial_accumulator, []
    for k in range(T):
        g, a = gx(x, y), gy(x, y)
        vx, vy = vx + g @ g, vy + a @ a
        x = x - _rate(lr_x, k) / max(vx, vy) ** primal_power * g
        y = y + _rate(lr_y, k) / vy**dual_power * a
        path.append((x, y))
    return path


def nupi(gx, gy, x, y, T, lr_x, lr_y, *, kp=1.0, ki=1.0, nu=0.0, first_step="sgd"):
    """Descent for x, nuPI for y, in the form that sums errors up: no recursion of ours."""
    errors, xi, path, y0 = [], [], [], y
    for k in range(T):
        g, e = gx(x, y), gy(x, y)
        errors.append(e)
        before = xi[-1] if xi else 0.0
        xi.append(0.0 * e if first_step == "sgd" and k == 0 else nu * before + (1 - nu) * e)
        x = x - _rate(lr_x, k) * g
        y = y0 + lr_y * (ki * np.sum(errors, axis=0) + kp * xi[-1])
        path.append((x, y))
    return path


def extragradient_plus(gx, gy, x, y, T, lr_x, lr_y, *, update_scale=0.5):
    """EG+ with plain gradients: look by gamma, step by update_scale * gamma."""
    path = []
    for k in range(T):
        xt, yt = x - _rate(lr_x, k) * gx(x, y), y + _rate(lr_y, k) * gy(x, y)
        x, y = (
            x - update_scale * _rate(lr_x, k) * gx(xt, yt),
            y + update_scale * _rate(lr_y, k) * gy(xt, yt),
        )
        path.append((x, y))
    return path


extra_plus_sgd = extragradient_plus


def anchored(gx, gy, x, y, T, lr_x, lr_y, *, form="extragradient"):
    """ANCHORED EG (EAG-C) and HALPERN, b_k = 1 / (k + 2)."""
    x0, y0, path = x, y, []
    for k in range(T):
        b, a, ay = 1 / (k + 2), _rate(lr_x, k), _rate(lr_y, k)
        if form == "halpern":
            x, y = (
                b * x0 + (1 - b) * (x - a * gx(x, y)),
                b * y0 + (1 - b) * (y + ay * gy(x, y)),
            )
        else:
            px, py = x + b * (x0 - x), y + b * (y0 - y)
            xt, yt = px - a * gx(x, y), py + ay * gy(x, y)
            x, y = px - a * gx(xt, yt), py + ay * gy(xt, yt)
        path.append((x, y))
    return path


def _jacobian(gx, gy, x, y, step=1e-3):
    """Of F = (gx, -gy), by central differences of sixth order: 1e-13 on these games."""
    n, z = len(x), np.concatenate([x, y])
    F = lambda z: np.concatenate([gx(z[:n], z[n:]), -gy(z[:n], z[n:])])  # noqa: E731
    weights = {1: 3 / 4, 2: -3 / 20, 3: 1 / 60}
    columns = [
        sum(w * (F(z + i * step * e) - F(z - i * step * e)) for i, w in weights.items()) / step
        for e in np.eye(len(z))
    ]
    return np.stack(columns, axis=1), F(z)


def consensus(gx, gy, x, y, T, lr_x, lr_y, *, strength=0.1):
    path, n = [], len(x)
    for k in range(T):
        J, F = _jacobian(gx, gy, x, y)
        w = F + strength * J.T @ F
        x, y = x - _rate(lr_x, k) * w[:n], y - _rate(lr_y, k) * w[n:]
        path.append((x, y))
    return path


def acgd(gx, gy, x, y, T, lr_x, lr_y, *, b2=0.99, eps=1e-5):
    """ACGD (Schaefer, Zheng & Anandkumar), both systems dense and each solved on its own."""
    n, path = len(x), []
    vx, vy = np.zeros_like(x), np.zeros_like(y)
    for k in range(T):
        g, a = gx(x, y), gy(x, y)
        vx, vy = b2 * vx + (1 - b2) * g * g, b2 * vy + (1 - b2) * a * a
        c = 1 - b2 ** (k + 1)
        Ax = np.diag(_rate(lr_x, k) / (np.sqrt(vx / c) + eps))
        Ay = np.diag(_rate(lr_y, k) / (np.sqrt(vy / c) + eps))
        Dxy = _jacobian(gx, gy, x, y)[0][:n, n:]
        dx = -np.linalg.solve(np.linalg.inv(Ax) + Dxy @ Ay @ Dxy.T, g + Dxy @ Ay @ a)
        dy = np.linalg.solve(np.linalg.inv(Ay) + Dxy.T @ Ax @ Dxy, a - Dxy.T @ Ax @ g)
        x, y = x + dx, y + dy
        path.append((x, y))
    return path


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
