"""Certificates: right sides against NumPy, theorems where they hold, and never a false "holds"."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import onesided_jax as osj
from onesided_jax import PrimalDual, games
from onesided_jax.theory import Trajectory

pytestmark = pytest.mark.usefixtures("quick_sweeps")

SMALL = {
    "carousel": {},
    "multi_carousel": {"dim": 3},
    "ridge_star": {"dim": 6, "dual_dim": 3, "terms": 20},
    "robust_glm": {"dim": 5, "samples": 8},
    "wind_log": {"dim": 4},
    "strong_wind": {"dim": 4},
}
STARTS = {"strong_wind": 0.5}  # inside its box


@pytest.fixture(autouse=True)
def x64():
    with jax.enable_x64(True):
        yield


def at(game, x, y):
    """The game with a fixed start."""
    start = PrimalDual(jnp.asarray(x, float), jnp.asarray(y, float))
    return dataclasses.replace(game, init=lambda key: (start, ()))


def without_lipschitz(game):
    """The game, its joint Lipschitz constant not known."""
    return dataclasses.replace(game, facts=game.facts._replace(lipschitz=None))


def run(game, method, options, rates, *, steps=400, seeds=None, solution=None, radius=None, **kw):
    """A certified sweep over zipped hyperparameters."""
    hyperparameters = {k: np.atleast_1d(np.asarray(v, float)) for k, v in rates.items()}
    count = len(next(iter(hyperparameters.values())))
    runs = osj.Runs(np.arange(count) if seeds is None else seeds, hyperparameters)
    observer = osj.certificate(game, method, options, solution=solution, radius=radius)
    return osj.sweep(
        game,
        functools.partial(osj.OPTIMIZERS[method], **options),
        runs,
        steps=steps,
        checkpoint_every=steps // 4,
        record_every=steps // 4,
        observers={"certificate": observer},
        **kw,
    )


def certify(*args, **kw):
    return osj.certify(run(*args, **kw))


RATES = {"primal_learning_rate": 0.0138, "dual_learning_rate": 2.0}
EG = {"eps": 0.5, "dual_eps": 1e-3, "b2": 0.99, "convention": "classic"}


def numpy_sides(steps, power, dual_extrapolation=True, eta=0.0138, eta_y=2.0, eps=0.5):
    """T1 on the carousel's ring from its formulas: (lhs, rhs)[T], with nothing of ours in it."""

    def field(x, y):
        s = x @ x
        w, slope = (1 / s, -1 / s**2) if s > 1 else (2 - s, -1.0)
        S = np.array([[np.cos(y), np.sin(y)], [np.sin(y), -np.cos(y)]])
        turn = np.array([[-np.sin(y), np.cos(y)], [np.cos(y), np.sin(y)]])
        N, r = 1.25 * s + x @ S @ x, np.sqrt(s)
        g = 2 * slope * N * x + 2 * w * (1.25 * x + S @ x) + 0.5 * max(r - 2, 0) * x / r
        return g, w * (x @ turn @ x) + 3.0

    x, y = np.array([1.5, 0.9]), 0.3
    v = vh = np.zeros(2)
    w = wh = reach = lhs = look = 0.0
    sides = []
    for t in range(1, steps + 1):
        rate = eta_y * t**-power
        g, a = field(x, y)
        v, w = 0.99 * v + 0.01 * g * g, 0.99 * w + 0.01 * a * a
        vh, wh = np.maximum(vh, v), max(wh, w)
        h, hy = np.sqrt(vh) + eps, np.sqrt(wh) + 1e-3
        xt, yt = x - eta * g / h, y + rate * a / hy if dual_extrapolation else y
        q, b = field(xt, yt)
        reach = max(reach, np.abs(x).max())
        lhs += np.sum(g * g / h)
        look += (yt - y) ** 2
        x, y = x - eta * q / h, y + rate * b / hy
        rhs = 2 * reach**2 * h.sum() / eta**2 + 2 * (2 * 2.18**2) / eps * look
        sides.append((lhs / t, rhs / t))
    return np.array(sides)


@pytest.mark.parametrize(
    ("method", "options", "power", "dual"),
    [
        ("amsgrad_eg", {}, 0.0, True),
        ("amsgrad_eg_drd", {"power": 0.5}, 0.5, True),
        ("amsgrad_xeg", {}, 0.0, False),
    ],
)
def test_both_sides_of_theorem_1_are_those_of_numpy(method, options, power, dual):
    game = at(games.carousel(), [1.5, 0.9], [0.3])
    # Few steps: a fast dual multiplies rounding by ten every few of them.
    found = certify(game, method, EG | options, RATES, steps=24)
    want = numpy_sides(24, power, dual)[found.steps - 1]
    np.testing.assert_allclose(found["T1"].lhs[0], want[:, 0], rtol=1e-10)
    np.testing.assert_allclose(found["T1"].rhs[0], want[:, 1], rtol=1e-10)
    assert found["T1"].status == ["holds"]


def draws(game, count, seed):
    """Random hyperparameters inside the step-size condition of Theorem 1."""
    rng = np.random.default_rng(seed)
    eps = 10 ** rng.uniform(-1.5, 0, count)
    largest = eps / (2 * game.facts.lipschitz_xx)
    return {
        "eps": eps,
        "dual_eps": 10 ** rng.uniform(-3, 0, count),
        "b2": 1 - 10 ** rng.uniform(-3, -0.3, count),
        "primal_learning_rate": largest * rng.uniform(0.05, 1, count),
        "dual_learning_rate": 10 ** rng.uniform(-2, 0.5, count),
    }


CASES = [(name, "amsgrad_eg_drd") for name in SMALL]  # power 0 among the draws: a constant rate
CASES += [("carousel", "amsgrad_eg"), ("carousel", "amsgrad_xeg"), ("wind_log", "amsgrad_xeg")]


@pytest.mark.parametrize(("name", "method"), CASES)
def test_the_bound_holds_at_every_step_of_every_one_sided_game(name, method):
    game = games.make_game(name, **SMALL[name])
    if name in STARTS:
        start, _ = game.init(jax.random.key(0))
        game = at(game, start.primal * STARTS[name], start.dual)
    rates = draws(game, 8, 0)
    if method == "amsgrad_eg_drd":
        rates["power"] = np.linspace(0, 1, 8)
    found = certify(game, method, {"convention": "classic"}, rates, steps=1000)
    for bound in ("C0", "C1", "T1", "T9", "T5"):
        assert found[bound].status == ["holds"] * 8, (bound, found[bound].reason)
        assert np.isfinite(found[bound].lhs).all()
    assert (found["T1"].worst_ratio < 1).all()
    assert (found["T1"].worst_ratio > 1e-6).all()  # not idle
    assert set(found["T2"].status) == {"holds" if method == "amsgrad_xeg" else "not covered"}
    assert (found.sum_minty >= -1e-9).all()
    if name == "strong_wind":
        assert found["T1 strong"].status == ["holds"] * 8
        assert (found["T1 strong"].worst_ratio > 1e-6).all()


@pytest.mark.parametrize(
    ("bound", "game", "method", "options", "rates"),
    [
        ("T4", games.bilinear(), "amsgrad_eg", EG | {"dual_eps": 0.5}, (0.3, 0.3)),
        ("T4", games.quadratic(), "amsgrad_eg_drd", EG | {"dual_eps": 0.5}, (0.1, 0.15)),
        ("T4", games.logarithmic(), "extra_sgd", {}, (0.2, 0.1)),
        ("T5", games.stick_slip(), "amsgrad_eg_drd", EG, (0.01, 1.0)),
        ("T5", games.moving_target(), "amsgrad", {"b1": 0.0, "eps": 0.5}, (0.2, 1.0)),
        ("T5", games.moving_target(), "adam", {"b1": 0.0, "eps": 0.5}, (0.2, 1.0)),
        ("T5", games.wind_log(), "sgda", {}, (0.1, 0.1)),
        ("T6", games.wind_log(), "amsgrad", {"b1": 0.0, "eps": 0.5}, (0.1, 1.0)),
        ("T6", games.wind_log(), "sgda", {}, (0.1, 0.1)),
        ("T7", games.carousel(), "past_amsgrad_eg", EG, (0.006, 2.0)),
        ("T8", games.carousel(), "amsgrad_eg", EG | {"b1_update": lambda t: 0.9 / (t + 1)},
         (0.009, 0.2)),
        ("T8", games.wind_log(), "amsgrad_eg", EG | {"b1_update": 0.3}, (0.03, 0.2)),
        ("T9", games.carousel(), "amsgrad_eg", EG | {"update_scale": 0.5}, (0.0138, 2.0)),
        ("T9", games.wind_log(), "extra_plus_sgd", {"update_scale": 0.5}, (0.09, 1.0)),
        ("T1", games.carousel(), "amsgrad_eg", EG | {"convention": "torch"}, (0.0138, 2.0)),
        ("T1", games.carousel(), "amsgrad_eg", EG | {"dual_b1": 0.9}, (0.0138, 0.1)),
        ("T1", games.carousel(), "amsgrad_eg",
         EG | {"dual_extrapolation_learning_rate": lambda t: (t + 1.0) ** -0.5}, (0.0138, 2.0)),
        ("T1", games.wind_log(), "extra_sgd", {}, (0.09, 1.0)),
    ],
)  # fmt: skip
def test_each_theorem_holds_where_it_applies(bound, game, method, options, rates):
    found = certify(
        game, method, options,
        {"primal_learning_rate": [rates[0]] * 3, "dual_learning_rate": [rates[1]] * 3},
        solution=PrimalDual(*(
            jax.tree.map(jnp.zeros_like, part) for part in game.init(jax.random.key(0))[0]
        )) if game.facts.primal_solution is None else None,
    )  # fmt: skip
    assert found[bound].status == ["holds"] * 3, found[bound].reason
    assert found["C0"].status == ["holds"] * 3
    assert (found[bound].worst_ratio > 1e-6).all()


def test_theorem_3_compares_means_over_seeds():
    noisy = games.with_noise(games.carousel(), 0.2)
    options = EG | {"dual_eps": 0.5}
    runs = osj.grid(seeds=8, primal_learning_rate=(0.005, 0.009), dual_learning_rate=0.2)
    seeds, rates = runs.seeds, runs.hyperparameters  # fmt: skip
    result = run(noisy, "amsgrad_eg", options, rates, seeds=seeds, steps=100)
    assert "several seeds" in certify_one_seed(result)
    found = osj.certify(result)
    assert found["T3"].status == ["holds"] * 16
    first = found["T3"].lhs[rates["primal_learning_rate"] == 0.005]
    np.testing.assert_array_equal(first, np.broadcast_to(first[:1], first.shape))
    assert found["T1"].status == ["not covered"] * 16
    assert found["T1"].reason[0] == "the game is stochastic"
    shared = osj.certificate(noisy, "amsgrad_eg", options, independent_samples=False)
    again = osj.sweep(
        noisy,
        functools.partial(osj.amsgrad_eg, **options),
        runs,
        steps=10,
        independent_samples=False,
        observers={"certificate": shared},
    )
    reasons = osj.certify(again)["T3"].reason
    assert all("same minibatch" in reason for reason in reasons)


def certify_one_seed(result):
    """T3's reason where every run has hyperparameters of its own."""
    rates = {"primal_learning_rate": np.arange(len(result.seeds), dtype=float)}
    return osj.certify(result._replace(hyperparameters=rates))["T3"].reason[0]


DUAL = {"dual_eps": 0.5}


@pytest.mark.parametrize(
    ("game", "method", "options", "rates", "reasons"),
    [
        (games.carousel(), "amsgrad_eg", EG, (0.0142, 2.0),
         {"T1": "too large", "T2": "the dual extrapolates", "T4": "no MVI", "T1 strong": "strong",
          "T6": "without extrapolation", "T7": "past", "T3": "several seeds"}),
        (games.carousel(), "amsgrad_eg", EG | {"b1_update": 0.1, "b1_extrapolation": 0.5},
         (0.009, 2.0),
         {"T1": "primal carries momentum", "T8": "extrapolation carries momentum"}),
        (games.carousel(), "amsgrad_eg", EG | {"update_scale": 1.5}, (0.001, 1.0),
         {"T9": "exceeds", "T1": "differs"}),
        (games.bilinear(), "amsgrad_eg", EG | DUAL | {"dual_b1": 0.5}, (0.1, 0.1),
         {"T4": "a player carries momentum"}),
        (games.bilinear(), "amsgrad_eg_drd", EG | DUAL | {"decay": "extrapolation"}, (0.1, 0.1),
         {"T4": "at the rate of its update"}),
        (games.bilinear(), "amsgrad_xeg", EG | DUAL, (0.3, 0.3),
         {"T4": "at the rate of its update", "T1": "one-sided MVI does not hold"}),
        (without_lipschitz(games.bilinear()),
         "extra_sgd", {}, (0.3, 0.3), {"T4": "L_F is not known"}),
        (games.weak_minty(), "amsgrad_eg", EG, (0.3, 0.3), {"T1": "one-sided MVI does not hold"}),
        (games.quartic(), "amsgrad_eg", EG, (0.03, 30.0), {"T1": "left the box"}),
        (games.carousel(), "amsgrad", {"b1": 0.0, "eps": 0.5}, (1e-3, 1.0),
         {"T6": "star-cocoercive", "T1": "about extragradient"}),
        (games.polar(), "amsgrad_eg", EG, (0.001, 1.0), {"T5": "no objective"}),
    ],
)  # fmt: skip
def test_a_failed_premise_is_never_covered(game, method, options, rates, reasons):
    found = certify(
        game, method, options,
        {"primal_learning_rate": rates[0], "dual_learning_rate": rates[1]},
        steps=100,
    )  # fmt: skip
    for bound, reason in reasons.items():
        assert found[bound].status == ["not covered"], bound
        assert reason in found[bound].reason[0]
        assert reason in str(found)


def test_swept_momentum_is_taken_back_out_like_any_other():
    fixed = certify(games.carousel(), "amsgrad_eg", EG | {"b1_update": 0.5}, RATES, steps=40)
    swept = certify(games.carousel(), "amsgrad_eg", EG, RATES | {"b1_update": 0.5}, steps=40)
    np.testing.assert_allclose(fixed.sum_minty, swept.sum_minty, atol=1e-12)


def test_premises_of_the_run_itself():
    game = at(games.carousel(), [1.5, 0.9], [0.3])
    inside = certify(game, "amsgrad_eg", EG, RATES, radius=2.0)
    assert inside["T1"].status == ["holds"]
    measured = certify(game, "amsgrad_eg", EG, RATES)
    assert (inside["T1"].rhs > measured["T1"].rhs).all()
    left = certify(game, "amsgrad_eg", EG, RATES, radius=1.0)
    assert "left the radius" in left["T1"].reason[0]
    burst = certify(
        games.weak_minty(), "sgda", {}, {"primal_learning_rate": 9.0, "dual_learning_rate": 9.0}
    )
    assert "diverged" in burst["T6"].reason[0] or "not finite" in burst["C1"].reason[0]
    assert burst["C1"].status == ["not covered"]


@pytest.mark.parametrize(
    ("game", "start"),
    [(games.moving_target(), ([1.5, 0.9], [0.3])), (games.bilinear(), ([1.0] * 4, [1.0] * 4))],
)
def test_negative_controls_break_the_bound_and_are_not_covered(game, start):
    solution = PrimalDual(np.zeros(len(start[0])), None)
    rate = 0.5 / (2 * max(game.facts.lipschitz_xx, 0.5))
    found = certify(
        at(game, *start), "amsgrad_xeg", EG,
        {"primal_learning_rate": rate, "dual_learning_rate": 2.0},
        solution=solution, steps=4000,
    )  # fmt: skip
    assert found["T2"].first_violation[0] > 0
    assert found["T2"].status == ["not covered"]
    assert f"lhs exceeds rhs at step {found['T2'].first_violation[0]}" in found["T2"].reason[0]
    assert found["C1"].status == ["violated"]  # C1 is the condition itself
    assert found.sum_minty[0, -1] < 0


def record(game, tx, steps):
    """A trajectory written down by hand."""
    players, _ = game.init(jax.random.key(0))
    state, seen = tx.init(players), []

    def grad_fn(z, i):
        middles.append(z)
        return game.field(z, (), ())[0]

    points, scales = [players], []
    for _ in range(steps):
        middles = []
        updates, state = tx.update(game.field(players, (), ())[0], state, players, grad_fn=grad_fn)
        players = optax.apply_updates(players, updates)
        points.append(players)
        seen.append(middles[0])
        epsilons = PrimalDual(EG["eps"], EG["dual_eps"])
        scales.append(jax.tree.map(lambda v, eps: jnp.sqrt(v) + eps, state.nu_max, epsilons))
    stack = lambda trees: jax.tree.map(lambda *a: np.stack(a), *trees)  # noqa: E731
    rates = PrimalDual(RATES["primal_learning_rate"], RATES["dual_learning_rate"])
    return Trajectory(stack(points), stack(seen), stack(scales), rates)


@functools.cache
def recorded():
    game = at(games.carousel(), [1.5, 0.9], [0.3])
    return game, record(game, osj.amsgrad_eg(**RATES, **EG), 24)


def test_a_recorded_trajectory_gives_the_same_certificate_at_every_step():
    game, trajectory = recorded()
    found = osj.certify(trajectory, game, "amsgrad_eg")
    assert found.steps.tolist() == list(range(1, 25))
    carried = certify(game, "amsgrad_eg", EG, RATES, steps=24)
    assert found["T1"].status == ["holds"], found["T1"].reason
    for name in ("C0", "C1", "C2", "T5"):
        picked = found[name].lhs[:, carried.steps - 1]
        np.testing.assert_allclose(picked, carried[name].lhs, rtol=1e-9, err_msg=name)
        assert found[name].status == carried[name].status
    picked = found["T1"].lhs[:, carried.steps - 1]
    np.testing.assert_allclose(picked, carried["T1"].lhs, rtol=1e-9)
    # delta is measured on the trajectory, h >= eps: the right side is no larger.
    assert (found["T1"].rhs[:, carried.steps - 1] <= carried["T1"].rhs * (1 + 1e-9)).all()


def test_steps_that_are_not_the_field_are_not_covered():
    game, trajectory = recorded()
    bent = trajectory._replace(
        players=jax.tree.map(lambda a: a + 1e-3 * np.arange(25.0)[:, None], trajectory.players)
    )
    found = osj.certify(bent, game, "amsgrad_eg")
    assert found["C0"].status == ["holds"]  # an identity whatever the steps are
    assert found["T1"].status == ["not covered"]
    assert "do not follow the field" in found["T1"].reason[0]


def test_certificates_from_a_run_directory(tmp_path):
    game = at(games.carousel(), [1.5, 0.9], [0.3])
    here = certify(game, "amsgrad_eg", EG, RATES)
    stored = certify(game, "amsgrad_eg", EG, RATES, out=tmp_path / "run")
    np.testing.assert_array_equal(here["T1"].rhs, stored["T1"].rhs)
    assert str(here) == str(stored)


def without(field):
    def call():
        game, trajectory = recorded()
        osj.certify(trajectory._replace(**{field: None}), game, "amsgrad_eg")

    return call


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (without("midpoints"), "lacks midpoints: record at every step"),
        (without("learning_rates"), "lacks learning_rates"),
        (lambda: osj.certify(recorded()[1], recorded()[0]), "expected the game and the method"),
        (lambda: osj.certify(recorded()[1], recorded()[0], "past_amsgrad_eg"), "not supported"),
        (lambda: osj.certify(recorded()[1], games.moving_target(), "amsgrad_eg"), "no x"),
        (lambda: osj.certify(recorded()[1], games.wind_log(), "amsgrad_eg"), "x\\* .* shapes"),
        (
            lambda: osj.certify(
                recorded()[1]._replace(midpoints=recorded()[1].players), recorded()[0], "amsgrad_eg"
            ),
            "midpoints has shapes",
        ),
        (lambda: osj.certify(3), "expected a Trajectory, or the result of a sweep"),
        (lambda: osj.certificate(games.carousel(), "amsgrd_eg"), "did you mean 'amsgrad_eg'"),
        (lambda: osj.certificate(games.flip(), "amsgrad_eg"), "no x"),
        (
            lambda: osj.certificate(
                dataclasses.replace(games.carousel(), facts=None), "amsgrad_eg"
            ),
            "game has no facts",
        ),
        (lambda: osj.certificate(games.carousel(), "amsgrad_eg", radius=-1.0), "radius=-1.0"),
        (
            lambda: run(games.carousel(), "amsgrad_eg", {"epps": 1.0}, RATES),
            "epps|unexpected",
        ),
    ],
)
def test_bad_input(call, message):
    with pytest.raises((ValueError, TypeError), match=message):
        call()


def test_bad_sweeps():
    game = games.carousel()
    runs = osj.grid(seeds=2, rate=0.01)

    def sweep(make, observer):
        return osj.sweep(game, make, runs, steps=2, observers={"mine": observer})

    make = lambda rate: osj.amsgrad_eg(rate, rate)  # noqa: E731
    with pytest.raises(ValueError, match="needs primal_learning_rate: name the swept"):
        sweep(make, osj.certificate(game, "amsgrad_eg"))
    names = lambda h: {"primal_learning_rate": h["rate"], "dual_learning_rate": h["rate"]}  # noqa: E731
    with pytest.raises(ValueError, match="out of chain and other wrappers"):
        sweep(
            lambda rate: optax.chain(optax.clip(1.0), make(rate)),
            osj.certificate(game, "amsgrad_eg", names),
        )
    with pytest.raises(ValueError, match="is no argument of amsgrad_eg"):
        sweep(make, osj.certificate(game, "amsgrad_eg", lambda h: {"epz": 1.0}))
    result = sweep(make, osj.certificate(game, "amsgrad_eg", names))
    with pytest.raises(ValueError, match=r"no observer 'certificate', only \['mine'\]"):
        osj.certify(result)
    assert osj.certify(result, observer="mine")["C0"].status == ["holds"] * 2
    wrong = osj.certificate(
        game, "amsgrad_eg", names, solution=PrimalDual(np.zeros(3), None)
    )  # fmt: skip
    with pytest.raises(ValueError, match="x\\* of the solution has shapes"):
        sweep(make, wrong)


def _sgda(primal_learning_rate, dual_learning_rate, scale=1.0):
    return osj.sgda(scale * primal_learning_rate, scale * dual_learning_rate)


OTHERS = {
    "chain": ("sgda", lambda **h: optax.chain(_sgda(**h), optax.scale(20.0))),
    "lookahead": ("sgda", lambda **h: osj.lookahead_minmax(_sgda(**h), 5)),
    "momentum": (
        "sgda",
        lambda **h: osj.descent_ascent(*(optax.sgd(rate, momentum=0.9) for rate in h.values())),
    ),
    "adam": ("sgda", osj.adam),
    "no extrapolation": ("extra_sgd", _sgda),
    "half-steps": ("extra_sgd", functools.partial(osj.extra_sgd, opaque_mode=False)),
    "amsgrad": ("adam", osj.amsgrad),
}


@pytest.mark.parametrize("case", OTHERS)
def test_another_optimizer_than_the_named_is_refused(case):
    method, make = OTHERS[case]
    game = games.bilinear()
    runs = osj.grid(seeds=1, primal_learning_rate=0.1, dual_learning_rate=0.1)
    observers = {"certificate": osj.certificate(game, method)}
    arguments = {"runs": runs, "steps": 2, "observers": observers}
    with pytest.raises(ValueError, match=f"certificate of {method} follows {method} itself"):
        osj.sweep(game, make, **arguments)


@pytest.mark.parametrize(("scale", "covered"), [(1.0, True), (20.0, False)])
def test_sgda_at_other_rates_than_announced_is_not_covered(scale, covered):
    game = games.wind_log()
    runs = osj.grid(seeds=1, primal_learning_rate=0.01, dual_learning_rate=0.01)
    observers = {"certificate": osj.certificate(game, "sgda")}
    result = osj.sweep(
        game, functools.partial(_sgda, scale=scale), runs, steps=20,
        observers=observers,
    )  # fmt: skip
    (reason,) = osj.certify(result)["T5"].reason
    assert ("do not follow the field itself" in reason) is not covered


EPS = {"eps": 0.5}
MISNAMED = {  # name, its options, what is made instead; each is covered as what it is named
    "another floor": ("amsgrad_xeg", EPS, functools.partial(osj.amsgrad_xeg, eps=0.05)),
    "a floor too high": (
        "amsgrad_xeg", {**EPS, "initial_accumulator": 1.0},
        functools.partial(osj.amsgrad_xeg, **EPS),
    ),
    "another rate": (
        "amsgrad_xeg", EPS,
        lambda primal_learning_rate, dual_learning_rate: osj.amsgrad_xeg(
            3 * primal_learning_rate, dual_learning_rate, **EPS
        ),
    ),
    "a schedule": (
        "amsgrad_xeg", EPS,
        lambda primal_learning_rate, dual_learning_rate: osj.amsgrad_xeg(
            primal_learning_rate, osj.dual_rate_decay(dual_learning_rate), **EPS
        ),
    ),
    "another method": ("amsgrad_xeg", EPS, functools.partial(osj.amsgrad_eg, **EPS)),
    "from the past": (
        "past_amsgrad_eg", EPS,
        lambda primal_learning_rate, dual_learning_rate: osj.past_amsgrad_eg(
            0.02, dual_learning_rate, **EPS
        ),
    ),
    "plain": (
        "adam", {**EPS, "b1": 0.0},
        lambda primal_learning_rate, dual_learning_rate: osj.adam(
            2 * primal_learning_rate, dual_learning_rate, b1=0.0, **EPS
        ),
    ),
}  # fmt: skip


@functools.cache
def reasons(name, options, make=None):
    """Of the theorems that do not cover a run of ``make``, or of the method itself."""
    game, options = games.carousel(), dict(options)
    make = make or functools.partial(osj.OPTIMIZERS[name], **options)
    runs = osj.grid(seeds=1, primal_learning_rate=0.0138, dual_learning_rate=2.0)
    observers = {"certificate": osj.certificate(game, name, options)}
    bounds = osj.certify(osj.sweep(game, make, runs, steps=40, observers=observers)).bounds
    return {n: bound.reason[0] for n, bound in bounds.items() if n.startswith("T")}


@pytest.mark.parametrize("case", MISNAMED)
def test_a_method_that_is_not_the_one_named_is_not_covered(case):
    name, options, make = MISNAMED[case]
    told, options = "do not follow the field itself", tuple(options.items())
    truly = reasons(name, options)
    if case != "a floor too high":
        assert not any(told in reason for reason in truly.values())
    asked = {
        n for n, reason in truly.items() if "is about" not in reason and "not about" not in reason
    }
    misnamed = reasons(name, options, make)
    assert asked
    assert all(told in misnamed[n] for n in asked - {"T3"})


@pytest.mark.parametrize("name", ["amsgrad_xeg", "amsgrad_eg", "extra_sgd", "sgda"])
def test_a_dual_player_that_stands_still_is_covered(name):
    options = {} if name in ("extra_sgd", "sgda") else EPS
    rates = {"primal_learning_rate": 0.005, "dual_learning_rate": 0.0}
    found = certify(games.carousel(), name, options, rates, steps=20)
    assert found["T5"].status == ["holds"], found["T5"].reason


@pytest.mark.parametrize("nobody", [(), jnp.zeros(0)])
def test_a_dual_player_may_be_empty(nobody):
    def field(players, state, batch):
        losses = PrimalDual(0.5 * jnp.sum(players.primal**2), 0.0)
        return PrimalDual(players.primal, nobody), games.GameInfo(losses, state)

    facts = osj.GameFacts(np.zeros(2), None, True, False, 1.0, 0.0)
    game = osj.Game(lambda key: (PrimalDual(jnp.ones(2), nobody), ()), lambda key: (), field,
                    facts=facts)  # fmt: skip
    rates = {"primal_learning_rate": 0.1, "dual_learning_rate": 0.1}
    found = certify(game, "amsgrad_xeg", EPS, rates, steps=10)
    assert found["T2"].status == ["holds"], found["T2"].reason


def test_float64_is_required():
    with jax.enable_x64(False), pytest.raises(ValueError, match="needs float64"):
        osj.certificate(games.carousel(), "amsgrad_eg")
