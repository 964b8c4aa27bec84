"""Spectrum, path-angle and alignment against formulas, NumPy and each other."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import onesided_jax as osj
from onesided_jax import Game, PrimalDual, games
from onesided_jax.games import zero_sum_field
from onesided_jax.theory import alignment, jacobian_spectrum, path_angle


@pytest.fixture(autouse=True)
def x64():
    with jax.enable_x64(True):
        yield


def start(game, seed=0):
    return game.init(jax.random.key(seed))[0]


def flat(players):
    return np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(players)])


def jacobian(game, players, state=(), batch=None, h=1e-5):
    """Central differences, one entry at a time; at a base point in float64."""
    batch = game.sample(jax.random.key(0)) if batch is None else batch
    z, unravel = jax.flatten_util.ravel_pytree(players)
    field = jax.jit(
        lambda z: jax.flatten_util.ravel_pytree(game.field(unravel(z), state, batch)[0])[0]
    )
    columns = [(field(z + h * e) - field(z - h * e)) / (2 * h) for e in jnp.eye(z.size)]
    return np.stack([np.asarray(c) for c in columns], axis=1)


def same_set(found, expected, atol):
    """As multisets: pairs nearest neighbours, without the order that rounding decides."""
    found, expected = list(np.asarray(found)), list(np.asarray(expected))
    assert len(found) == len(expected)
    for value in found:
        nearest = int(np.argmin(np.abs(np.array(expected) - value)))
        assert abs(expected.pop(nearest) - value) <= atol


# ---- the spectrum: known answers ----


def test_bilinear_is_pure_rotation():
    game = games.bilinear()
    values, residuals, method = jacobian_spectrum(game, start(game))
    sigma = np.linspace(1.0, 0.4, 4)
    expected = np.stack([1j * sigma, -1j * sigma], axis=1).ravel()  # pairs, the upper one first
    np.testing.assert_allclose(values, expected, rtol=0, atol=1e-14)
    assert (residuals == 0).all()
    assert method == "dense"


@pytest.mark.parametrize("method", ["dense", "arnoldi"])
def test_quadratic_is_its_matrix(method):
    game = games.quadratic()
    A = np.random.default_rng(1).normal(size=(3, 3))
    A /= np.linalg.norm(A, 2)
    P, Q = np.diag([1.0, 0.5, 0.25]), np.diag([0.5, 1.0, 0.75])
    expected = np.linalg.eigvals(np.block([[P, A], [-A.T, Q]]))
    found = jacobian_spectrum(game, start(game), method=method).eigenvalues
    same_set(found, expected, 1e-13)
    assert (np.diff(np.abs(found)) <= 1e-13).all()
    assert (found.real > 0).all()  # strongly monotone


@pytest.mark.parametrize("method", ["dense", "arnoldi"])
def test_weak_minty_repels(method):
    game = games.weak_minty(a=0.3, b=2.0)
    found = jacobian_spectrum(game, start(game), method=method)
    np.testing.assert_allclose(found.eigenvalues, [-0.3 + 2j, -0.3 - 2j], rtol=0, atol=1e-14)


@pytest.mark.parametrize("r1", [0.0, 0.3])
def test_dirac_non_saturating_at_its_solution(r1):
    game = games.dirac_non_saturating(r1=r1)
    at = PrimalDual(jnp.zeros(1), jnp.zeros(1))
    expected = np.linalg.eigvals(np.array([[0.0, 0.5], [-0.5, r1]]))
    same_set(jacobian_spectrum(game, at).eigenvalues, expected, 1e-15)


def test_a_players_block_is_its_hessian():
    game = games.quadratic()
    players = start(game)
    for method in ("dense", "arnoldi"):
        primal = jacobian_spectrum(game, players, player="primal", method=method)
        dual = jacobian_spectrum(game, players, player="dual", method=method)
        np.testing.assert_allclose(primal.eigenvalues, [1.0, 0.5, 0.25], atol=1e-13)
        np.testing.assert_allclose(dual.eigenvalues, [1.0, 0.75, 0.5], atol=1e-13)


def test_trees_and_shapes_of_players():
    def objective(x, y):
        return 0.5 * jnp.sum(x["a"] ** 2) + x["b"] * y - y**2

    game = Game(lambda key: None, lambda key: (), zero_sum_field(objective))
    players = PrimalDual({"a": np.ones((2, 2)), "b": 1.0}, 2)  # NumPy, float and integer
    found = jacobian_spectrum(game, players).eigenvalues
    same_set(found, [1, 1, 1, 1, 1, 1], 1e-7)  # [[0, 1], [-1, 2]] is defective: root of rounding


@pytest.mark.parametrize("name", ["logarithmic", "forsaken", "polar", "carousel", "stick_slip"])
def test_curved_games_against_central_differences(name):
    game = games.make_game(name)
    players = start(game, 3)
    expected = np.linalg.eigvals(jacobian(game, players))
    same_set(jacobian_spectrum(game, players).eigenvalues, expected, 1e-7)


# ---- the spectrum: Arnoldi ----


def test_all_steps_of_arnoldi_are_the_dense_spectrum():
    game = games.ridge_star()
    players = start(game)
    dense = jacobian_spectrum(game, players, method="dense")
    arnoldi = jacobian_spectrum(game, players, method="arnoldi", count=60)
    assert arnoldi.method == "arnoldi"
    same_set(arnoldi.eigenvalues, dense.eigenvalues, 1e-12)
    assert arnoldi.residuals.max() < 1e-12


def test_leading_eigenvalues_of_a_larger_game():
    game = games.robust_glm()
    players = start(game)
    dense = jacobian_spectrum(game, players).eigenvalues
    found = jacobian_spectrum(game, players, method="arnoldi", count=100)
    converged = found.residuals < 1e-9
    assert converged[:10].all()
    assert not converged.all()
    np.testing.assert_allclose(found.eigenvalues[:10], dense[:10], rtol=0, atol=1e-6)
    for value in found.eigenvalues[converged]:
        assert np.abs(dense - value).min() < 1e-6


def test_residuals_are_those_of_the_ritz_vectors():
    """The same Krylov space by QR in NumPy, Ritz vectors, and their residuals measured."""
    game, count, key = games.ridge_star(), 12, jax.random.key(7)
    players = start(game)
    J = jacobian(game, players)
    v = np.asarray(jax.random.normal(jax.random.fold_in(key, 0), (60,), jnp.float64))
    basis = (v / np.linalg.norm(v))[:, None]
    while basis.shape[1] < count:
        basis, _ = np.linalg.qr(np.column_stack([basis, J @ basis[:, -1]]))
    values, y = np.linalg.eig(basis.T @ J @ basis)
    expected = np.linalg.norm(J @ basis @ y - basis @ y * values, axis=0)
    found = jacobian_spectrum(game, players, method="arnoldi", count=count, key=key)
    assert expected.max() > 1e-3  # not converged, and known not to be
    for value, residual in zip(found.eigenvalues, found.residuals):
        nearest = np.argmin(np.abs(values - value))
        np.testing.assert_allclose(value, values[nearest], rtol=0, atol=1e-7)
        np.testing.assert_allclose(residual, expected[nearest], rtol=1e-4, atol=1e-8)


@pytest.mark.parametrize("count", [5, 40])
def test_residuals_bound_the_distance_to_singularity(count):
    """``sigma_min(J - lambda) <= ||J v - lambda v||`` whatever ``v`` is; large games by default."""
    game = games.bilinear(dim=300)
    found = jacobian_spectrum(game, start(game), count=count)
    assert found.method == "arnoldi"
    assert found.eigenvalues.shape == found.residuals.shape == (count,)
    sigma = np.linspace(1.0, 0.4, 300)  # J is normal: sigma_min is the distance to the spectrum
    spectrum = np.concatenate([1j * sigma, -1j * sigma])
    distance = np.abs(found.eigenvalues[:, None] - spectrum).min(1)
    assert (distance <= found.residuals + 1e-14).all()


def test_arnoldi_goes_on_after_an_invariant_subspace():
    """Multiple eigenvalues, and a Jacobian of zeros: every Krylov space is small."""

    def objective(x, y):
        return 1.5 * jnp.sum(x**2) + y @ y

    game = Game(lambda key: None, lambda key: (), zero_sum_field(objective))
    players = PrimalDual(jnp.ones(4), jnp.ones(3))
    found = jacobian_spectrum(game, players, method="arnoldi")
    np.testing.assert_allclose(found.eigenvalues, [3.0] * 4 + [-2.0] * 3, atol=1e-13)
    np.testing.assert_allclose(found.residuals, 0, atol=1e-13)
    game = Game(lambda key: None, lambda key: (), zero_sum_field(lambda x, y: x.sum() - y.sum()))
    assert (jacobian_spectrum(game, players, method="arnoldi").eigenvalues == 0).all()


@pytest.mark.parametrize("method", ["dense", "arnoldi"])
def test_float32_stays_float32(method):
    game = games.ridge_star(dim=12, dual_dim=4, terms=40)
    players = start(game)
    exact = jacobian_spectrum(game, players).eigenvalues
    players = jax.tree.map(lambda a: a.astype(jnp.float32), players)
    found = jacobian_spectrum(game, players, method=method)
    assert (found.eigenvalues.dtype, found.residuals.dtype) == (np.complex64, np.float32)
    same_set(found.eigenvalues, exact, 1e-5)
    J = jacobian(game, jax.tree.map(lambda a: a.astype(jnp.float64), players))
    for value, residual in zip(found.eigenvalues, found.residuals):  # never below the rounding
        smallest = np.linalg.svd(J - value * np.eye(16), compute_uv=False)[-1]
        assert smallest <= (10 * residual if method == "arnoldi" else 1e-6)
    with jax.enable_x64(False):
        assert jacobian_spectrum(game, players, method=method).eigenvalues.dtype == np.complex64
    angle = path_angle(game, players, game.init(jax.random.key(1))[0])
    assert {a.dtype for a in angle} == {jnp.dtype("float32")}
    assert {a.dtype for a in alignment(game, players)} == {jnp.dtype("float32")}


@pytest.mark.parametrize("method", ["dense", "arnoldi"])
def test_a_point_that_is_not_finite(method):
    game = games.logarithmic()
    found = jacobian_spectrum(
        game, PrimalDual(jnp.array([jnp.nan]), jnp.ones(1)), count=2, method=method
    )
    assert np.isnan(found.eigenvalues).all()
    assert found.residuals.shape == (2,)


def test_minibatches_and_keys():
    game = games.finite_sum_bilinear()
    players = start(game)
    default = jacobian_spectrum(game, players).eigenvalues
    same = jacobian_spectrum(game, players, batch=game.sample(jax.random.key(0))).eigenvalues
    other = jacobian_spectrum(game, players, batch=game.sample(jax.random.key(2))).eigenvalues
    assert (default == same).all()
    assert np.abs(default - other).max() > 1e-3
    game = games.ridge_star()
    a, b = (
        jacobian_spectrum(
            game, start(game), method="arnoldi", count=8, key=jax.random.key(i)
        ).eigenvalues
        for i in (0, 1)
    )
    assert np.abs(a - b).max() > 1e-6


def tiny_gan(loss):
    generator, discriminator = osj.networks.mlp((2,), latent_dim=2, width=3, depth=1)
    game = games.gan(
        generator=generator,
        discriminator=discriminator,
        loss=loss,
        data=osj.datasets.load("ring"),
        batch_size=16,
        latent_dim=2,
    )
    players, state = game.init(jax.random.key(0))
    return game, jax.tree.map(lambda a: a.astype(jnp.float64), players), state


@pytest.mark.parametrize("loss", ["non_saturating", "wasserstein_gp"])
def test_a_gan_without_its_matrix(loss):
    """The shared backward pass and the gradient penalty can both be differentiated again."""
    game, players, state = tiny_gan(loss)
    n = flat(players).size
    found = jacobian_spectrum(game, players, state=state, method="arnoldi", count=n)
    J = jacobian(game, players, state, h=1e-6)
    scale = np.linalg.norm(J, 2)
    # Backward stability: each is an eigenvalue of a matrix near J (many are multiple zeros).
    for value in found.eigenvalues:
        assert np.linalg.svd(J - value * np.eye(n), compute_uv=False)[-1] < 1e-6 * scale
    np.testing.assert_allclose(found.eigenvalues.sum(), np.trace(J), rtol=0, atol=1e-6 * scale)
    dense = jacobian_spectrum(game, players, state=state).eigenvalues
    large = np.abs(dense) > 0.05 * scale
    same_set(found.eigenvalues[: large.sum()], dense[large], 1e-8 * scale)
    block = jacobian_spectrum(game, players, state=state, player="dual", method="arnoldi")
    assert block.eigenvalues.shape == (flat(players.dual).size,)
    assert np.abs(block.eigenvalues.imag).max() < 1e-9 * scale  # a Hessian is symmetric


# ---- the path-angle ----


def hill(objective):
    return Game(lambda key: None, lambda key: (), zero_sum_field(objective))


def pair(x, y):
    return PrimalDual(jnp.asarray([x], float), jnp.asarray([y], float))


def test_attraction_switches_the_sign_at_the_solution():
    """The field of (x^2 - y^2)/2 is the identity: straight to the solution."""
    game = hill(lambda x, y: 0.5 * jnp.sum(x**2) - 0.5 * jnp.sum(y**2))
    begin, solution = pair(2.0, -1.0), pair(0.0, 0.0)
    alphas, cosine, norm = path_angle(game, begin, solution)
    assert alphas.shape == cosine.shape == norm.shape == (41,)
    np.testing.assert_allclose(alphas, np.linspace(-0.25, 1.25, 41), atol=1e-15)
    np.testing.assert_allclose(cosine, np.sign(1 - alphas), atol=1e-14)
    np.testing.assert_allclose(norm, np.sqrt(5) * np.abs(1 - alphas), atol=1e-14)
    away = hill(lambda x, y: -0.5 * jnp.sum(x**2) + 0.5 * jnp.sum(y**2))
    np.testing.assert_allclose(path_angle(away, begin, solution).cosine, -cosine, atol=1e-14)


def test_at_the_solution_itself_the_cosine_is_zero():
    game = hill(lambda x, y: 0.5 * jnp.sum(x**2) - 0.5 * jnp.sum(y**2))
    found = path_angle(game, pair(2.0, -1.0), pair(0.0, 0.0), points=3, span=(0.5, 1.5))
    np.testing.assert_allclose(found.cosine, [1, 0, -1], atol=1e-14)
    assert found.norm[1] == 0
    tiny = path_angle(game, pair(2e-200, -1e-200), pair(0.0, 0.0), points=2, span=(0.0, 0.5))
    np.testing.assert_allclose(tiny.cosine, 1, atol=1e-14)  # squares underflow, cosines do not


def test_rotation_is_zero_on_a_line_through_the_centre_and_a_bump_beside_it():
    game = games.dirac_wgan()
    begin, end = pair(3.0, -4.0), pair(-0.3, 0.4)
    np.testing.assert_allclose(path_angle(game, begin, end).cosine, 0, atol=1e-15)
    # From (5, d) to (0, d): the origin lies d beside the line, s ahead of the point.
    d = 0.3
    for side in (1, -1):
        alphas, cosine, _ = path_angle(game, pair(5.0, side * d), pair(0.0, side * d))
        s = 5 * (1 - alphas)
        np.testing.assert_allclose(cosine, side * d / np.sqrt(s**2 + d**2), atol=1e-14)
        assert abs(alphas[np.argmax(np.abs(cosine))] - 1) < 0.02
    attraction = hill(lambda x, y: 0.5 * jnp.sum(x**2) - 0.5 * jnp.sum(y**2))
    cosine = path_angle(attraction, pair(5.0, d), pair(0.0, d)).cosine
    np.testing.assert_allclose(cosine, s / np.sqrt(s**2 + d**2), atol=1e-14)


def test_path_angle_of_the_logarithmic_game_in_numpy():
    game = games.logarithmic()
    begin, end = pair(1.3, -0.7), pair(-0.2, 0.1)
    w0, w1 = flat(begin), flat(end)
    alphas, cosine, norm = path_angle(game, begin, end, points=17, span=(-1, 2))
    for alpha, c, length in zip(np.linspace(-1, 2, 17), cosine, norm):
        x, y = (1 - alpha) * w0 + alpha * w1
        F = np.array([2 * x / (1 + x * x) + y, 2 * y / (1 + y * y) - x])
        expected = (w0 - w1) @ F / np.linalg.norm(w0 - w1) / np.linalg.norm(F)
        np.testing.assert_allclose(c, expected, atol=1e-13)
        np.testing.assert_allclose(length, np.linalg.norm(F), rtol=1e-13)
    np.testing.assert_allclose(alphas, np.linspace(-1, 2, 17), atol=1e-15)


def test_path_angle_of_a_gan():
    game, begin, state = tiny_gan("non_saturating")
    end = jax.tree.map(lambda a: 0.9 * a + 0.1, begin)
    batch = game.sample(jax.random.key(5))
    found = path_angle(game, begin, end, state=state, batch=batch, points=3, span=(0, 1))
    F = flat(game.field(end, state, batch)[0])
    line = flat(begin) - flat(end)
    expected = line @ F / np.linalg.norm(line) / np.linalg.norm(F)
    np.testing.assert_allclose(found.cosine[-1], expected, rtol=1e-6)


# ---- alignment ----


def many(game, count=200):
    return jax.vmap(game.init)(jax.random.split(jax.random.key(0), count))[0]


def test_alignment_of_the_textbook_games():
    found = alignment(games.bilinear(), many(games.bilinear()), axes=1)
    np.testing.assert_allclose(found.both, 0, atol=1e-14)
    game = games.quadratic()
    both, primal, dual = alignment(game, many(game), axes=1)
    assert both.shape == primal.shape == dual.shape == (200,)
    assert both.min() > 0.1  # strongly monotone
    assert primal.min() < 0  # but not one-sided
    assert dual.min() < 0
    game = games.weak_minty()
    np.testing.assert_allclose(
        alignment(game, many(game), axes=1).both, -0.2 / np.hypot(0.2, 1), atol=1e-14
    )


def test_alignment_on_the_carousel():
    game = games.carousel()
    angle, phase = np.random.default_rng(0).uniform(0, 2 * np.pi, (2, 500))
    direction = np.stack([np.cos(angle), np.sin(angle)], axis=-1)

    def at(radius):
        return alignment(game, PrimalDual(radius * direction, phase[:, None]), axes=1)

    for radius in (1.01, 1.5, 1.99):  # the ring: the condition holds with equality
        both, primal, dual = at(radius)
        np.testing.assert_allclose(primal, 0, atol=1e-11)
        assert np.isnan(dual).all()
        assert np.isnan(both).all()
    for radius in (0.01, 0.5, 0.9, 2.1, 4.0):
        assert at(radius).primal.min() > 1e-3


def test_alignment_in_numpy_with_axes_and_without():
    game = games.quadratic()
    players = jax.tree.map(lambda a: a.reshape(4, 50, 3), many(game))
    solution = PrimalDual(np.full(3, 0.5), np.array([1.0, 2.0, 3.0]))
    found = alignment(game, players, solution, axes=2)
    assert found.both.shape == (4, 50)
    z = jax.tree.map(lambda a: a[2, 7], players)
    F, _ = game.field(z, (), ())
    away = jax.tree.map(np.subtract, z, solution)

    def cosine(a, b):
        return a @ b / np.linalg.norm(a) / np.linalg.norm(b)

    expected = [cosine(flat(away), flat(F)), *map(cosine, away, F)]
    np.testing.assert_allclose([part[2, 7] for part in found], expected, atol=1e-14)
    np.testing.assert_allclose(alignment(game, z, solution), expected, atol=1e-14)
    one = alignment(game, z, PrimalDual(None, solution.dual))
    np.testing.assert_allclose(one, [np.nan, np.nan, expected[2]], atol=1e-14)


def test_alignment_at_the_solution_is_zero():
    game = games.quadratic()
    at = PrimalDual(game.facts.primal_solution, game.facts.dual_solution)
    assert [float(part) for part in alignment(game, at)] == [0, 0, 0]
    carousel = games.carousel()
    tiny = PrimalDual(jnp.array([3e-200, 4e-200]), jnp.ones(1))
    assert alignment(carousel, tiny).primal > 0.1


def test_no_runs_give_no_numbers():
    game = games.carousel()
    empty = jax.tree.map(lambda a: a[:0], many(game, 1))
    assert alignment(game, empty, axes=1).primal.shape == (0,)


# ---- compiled once ----


def test_second_calls_do_not_trace_the_field_again():
    traces = []
    inner = games.ridge_star(dim=12, dual_dim=4, terms=40)

    def field(players, state, batch):
        traces.append(None)
        return inner.field(players, state, batch)

    game = dataclasses.replace(inner, field=field)
    first, second, third = (start(game, seed) for seed in range(3))
    calls = {
        "dense": lambda z: jacobian_spectrum(game, z),
        "arnoldi": lambda z: jacobian_spectrum(game, z, method="arnoldi", count=6),
        "block": lambda z: jacobian_spectrum(game, z, player="primal"),
        "path": lambda z: path_angle(game, z, third),
        "one": lambda z: alignment(game, z),
        "many": lambda z: alignment(
            game, jax.tree.map(lambda a, b: jnp.stack([a, b]), z, third), axes=1
        ),
    }
    for name, call in calls.items():
        traces.clear()
        call(first)
        assert traces, name
        traces.clear()
        call(second)
        assert not traces, name
    jacobian_spectrum(game, first, method="arnoldi", count=6, key=jax.random.key(9))
    path_angle(game, first, third, span=(0.0, 2.0))
    assert not traces  # neither does another key or span


# ---- errors ----

QUADRATIC = games.quadratic()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"method": "densse"}, r"method='densse': expected one of .*mean 'dense'\?"),
        ({"player": "Primal"}, r"player='Primal': expected one of .*mean 'primal'\?"),
        ({"player": "generator"}, "player='generator': expected one of .*'both', 'primal', 'dual'"),
        ({"count": 0}, "count=0: expected an integer from 1 to 6, nearest valid: 1"),
        ({"count": 7}, "count=7: expected an integer from 1 to 6, nearest valid: 6"),
        ({"count": 4, "player": "dual"}, "count=4: expected an integer from 1 to 3"),
        ({"count": 2.5}, "count=2.5: expected an integer from 1 to 6"),
        ({"count": True}, "count=True"),
    ],
)
def test_spectrum_says_what_is_wrong(options, message):
    with pytest.raises(ValueError, match=message):
        jacobian_spectrum(QUADRATIC, start(QUADRATIC), **options)


def test_players_that_are_not_the_games():
    x, y = start(QUADRATIC)
    scalar = lambda z, s, b: (PrimalDual(0.0, z.dual), None)  # noqa: E731
    with pytest.raises(ValueError, match=r"players: expected a PrimalDual, got tuple"):
        jacobian_spectrum(QUADRATIC, (x, y))
    with pytest.raises(ValueError, match="does not take these players"):
        jacobian_spectrum(QUADRATIC, PrimalDual(x[:2], y))
    with pytest.raises(ValueError, match="does not take these players, state"):
        jacobian_spectrum(*tiny_gan("minimax")[:2])  # without its state
    with pytest.raises(ValueError, match=r"the field.primal of shape \(\): .*players.primal"):
        jacobian_spectrum(dataclasses.replace(QUADRATIC, field=scalar), PrimalDual(x, y))


def test_path_angle_says_what_is_wrong():
    x, y = start(QUADRATIC)
    end = PrimalDual(x + 1, y)
    for changed, message in (
        ({"end": PrimalDual(x[:2], y)}, r"end.primal of shape \(2,\): expected \(3,\), .*start"),
        ({"end": PrimalDual({"x": x}, y)}, "end: expected the structure of start"),
        ({"end": PrimalDual(x, y)}, "start and end are equal"),
        ({"points": 1}, "points=1: expected an integer >= 2, nearest valid: 2"),
        ({"span": (1.0, 0.0)}, r"span=\(1.0, 0.0\): expected two finite numbers"),
        ({"span": (0.0, float("inf"))}, "span="),
        ({"span": (0.0, 0.5, 1.0)}, "span="),
    ):
        with pytest.raises(ValueError, match=message):
            path_angle(QUADRATIC, PrimalDual(x, y), **{"end": end, **changed})


def test_alignment_says_what_is_wrong():
    game = games.moving_target()  # a control without solutions
    with pytest.raises(ValueError, match=r"no x\* and no y\*: pass solution=PrimalDual"):
        alignment(game, start(game))
    with pytest.raises(ValueError, match=r"no x\*"):
        alignment(dataclasses.replace(QUADRATIC, facts=None), start(QUADRATIC))
    centre = alignment(game, start(game), PrimalDual(np.zeros(2), None))
    assert np.isfinite(centre.primal)
    x, y = start(QUADRATIC)
    with pytest.raises(ValueError, match=r"solution.primal of shape \(2,\): expected \(3,\)"):
        alignment(QUADRATIC, PrimalDual(x, y), PrimalDual(np.zeros(2), None))
    with pytest.raises(ValueError, match="axes=2: expected an integer from 0 to 1"):
        alignment(QUADRATIC, PrimalDual(x, y), axes=2)
    with pytest.raises(ValueError, match="axes=1: expected the same leading axes"):
        alignment(QUADRATIC, PrimalDual(jnp.ones((5, 3)), jnp.ones((4, 3))), axes=1)
    with pytest.raises(ValueError, match=r"solution.primal of shape \(3,\): expected \(5, 3\)"):
        alignment(QUADRATIC, PrimalDual(jnp.ones((5, 3)), jnp.ones((5, 3))))
