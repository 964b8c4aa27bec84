"""Ranges, dtypes and kinds of the numbers that optimizers take."""

import inspect

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from optimizer_table import assert_close, steps, tree_field, tree_of

import onesided_jax as osj
from onesided_jax import PrimalDual
from onesided_jax.optimizers import check_hyperparameters

ALL = sorted(osj.OPTIMIZERS)
NAMES = pytest.mark.parametrize("name", ALL)
STATIC = ("dual_steps", "sync_period", "max_iterations", "opaque_mode", "dual_extrapolation")
NUMBERS = {  # as a program, a NumPy user, a sweep or a checkpoint writes them
    "float": float,
    "np.float32": np.float32,
    "np.float64": np.float64,
    "NumPy array": np.array,
    "jnp array": jnp.array,
    "float32 array": jnp.float32,
    "array of several": lambda value: jnp.array([0.5, value]),
}
RATES = ("primal_learning_rate", "dual_learning_rate")
BAD = {"b1": (1.0, -0.5), "b2": (1.0, -0.5, float("nan")), "eps": (-1e-3,), "dual_eps": (-1.0,)}
BAD |= dict.fromkeys(("b1_update", "b1_extrapolation", "dual_b1"), (1.0, -0.5))
BAD |= {"update_scale": (-1.0,), "slow_step_size": (1.5,), "initial_accumulator": (-1.0,)}
BAD |= {"power": (-1.0,), "tolerance": (float("inf"),)}
BAD |= dict.fromkeys(("gamma", "delta"), (-0.5,))
BAD |= dict.fromkeys(("primal_power", "dual_power"), (1.0, -0.5))
BAD |= dict.fromkeys((*RATES, "dual_extrapolation_learning_rate"), (-0.125, float("nan")))
COUNTS = {"dual_steps": (0, 1.5), "sync_period": (0,), "max_iterations": (0,)}


def parameters(name):
    return inspect.signature(osj.OPTIMIZERS[name]).parameters


def refused(call, *args, **kwargs):
    with pytest.raises(ValueError) as caught:
        call(*args, **kwargs)
    return str(caught.value)


def made(name, **options):
    return osj.OPTIMIZERS[name](**dict.fromkeys(RATES, 0.1) | options)


@NAMES
def test_a_concrete_number_out_of_range_is_named_whatever_its_kind(name):
    for option in BAD.keys() & parameters(name):
        for bad in BAD[option]:
            for kind in NUMBERS.values():
                message = refused(made, name, **{option: kind(bad)})
                assert f"{option}={bad}" in message
                assert f"<= {option} <" in message
    for option in COUNTS.keys() & parameters(name):
        for bad in COUNTS[option]:
            assert f"{option}={bad}" in refused(made, name, **{option: bad})


@NAMES
def test_a_negative_rate_is_told_where_the_sign_lives(name):
    for rate in RATES:
        assert "sign lives in the field" in refused(made, name, **{rate: jnp.array(-1e-3)})
        assert "sign lives" not in refused(made, name, **{rate: jnp.array(jnp.inf)})


@NAMES
def test_every_float_of_every_optimizer_has_a_range(name):
    numbers = {
        key for key, p in parameters(name).items() if isinstance(p.default, float) or key in RATES
    }
    assert numbers <= BAD.keys()


@pytest.mark.parametrize(
    ("values", "passes"),
    [
        ({"b2": [0.9, 0.99], "dual_eps": None, "primal_learning_rate": np.array([0.0, 1.0])}, True),
        ({"slow_step_size": 1.0, "b1": 0}, True),
        ({"anything_else": -1.0}, True),
        ({"b1_update": optax.linear_schedule(0.5, 0.0, 10)}, True),
        ({"b2": [0.9, 1.5]}, False),
        ({"eps": "1e-3"}, False),
        ({"eps": 1j}, False),
        ({"eps": optax.constant_schedule(1e-3)}, False),
        ({"strength": optax.constant_schedule(1e-3)}, False),
    ],
)
def test_a_search_can_check_its_axes_before_it_begins(values, passes):
    if passes:
        check_hyperparameters(**values)
    else:
        assert next(iter(values)) in refused(check_hyperparameters, **values)


def test_a_schedule_of_the_consensus_strength_is_injected():
    schedule = optax.piecewise_constant_schedule(0.5, {1: 0.0})
    base = osj.sgda(0.1, 0.1)
    message = refused(osj.consensus, base, schedule)
    assert "inject_hyperparams" in message
    tx = optax.inject_hyperparams(lambda strength: osj.consensus(base, strength))(schedule)
    ends = jax.jit(lambda: steps(tx, tree_field, tree_of(), 2)[0])()
    first = jax.jit(lambda: steps(osj.consensus(base, 0.5), tree_field, tree_of(), 1)[0])()
    expected = jax.jit(lambda: steps(base, tree_field, first, 1)[0])()
    assert_close(ends, expected, rtol=1e-5)


# ---- half precision ----


@NAMES
@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_decay_rates_in_half_precision_are_refused(name, dtype):
    static = [option for option in STATIC if option in parameters(name)]
    tx = optax.inject_hyperparams(osj.OPTIMIZERS[name], static_args=static)(0.01, 0.01)
    params = tree_of(dtype)
    if name in {"sgda", "extra_sgd"}:  # a learning rate may be rounded
        jax.eval_shape(tx.init, params)
        return
    for init in (tx.init, jax.jit(tx.init)):  # concrete values and tracers
        message = refused(init, params)
        assert "hyperparam_dtype=jnp.float32" in message
        assert dtype in message


@NAMES
def test_injected_in_float32_they_give_the_steps_of_plain_floats(name):
    static = [option for option in STATIC if option in parameters(name)]
    inject = optax.inject_hyperparams(
        osj.OPTIMIZERS[name], static_args=static, hyperparam_dtype=jnp.float32
    )
    start = tree_of("bfloat16")

    def after_three(tx):
        with jax.disable_jit():
            return steps(tx, tree_field, start, 3)[0]

    options = {"b2": 0.75, "b1": 0.5}  # exact in bfloat16, where optax keeps its moments
    options = {key: value for key, value in options.items() if key in parameters(name)}
    plain = after_three(osj.OPTIMIZERS[name](0.0625, 0.0625, **options))
    injected = after_three(inject(0.0625, 0.0625, **options))
    for a, b in zip(*map(jax.tree.leaves, (injected, plain)), strict=True):
        assert a.dtype == b.dtype == jnp.bfloat16
        np.testing.assert_allclose(a.astype("float32"), b.astype("float32"), rtol=0.02, atol=0.01)


# ---- what grad_fn returns ----

LOOKING = {
    **{
        name: (lambda name=name: made(name))
        for name in (
            "acgd",
            "alex_gda",
            "alternating_adam",
            "amsgrad_eg",
            "extra_adam",
            "extra_sgd",
        )
    },
    "consensus": lambda: osj.consensus(osj.sgda(0.1, 0.1), 0.5),
    "extragradient_plus": lambda: osj.extragradient_plus(osj.sgda(0.1, 0.1)),
    "anchored": lambda: osj.anchored(osj.sgda(0.1, 0.1)),
    "extragradient of one player": lambda: osj.extragradient(optax.sgd(0.1)),
}
RETURNED = {
    "nothing": (lambda F: None, "NoneType"),
    "a loss beside it": (lambda F: (1.0, F), "grad_fn returned a tuple|grad_fn returns"),
    "half of it": (lambda F: F._replace(dual=None), "dual"),
    "another shape": (
        lambda F: jax.tree.map(lambda a: jnp.stack([a, a]), F),
        r"shape \(2, 2, 3\)|\(2, 3\)",
    ),
}


@pytest.mark.parametrize("returned", RETURNED)
@pytest.mark.parametrize("name", LOOKING)
def test_a_bad_value_of_grad_fn_is_reported_as_grad_fn_s(name, returned):
    spoil, words = RETURNED[returned]
    tx, players = LOOKING[name](), tree_of()

    def update(players):
        state = tx.init(players)
        return tx.update(
            tree_field(players), state, players, grad_fn=lambda z, i: spoil(tree_field(z))
        )

    with pytest.raises(ValueError, match=words) as caught:
        jax.eval_shape(update, players)
    assert "grad_fn" in str(caught.value)


def test_a_bad_field_is_reported_as_the_field():
    players = PrimalDual(1.0, 1.0)
    tx = osj.extra_sgd(0.1, 0.1)
    with pytest.raises(ValueError, match=r"the field F as PrimalDual.*got float"):
        tx.update(1.0, tx.init(players), players, grad_fn=lambda z, i: z)
