"""Constrained problems: known solutions and multipliers, projections, and honest readings."""

from __future__ import annotations

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from compiling import quick
from jax import lax
from optimizer_table import EVERY, make, step

import onesided_jax as osj
from onesided_jax import PrimalDual
from onesided_jax.games import Multipliers, feasibility, lagrangian

KEY = jax.random.key(0)
rng = np.random.default_rng(0)
A, B = rng.normal(size=(2, 4)), rng.normal(size=2)


@pytest.fixture
def x64():
    with jax.enable_x64(True):
        yield


def start(*shape):
    return lambda key: jnp.zeros(shape, float)


# name: (game of a penalty, x*, multipliers)
PROBLEMS = {
    "an active inequality": (
        lambda **kw: lagrangian(lambda x: x @ x, start(2), inequality=lambda x: 1 - x.sum(), **kw),
        np.array([0.5, 0.5]),
        Multipliers(np.array(1.0)),
    ),
    "an inactive inequality": (
        lambda **kw: lagrangian(lambda x: (x - 1) ** 2, start(), inequality=lambda x: x - 3, **kw),
        np.array(1.0),
        Multipliers(np.array(0.0)),
    ),
    "the least norm solution of A x = b": (
        lambda **kw: lagrangian(lambda x: x @ x, start(4), equality=lambda x: A @ x - B, **kw),
        np.linalg.pinv(A) @ B,
        Multipliers((), -2 * np.linalg.solve(A @ A.T, B)),
    ),
    "both, as a tree": (
        lambda **kw: lagrangian(
            lambda x: x["a"] ** 2 + 2 * x["b"] ** 2,
            lambda key: {"a": jnp.zeros(()), "b": jnp.zeros(())},
            inequality=lambda x: {"cap": x["a"] - 1, "loose": -x["b"] - 5},
            equality=lambda x: x["a"] + x["b"] - 3,
            **kw,
        ),
        {"a": np.array(1.0), "b": np.array(2.0)},
        Multipliers({"cap": np.array(6.0), "loose": np.array(0.0)}, np.array(-8.0)),
    ),
}
METHODS = {
    "sgda": osj.sgda,
    "extra_sgd": osj.extra_sgd,
    "alex_gda": osj.alex_gda,
    "extra_adam": partial(osj.extra_adam, b1=0.0, eps=1.0),
    "alternating": lambda p, d: osj.alternating(optax.sgd(p), optax.sgd(d)),
    "past_extragradient": lambda p, d: osj.past_extragradient(osj.sgda(p, d)),
    "optimistic": lambda p, d: osj.optimistic(osj.sgda(p, d)),
    "nupi": lambda p, d: osj.descent_ascent(optax.sgd(p), osj.nupi(d)),
}


def played(game, tx, steps):
    """Players and state of ``tx``, projected as in ``make_step``."""
    tx = osj.projected(tx, game.project)
    players, _ = game.init(KEY)

    def body(carry, _):
        return step(tx, lambda z: game.field(z, (), game.batch(KEY))[0], *carry), None

    return lax.scan(body, (players, tx.init(players)), length=steps)[0]


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("problem", PROBLEMS)
def test_solution_and_multipliers_are_those_of_the_kkt_conditions(problem, method):
    make_game, x, multipliers = PROBLEMS[problem]
    for penalty in (0.0, 0.5):
        game = make_game(penalty=penalty)
        players, state = quick(partial(played, game, METHODS[method](0.05, 0.05), 6000))()
        found = osj.iterate(state, players)
        for a, b in zip(*map(jax.tree.leaves, (found, PrimalDual(x, multipliers))), strict=True):
            np.testing.assert_allclose(a, b, atol=1e-5, err_msg=f"penalty {penalty}")
        assert str(feasibility(game, found).status) == "feasible"


# ---- the projection ----


@pytest.mark.parametrize("name", EVERY)
def test_no_optimizer_sees_or_leaves_a_negative_multiplier(name):
    """The inequality is so far from active that every step would carry its multiplier below 0."""
    game = lagrangian(
        lambda x: jnp.sum((x["w"] - 1) ** 2),
        lambda key: {"w": jnp.zeros(2)},
        inequality=lambda x: x["w"] - 4,
        equality=lambda x: x["w"].sum() - 1,
    )
    seen = []

    def field(players, i=0):
        if not isinstance(players.dual.equality, jax.core.Tracer):  # consensus, acgd: here again
            seen.append(players.dual.inequality)
        return game.field(players, (), ())[0]

    def lowest(tx):
        seen.clear()
        players = game.init(KEY)[0]
        # A little room, so that a step is cut and not only refused.
        above = jax.tree.map(lambda a: a + 0.01, players.dual.inequality)
        players = players._replace(dual=players.dual._replace(inequality=above))
        state = tx.init(players)
        for i in range(4):
            updates, state = tx.update(field(players), state, players, grad_fn=field)
            players = optax.apply_updates(players, updates)
            halfway = name == "extragradient, transparent" and i % 2 == 0
            seen.append(players.dual.inequality if halfway else osj.iterate(state, players).dual[0])
        return min(float(a.min()) for a in seen), players.dual.equality

    low, equality = lowest(osj.projected(make(name, 0.5, 0.5), game.project))
    assert lowest(make(name, 0.5, 0.5))[0] < 0
    assert low >= 0
    assert np.isfinite(equality).all()


def numpy_path(method, gx, gy, x, y, a, b, steps):
    """Projected methods in plain NumPy, ``max(., 0)`` at both half-steps; y is one multiplier."""
    up = lambda y: max(y, 0.0)  # noqa: E731
    px, py, xi, path = x, y, 0.0, []
    for k in range(steps):
        if method == "sgda":
            x, y = x - a * gx(x, y), up(y + b * gy(x, y))
        elif method == "alternating":
            y = up(y + b * gy(x, y))
            x = x - a * gx(x, y)
        elif method == "extra_sgd":
            mx, my = x - a * gx(x, y), up(y + b * gy(x, y))
            x, y = x - a * gx(mx, my), up(y + b * gy(mx, my))
        elif method == "nupi":  # gains of 1, no smoothing
            g, e = gx(x, y), gy(x, y)
            x, y = x - a * g, up(y + b * (e + (e - xi) * (k > 0)))
            xi = e if k else 0.0
        else:  # Popov: the first step only looks ahead
            g, e = gx(px, py), gy(px, py)
            if k:
                x, y = x - a * g, up(y + b * e)
            px, py = x - a * g, up(y + b * e)
        path.append(y)
    return x, path


NUMPY = ["sgda", "extra_sgd", "alternating", "past_extragradient", "nupi"]


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("method", NUMPY)
def test_projected_methods_equal_numpy(method):
    """On a problem whose multiplier falls to 0 and rises again."""
    Q, free, r = np.eye(3) + np.diag([0.2, -0.3], 1), np.array([1.0, -0.5, 0.7]), 0.4
    c, n = Q @ free, free / (free @ free)  # n @ free = 1 > r: the constraint binds in the end
    game = lagrangian(
        lambda x: jnp.sum((Q @ x - c) ** 2) / 2, start(3), inequality=lambda x: n @ x - r
    )
    game = dataclasses.replace(
        game, init=lambda key: (PrimalDual(jnp.zeros(3), Multipliers(jnp.array(0.4))), ())
    )
    a, b, steps = 0.05, 0.3, 150
    x, path = numpy_path(
        method,
        lambda x, y: Q.T @ (Q @ x - c) + y * n,
        lambda x, y: n @ x - r,
        np.zeros(3),
        0.4,
        *(a, b, steps),
    )
    assert min(path) == 0 < path[-1], path
    players, state = quick(partial(played, game, METHODS[method](a, b), steps))()
    found = osj.iterate(state, players)
    np.testing.assert_allclose(found.primal, x, rtol=1e-11)
    np.testing.assert_allclose(found.dual.inequality, path[-1], rtol=1e-11)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("method", NUMPY)
def test_the_tutorial_equals_numpy(method):
    """Norm-constrained logistic regression; tests/test_peers.py has Cooper itself beside it."""
    game, steps = tutorial(), 100
    inputs, labels = map(np.asarray, game.data)
    ones, start = np.eye(3)[labels], np.random.default_rng(5).normal(size=18) * 0.3

    def gx(x, y):
        logits = inputs @ x[:15].reshape(5, 3) + x[15:]
        p = np.exp(logits - logits.max(axis=1, keepdims=True))
        error = (p / p.sum(axis=1, keepdims=True) - ones) / len(labels)
        return np.concatenate([(inputs.T @ error).ravel(), error.sum(axis=0)]) + 2 * y * x

    x, path = numpy_path(method, gx, lambda x, y: x @ x - 1, start, 0.0, 0.3, 0.2, steps)
    params = {"weight": jnp.asarray(start[:15].reshape(5, 3)), "bias": jnp.asarray(start[15:])}
    dual = game.init(KEY)[0].dual
    given = dataclasses.replace(game, init=lambda key: (PrimalDual(params, dual), ()))
    players, state = quick(partial(played, given, METHODS[method](0.3, 0.2), steps))()
    found = osj.iterate(state, players)
    ours = np.concatenate([found.primal["weight"].ravel(), found.primal["bias"]])
    np.testing.assert_allclose(ours, x, rtol=1e-9)
    np.testing.assert_allclose(found.dual.inequality, path[-1], rtol=1e-9)
    assert path[-1] > 0.1


def test_a_step_that_stays_inside_is_not_rounded():
    tx, z = osj.sgda(0.1, 0.1), PrimalDual(jnp.array([0.1, 3.0]), jnp.array([1e-3, 7.0]))
    F = PrimalDual(jnp.array([1e-5, 2.0]), jnp.array([3e-6, -1.0]))
    plain, _ = tx.update(F, tx.init(z), z)
    inside = osj.projected(tx, lambda z: z._replace(dual=jnp.maximum(z.dual, 0)))
    for a, b in zip(plain, inside.update(F, tx.init(z), z)[0], strict=True):
        np.testing.assert_array_equal(a, b)


# ---- fields ----


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("penalty", [0.0, 0.7])
def test_the_field_equals_numpy(penalty):
    x, lam, mu = np.array([0.3, -1.2]), np.array([0.5, 0.1]), np.array(-0.4)
    game = lagrangian(
        lambda x: jnp.sum(x**4),
        start(2),
        inequality=lambda x: jnp.stack([x @ x - 1, x[0] - 2]),
        equality=lambda x: x[0] * x[1],
        penalty=penalty,
    )
    F, info = game.field(PrimalDual(x, Multipliers(lam, mu)), (), ())
    g, h = np.array([x @ x - 1, x[0] - 2]), x[0] * x[1]
    jacobian, slope = np.array([2 * x, [1, 0]]), np.array([x[1], x[0]])
    if penalty:
        weights = np.maximum(lam + penalty * g, 0)
        added = np.sum(weights**2 - lam**2) / (2 * penalty) + mu * h + penalty / 2 * h**2
    else:
        weights, added = lam, lam @ g + mu * h
    expected = 4 * x**3 + weights @ jacobian + (mu + penalty * h) * slope
    np.testing.assert_allclose(F.primal, expected, rtol=1e-12)
    np.testing.assert_allclose(F.dual.inequality, -g)
    np.testing.assert_allclose(F.dual.equality, -h)
    np.testing.assert_allclose(info.losses.primal, np.sum(x**4) + added, rtol=1e-12)
    np.testing.assert_allclose(info.losses.dual, -(np.sum(x**4) + lam @ g + mu * h), rtol=1e-12)


@pytest.mark.usefixtures("x64")
def test_a_proxy_steers_the_primal_and_the_true_constraint_the_multiplier():
    """At least half of the points above 0: a count has no gradient, a sigmoid has one."""
    points = jnp.linspace(-2.0, 1.0, 20)

    def share(x):
        return Multipliers(0.5 - jnp.mean(jnp.where(points + x > 0, 1.0, 0.0)))

    def smooth(x):
        return Multipliers(0.5 - jax.nn.sigmoid(points + x).mean())

    problem = partial(lagrangian, lambda x: x**2, start(), inequality=lambda x: share(x).inequality)
    runs = osj.grid(seeds=1, primal_learning_rate=0.05, dual_learning_rate=0.05)
    ends = {
        name: osj.sweep(game, osj.sgda, runs, steps=3000)
        for name, game in {"proxy": problem(proxy=smooth), "without": problem()}.items()
    }
    assert float(share(ends["proxy"].players.primal[0]).inequality) <= 0.05
    assert float(ends["without"].players.primal[0]) == 0  # no gradient, and a multiplier for it
    assert ends["without"].players.dual.inequality[0] > 10


# ---- in a sweep ----


def tutorial(**options):
    draw = np.random.default_rng(1)
    labels = draw.integers(3, size=60)
    inputs = draw.normal(size=(60, 5)) + np.eye(3, 5)[labels] * 2
    return osj.games.norm_constrained_logistic(inputs, labels, classes=3, **options)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_sweep_over_dual_rates_equals_single_runs(dtype):
    with jax.enable_x64(dtype == "float64"):
        game, rates = tutorial(), (0.01, 0.1, 1.0)
        runs = osj.grid(seeds=1, primal_learning_rate=0.2, dual_learning_rate=rates)
        record = {"violation": osj.games.max_violation, "multiplier": osj.games.max_multiplier}
        result = osj.sweep(game, osj.extra_sgd, runs, steps=60, record=record)
        assert result.players.primal["weight"].dtype == dtype
        assert result.players.dual.inequality.dtype == dtype
        init, one = osj.make_step(game, osj.extra_sgd)
        tolerance = 1e-4 if dtype == "float32" else 1e-11
        for i, rate in enumerate(rates):
            h = {"primal_learning_rate": 0.2, "dual_learning_rate": rate}
            state = init(osj.players.make_key(0), h)
            jitted = quick(one)
            for _ in range(60):
                state, _ = jitted(state, h, game.data)
            ours = jax.tree.leaves(jax.tree.map(lambda a, i=i: a[i], result.players))
            for a, b in zip(ours, jax.tree.leaves(state.players), strict=True):
                np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance)
        multipliers = result.players.dual.inequality
        assert len(np.unique(multipliers)) == 3
        assert (result.metrics["multiplier"][:, -1] == multipliers).all()
        norms = sum(np.sum(a.reshape(3, -1) ** 2, 1) for a in result.players.primal.values())
        now = feasibility(game, result.players)
        np.testing.assert_allclose(now.values.inequality, norms - 1, rtol=1e-4, atol=1e-5)
        assert now.status.shape == now.max_violation.shape == (3,)


@pytest.mark.usefixtures("x64")
def test_jit_changes_nothing():
    game = tutorial()
    init, one = osj.make_step(game, osj.extra_sgd)
    h = {"primal_learning_rate": 0.2, "dual_learning_rate": 0.3}
    eager = jitted = init(KEY, h)
    for _ in range(4):
        eager, jitted = one(eager, h)[0], quick(one)(jitted, h, game.data)[0]
    for a, b in zip(*(jax.tree.leaves(s.players) for s in (eager, jitted)), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12)


def test_minibatches_are_drawn_from_the_data():
    game = tutorial(batch_size=8)
    batches = [game.batch(jax.random.key(seed)) for seed in (0, 1)]
    assert batches[0][0].shape == (8, 5)
    assert not np.array_equal(batches[0][0], batches[1][0])
    rows = {tuple(row) for row in np.asarray(game.data[0]).tolist()}
    assert all(tuple(row) in rows for row in np.asarray(batches[0][0]).tolist())


# ---- readings ----

INFEASIBLE = lagrangian(
    lambda x: x["v"] @ x["v"],
    lambda key: {"v": jnp.zeros(2)},
    inequality=lambda x: {"low": 1 - x["v"], "high": x["v"][:1]},
)


def test_an_infeasible_constraint_is_told_by_its_name():
    runs = osj.grid(seeds=1, primal_learning_rate=0.1, dual_learning_rate=(0.0, 0.1))
    result = osj.sweep(INFEASIBLE, osj.extra_sgd, runs, steps=2000, checkpoint_every=1000)
    earlier = result.checkpoints[1000].players
    found = feasibility(INFEASIBLE, result.players, earlier)
    assert found.status.tolist() == ["violated", "growing"]  # rate 0: nothing grows
    assert "inequality['low'][0] is still violated by 0.5" in found.sentence[1] or (
        "inequality['high'][0] is still violated by 0.5" in found.sentence[1]
    )
    assert "grew from" in found.sentence[1]
    np.testing.assert_allclose(found.max_violation, [1.0, 0.5], atol=1e-2)
    assert found.max_multiplier[1] > 50
    assert feasibility(INFEASIBLE, result.players).status.tolist() == ["violated"] * 2
    alone = jax.tree.map(lambda a: a[1], (result.players, earlier))
    one = feasibility(INFEASIBLE, *alone)
    assert str(one.status) == "growing"
    assert one.sentence == found.sentence[1:]


def test_a_violation_on_its_way_to_zero_is_not_called_infeasible():
    game = PROBLEMS["an active inequality"][0]()
    runs = osj.grid(seeds=1, primal_learning_rate=0.05, dual_learning_rate=0.05)
    result = osj.sweep(game, osj.extra_sgd, runs, steps=40, checkpoint_every=20)
    found = feasibility(game, result.players, result.checkpoints[20].players)
    assert found.status.tolist() == ["violated"]
    assert found.complementarity[0] > 0


def test_a_run_that_diverged_is_not_feasible():
    players = PrimalDual({"v": jnp.full(2, jnp.nan)}, INFEASIBLE.init(KEY)[0].dual)
    found = feasibility(INFEASIBLE, players)
    assert str(found.status) == "violated"
    assert "is not finite" in found.sentence[0]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: lagrangian(jnp.sum, start(2)), "expected at least one"),
        (lambda: lagrangian(jnp.sum, start(2), equality=jnp.sum, penalty=-1), "penalty=-1"),
        (
            lambda: lagrangian(jnp.sum, start(2), inequality=lambda x: {"n": x > 0}).init(KEY),
            r"inequality\['n'\] has dtype bool",
        ),
        (
            lambda: lagrangian(
                jnp.sum, start(2), inequality=jnp.sum, proxy=lambda x: Multipliers(x)
            ).init(KEY),
            r"proxy returns .* expected shapes",
        ),
        (
            lambda: feasibility(osj.games.bilinear(), PrimalDual(jnp.ones(2), jnp.ones(2))),
            "expected Multipliers",
        ),
        (
            lambda: feasibility(INFEASIBLE, INFEASIBLE.init(KEY)[0], tolerance=0),
            "tolerance=0, batches=1",
        ),
        (
            lambda: osj.games.norm_constrained_logistic(np.ones((3, 2)), [0, 1], classes=2),
            "3 inputs, 2 labels",
        ),
        (
            lambda: osj.games.norm_constrained_logistic(np.ones((2, 2)), [0, 2], classes=2),
            r"labels: expected integers in \[0, 2\), got int32 from 0 to 2",
        ),
        (
            lambda: osj.games.norm_constrained_logistic(
                np.ones((2, 2)), [0, 1], classes=2, bound=0
            ),
            "bound=0: expected a number > 0",
        ),
        (
            lambda: osj.games.norm_constrained_logistic(
                np.ones((2, 2)), [0, 1], classes=2, batch_size=0
            ),
            "batch_size=0",
        ),
        (lambda: osj.nupi(-1.0), r"^learning_rate=-1\.0"),
        (lambda: osj.games.finite_sum_bilinear(samples=1), "samples=1"),
    ],
)
def test_mistakes_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
