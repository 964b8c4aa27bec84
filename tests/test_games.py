"""The analytic games against formulas written anew; test_zoo.py searches for what breaks them."""

import functools
import math
import re
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from compiling import quick
from jax import lax
from scipy import stats

from onesided_jax import PrimalDual, games
from onesided_jax.games import GameFacts, make_game, zero_sum_field

# The four that everything else stands on, to the last detail; test_zoo.py has them all.
GAMES = {
    name: games.GAMES[name] for name in ("bilinear", "carousel", "moving_target", "stick_slip")
}

REGION = 2.5  # radius of the ball of x that is searched: core, ring and wall of the carousel
PHASES = 7.0  # and y in [-7, 7]: more than two turns
KINKS = {"carousel": (1.0, 2.0)}  # radii where a second derivative jumps, default parameters


@pytest.fixture
def x64():
    with jax.enable_x64(True):
        yield


# ---- theory.md section 4, from the text; x[..., n], y[..., m] ----


def carousel_polar(x, y, c=1.25, omega=3.0, mu=0.5, radius=2.0):
    y = y[..., 0]
    r, theta = np.hypot(x[..., 0], x[..., 1]), np.arctan2(x[..., 1], x[..., 0])
    rho = np.where(r <= 1, 2 * r**2 - r**4, 1.0)
    wall = np.maximum(r - radius, 0.0)
    return rho * (c + np.cos(2 * theta - y)) + omega * y + mu / 2 * wall**2


def carousel_polynomial(x, y, c=1.25, omega=3.0, mu=0.5, radius=2.0, xp=np):
    y = y[..., 0]
    cos, sin = xp.cos(y), xp.sin(y)
    rows = xp.stack([xp.stack([cos, sin], -1), xp.stack([sin, -cos], -1)], -2)  # S(y)
    s = (x * x).sum(-1)
    w = xp.where(s <= 1, 2 - s, 1 / xp.where(s <= 1, 1.0, s))
    quadratic = xp.einsum("...i,...ij,...j->...", x, rows, x)
    wall = xp.maximum(xp.sqrt(s + 1e-300) - radius, 0.0)
    return w * (c * s + quadratic) + omega * y + mu / 2 * wall**2


def moving_target(x, y, omega=2.0):
    e = np.stack([np.cos(y[..., 0]), np.sin(y[..., 0])], -1)
    return 0.5 * ((x - e) ** 2).sum(-1) + omega * y[..., 0]


def stick_slip(x, y, kappa=4.0, amplitude=1.0, k=4.0, omega=2.0):
    x, y = x[..., 0], y[..., 0]
    return kappa / 2 * x**2 + amplitude * np.cos(k * x - y) + omega * y


def bilinear(x, y, dim=4):
    return np.einsum("...i,ij,...j->...", x, bilinear_matrix(dim), y)


@functools.cache
def bilinear_matrix(dim):
    """``A``, read off the field one column at a time; what it must be, a test below says."""
    game, zero = games.bilinear(dim=dim), np.zeros(dim)
    return np.stack([game.field(PrimalDual(zero, e), (), ())[0].primal for e in np.eye(dim)], 1)


OTHER = {"c": 2.0, "omega": 1.5, "mu": 2.0, "radius": 1.5}
FORMULAS = [
    ("bilinear", {}, bilinear),
    ("bilinear", {"dim": 1}, bilinear),
    ("carousel", {}, carousel_polar),
    ("carousel", {}, carousel_polynomial),
    ("carousel", OTHER, carousel_polar),
    ("carousel", OTHER, carousel_polynomial),
    ("moving_target", {}, moving_target),
    ("moving_target", {"omega": -0.7}, moving_target),
    ("stick_slip", {}, stick_slip),
    ("stick_slip", {"kappa": 1.5, "amplitude": 2.0, "k": 3.0, "omega": 0.5}, stick_slip),
]
NAMES = pytest.mark.parametrize("name", sorted(GAMES))


def start(name, **parameters):
    return make_game(name, **parameters).init(jax.random.key(0))[0]


def points(name, count, seed=0, radius=REGION, **parameters):
    """Uniform in the ball (x) and the cube (y), float64."""
    rng = np.random.default_rng(seed)
    players = start(name, **parameters)
    n, m = players.primal.size, players.dual.size
    x = rng.normal(size=(count, n))
    x *= radius * rng.uniform(size=(count, 1)) ** (1 / n) / np.linalg.norm(x, axis=1)[:, None]
    return x, rng.uniform(-PHASES, PHASES, size=(count, m))


def evaluate(game, x, y):
    """``(F, losses)`` of many points, in float64."""
    F, info = quick(jax.vmap(lambda x, y: game.field(PrimalDual(x, y), (), ())))(x, y)
    assert F.primal.dtype == F.dual.dtype == jnp.float64
    return jax.tree.map(np.asarray, (F, info.losses))


def central_differences(f, x, y, step=1e-5):
    def along(i, argument):
        shift = step * np.eye(argument.shape[-1])[i]
        ahead, behind = ((x + s, y) if argument is x else (x, y + s) for s in (shift, -shift))
        return (f(*ahead) - f(*behind)) / (2 * step)

    return tuple(np.stack([along(i, z) for i in range(z.shape[-1])], -1) for z in (x, y))


# ---- 1. the field is the formula's ----


@pytest.mark.parametrize(("name", "parameters", "formula"), FORMULAS)
def test_field_is_the_gradient_of_the_formula(name, parameters, formula, x64):
    x, y = points(name, 500, **parameters)
    kinks = (1.0, parameters.get("radius", 2.0)) if name in KINKS else ()
    away = np.all([np.abs(np.linalg.norm(x, axis=1) - r) > 1e-3 for r in kinks] or [True], axis=0)
    x, y = (x, y) if away.ndim == 0 else (x[away], y[away])
    f = partial(formula, **parameters)
    F, losses = evaluate(make_game(name, **parameters), x, y)
    grad_x, grad_y = central_differences(f, x, y)
    np.testing.assert_allclose(F.primal, grad_x, rtol=1e-7, atol=1e-7)
    np.testing.assert_allclose(F.dual, -grad_y, rtol=1e-7, atol=1e-7)  # descent form
    np.testing.assert_allclose(losses.primal, f(x, y), rtol=1e-12, atol=1e-12)
    np.testing.assert_array_equal(losses.dual, -losses.primal)


def test_every_game_has_a_formula():
    assert {name for name, _, _ in FORMULAS} == set(GAMES)


def test_the_two_forms_of_the_carousel_agree():
    x, y = points("carousel", 2000)
    np.testing.assert_allclose(
        carousel_polar(x, y, **OTHER), carousel_polynomial(x, y, **OTHER), rtol=1e-13, atol=1e-13
    )


@pytest.mark.parametrize("dim", [1, 2, 4, 7])
def test_bilinear_matrix_has_the_promised_singular_values(dim, x64):
    expected = np.linspace(1.0, 0.4, dim)
    A = bilinear_matrix.__wrapped__(dim)
    np.testing.assert_allclose(np.linalg.svd(A, compute_uv=False), expected, rtol=1e-12)
    np.testing.assert_array_equal(A, bilinear_matrix.__wrapped__(dim))  # one matrix for every run
    if dim > 1:  # the factors are there: neither A A' nor A' A is diagonal
        for gram in (A @ A.T, A.T @ A):
            assert np.abs(gram - np.diag(np.diag(gram))).max() > 1e-2


def test_zero_sum_field_takes_trees_and_keeps_the_state():
    field = zero_sum_field(lambda x, y: x["a"] * y[0] + x["b"] ** 2 * y[1])
    players = PrimalDual({"a": 2.0, "b": 3.0}, [5.0, 7.0])
    F, info = field(players, {"kept": 1}, ())
    assert jax.tree.map(float, F) == PrimalDual({"a": 5.0, "b": 42.0}, [-2.0, -9.0])
    assert jax.tree.map(float, info.losses) == PrimalDual(73.0, -73.0)
    assert info.state == {"kept": 1}


# ---- 2. the facts ----


def test_the_flags_that_are_expected():
    """Those of theory.md section 4; test_zoo.py searches for what breaks them."""
    flags = {name: make_game(name).facts[2:4] for name in GAMES}
    assert flags == {
        "bilinear": (False, True),
        "carousel": (True, False),
        "moving_target": (False, False),
        "stick_slip": (False, False),
    }


def test_bilinear_and_the_ring_have_equality(x64):
    x, y = points("bilinear", 500)
    F, _ = evaluate(games.bilinear(), x, y)
    np.testing.assert_allclose((x * F.primal).sum(1) + (y * F.dual).sum(1), 0, atol=1e-13)
    assert 0.4 < ((x * F.primal).sum(1) < 0).mean() < 0.6  # "fails on half of the space"

    x, y = points("carousel", 500)
    x *= np.linspace(1, 2, 500)[:, None] / np.linalg.norm(x, axis=1)[:, None]
    F, _ = evaluate(games.carousel(), x, y)
    np.testing.assert_allclose((x * F.primal).sum(1), 0, atol=1e-13)
    assert np.linalg.norm(F.primal, axis=1).mean() > 0.5  # equality without rest


@NAMES
def test_solutions_have_the_shape_of_the_players_and_are_there_when_claimed(name):
    facts, players = make_game(name).facts, start(name)
    assert isinstance(facts, GameFacts)
    assert (facts.primal_solution is not None) == (facts.one_sided_mvi or facts.mvi)
    assert (facts.dual_solution is not None) == facts.mvi
    for solution, player in zip(facts[:2], players):
        assert solution is None or jnp.shape(solution) == player.shape


@pytest.mark.parametrize("name", [name for name in sorted(GAMES) if name != "bilinear"])
@pytest.mark.parametrize("omega", [1.5, 3.0])
def test_the_wind_never_lets_the_dual_rest(name, omega, x64):
    """On the carousel ``|grad_y f| >= omega - 1``, and no more: the docstring's bound is sharp."""
    x, y = points(name, 5000)
    F, _ = evaluate(make_game(name, omega=omega), x, y)
    if name == "carousel":
        assert omega - 1 <= np.abs(F.dual).min() < omega - 1 + 0.02
    # The mean over a phase is the wind; and it blows upwards in f: F = -grad_y f is negative.
    np.testing.assert_allclose(F.dual.mean(), -omega, atol=0.1)


LIPSCHITZ = [
    ("bilinear", {}),
    ("bilinear", {"dim": 1}),
    ("carousel", {}),
    ("carousel", {"omega": 5.0, "radius": 1.5}),
    ("carousel", {"c": 3.0}),
    ("carousel", {"mu": 50.0}),
    ("moving_target", {}),
    ("stick_slip", {}),
    ("stick_slip", {"kappa": 1.0, "amplitude": 2.0, "k": 3.0}),
    ("stick_slip", {"amplitude": -1.0, "k": -4.0}),
    ("stick_slip", {"amplitude": -1.0}),
]


@pytest.mark.parametrize(("name", "parameters"), LIPSCHITZ)
def test_lipschitz_constants_bound_the_hessian_and_are_not_loose(name, parameters, x64):
    game = make_game(name, **parameters)
    x, y = points(name, 4000, **parameters)
    if name == "carousel":  # the extremes sit where the hub meets the ring
        x[:2000] *= np.linspace(0.9, 1, 2000)[:, None] / np.linalg.norm(x[:2000], axis=1)[:, None]
    hessian = jax.hessian(lambda z: game.field(z, (), ())[1].losses.primal)
    blocks = quick(jax.vmap(lambda x, y: hessian(PrimalDual(x, y)).primal))(x, y)
    for block, bound in zip(blocks, (game.facts.lipschitz_xx, game.facts.lipschitz_xy)):
        measured = np.linalg.norm(block, ord=2, axis=(1, 2)).max()
        assert measured <= bound * (1 + 1e-12) <= 2 * measured


# ---- 3. where formulas are patched together ----


def on_circle(radius):
    return [(radius, 0.0), (0.0, -radius), (0.6 * radius, 0.8 * radius), (-0.8 * radius, 0.0)]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("radius", [0.0, 1.0, 2.0])
def test_carousel_is_smooth_at_its_seams(radius, dtype, x64):
    """Exactly at x = 0, s = 1 and r = R: finite to second order and continuous to first."""
    game = games.carousel()
    x = jnp.array(on_circle(radius), dtype)
    y = jnp.array([[0.0], [1.0], [4.0], [-2.0]], dtype)

    @quick
    @jax.vmap
    def field(x, y):
        return game.field(PrimalDual(x, y), (), ())[0]

    @quick
    @jax.vmap
    def hessian(x, y):
        return jax.hessian(lambda z: game.field(z, (), ())[1].losses.primal)(PrimalDual(x, y))

    at, second = field(x, y), hessian(x, y)
    for leaf in jax.tree.leaves((at, second)):
        assert leaf.dtype == dtype
        assert np.isfinite(leaf).all()
    step = 1e-4
    for direction in (1 + step, 1 - step) if radius else (1.0,):
        moved = jnp.array(on_circle(radius * direction) if radius else on_circle(step), dtype)
        assert np.abs(field(moved, y).primal - at.primal).max() <= 18 * step * radius + 18 * step
    if radius == 0:
        np.testing.assert_array_equal(
            at.primal, 0
        )  # theory.md, fact 2: grad_x f(x*, y) = 0 for every y


@NAMES
def test_field_stays_finite_far_out_in_float32(name):
    players = jax.tree.map(lambda z: jnp.full(z.shape, 1e15), start(name))
    F, _ = quick(make_game(name).field)(players, (), ())
    assert all(np.isfinite(leaf).all() for leaf in F)


# ---- 4. clean under JAX ----


@NAMES
def test_float32_agrees_with_float64_and_keeps_its_dtype(name, x64):
    game = make_game(name)
    x, y = (z.astype(np.float32) for z in points(name, 500))
    F32, info32 = jax.jit(jax.vmap(lambda x, y: game.field(PrimalDual(x, y), (), ())))(x, y)
    assert F32.primal.dtype == F32.dual.dtype == jnp.float32
    F64, losses64 = evaluate(game, x.astype(np.float64), y.astype(np.float64))
    pairs = jax.tree.leaves((F32, info32.losses)), jax.tree.leaves((F64, losses64))
    for low, high in zip(*pairs, strict=True):
        np.testing.assert_allclose(low, high, rtol=1e-5, atol=1e-5)


@NAMES
def test_losses_of_float32_players_are_float32_in_x64_mode(name, x64):
    players = jax.tree.map(lambda z: z.astype(jnp.float32), start(name))
    _, info = jax.eval_shape(make_game(name).field, players, (), ())
    assert info.losses.primal.dtype == info.losses.dual.dtype == jnp.float32


@NAMES
def test_jit_vmap_and_scan_agree_with_plain_calls_and_compile_once(name):
    game, traces = make_game(name), []

    def step(players, _):
        traces.append(name)
        F, info = game.field(players, (), game.sample(jax.random.key(0)))
        return jax.tree.map(lambda z, f: z - 0.1 * f, players, F), info.losses

    def run(players):
        return lax.scan(step, players, length=3)

    keys = jax.random.split(jax.random.key(0), 3)
    compiled = quick(jax.vmap(run))
    starts = quick(jax.vmap(lambda key: game.init(key)[0]))(keys)
    together = compiled(starts)
    first = len(traces)
    compiled(jax.tree.map(lambda z: z + 1, starts))
    assert first == len(traces) == 1
    once, init = quick(step), quick(game.init)
    for i, key in enumerate(keys):
        players, _ = init(key)
        for t in range(3):
            players, losses = once(players, None)
            for a, b in zip(losses, together[1]):
                np.testing.assert_allclose(b[i, t], a, rtol=1e-5, atol=1e-5)
        for a, b in zip(players, together[0]):
            assert not b.weak_type
            np.testing.assert_allclose(b[i], a, rtol=1e-5, atol=1e-5)


# ---- 5. starts ----

DRAWS = 4000
KOLMOGOROV = 1.95 / math.sqrt(DRAWS)  # one wrong rejection in a thousand


@NAMES
def test_starts_are_drawn_as_documented(name):
    game = make_game(name)
    keys = jax.random.split(jax.random.key(7), DRAWS)
    players, state = quick(jax.vmap(game.init))(keys)
    assert state == ()
    assert game.sample(keys[0]) == ()
    assert all(z.dtype == jnp.float32 for z in players)
    x, y = (np.asarray(z, np.float64) for z in players)
    if name == "carousel":
        np.testing.assert_allclose(np.hypot(*x.T), 1.7, rtol=1e-6)
        turns = np.arctan2(x[:, 1], x[:, 0]) / (2 * np.pi) % 1
        columns, law = np.stack([turns, y[:, 0] / 3], 1), stats.uniform.cdf
    else:
        columns, law = np.concatenate([x, y], 1), stats.norm.cdf
    for column in columns.T:
        assert stats.kstest(column, law).statistic < KOLMOGOROV
    correlations = np.corrcoef(columns.T) - np.eye(columns.shape[1])
    assert np.abs(correlations).max() < 4.5 / math.sqrt(DRAWS)  # nothing shares a key
    again, _ = game.init(keys[3])
    for a, b in zip(again, players):
        np.testing.assert_allclose(b[3], a, rtol=1e-6)


# ---- 6. errors ----

NAN, INF = math.nan, math.inf
BAD = [
    ("bilinear", "dim", 0),
    ("bilinear", "dim", -1),
    ("bilinear", "dim", 2.5),
    ("bilinear", "dim", "four"),
    ("carousel", "c", 1.0),
    ("carousel", "c", NAN),
    ("carousel", "c", INF),
    ("carousel", "omega", 1.0),
    ("carousel", "omega", INF),
    ("carousel", "mu", -1e-9),
    ("carousel", "mu", NAN),
    ("carousel", "radius", 1.0),
    ("carousel", "radius", NAN),
    ("carousel", "c", "large"),
    ("moving_target", "omega", NAN),
    ("moving_target", "omega", INF),
    ("stick_slip", "kappa", NAN),
    ("stick_slip", "amplitude", INF),
    ("stick_slip", "amplitude", 0.0),  # then x* = 0 is a solution, and the facts say there is none
    ("stick_slip", "k", 0.0),
    ("stick_slip", "omega", NAN),
]


@pytest.mark.parametrize(("name", "parameter", "value"), BAD)
def test_a_bad_parameter_is_one_error_that_names_it(name, parameter, value):
    with pytest.raises(ValueError, match=f"^{parameter}={re.escape(repr(value))}: expected "):
        make_game(name, **{parameter: value})


@pytest.mark.parametrize(
    ("name", "parameters", "message"),
    [
        ("carrousel", {}, r"^game='carrousel': expected one of \[.*'wind_log'\] \(did you mean "
                          r"'carousel'\?\)$"),
        ("zzz", {}, r"^game='zzz': expected one of \['bilinear', .*\]$"),
        ("carousel", {"omgea": 2.0}, r"^'omgea' is no parameter of game 'carousel': expected one "
                                     r"of \['c', .*\] \(did you mean 'omega'\?\)$"),
        ("bilinear", {"zzz": 2}, r"^'zzz' is no parameter of game 'bilinear': expected one of "
                                 r"\['dim'\]$"),
    ],
)  # fmt: skip
def test_unknown_names_meet_the_nearest_choice(name, parameters, message):
    with pytest.raises(ValueError, match=message):
        make_game(name, **parameters)


@NAMES
def test_make_game_is_the_factory(name):
    made, direct = make_game(name), GAMES[name]()
    assert str(made.facts) == str(direct.facts)
    key = jax.random.key(1)
    for a, b in zip(made.init(key)[0], direct.init(key)[0]):
        np.testing.assert_array_equal(a, b)
