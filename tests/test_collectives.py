"""A step whose field is averaged over devices is the step on the whole batch, on every replica."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType
from jax.sharding import PartitionSpec as P
from optimizer_table import EVERY, make, steps

import onesided_jax as osj
from onesided_jax import PrimalDual

DATA = np.random.default_rng(0).normal(size=(8, 3, 3)).astype(np.float32)
START = PrimalDual(jnp.array([0.2, 0.3, 0.4]), jnp.array([0.5, 0.4, 0.3]))


def field(players, data):
    """Of f(x, y) = mean x A tanh(y) + |x|^2 / 20 over the batch of A."""
    bend = jnp.tanh(players.dual)
    return PrimalDual(
        jnp.einsum("bij,j->bi", data, bend).mean(0) + 0.1 * players.primal,
        -jnp.einsum("bij,i->bj", data, players.primal).mean(0) * (1 - bend**2),
    )


def average(F):
    return jax.lax.pmean(F, "batch")


def play(tx, data, reduce=lambda F: F, start=START):
    return steps(tx, lambda z: reduce(field(z, data)), start, 5)[0]


def under_shard_map(tx, check_vma):
    mesh = jax.make_mesh((2,), ("batch",), axis_types=(AxisType.Auto,))
    run = jax.shard_map(
        lambda start, data: jax.tree.map(lambda a: a[None], play(tx, data, average, start)),
        mesh=mesh,
        in_specs=(P(), P("batch")),
        out_specs=P("batch"),
        check_vma=check_vma,
    )
    return jax.jit(run)(START, DATA)


def under_named_vmap(tx):
    halves = DATA.reshape(2, 4, 3, 3)
    return jax.jit(jax.vmap(lambda data: play(tx, data, average), axis_name="batch"))(halves)


def under_pmap(tx):
    halves = DATA.reshape(2, 4, 3, 3)
    return jax.pmap(lambda data: play(tx, data, average), axis_name="batch")(halves)


def on_an_explicit_mesh(tx):
    mesh = jax.make_mesh((2,), ("batch",), axis_types=(AxisType.Explicit,))
    with jax.set_mesh(mesh):
        data = jax.device_put(DATA, P("batch"))
        ends = jax.jit(lambda start, data: play(tx, data, start=start))(
            jax.device_put(START, P()), data
        )
    return jax.tree.map(lambda a: np.asarray(a)[None], ends)


PLACES = {
    "shard_map": lambda tx: under_shard_map(tx, check_vma=True),
    "shard_map, unchecked": lambda tx: under_shard_map(tx, check_vma=False),
    "vmap": under_named_vmap,
    "pmap": under_pmap,
    "explicit mesh": on_an_explicit_mesh,
}
MADE = {name: (lambda name=name: make(name, 0.05, 0.05)) for name in EVERY}
MADE |= {
    "consensus of adam": lambda: osj.consensus(osj.adam(0.1, 0.1), 0.5),
    "consensus of sgda": lambda: osj.consensus(osj.sgda(0.1, 0.1), 0.5),
}
JACOBIANS = ("acgd", "consensus", "consensus of adam", "consensus of sgda")
ROWS = [(name, place) for name in MADE for place in PLACES if name in JACOBIANS]
# Of the others one of each kind: a wrapper around them sees the averaged field as they do.
OTHERS = ("adam", "extra_adam", "extragradient, transparent", "amsgrad_eg_drd", "past_amsgrad_eg")
OTHERS += ("alternating_adam", "lookahead of extragradient", "optimistic_adam", "oadagrad")
OTHERS += ("anchored", "extragradient_plus", "apply_if_finite")
ROWS += [(name, "shard_map") for name in OTHERS]


@functools.cache
def expected(name):
    return jax.jit(lambda: play(MADE[name](), DATA))()


@pytest.mark.parametrize(("name", "place"), ROWS)
def test_replicas_take_the_step_of_the_whole_batch(name, place):
    for replicas, whole in zip(PLACES[place](MADE[name]()), expected(name), strict=True):
        for replica in replicas:
            np.testing.assert_allclose(replica, whole, rtol=1e-4, atol=1e-5)
            np.testing.assert_array_equal(replica, replicas[0])


def test_replicas_that_exchange_nothing_stay_apart():
    """An axis that is only read, for a seed, is none that the field is averaged over."""

    def run(start):
        tilt = 1.0 + jax.lax.axis_index("runs")
        return steps(MADE["consensus of sgda"](), lambda z: field(z, tilt * DATA), start, 5)[0]

    def alone(tilt):
        tx = MADE["consensus of sgda"]()
        return steps(tx, lambda z: field(z, tilt * DATA), START, 5)[0]

    starts = jax.tree.map(lambda a: jnp.stack([a, a]), START)
    together = jax.jit(jax.vmap(run, axis_name="runs"))(starts)
    for i in range(2):
        for a, b in zip(together, jax.jit(alone)(1.0 + i), strict=True):
            np.testing.assert_allclose(a[i], b, rtol=1e-5)


def test_acgd_solves_for_sharded_players():
    """Its inner products run over a dimension that lies on several devices."""
    mesh = jax.make_mesh((2,), ("players",), axis_types=(AxisType.Explicit,))
    start = PrimalDual(jnp.array([0.2, 0.3, 0.4, 0.1]), jnp.array([0.5, 0.4, 0.3, 0.2]))

    def elementwise(z):
        return PrimalDual(jnp.tanh(z.dual), -z.primal * (1 - jnp.tanh(z.dual) ** 2))

    @jax.jit
    def run(start):
        return steps(osj.acgd(0.1, 0.1), elementwise, start, 5)[0]

    expected = run(start)
    with jax.set_mesh(mesh):
        actual = run(jax.device_put(start, P("players")))
    for a, b in zip(actual, expected, strict=True):
        np.testing.assert_allclose(np.asarray(a), b, rtol=1e-5)
