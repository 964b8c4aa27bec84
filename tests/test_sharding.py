"""One run on several devices: the same game, an equal step, a part of the work on each."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from compiling import quick as jit

import onesided_jax as osj
from onesided_jax import datasets, games, networks
from onesided_jax.sweeps.ahead import collectives

RATES = {"primal_learning_rate": 0.01, "dual_learning_rate": 0.02}


@pytest.fixture
def mesh():
    return jax.make_mesh((2,), ("batch",))


def gan(network="mlp", dtype=jnp.float32, batch_size=16):
    """A small GAN; the discriminator of the DCGAN couples its samples by BatchNorm."""
    data = np.random.default_rng(0).integers(0, 256, (64, 16, 16, 1), np.uint8)
    shape = data.shape[1:]
    generator, discriminator = (
        networks.mlp(shape, latent_dim=4, width=32)
        if network == "mlp"
        else networks.dcgan(shape, 4, 2, normalization="batch")
    )
    game = games.gan(
        generator=generator,
        discriminator=discriminator,
        loss="non_saturating",
        data=datasets.from_array(data),
        batch_size=batch_size,
        latent_dim=4,
    )
    return dataclasses.replace(
        game, init=lambda key: jax.tree.map(lambda a: a.astype(dtype), game.init(key))
    )


def compiled_step(game, name):
    init, step = osj.make_step(game, lambda **h: osj.OPTIMIZERS[name](**h))
    state = jit(init)(jax.random.key(0), RATES)
    return jit(step).lower(state, RATES).compile(), state


@pytest.mark.parametrize(
    ("make_game", "name"),
    [
        (lambda: games.finite_sum_bilinear(batch_size=16), "adam"),
        (lambda: games.finite_sum_bilinear(batch_size=16), "extra_adam"),
        (lambda: gan("mlp", jnp.float64), "adam"),
        (lambda: gan("dcgan", jnp.float64), "adam"),
    ],
    ids=["finite sum, adam", "finite sum, extra_adam", "mlp, adam", "dcgan, adam"],
)
def test_a_step_on_a_split_batch_is_the_step_on_the_whole(mesh, make_game, name):
    with jax.enable_x64(True):
        game = make_game()
        (whole, state), (split, _) = (
            compiled_step(g, name) for g in (game, games.shard_batch(game, mesh))
        )
        (expected, _), (actual, info) = whole(state, RATES), split(state, RATES)
        moved = jax.tree.map(lambda a, b: np.abs(a - b).max(), state.players, expected.players)
        assert min(jax.tree.leaves(moved)) > 1e-4
        for part in ("players", "state", "opt_state"):
            for a, b in zip(*(jax.tree.leaves(getattr(s, part)) for s in (actual, expected))):
                np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-12)
    assert "all-reduce" in collectives(split)
    assert collectives(whole) == {}
    assert all(leaf.sharding.is_fully_replicated for leaf in jax.tree.leaves(info.field))
    assert all(len(leaf.sharding.device_set) == 2 for leaf in jax.tree.leaves(actual.players))


def test_each_device_does_half_of_the_work_with_half_of_the_activations(mesh):
    game = gan(batch_size=512)
    (whole, _), (split, _) = (
        compiled_step(g, "adam") for g in (game, games.shard_batch(game, mesh))
    )
    assert split.cost_analysis()["flops"] < 0.6 * whole.cost_analysis()["flops"]
    temporaries = [c.memory_analysis().temp_size_in_bytes for c in (split, whole)]
    assert temporaries[0] < 0.7 * temporaries[1]


def test_samples_are_the_same_and_lie_apart(mesh):
    game = gan()
    key = jax.random.key(3)
    batch = jax.jit(games.shard_batch(game, mesh).sample)(key)
    for ours, theirs in zip(*map(jax.tree.leaves, (batch, game.sample(key)))):
        np.testing.assert_array_equal(ours, theirs)
        assert {shard.data.shape[0] for shard in ours.addressable_shards} == {8}


@pytest.mark.parametrize(
    ("game", "axis", "message"),
    [
        (games.finite_sum_bilinear(batch_size=4), "runs", "axis='runs': expected one of .*'batch'"),
        (games.finite_sum_bilinear(batch_size=3), "batch", r"batches of \[3\].*multiples of 2"),
        (games.bilinear(), "batch", "batches of nothing: expected multiples of 2"),
    ],
)
def test_what_cannot_be_split_is_refused(mesh, game, axis, message):
    with pytest.raises(ValueError, match=message):
        games.shard_batch(game, mesh, axis)
