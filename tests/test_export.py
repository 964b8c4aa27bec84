"""Training steps exported for CPU, GPU and TPU at once: what an accelerator would be given."""

from __future__ import annotations

import jax
import numpy as np
import pytest
from compiling import quick as jit
from jax import export
from optimizer_table import EVERY

import onesided_jax as osj
from onesided_jax import datasets, games, networks

PLATFORMS = ("cpu", "cuda", "tpu")


RATES = {"primal": np.float32(0.01), "dual": np.float32(0.02)}


def exported(game, make):
    """An exported step, the step itself, and its initial state, abstract."""
    init, step = osj.make_step(game, lambda primal, dual: make(primal, dual))
    state = jax.eval_shape(init, jax.random.key(0), RATES)
    return export.export(jax.jit(step), platforms=PLATFORMS)(state, RATES), init, step


@pytest.mark.parametrize("name", EVERY)
def test_every_optimizer_exports(name):
    found, _, _ = exported(games.finite_sum_bilinear(), EVERY[name])
    assert found.platforms == PLATFORMS


@pytest.mark.parametrize("name", games.GAMES)
def test_every_game_exports(name):
    found, _, _ = exported(games.make_game(name), osj.OPTIMIZERS["extra_adam"])
    assert found.platforms == PLATFORMS


def images_game(network):
    data = np.random.default_rng(0).integers(0, 256, (16, 8, 8, 1), np.uint8)
    generator, discriminator = (
        networks.mlp((8, 8, 1), latent_dim=4, width=8)
        if network == "mlp"
        else networks.dcgan((8, 8, 1), 4, 4, normalization="batch")
    )
    return games.gan(
        generator=generator,
        discriminator=discriminator,
        loss="non_saturating",
        data=datasets.from_array(data),
        batch_size=4,
        latent_dim=4,
    )


@pytest.mark.parametrize(
    ("network", "name"), [("mlp", "adam"), ("dcgan", "amsgrad_eg"), ("dcgan", "lookahead_adam")]
)
def test_a_gan_exports_with_the_convolutions_of_each_platform(network, name):
    found, _, _ = exported(images_game(network), osj.OPTIMIZERS[name])
    assert found.platforms == PLATFORMS
    # One program holds the products for CPUs and the native convolutions for the others.
    assert ("stablehlo.convolution" in found.mlir_module()) == (network == "dcgan")


def test_an_exported_step_is_the_step():
    found, init, step = exported(images_game("dcgan"), osj.OPTIMIZERS["adam"])
    state = jit(init)(jax.random.key(0), RATES)
    results = jit(step)(state, RATES), jit(found.call)(state, RATES)
    for ours, theirs in zip(*map(jax.tree.leaves, results), strict=True):
        if jax.dtypes.issubdtype(ours.dtype, jax.dtypes.prng_key):
            ours, theirs = map(jax.random.key_data, (ours, theirs))
        np.testing.assert_allclose(theirs, ours, rtol=1e-5, atol=1e-6)


GENERATORS = {
    "mlp": lambda conv: networks.mlp((8, 8, 1), latent_dim=4, width=8),
    "dcgan": lambda conv: networks.dcgan((8, 8, 1), 4, 4, conv=conv),
    "sn_resnet": lambda conv: networks.sn_resnet((8, 8, 1), 4, 4, conv=conv),
}


@pytest.mark.parametrize("conv", ["gemm", "native"])
@pytest.mark.parametrize("name", GENERATORS)
def test_a_generator_exports_with_a_batch_size_left_open(name, conv):
    generator, _ = GENERATORS[name](conv)
    params, state = generator.init(jax.random.key(0))

    def sample(latents):
        return generator.apply(params, state, latents, train=False)[0]

    (batch,) = export.symbolic_shape("batch")
    latents = jax.ShapeDtypeStruct((batch, 4), np.float32)
    found = export.export(jax.jit(sample))(latents)
    for size in (1, 3):
        latents = np.random.default_rng(size).normal(size=(size, 4)).astype(np.float32)
        np.testing.assert_allclose(found.call(latents), sample(latents), rtol=1e-4, atol=1e-5)
