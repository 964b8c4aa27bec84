"""The stream of the one-sided MVI: signs that are known, no bias, and digits kept in float32."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import onesided_jax as osj
from onesided_jax import Game, GameInfo, PrimalDual, games
from onesided_jax.theory import minty_stream, minty_sum

pytestmark = pytest.mark.usefixtures("quick_sweeps")

RATES = {"primal_learning_rate": 0.0138, "dual_learning_rate": 2.0}
EG = {"eps": 0.5}


def train(game, method, options, rates, observers, *, seeds=2, steps=200, every=None):
    return osj.sweep(
        game,
        functools.partial(osj.OPTIMIZERS[method], **options),
        osj.grid(seeds=seeds, **rates),
        steps=steps,
        checkpoint_every=every or steps,
        record_every=steps if every is None else every,
        observers=observers,
    )


def streams(result, name="minty"):
    return [point.observers[name] for point in result.checkpoints.values()]


# ---- games with known answers ----


@pytest.mark.parametrize("method", ["amsgrad_xeg", "amsgrad_eg", "amsgrad", "past_amsgrad_eg"])
def test_it_is_the_certificates_sum_where_nothing_is_random(method):
    """Two roads to the sum at the midpoints: fresh gradients, and those the method followed."""
    game = games.ridge_star(dim=6, dual_dim=3, terms=20)
    options = EG | ({"b1": 0.0} if method == "amsgrad" else {})
    with jax.enable_x64(True):
        observers = {
            "minty": minty_stream(method, options),
            "certificate": osj.certificate(game, method, options),
        }
        result = train(game, method, options, RATES, observers, every=50)
        expected = osj.certify(result).sum_minty
    found = [minty_sum(s, game.facts.primal_solution) for s in streams(result)]
    assert (found[-1] > 0).all()
    if method != "past_amsgrad_eg":  # which is certified one step late
        np.testing.assert_allclose(np.stack(found[1:], 1), expected, rtol=1e-9)


def test_it_is_negative_where_the_inequality_fails():
    """``f = -|x|^2 / 2``: at x* = 0 every product is negative, single steps and their sum."""
    game = Game(
        lambda key: (PrimalDual(*jax.random.normal(key, (2, 3))), ()),
        lambda key: (),
        games.zero_sum_field(lambda x, y: -0.5 * x @ x - 0.5 * y @ y),
    )
    observers = {"minty": minty_stream("extra_sgd", solution=np.zeros(3))}
    rates = {"primal_learning_rate": 0.01, "dual_learning_rate": 0.01}
    (_, last) = streams(train(game, "extra_sgd", {}, rates, observers))
    total = minty_sum(last, np.zeros(3))
    assert (total < 0).all()
    np.testing.assert_array_equal(last.positive[0], 0)
    np.testing.assert_allclose(sum(np.asarray(last.negative)), total, rtol=1e-5)


def test_a_control_has_no_point_that_serves():
    """Where the dual turns the sign, every x* has blocks of steps with a negative sum."""
    grid = np.linspace(-2, 2, 41)  # has 0, the solution of the second game
    init = games.stick_slip().init
    turning = games.zero_sum_field(lambda x, y: (x * jnp.sin(y) + 2 * y).sum())
    weighted = games.zero_sum_field(lambda x, y: ((1 + 0.5 * jnp.sin(y)) * x**2 + y).sum())
    rates = {"primal_learning_rate": 0.05, "dual_learning_rate": 0.1}
    for field, solution in ((turning, None), (weighted, 0.0)):
        observers = {"minty": minty_stream("extra_sgd")}
        game = Game(init, lambda key: (), field)
        result = train(game, "extra_sgd", {}, rates, observers, every=5)
        sums = [[minty_sum(s, np.array([x])) for x in grid] for s in streams(result)]
        worst = np.diff(sums, axis=0).min(0)  # over blocks, at each x* and for each run
        if solution is None:
            assert (worst < -1e-3).all()
        else:
            assert (worst[np.isclose(grid, solution)] > -1e-5).all()


# ---- no bias ----


def exact_sum(game, samples, rate):
    """``sum <E g(x~, y~), x~ - .>`` of extra_sgd as ``(sum of <E g, x~>, sum of E g)``."""

    def update(sums, view):
        middle = jax.tree.map(lambda z, g: z - rate * g, view.before, view.field)
        gradient = game.field(middle, (), jnp.arange(samples))[0].primal  # every sample once
        return sums[0] + gradient @ middle.primal, sums[1] + gradient

    return (lambda players: (jnp.zeros(()), jnp.zeros_like(players.primal)), update)


@pytest.mark.parametrize("end", ["x* = 0", "x* = end of the run"])
def test_it_is_unbiased_on_a_finite_sum(end):
    """Over seeds it differs from the exact sum by its standard error, also at the path's own end.

    The gradients that the run followed do not pass: with them the end of the run is no x* at all.
    """
    samples, rate, seeds = 8, 0.3, 2000
    game = games.finite_sum_bilinear(dim=2, samples=samples, spread=1.0)
    rates = {"primal_learning_rate": rate, "dual_learning_rate": rate}

    def followed(sums, view):  # the update is -rate times the gradient at the midpoint
        middle = view.before.primal - rate * view.field.primal
        gradient = -view.updates.primal / rate
        return sums[0] + gradient @ middle, sums[1] + gradient

    exact = exact_sum(game, samples, rate)
    observers = {
        "minty": minty_stream("extra_sgd"),
        "exact": exact,
        "followed": (exact[0], followed),
    }
    result = train(game, "extra_sgd", {}, rates, observers, seeds=seeds, steps=20)
    target = result.players.primal * (end != "x* = 0")
    last = result.checkpoints[20].observers
    truth, naive = (last[n][0] - (last[n][1] * target).sum(-1) for n in ("exact", "followed"))

    def bias(values):
        gaps = values - truth
        return abs(gaps.mean()) / (gaps.std(ddof=1) / np.sqrt(seeds))

    assert bias(minty_sum(last["minty"], target)) < 3
    if end != "x* = 0":
        assert bias(naive) > 10


def test_fresh_minibatches_are_nobodys():
    """The i-th is another than the j-th, and none is one that the optimizer saw."""
    game = Game(
        lambda key: (PrimalDual(jnp.zeros(()), jnp.zeros(())), ()),
        jax.random.normal,
        lambda players, state, batch: (
            PrimalDual(players.primal * 0 + batch, players.dual * 0),
            GameInfo(PrimalDual(batch, batch), state),
        ),
    )
    record = {
        "own": lambda view: view.field.primal,
        "first": lambda view: view.fresh_field(view.before).primal,
        "second": jax.jit(lambda view: view.fresh_field(view.after, 1).primal),
        "ahead": lambda view: view.updates.primal,
    }
    runs = osj.grid(seeds=2, primal_learning_rate=1.0, dual_learning_rate=1.0)
    result = osj.sweep(game, osj.extra_sgd, runs, steps=5, record=record)
    drawn = np.concatenate([np.abs(result.metrics[name]).ravel() for name in record])
    assert len(np.unique(drawn.round(6))) == drawn.size


def test_a_game_with_data_and_state_gives_them_to_the_stream():
    """Fresh batches come from the data argument, and the field sees the state before the step."""
    game = Game(
        lambda key: (PrimalDual(jnp.ones(()), jnp.ones(())), jnp.zeros(())),
        lambda key, data: data[jax.random.randint(key, (), 0, len(data))],
        lambda players, state, batch: (
            PrimalDual(players.primal * 0 + state + batch, players.dual * 0),
            GameInfo(PrimalDual(batch, batch), state + 1),
        ),
        data=jnp.full(3, 100.0),
    )
    rates = {"primal_learning_rate": 0.0, "dual_learning_rate": 0.0}
    observers = {"minty": minty_stream("extra_sgd")}
    result = train(game, "extra_sgd", {}, rates, observers, steps=3)
    gradient = streams(result)[-1].gradient
    np.testing.assert_array_equal(sum(gradient), 100 + 101 + 102)


# ---- digits ----


def far_off(game, shift):
    """The same game moved away from the origin, in float32."""

    def init(key):
        players, state = game.init(key)
        return jax.tree.map(lambda z: (z + shift).astype(jnp.float32), players), state

    def field(players, state, batch):
        return game.field(jax.tree.map(lambda z: z - shift, players), state, batch)

    return dataclasses.replace(game, init=init, field=field, facts=None)


def test_float32_keeps_the_digits():
    """Against float64 sums of the same float32 terms; without offset and compensation they go."""
    shift, steps = 1000.0, 4000
    game = far_off(games.quadratic(), shift)
    rates = {"primal_learning_rate": 0.01, "dual_learning_rate": 0.01}

    def plain(sums, view):
        middle = jax.tree.map(lambda z, g: z - 0.01 * g, view.before, view.field)
        gradient = view.fresh_field(middle).primal
        return sums[0] + gradient @ middle.primal, sums[1] + gradient

    record = {}
    for i in range(3):
        record |= {
            f"x{i}": lambda view, i=i: (view.before.primal - 0.01 * view.field.primal)[i],
            f"g{i}": lambda view, i=i: view.fresh_field(
                jax.tree.map(lambda z, g: z - 0.01 * g, view.before, view.field)
            ).primal[i],
        }
    observers = {
        "minty": minty_stream("extra_sgd"),
        "plain": (lambda players: (jnp.zeros(()), jnp.zeros_like(players.primal)), plain),
    }
    result = osj.sweep(
        game, osj.extra_sgd, osj.grid(seeds=4, **rates), steps=steps, observers=observers,
        record=record,
    )  # fmt: skip
    x, g = (np.stack([result.metrics[f"{n}{i}"] for i in range(3)], -1) for n in "xg")
    target = result.players.primal.astype(np.float64)
    terms = (g.astype(np.float64) * (x - target[:, None])).sum(-1)
    last = result.checkpoints[steps].observers
    scale = np.abs(terms).sum(1)
    error = np.abs(minty_sum(last["minty"], target) - terms.sum(1)) / scale
    s, gradient = (np.asarray(part, np.float64) for part in last["plain"])
    lost = np.abs(s - (gradient * target).sum(-1) - terms.sum(1)) / scale
    assert (error < 1e-5).all()
    assert (lost > 20 * error).all()


@pytest.mark.parametrize("run_axis", [(), (3,)])
def test_the_sum_for_any_later_point(run_axis):
    """Trees, run axes, a target of each run or one of all: as a loop over plain numbers."""
    rng = np.random.default_rng(0)
    make = lambda: {"a": rng.normal(size=(*run_axis, 2, 2)), "b": rng.normal(size=run_axis)}  # noqa: E731
    stream = osj.theory.MintyStream(
        make(), (rng.normal(size=run_axis), rng.normal(size=run_axis)), (make(), make())
    )
    targets = make()
    one = jax.tree.map(lambda leaf: leaf[0], targets) if run_axis else targets
    for target in (targets, one):
        found = minty_sum(stream, target)
        for run in np.ndindex(run_axis):
            expected = sum(part[run] for part in stream.product)
            for name in "ab":
                point = target[name] if target is one else target[name][run]
                S = stream.gradient[0][name][run] + stream.gradient[1][name][run]
                expected -= np.sum(S * (point - stream.origin[name][run]))
            np.testing.assert_allclose(found[run], expected, rtol=1e-12)


@pytest.mark.parametrize(
    ("method", "keywords", "message"),
    [
        ("alternating_adam", {}, "expected one of"),
        ("extra_sgd", {"solution": np.zeros(5)}, r"x\* of the solution has shapes"),
    ],
)
def test_what_cannot_be_streamed_is_refused(method, keywords, message):
    with pytest.raises(ValueError, match=message):
        train(games.quadratic(), method, {}, RATES, {"minty": minty_stream(method, **keywords)})
