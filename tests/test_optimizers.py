"""Every optimizer against the NumPy reference, and against what optax promises its users."""

import functools
import inspect
import re
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import reference
from compiling import quick
from jax import lax
from optimizer_table import EVERY, RATES, assert_close, make, step, tree_field, tree_of

import onesided_jax as osj
from onesided_jax import PrimalDual
from onesided_jax.optimizers import FACTS
from onesided_jax.optimizers.registry import defaults

EXACT_RTOL = 1e-12  # float64: jit contracts to FMA and pow differs from NumPy's, 3e-16 a step
TWO_EVALUATIONS = {name for name, facts in FACTS.items() if facts.looks_ahead}
# Their moments are ours; those of the others are optax's, in the players' dtype.
OF_OUR_OWN = {name for name in osj.OPTIMIZERS if "amsgrad" in name} | {"acgd", "oadagrad", "tiada"}
ALL = sorted(osj.OPTIMIZERS)
NAMES = pytest.mark.parametrize("name", ALL)

# A value for every float hyperparameter, none of them the default.
ADAM = {"b1": 0.5, "b2": 0.9, "eps": 1e-3}
HYPERPARAMETERS = {
    "acgd": {"b2": 0.9, "eps": 1e-3},
    "adam": ADAM,
    "alex_gda": {"gamma": 1.3, "delta": 1.7},
    "alternating_adam": ADAM,
    "amsgrad": ADAM | {"initial_accumulator": 0.3},
    "extra_adam": ADAM,
    "extra_plus_sgd": {"update_scale": 0.4},
    "extra_sgd": {},
    "lookahead_adam": ADAM | {"slow_step_size": 0.3},
    "oadagrad": {"eps": 1e-3, "initial_accumulator": 0.3},
    "optimistic_adam": ADAM,
    "past_amsgrad_eg": {"b2": 0.9, "eps": 0.1, "dual_eps": 0.02, "initial_accumulator": 0.3},
    "past_extra_adam": ADAM,
    "sgda": {},
    "tiada": {"primal_power": 0.7, "dual_power": 0.2, "initial_accumulator": 0.3},
    "amsgrad_eg": {
        "b2": 0.9,
        "eps": 0.1,
        "dual_eps": 0.02,
        "initial_accumulator": 0.3,
        "update_scale": 0.7,
        "b1_update": 0.2,
        "b1_extrapolation": 0.3,
        "dual_b1": 0.6,
    },
    "amsgrad_xeg": {"b2": 0.9, "eps": 0.1, "dual_eps": 0.02, "initial_accumulator": 0.3},
    "amsgrad_eg_drd": {"b2": 0.9, "eps": 0.1, "dual_eps": 0.02, "power": 0.75},
}


@pytest.fixture
def x64():
    with jax.enable_x64(True):
        yield


# ---- games: f in JAX (differentiated here), its gradients by hand in the reference ----


def carousel(x, y, c=1.25, omega=3.0, mu=0.5, radius=2.0):
    s = x @ x
    cos, sin = jnp.cos(y[0]), jnp.sin(y[0])
    w = jnp.where(s <= 1, 2 - s, 1 / jnp.where(s <= 1, 1, s))
    x_Sx = cos * (x[0] ** 2 - x[1] ** 2) + 2 * sin * x[0] * x[1]
    outside = s > radius**2
    excess = jnp.where(outside, jnp.sqrt(jnp.where(outside, s, 1)) - radius, 0)
    return w * (c * s + x_Sx) + omega * y[0] + mu / 2 * excess**2


def moving_target(x, y, omega=2.0):
    gap = x - jnp.array([jnp.cos(y[0]), jnp.sin(y[0])])
    return gap @ gap / 2 + omega * y[0]


A = reference.bilinear_matrix()
ONES = np.ones(4)
GAMES = {  # f, its gradients (gx, gy), a start
    "O1": (carousel, reference.carousel(), PrimalDual(np.array([1.6, 0.6]), np.array([0.4]))),
    "G1": (lambda x, y: x @ A @ y, reference.bilinear(A), PrimalDual(ONES, -0.5 * ONES)),
    "N2": (
        moving_target,
        reference.moving_target(),
        PrimalDual(np.array([0.8, -1.1]), np.array([0.4])),
    ),
}


# All of them at once, as one game: every rule here moves each coordinate by its own gradient, or
# solves a system that falls apart into theirs. One program then serves them all.
PLACES = {"O1": (slice(0, 2), slice(0, 1)), "G1": (slice(2, 6), slice(1, 5)),
          "N2": (slice(6, 8), slice(5, 6))}  # fmt: skip
TOGETHER = (
    lambda x, y: sum(GAMES[game][0](x[i], y[j]) for game, (i, j) in PLACES.items()),
    PrimalDual(*(np.concatenate([GAMES[game][2][k] for game in PLACES]) for k in (0, 1))),
)


def field_of(f):
    def field(players):
        gx, gy = jax.grad(f, argnums=(0, 1))(*players)
        return PrimalDual(gx, -gy)

    return field


def trajectory(tx, game, steps):
    """The players after each step, on a leading axis."""
    f, *_, start = TOGETHER if game == "all" else GAMES[game]
    start = jax.tree.map(jnp.asarray, start)

    def body(carry, _):
        carry = step(tx, field_of(f), *carry)
        return carry, carry[0]

    return lax.scan(body, (start, tx.init(start)), length=steps)[1]


assert_close = partial(assert_close, rtol=EXACT_RTOL)


# ---- 1. the update rules ----


def alias(name, **hyperparameters):
    return partial(osj.OPTIMIZERS[name], **hyperparameters), partial(
        getattr(reference, name), **hyperparameters
    )


def acgd(**hyperparameters):
    """Conjugate gradients run to rounding; the reference solves dense systems."""
    exact = {"max_iterations": 50, "tolerance": 1e-15}
    return (
        partial(osj.acgd, **exact, **hyperparameters),
        partial(reference.acgd, **hyperparameters),
    )


def around_sgda(wrapper, **options):
    """A wrapper around plain descent-ascent."""
    return (
        lambda *rates: getattr(osj, wrapper)(osj.sgda(*rates), **options),
        partial(getattr(reference, wrapper), **options),
    )


def wrapped(extrapolation_state, convention="adam", wrapper="extragradient", **moments):
    """A wrapper around a plain optimizer, whose schedules count what its state counts."""
    base = osj.adam if convention == "adam" else partial(osj.amsgrad, convention=convention)
    clock = "state" if extrapolation_state == "carried" else "iteration"
    return (
        lambda *rates: getattr(osj, wrapper)(
            base(*rates, **moments), extrapolation_state=extrapolation_state
        ),
        partial(
            getattr(reference, wrapper),
            extrapolation_state=extrapolation_state,
            clock=clock,
            convention=convention,
            **moments,
        ),
    )


def two_players(wrapper=lambda base: base, **reference_options):
    """Adam against AMSGrad, each with its own moments: TTUR and everything that goes with it."""
    return (
        lambda lr_x, lr_y: wrapper(
            osj.descent_ascent(
                optax.adam(lr_x, b1=0.0, b2=0.99, eps=1e-4),
                optax.amsgrad(lr_y, b1=0.6, b2=0.9, eps=1e-2),
            )
        ),
        partial(
            reference.extragradient if reference_options else reference.simultaneous,
            b1=(0.0, 0.6),
            b2=(0.99, 0.9),
            eps=(1e-4, 1e-2),
            convention=("adam", "optax"),
            **reference_options,
        ),
    )


def with_nupi(**options):
    return (
        lambda lr_x, lr_y: osj.descent_ascent(optax.sgd(lr_x), osj.nupi(lr_y, **options)),
        partial(reference.nupi, **options),
    )


CONSTANT = (0.02, 0.05)
SCHEDULED = (lambda k: 0.02 / (1 + 0.1 * k), lambda k: 0.05 / (1 + 0.03 * k))
RULES = {
    **{f"{name}, defaults": alias(name) for name in HYPERPARAMETERS if name != "acgd"},
    **{f"{name}, {kw}": alias(name, **kw) for name, kw in HYPERPARAMETERS.items() if kw},
    "acgd, {'b2': 0.9, 'eps': 0.001}": acgd(b2=0.9, eps=1e-3),
    "acgd, defaults": acgd(),
    "amsgrad, classic": alias("amsgrad", convention="classic"),
    "amsgrad, torch": alias("amsgrad", convention="torch", b1=0.5),
    "amsgrad, torch from delta^2": alias("amsgrad", convention="torch", initial_accumulator=0.25),
    "alternating_adam, 3 dual steps": alias("alternating_adam", dual_steps=3, b1=0.5),
    "optimistic_adam, zero": alias("optimistic_adam", first_step="zero"),
    "lookahead_adam, 3": alias("lookahead_adam", sync_period=3, slow_step_size=0.8),
    "past_amsgrad_eg, classic": alias("past_amsgrad_eg", convention="classic", eps=0.5),
    "past_amsgrad_eg, torch": alias("past_amsgrad_eg", convention="torch", eps=0.5),
    "amsgrad_eg, torch": alias("amsgrad_eg", convention="torch"),
    "amsgrad_eg, momentum schedules": alias(
        "amsgrad_eg",
        b1_update=lambda k: 0.9 / (k + 1.0),
        b1_extrapolation=lambda k: 0.5 / (k + 1.0),
        dual_b1=0.9,
    ),
    "amsgrad_eg, extrapolation momentum alone": alias("amsgrad_eg", b1_extrapolation=0.5),
    "amsgrad_eg, two dual schedules": alias(
        "amsgrad_eg", dual_extrapolation_learning_rate=lambda k: 0.1 / (k + 1.0) ** 0.5
    ),
    "amsgrad_eg, classic": alias("amsgrad_eg", convention="classic"),
    "amsgrad_eg, classic from delta^2": alias(
        "amsgrad_eg", convention="classic", eps=0.5, initial_accumulator=0.25
    ),
    "amsgrad_eg, x-only": alias("amsgrad_eg", dual_extrapolation=False),
    "amsgrad_xeg, classic": alias("amsgrad_xeg", convention="classic"),
    "amsgrad_eg_drd, extrapolation only": alias("amsgrad_eg_drd", decay="extrapolation"),
    "amsgrad_eg_drd, x-only, classic": alias(
        "amsgrad_eg_drd", dual_extrapolation=False, convention="classic", power=1.0
    ),
    **{
        f"extragradient(adam), {state}": wrapped(state)
        for state in ("carried", "discarded", "separate")
    },
    "extragradient(amsgrad), carried": wrapped("carried", "classic", b1=0.5),
    "extragradient(amsgrad), separate": wrapped("separate", "optax", b1=0.5),
    "extragradient(amsgrad), torch": wrapped("carried", "torch", b1=0.5),
    **{
        f"past_extragradient(adam), {state}": wrapped(state, wrapper="past_extragradient", b1=0.5)
        for state in ("carried", "discarded", "separate")
    },
    "extragradient_plus(sgda)": around_sgda("extragradient_plus", update_scale=0.4),
    "anchored(sgda)": around_sgda("anchored"),
    "anchored(sgda), halpern": around_sgda("anchored", form="halpern"),
    "nupi, defaults of the dual": with_nupi(),
    "nupi, smoothed": with_nupi(kp=3.0, ki=0.5, nu=0.8),
    "nupi, zero": with_nupi(kp=2.0, nu=0.3, first_step="zero"),
    "nupi, integral only": with_nupi(kp=0.0),
    "consensus(sgda)": around_sgda("consensus", strength=0.3),
    "descent_ascent": two_players(),
    "extragradient(descent_ascent)": two_players(
        partial(osj.extragradient, extrapolation_state="discarded"),
        extrapolation_state="discarded",
    ),
}


def rates_for(name, primal, dual, number):
    """``amsgrad_eg_drd`` makes its own schedule of the dual's rate: it takes a number only."""
    return primal, number if name.startswith("amsgrad_eg_drd") else dual


def assert_follows_reference(rule, rates, games, steps):
    make, expected = RULES[rule]
    couples = rule.startswith(("tiada", "acgd"))  # a norm of all coordinates: a game at a time
    found = None if couples else quick(partial(trajectory, make(*rates), "all", steps))()
    for game in games:
        _, gradients, start = GAMES[game]
        path = expected(*gradients, *start, steps, *rates)
        if found is None:
            own = PrimalDual(*quick(partial(trajectory, make(*rates), game, steps))())
        else:
            own = PrimalDual(*(part[:, i] for part, i in zip(found, PLACES[game])))
        assert_close(own, PrimalDual(*map(np.stack, zip(*path))))


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("rule", RULES)
def test_trajectory_equals_the_reference(rule):
    # The reference of consensus differentiates by finite differences: O1's wall has a kink.
    games = [game for game in GAMES if (rule, game) != ("consensus(sgda)", "O1")]
    assert_follows_reference(rule, CONSTANT, games, steps=200)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize(
    "rule", [r for r in RULES if r.endswith(", defaults") or "extragradient" in r]
)
def test_schedules_follow_the_documented_clock(rule):
    scheduled = rates_for(rule, *SCHEDULED, number=0.05)
    assert_follows_reference(rule, scheduled, ["N2"], steps=60)


def test_the_reference_tables_cover_the_registry():
    assert set(HYPERPARAMETERS) <= set(osj.OPTIMIZERS)
    assert set(HYPERPARAMETERS) >= TWO_EVALUATIONS
    assert all(osj.OPTIMIZERS[name] is getattr(osj, name) for name in osj.OPTIMIZERS)
    assert set(FACTS) == set(osj.OPTIMIZERS)


@NAMES
def test_an_optimizer_says_whether_it_slows_the_dual_down(name):
    settings = defaults(name) | {"power": np.array([0.0, 0.5])}
    slower = {"amsgrad_eg_drd": [False, True], "tiada": [True, True]}.get(name, [False, False])
    slows_down = FACTS[name].slows_down
    assert np.broadcast_to(slows_down(settings), 2).tolist() == slower
    if name == "amsgrad_eg_drd":
        assert not np.any(slows_down(settings | {"decay": "extrapolation"}))


@pytest.mark.usefixtures("x64")
def test_extragradient_of_sgd_is_the_textbook_method():
    # On F = Jz, extragradient is z - a J (z - a J z): a linear map, known in closed form.
    a, steps = 0.3, 200
    J = np.block([[np.zeros((4, 4)), A], [-A.T, np.zeros((4, 4))]])
    z = np.concatenate(GAMES["G1"][2])
    expected = []
    for _ in range(steps):
        z = z - a * J @ (z - a * J @ z)
        expected.append(z)
    actual = quick(partial(trajectory, osj.extragradient(optax.sgd(a)), "G1", steps))()
    np.testing.assert_allclose(np.hstack(actual), expected, rtol=EXACT_RTOL, atol=EXACT_RTOL)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("extrapolation_state", ["carried", "discarded", "separate"])
def test_transparent_mode_takes_the_same_iterations_in_two_calls_each(extrapolation_state):
    make = partial(osj.extragradient, osj.adam(0.02, 0.05), extrapolation_state=extrapolation_state)
    expected = quick(partial(trajectory, make(), "O1", 50))()
    transparent = quick(partial(trajectory, make(opaque_mode=False), "O1", 100))()
    after_each_update = jax.tree.map(lambda a: a[1::2], transparent)
    assert_close(after_each_update, expected)


@pytest.mark.parametrize("count", [0, 1, 8])
def test_dual_rate_decay_counts_from_one(count):
    np.testing.assert_allclose(osj.dual_rate_decay(2.0)(count), 2.0 / np.sqrt(count + 1))
    schedule = osj.dual_rate_decay(jnp.float32(2.0), power=jnp.float32(0.25))
    traced = jax.jit(schedule)(jnp.int32(count))
    np.testing.assert_allclose(traced, 2.0 * (count + 1) ** -0.25, rtol=1e-6)


# ---- 2. the midpoint ----


@NAMES
def test_grad_fn_is_called_once_or_never(name):
    params = PrimalDual(jnp.array([1.0, 2.0]), jnp.array([3.0]))
    field = field_of(carousel)
    calls = []

    def grad_fn(players, i):
        calls.append((players, i))
        return field(players)

    tx = osj.OPTIMIZERS[name](0.1, 0.2, **taken_by(name, {"max_iterations": 1}))
    tx.update(field(params), tx.init(params), params, grad_fn=grad_fn)
    if name not in TWO_EVALUATIONS:
        assert not calls
        return
    ((midpoint, i),) = calls
    assert i == 0
    assert isinstance(midpoint, PrimalDual)
    if name == "acgd":  # differentiates at the players it was given
        return
    stays = (
        np.array_equal(midpoint.primal, params.primal),
        np.array_equal(midpoint.dual, params.dual),
    )
    special = {
        "alex_gda": (False, True),
        "alternating_adam": (True, False),
        "amsgrad_xeg": (False, True),
    }
    assert stays == special.get(name, (False, False))


# ---- 3. what jit, vmap and scan need ----


# Two kinds of rate at a time, the primal's and the dual's; in other modes the other way round.
PAIRS = [*zip(list(RATES)[::2], [*list(RATES)[1::2], "float"])]


@pytest.mark.parametrize("name", EVERY)
@pytest.mark.parametrize(
    ("dtype", "x64_mode", "order"),
    [("bfloat16", False, 1), ("float32", False, -1), ("float32", True, 1), ("float64", True, -1)],
)
def test_dtypes_are_preserved_and_the_state_is_a_scan_carry(name, dtype, x64_mode, order):
    with jax.enable_x64(x64_mode):
        params = tree_of(dtype)
        for kind in PAIRS:
            tx = make(name, *(RATES[k](dtype) for k in kind[::order]))
            state = jax.eval_shape(tx.init, params)
            updates, new_state = jax.eval_shape(
                lambda p, s, tx=tx: tx.update(
                    tree_field(p), s, p, grad_fn=lambda p, i: tree_field(p)
                ),
                params,
                state,
            )
            assert dtypes_of(updates) == dtypes_of(params), kind
            assert abstract(new_state) == abstract(state), kind
            moments = "float32" if name in OF_OUR_OWN and dtype == "bfloat16" else dtype
            leaves = jax.tree.leaves(new_state)
            assert all(leaf.dtype in (dtype, moments, np.int32) for leaf in leaves), kind


@pytest.mark.parametrize("name", sorted(OF_OUR_OWN))
@pytest.mark.parametrize(
    ("dtype", "first", "later"),
    [("bfloat16", 1.0, 0.25), ("float16", 2.0**-13, 2.0**-13)],  # the square of which is 0 there
)
def test_moments_of_half_precision_players_are_those_of_float32(name, dtype, first, later):
    momentum = taken_by(name, {"b1_update": 0.999, "b1_extrapolation": 0.999, "dual_b1": 0.999})
    tx = osj.OPTIMIZERS[name](1e-3, 1e-3, **taken_by(name, {"b2": 0.999}), **momentum)

    def moments(dtype):
        start = PrimalDual(jnp.ones(3, dtype), jnp.ones((), dtype))

        def body(carry, i):
            g = jnp.where(i == 0, first, later).astype(dtype)
            field = lambda z: jax.tree.map(lambda a: jnp.full_like(a, g), z)  # noqa: E731
            return step(tx, field, *carry), None

        return quick(lambda: lax.scan(body, (start, tx.init(start)), jnp.arange(1000))[0][1])()

    half, single = map(jax.tree.leaves, (moments(dtype), moments("float32")))
    compared = [pair for pair in zip(half, single, strict=True) if pair[0].dtype == jnp.float32]
    assert compared
    for a, b in compared:
        np.testing.assert_allclose(a, b, rtol=1e-5)


def abstract(tree):
    """Structure, shapes, dtypes and weak types: what must not change from step to step."""
    return jax.tree.map(lambda a: (a.shape, str(a.dtype), a.weak_type), tree)


def dtypes_of(tree):
    return jax.tree.map(lambda a: (a.shape, str(a.dtype)), tree)


def taken_by(name, options):
    """Those of ``options`` that an optimizer has."""
    parameters = inspect.signature(osj.OPTIMIZERS[name]).parameters
    return {option: value for option, value in options.items() if option in parameters}


@functools.cache
def change_after_three_steps(name, dtype):
    with jax.enable_x64(dtype == "float64"):
        # 0.999 rounds to 1 in bfloat16: 1 - b2 has to be taken before the cast.
        options = taken_by(name, {"b2": 0.999, "eps": 1e-3})
        tx, start = osj.OPTIMIZERS[name](0.05, 0.05, **options), tree_of(dtype)
        end, state = start, tx.init(start)
        with jax.disable_jit():
            for _ in range(3):
                end, state = step(tx, tree_field, end, state)
        return jax.tree.map(lambda a, b: np.asarray(b, "float64") - np.asarray(a), start, end)


@NAMES
@pytest.mark.parametrize(("dtype", "tolerance"), [("bfloat16", 0.1), ("float32", 1e-4)])
def test_low_precision_follows_float64(name, dtype, tolerance):
    expected = jax.tree.leaves(change_after_three_steps(name, "float64"))
    actual = jax.tree.leaves(change_after_three_steps(name, dtype))
    longest = max(np.abs(leaf).max() for leaf in expected)
    for a, b in zip(actual, expected, strict=True):
        np.testing.assert_allclose(a, b, atol=tolerance * longest)


@pytest.mark.parametrize("bias", ["bfloat16", "float32", "float64"])
def test_acgd_solves_for_a_player_of_several_dtypes(bias):
    def field(players):
        wide = jax.tree.map(lambda a: a.astype("float64"), players)
        return jax.tree.map(lambda F, a: F.astype(a.dtype), tree_field(wide), players)

    with jax.enable_x64(True):
        mixed = tree_of("bfloat16")
        mixed.primal["bias"] = mixed.primal["bias"].astype(bias)
        tx, start = osj.acgd(0.05, 0.05), jax.tree.map(lambda a: a.astype("float64"), mixed)
        update = quick(lambda z: tx.update(field(z), tx.init(z), z, grad_fn=lambda z, i: field(z)))
        (actual, _), (expected, _) = update(mixed), update(start)
    assert dtypes_of(actual) == dtypes_of(mixed)
    for a, b in zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(np.asarray(a, "float64"), b, atol=0.01 * np.abs(b).max())


@NAMES
@pytest.mark.usefixtures("x64")
def test_jit_changes_nothing(name):
    tx = osj.OPTIMIZERS[name](0.02, 0.05, **taken_by(name, {"max_iterations": 4}))
    f, _, start = GAMES["O1"]
    eager = jax.tree.map(jnp.asarray, start), tx.init(jax.tree.map(jnp.asarray, start))
    jitted, compiled = eager, jax.jit(partial(step, tx, field_of(f)))
    for _ in range(5):
        eager, jitted = step(tx, field_of(f), *eager), compiled(*jitted)
    assert_close(jitted, eager)


@NAMES
@pytest.mark.usefixtures("x64")
def test_traced_hyperparameters_floats_and_schedules_agree(name):
    make = osj.OPTIMIZERS[name]
    rates = [(0.01, 0.05), (0.03, 0.02)]
    run = lambda *rates, **kw: trajectory(make(*rates, **kw), "O1", 40)  # noqa: E731
    kw = HYPERPARAMETERS[name]
    vmapped = quick(lambda rates, kw: jax.vmap(lambda lr_x, lr_y: run(lr_x, lr_y, **kw))(*rates))(
        jnp.array(rates).T, jax.tree.map(jnp.asarray, kw)
    )
    assert len(np.unique(vmapped.dual[:, -1])) == len(rates)
    primal, dual = rates[-1]
    floats = quick(partial(run, primal, dual, **kw))()
    assert_close(jax.tree.map(lambda a: a[-1], vmapped), floats)
    constant = map(optax.constant_schedule, (primal, dual))
    schedules = quick(partial(run, *rates_for(name, *constant, number=dual), **kw))()
    assert_close(schedules, floats)


# ---- 4. forwarding (the rest of optax's company is in test_dropin.py) ----


def one_step(tx, **extra_args):
    params = tree_of("float32")
    return step(tx, tree_field, params, tx.init(params), **extra_args)


@pytest.mark.parametrize(
    "wrapper",
    [osj.extragradient, lambda base: osj.descent_ascent(base, base)],
    ids=["extragradient", "descent_ascent"],
)
def test_extra_args_reach_the_base(wrapper):
    def update(updates, state, params=None, *, scale, **extra_args):
        return jax.tree.map(lambda g: -scale * g, updates), state

    base = optax.GradientTransformationExtraArgs(lambda params: optax.EmptyState(), update)
    actual, _ = one_step(wrapper(base), scale=0.25)
    expected, _ = one_step(wrapper(optax.sgd(0.25)))
    assert_close(actual, expected, rtol=1e-6)


# ---- 5. mistakes ----


def message_of(error, call, *args, **kwargs):
    with pytest.raises(error) as caught:
        call(*args, **kwargs)
    return str(caught.value)


EXTRAGRADIENTS = {
    **{name: partial(osj.OPTIMIZERS[name], 0.1, 0.1) for name in sorted(TWO_EVALUATIONS)},
    "extragradient": lambda: osj.extragradient(osj.adam(0.1, 0.1)),
}


@pytest.mark.parametrize("name", EXTRAGRADIENTS)
def test_missing_arguments_are_named(name):
    tx, params = EXTRAGRADIENTS[name](), tree_of("float32")
    every = {"params": params, "grad_fn": lambda p, i: tree_field(p)}
    for missing, other in (("grad_fn", "params"), ("params", "grad_fn")):
        given = {other: every[other]}
        message = message_of(ValueError, tx.update, tree_field(params), tx.init(params), **given)
        assert missing in message
        assert f"{other} is missing" not in message


@NAMES
def test_players_that_are_no_pair_are_refused(name):
    tx = osj.OPTIMIZERS[name](0.1, 0.1)
    for players in (np.ones(3), (np.ones(3), np.ones(2)), {"a": 1.0, "b": 1.0, "c": 1.0}):
        message = message_of((TypeError, ValueError), tx.init, players)
        assert "PrimalDual" in message
        assert type(players).__name__ in message


@pytest.mark.parametrize("name", EXTRAGRADIENTS)
@pytest.mark.parametrize(
    "wrong",
    [
        lambda tx: osj.descent_ascent(tx, optax.adam(0.1)),
        lambda tx: osj.descent_ascent(optax.adam(0.1), tx),
        lambda tx: optax.masked(tx, PrimalDual(primal=True, dual=False)),
    ],
    ids=["primal", "dual", "masked"],
)
def test_extragradient_inside_a_partition_shows_the_right_spelling(name, wrong):
    message = message_of(ValueError, one_step, wrong(EXTRAGRADIENTS[name]()))
    if name.startswith(("amsgrad", "acgd")):  # take rates, and no base to put a partition into
        assert re.search(r"(amsgrad_\w+|acgd)\(primal_learning_rate, dual_learning_rate", message)
        assert "(descent_ascent(" not in message
    elif name == "alternating_adam":
        assert "alternating(primal, dual), masks inside" in message
    elif name == "alex_gda":
        assert "alternating_extrapolation(primal, dual), masks inside" in message
    else:
        assert re.search(r"extragradient(_plus)?\(descent_ascent\(primal, dual\)\)", message)


def test_dual_rate_decay_of_a_schedule_is_refused():
    message = message_of(ValueError, osj.amsgrad_eg_drd, 0.1, osj.dual_rate_decay(0.1))
    assert "dual_learning_rate" in message
    assert "schedule" in message


@pytest.mark.parametrize(
    ("make", "option", "choices"),
    [
        (lambda **kw: osj.extragradient(optax.sgd(0.1), **kw), "extrapolation_state",
         ("carried", "discarded", "separate")),
        (partial(osj.amsgrad, 0.1, 0.1), "convention", ("classic", "optax")),
        (partial(osj.amsgrad_eg, 0.1, 0.1), "convention", ("classic", "optax")),
        (partial(osj.amsgrad_xeg, 0.1, 0.1), "convention", ("classic", "optax")),
        (partial(osj.amsgrad_eg_drd, 0.1, 0.1), "convention", ("classic", "optax")),
        (partial(osj.amsgrad_eg_drd, 0.1, 0.1), "decay", ("both", "extrapolation")),
    ],
)  # fmt: skip
def test_unknown_choices_are_named_with_the_known_ones(make, option, choices):
    message = message_of(ValueError, make, **{option: "sometimes"})
    assert all(word in message for word in (option, "sometimes", *choices))


# ---- 6. the claim: theory.md 4.2, the carousel tells the methods apart ----


def plain(dual_learning_rate):
    return osj.descent_ascent(
        optax.amsgrad(0.02, b1=0.0, b2=0.99, eps=0.5, **CLASSIC_OPTAX),
        optax.amsgrad(dual_learning_rate, b1=0.0, b2=0.99, eps=1e-3, **CLASSIC_OPTAX),
    )


CLASSIC_OPTAX = {"bias_correction_mu": False, "bias_correction_nu": False}
SHARED = {"b2": 0.99, "eps": 0.5, "dual_eps": 1e-3, "convention": "classic"}
CAROUSEL = {  # optimizer, does the primal gradient vanish?
    "plain": (lambda: plain(2.0), False),
    "plain, decay": (lambda: plain(osj.dual_rate_decay(2.0, 0.5)), False),
    "EG": (lambda: osj.amsgrad_eg(0.02, 2.0, **SHARED), False),
    "XEG": (lambda: osj.amsgrad_xeg(0.02, 2.0, **SHARED), True),
    "EG, decay 1/4": (lambda: osj.amsgrad_eg_drd(0.02, 2.0, power=0.25, **SHARED), True),
    "EG, decay": (lambda: osj.amsgrad_eg_drd(0.02, 2.0, **SHARED), True),
    "EG, decay, optax convention": (
        lambda: osj.amsgrad_eg_drd(0.02, 2.0, **SHARED | {"convention": "optax"}), True
    ),
    "EG, decayed extrapolation": (
        lambda: osj.amsgrad_eg_drd(0.02, 2.0, decay="extrapolation", **SHARED), True
    ),
}  # fmt: skip


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("method", CAROUSEL)
def test_carousel_separates_the_methods(method):
    make, converges = CAROUSEL[method]
    steps, tail = 20_000, 2_000
    angle = jnp.linspace(0.0, 5.0, 6)
    starts = PrimalDual(
        1.7 * jnp.stack([jnp.cos(angle), jnp.sin(angle)], axis=1),
        jnp.linspace(0.0, 3.0, 6)[:, None],
    )
    tx, field = make(), field_of(carousel)

    def tail_mean(start):
        def body(carry, t):
            params, state, total = carry
            g = field(params).primal
            total += jnp.where(t >= steps - tail, g @ g, 0.0)
            return (*step(tx, field, params, state), total), None

        return lax.scan(body, (start, tx.init(start), 0.0), jnp.arange(steps))[0][2] / tail

    tails = jax.jit(jax.vmap(tail_mean))(starts)
    assert (tails < 1e-10).all() if converges else (tails > 0.1).all(), tails
