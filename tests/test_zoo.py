"""Every analytic game against what it states of itself: formulas, constants, conditions."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from compiling import quick

from onesided_jax import PrimalDual, games
from onesided_jax.games import GAMES

SMALL = {  # where the default is larger than a test needs
    "multi_carousel": {"dim": 4},
    "ridge_star": {"dim": 12, "dual_dim": 4, "terms": 40},
    "robust_glm": {"dim": 10, "samples": 24},
    "wind_log": {"dim": 4},
    "strong_wind": {"dim": 5},
}
# Where to look: everywhere interesting, inside the box if there is one.
REACH = 3.0
ROUNDING = 1e-9
ROW = pytest.mark.parametrize("name", GAMES)
ONE_SIDED = {"carousel", "wind_log", "ridge_star", "robust_glm", "multi_carousel", "strong_wind"}


@pytest.fixture(autouse=True)
def x64():
    with jax.enable_x64(True):
        yield


def make(name):
    game = games.make_game(name, **SMALL.get(name, {}))
    return game, game.facts


def mean_field(game):
    """``F`` as a function of a flat ``z``; of a finite sum, its mean over all samples."""
    players, state = game.init(jax.random.key(0))
    shapes = jax.tree.map(jnp.shape, players)
    n = players.primal.size
    exact = isinstance(game.sample(jax.random.key(0)), tuple)
    batches = None if exact else jnp.arange(64)[:, None]  # a finite sum, sample by sample

    def field(z):
        z = PrimalDual(z[:n].reshape(shapes.primal), z[n:].reshape(shapes.dual))
        if batches is None:
            F = game.field(z, state, ())[0]
        else:
            F = jax.tree.map(
                lambda a: jnp.mean(a, 0), jax.vmap(lambda b: game.field(z, state, b)[0])(batches)
            )
        return jnp.concatenate([F.primal.ravel(), F.dual.ravel()])

    return field, n, n + players.dual.size


def points(key, count, size, facts):
    """Random points at many scales, inside the box; half of them with a ``y`` far out."""
    keys = jax.random.split(jax.random.key(key), 3)
    reach = min(REACH, facts.boxes.primal)
    scale = 10 ** jax.random.uniform(keys[0], (count, 1), minval=-2.0, maxval=0.0)
    z = jax.random.uniform(keys[1], (count, size), minval=-reach, maxval=reach)
    return jnp.where(jax.random.bernoulli(keys[2], 0.5, (count, 1)), z, scale * z)


def searcher(value, facts):
    """``worst(z, *numbers)``: the smallest ``value(z, *numbers)`` that the random points ``z`` and
    then projected gradient descent from the worst of them find."""
    reach = min(REACH, facts.boxes.primal)

    @quick
    def worst(z, *numbers):
        values = jax.vmap(lambda z: value(z, *numbers))
        slopes = jax.vmap(jax.grad(lambda z: value(z, *numbers)))
        found = values(z)
        z = z[jnp.argsort(found)[:32]]

        def descend(z, t):
            slope = slopes(z)
            length = jnp.linalg.norm(slope, axis=1, keepdims=True)
            step = 0.1 * 0.95**t * slope / jnp.maximum(length, 1e-30)
            return jnp.clip(z - step, -reach, reach), None

        ends, _ = jax.lax.scan(descend, z, jnp.arange(80))
        return jnp.minimum(found.min(), values(ends).min())

    return worst


@functools.cache
def inequality(name):
    """``worst(key, centre, players, a, b)``: how far ``<gap, F> + a |F|^2 + b |gap|^2`` falls below
    zero, where ``gap = z - centre``, both restricted to the coordinates of ``players``.

    One program per game for the one-sided MVI, the MVI, the weak one and their constants.
    """
    game, facts = make(name)
    field, n, size = mean_field(game)
    mask = {"primal": jnp.arange(size) < n, "dual": jnp.arange(size) >= n, "both": jnp.ones(size)}

    def value(z, centre, chosen, a, b):
        gap, F = chosen * (z - centre), chosen * field(z)
        return gap @ F + a * F @ F + b * gap @ gap

    search = searcher(value, facts)

    def worst(key, centre, players, a=0.0, b=0.0):
        chosen = jnp.asarray(mask[players], float)
        return float(search(points(key, 2048, size, facts), centre, chosen, a, b))

    return worst


def solution(facts, n, size):
    x = np.zeros(n) if facts.primal_solution is None else np.ravel(facts.primal_solution)
    y = np.zeros(size - n) if facts.dual_solution is None else np.ravel(facts.dual_solution)
    return jnp.asarray(np.concatenate([x, y]))


# ---- formulas: hand-written gradients of theory.md, and central differences of f ----


def sigmoid(t):
    return 1 / (1 + np.exp(-t))


def forsaken_slope(z):
    return z / 2 - 2 * z**3 + z**5


def polar_part(u, v):
    return (1 / 3) / 16 * u * (u**2 + v**2 - 1) * (16 * u**2 + 16 * v**2 - 9)


HAND_WRITTEN = {  # name -> (x, y) -> (F_x, F_y)
    "dirac_wgan": lambda x, y: (y, -x),
    "dirac_gan": lambda x, y: (y * sigmoid(-x * y), -x * sigmoid(-x * y)),
    "dirac_non_saturating": lambda x, y: (y * sigmoid(x * y), -x * sigmoid(-x * y)),
    "logarithmic": lambda x, y: (2 * x / (1 + x * x) + y, 2 * y / (1 + y * y) - x),
    "quartic": lambda x, y: (x**3 + y, y**3 - x),
    "forsaken": lambda x, y: (y - 0.45 + forsaken_slope(x), forsaken_slope(y) - x),
    "polar": lambda x, y: (polar_part(x, y) - y, polar_part(y, x) + x),
    "weak_minty": lambda x, y: (-0.2 * x + y, -0.2 * y - x),
    "flip": lambda x, y: (np.sin(x) * np.sin(y), -(1 - np.cos(x)) * np.cos(y) - 2),
    "stick_slip": lambda x, y: (4 * x - 4 * np.sin(4 * x - y), -np.sin(4 * x - y) - 2),
    "moving_target": lambda x, y: (
        x - np.array([np.cos(y[0]), np.sin(y[0])]),
        (x - np.array([np.cos(y[0]), np.sin(y[0])])) @ np.array([-np.sin(y), np.cos(y)]) - 2,
    ),
    "wind_log": lambda x, y: (
        (1.5 + np.sin(y)) * 2 * x / (1 + x * x),
        -np.cos(y) * np.log1p(x * x).sum() - 2,
    ),
    "strong_wind": lambda x, y: (
        (1.5 + np.sin(y[0])) * (2 * x + 3 * np.sin(2 * x)),
        -np.array(
            [
                np.cos(y[0]) * (x**2 + 3 * np.sin(x) ** 2).sum() + 2,
                2 - 0.9 * np.sin(3 * y[1]),
            ]
        ),
    ),
}


@pytest.mark.parametrize("name", HAND_WRITTEN)
def test_field_is_the_formula(name):
    game, facts = make(name)
    field, n, size = mean_field(game)
    where = points(1, 50, size, facts)
    for z, actual in zip(np.asarray(where), quick(jax.vmap(field))(where), strict=True):
        expected = np.concatenate(HAND_WRITTEN[name](z[:n], z[n:]))
        np.testing.assert_allclose(actual, expected, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("name", sorted(set(GAMES) - {"polar", "dirac_non_saturating"}))
def test_zero_sum_field_is_the_gradient_of_its_loss(name):
    game, facts = make(name)
    players, state = game.init(jax.random.key(0))
    batch = game.sample(jax.random.key(1))
    shapes = jax.tree.map(jnp.shape, players)
    n, size = players.primal.size, players.primal.size + players.dual.size

    @quick
    def evaluate(z):
        z = PrimalDual(z[:n].reshape(shapes.primal), z[n:].reshape(shapes.dual))
        F, info = game.field(z, state, batch)
        return jnp.concatenate([F.primal.ravel(), -F.dual.ravel()]), info.losses

    h = 1e-5
    for z in np.asarray(points(2, 8, size, facts)):
        gradient, losses = evaluate(z)
        assert losses.primal == -losses.dual
        numeric = [
            (evaluate(z + h * e)[1].primal - evaluate(z - h * e)[1].primal) / (2 * h)
            for e in np.eye(size)
        ]
        np.testing.assert_allclose(gradient, numeric, rtol=1e-6, atol=1e-7)


def test_the_solution_is_stationary_for_every_dual():
    for name in ("robust_glm", "ridge_star"):
        game, facts = make(name)
        field, n, size = mean_field(game)
        y = np.random.default_rng(0).normal(size=(20, size - n))
        at = jnp.concatenate([jnp.tile(facts.primal_solution, (20, 1)), y], axis=1)
        assert np.abs(jax.vmap(field)(at)[:, :n]).max() < 1e-14  # Fact 2, for every y


# ---- conditions ----


def around(centre):
    """A solution, or where one might be looked for, and others near it."""
    others = np.random.default_rng(0).uniform(-1, 1, size=(4, len(centre)))
    return np.concatenate([centre[None], others])


@ROW
def test_one_sided_mvi_flags_of_both_players(name):
    game, facts = make(name)
    _, n, size = mean_field(game)
    centres = around(np.asarray(solution(facts, n, size)))
    primal, *elsewhere = (inequality(name)(3, centre, "primal") for centre in centres)
    if facts.one_sided_mvi:
        assert primal > -ROUNDING
    else:  # no x* at all: refuted at the solution and elsewhere
        assert max(primal, *elsewhere) < -1e-3
    assert not facts.dual_one_sided_mvi  # no game here has it
    assert max(inequality(name)(4, centre, "dual") for centre in centres) < -1e-3


@pytest.mark.parametrize(("c", "survives"), [(1.01, True), (0.99, False)])
def test_the_search_tells_a_carousel_from_one_that_is_slightly_wrong(c, survives):
    """With ``c < 1`` the hub is uphill for some phases: a search too weak to see it is no check."""

    def objective(x, y):
        s, (a, b), phase = x @ x, x, y[0]
        weight = jnp.where(s <= 1, 2 - s, 1 / jnp.where(s <= 1, 1, s))
        return weight * (c * s + jnp.cos(phase) * (a * a - b * b) + 2 * jnp.sin(phase) * a * b)

    search = searcher(lambda z: z[:2] @ jax.grad(objective)(z[:2], z[2:]), make("carousel")[1])
    found = search(points(3, 2048, 3, make("carousel")[1]))
    assert (found > -ROUNDING) if survives else (found < -1e-3)


@ROW
def test_mvi_and_weak_mvi_flags(name):
    game, facts = make(name)
    field, n, size = mean_field(game)
    z_star = solution(facts, n, size)
    if facts.dual_solution is not None:
        assert np.abs(field(z_star)).max() < 1e-12
    else:  # no y*: the dual's gradient does not vanish where the primal's does
        assert not facts.mvi
    # rho = 0 is the MVI itself; 5% below a stated constant it must fail.
    rho = facts.weak_mvi or 0.0
    plain, stated, less = (
        inequality(name)(5, z_star, "both", share * rho / 2) for share in (0.0, 1.0, 0.95)
    )
    assert (plain > -ROUNDING) if facts.mvi else (plain < -1e-3)
    assert (facts.weak_mvi == 0.0) == facts.mvi
    if facts.weak_mvi is not None:
        assert stated > -ROUNDING
        assert facts.mvi or less < -1e-3


@ROW
def test_monotone_flag(name):
    game, facts = make(name)
    field, _, size = mean_field(game)

    def bend(pair):  # <z - z', F(z) - F(z')> of two points
        return (pair[:size] - pair[size:]) @ (field(pair[:size]) - field(pair[size:]))

    found = searcher(bend, facts)(points(7, 2048, 2 * size, facts))
    assert (found > -ROUNDING) if facts.monotone else (found < -1e-3)


@pytest.mark.parametrize("name", sorted(ONE_SIDED))
def test_one_sided_constants(name):
    game, facts = make(name)
    field, n, size = mean_field(game)
    x_star = solution(facts, n, size)[:n]
    assert facts.one_sided_mvi
    assert facts.dual_solution is None

    c, mu = facts.star_cocoercivity or 0.0, facts.strong_mvi or 0.0
    z_star = solution(facts, n, size)
    assert inequality(name)(8, z_star, "primal", -c, 0.0) > -ROUNDING
    assert inequality(name)(8, z_star, "primal", 0.0, -mu) > -ROUNDING
    if mu:  # and the constant is sharp, where the wells are flattest
        flattest = jnp.concatenate([jnp.full(n, 2.2467), jnp.array([-np.pi / 2, 0.0])])
        F, gap = field(flattest)[:n], flattest[:n] - x_star
        assert 0 <= gap @ F - mu * gap @ gap < 1e-2
    assert (facts.star_cocoercivity is None) == ("carousel" in name)
    # Fact 2: x* is dominant and stationary against every y; the dual never rests.
    z = points(9, 256, size, facts).at[:, :n].set(x_star)
    F = jax.vmap(field)(z)
    assert np.abs(F[:, :n]).max() < 1e-13
    assert np.linalg.norm(F[:, n:], axis=1).min() > 1e-3


def test_the_registry_names_all_one_sided_games():
    assert {name for name in GAMES if make(name)[1].one_sided_mvi} == ONE_SIDED


# ---- constants ----


@ROW
def test_lipschitz_constants_bound_the_jacobian_on_the_box(name):
    game, facts = make(name)
    field, n, size = mean_field(game)

    @quick
    def norms():
        J = jax.vmap(jax.jacfwd(field))(points(10, 512, size, facts))
        norm = lambda a: jnp.linalg.norm(a, 2, axis=(-2, -1)).max()  # noqa: E731
        return norm(J[:, :n, :n]), norm(J[:, :n, n:]), norm(J)

    xx, xy, joint = map(float, norms())
    room = 1 + 1e-9
    assert xx <= facts.lipschitz_xx * room
    assert xy <= facts.lipschitz_xy * room
    # Not idle: within a factor that sampling explains (matrices in high dimension: more).
    generous = 30 if name in {"ridge_star", "robust_glm", "wind_log", "strong_wind"} else 4
    assert facts.lipschitz_xy <= generous * max(xy, 0.25)
    if facts.lipschitz is not None:
        assert joint <= facts.lipschitz * room
        assert facts.lipschitz <= generous * joint


# ---- noise ----


def sampled_variance(game, players, count=4000):
    keys = jax.random.split(jax.random.key(0), count)
    _, state = game.init(jax.random.key(0))
    F = quick(jax.vmap(lambda key: game.field(players, state, game.sample(key))[0].primal))(keys)
    return float(jnp.mean(jnp.sum((F - F.mean(0)[None]) ** 2, axis=1))), F.mean(0)


def test_additive_noise_has_the_stated_variance_and_no_bias():
    game = games.carousel()
    noisy = games.with_noise(game, 0.3)
    players, state = game.init(jax.random.key(3))
    variance, mean = sampled_variance(noisy, players)
    assert noisy.facts.noise_variance == pytest.approx(2 * 0.3**2)
    np.testing.assert_allclose(variance, noisy.facts.noise_variance, rtol=0.1)
    np.testing.assert_allclose(mean, game.field(players, state, ())[0].primal, atol=0.03)
    twice = games.with_noise(noisy, 0.4)
    assert twice.facts.noise_variance == pytest.approx(2 * 0.5**2)
    silent = games.with_noise(game, 0.0)
    F, _ = silent.field(players, state, silent.sample(jax.random.key(0)))
    np.testing.assert_array_equal(F.primal, game.field(players, state, ())[0].primal)


@pytest.mark.parametrize(
    "game",
    [
        games.robust_glm(dim=6, samples=20, batch_size=2),
        games.finite_sum_bilinear(dim=3, samples=20, batch_size=2),
    ],
    ids=["robust_glm", "finite_sum_bilinear"],
)
def test_minibatches_are_unbiased_within_the_stated_variance(game):
    players, state = game.init(jax.random.key(3))
    players = jax.tree.map(
        lambda a: jnp.clip(a, -game.facts.boxes.primal, game.facts.boxes.primal), players
    )
    variance, mean = sampled_variance(game, players)
    assert 0 < variance <= game.facts.noise_variance
    singles = jax.vmap(lambda i: game.field(players, state, i[None])[0].primal)(jnp.arange(20))
    np.testing.assert_allclose(mean, singles.mean(0), atol=4 * np.sqrt(variance / 4000))
    # Batches of two have half the variance of one sample, which is known exactly here.
    exact = float(jnp.mean(jnp.sum((singles - singles.mean(0)[None]) ** 2, axis=1))) / 2
    np.testing.assert_allclose(variance, exact, rtol=0.1)


def test_label_noise_takes_the_condition_away():
    clean, noisy = (games.robust_glm(dim=4, samples=8, label_noise=s).facts for s in (0.0, 0.5))
    assert clean.one_sided_mvi
    assert not noisy.one_sided_mvi
    assert noisy.primal_solution is None


# ---- dtypes, transformations, mistakes, the list ----


@ROW
def test_float32_vmap_and_jit(name):
    game, _ = make(name)
    with jax.enable_x64(False):

        @quick
        def batch_of(keys):
            def one(key):
                players, state = game.init(key)
                return players, game.field(players, state, game.sample(key))

            return jax.vmap(one)(keys)

        players, (F, info) = batch_of(jax.random.split(jax.random.key(0), 3))
    for a, b in zip(jax.tree.leaves(F), jax.tree.leaves(players), strict=True):
        assert (a.shape, a.dtype) == (b.shape, np.float32)
        assert np.isfinite(a).all()
    assert info.losses.primal.shape == (3,)
    assert np.isnan(info.losses.primal).all() == (name == "polar")


@ROW
def test_no_dtype_is_promoted_in_silence(name):
    with jax.enable_x64(False), jax.numpy_dtype_promotion("strict"):
        game, key = make(name)[0], jax.random.key(0)
        players, state = jax.eval_shape(game.init, key)
        batch = jax.eval_shape(game.sample, key)
        F, info = jax.eval_shape(game.field, players, state, batch)
    assert {a.dtype for a in jax.tree.leaves((F, info.losses))} == {np.dtype("float32")}


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: games.multi_carousel(dim=1), ("dim=1", "integer >= 2")),
        (lambda: games.multi_carousel(kappa=0.7), ("kappa=0.7", "[0, 0.5]")),
        (lambda: games.wind_log(dim=True), ("dim=True", "integer >= 1")),
        (lambda: games.wind_log(omega=0), ("omega=0", "> 0")),
        (lambda: games.weak_minty(a=-1.0), ("a=-1.0", "> 0")),
        (lambda: games.weak_minty(b=float("nan")), ("b=nan", "finite")),
        (lambda: games.dirac_non_saturating(r1="1"), ("r1='1'", "finite number")),
        (lambda: games.robust_glm(batch_size=0), ("batch_size=0", "integer >= 1")),
        (lambda: games.with_noise(games.quadratic(), -1), ("std=-1", ">= 0")),
        (lambda: games.make_game("forsake"), ("forsake", "did you mean 'forsaken'")),
    ],
)
def test_bad_parameters_are_named(call, words):
    with pytest.raises(ValueError) as caught:
        call()
    assert all(word in str(caught.value) for word in words)


def test_numpy_scalars_are_numbers():
    assert games.carousel(omega=np.float32(4.0)).facts.one_sided_mvi
    assert games.bilinear(dim=np.int64(2)).facts.mvi
