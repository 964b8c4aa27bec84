# %% [markdown]
# # A GAN from an empty file
#
# Networks of your own, one sweep of eight GANs, logs that a dashboard reads, and samples of the best one.

# %%
import functools
import json
from pathlib import Path

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import onesided_jax as osj
from flax import nnx

STEPS = 1_500  # small: 4
EVERY = 300  # small: 2
SEEDS = 2  # small: 1
WIDTH = 16  # small: 2
IMAGES_SEEN = 50_000  # small: 2_000

# %% [markdown]
# ## Two networks
#
# Plain flax modules. The generator maps latents to images in [-1, 1]; the discriminator maps images to one logit each. `nnx.Conv` works
# too. `osj.networks.Conv` is the same layer, computed as a matrix product where that is faster: on a CPU by a large factor.


# %%
class Generator(nnx.Module):
    def __init__(self, rngs):
        self.dense = nnx.Linear(32, 7 * 7 * 2 * WIDTH, rngs=rngs)
        self.up = osj.networks.ConvTranspose(2 * WIDTH, WIDTH, (4, 4), (2, 2), rngs=rngs)
        self.out = osj.networks.ConvTranspose(WIDTH, 1, (4, 4), (2, 2), rngs=rngs)

    def __call__(self, latents):
        x = jax.nn.relu(self.dense(latents)).reshape(-1, 7, 7, 2 * WIDTH)
        return jnp.tanh(self.out(jax.nn.relu(self.up(x))))


class Discriminator(nnx.Module):
    def __init__(self, rngs):
        self.first = osj.networks.Conv(1, WIDTH, (4, 4), (2, 2), rngs=rngs)
        self.second = osj.networks.Conv(WIDTH, 2 * WIDTH, (4, 4), (2, 2), rngs=rngs)
        self.dense = nnx.Linear(7 * 7 * 2 * WIDTH, 1, rngs=rngs)

    def __call__(self, images):
        x = jax.nn.leaky_relu(self.first(images), 0.2)
        x = jax.nn.leaky_relu(self.second(x), 0.2)
        return self.dense(x.reshape(len(images), -1))[:, 0]


# %% [markdown]
# ## The game
#
# The generator is the primal player, the discriminator the dual player. `mnist5k` are 5,000 digits that come with the package.

# %%
data = osj.datasets.load("mnist5k")
game = osj.games.gan(
    generator=osj.networks.from_nnx(Generator),
    discriminator=osj.networks.from_nnx(Discriminator),
    loss="non_saturating",
    data=data,
    batch_size=64,
    latent_dim=32,
)

# %% [markdown]
# ## The sweep
#
# Two rates for each player and two seeds: eight GANs, one compiled program. It writes checkpoints to `runs/digits` and a log for each
# run. `osj.sweeps.TensorBoard("logs")` writes for TensorBoard instead. `ema=` keeps an average of the generator, whose samples
# are smoother.

# %%
runs = osj.grid(seeds=SEEDS, primal_learning_rate=(5e-4, 2e-3), dual_learning_rate=(5e-4, 2e-3))
result = osj.sweep(
    game,
    functools.partial(osj.alternating_adam, b1=0.5),
    runs,
    steps=STEPS,
    checkpoint_every=EVERY,
    record_every=EVERY // 2,
    ema=0.99,
    out="runs/digits",
    loggers=[osj.sweeps.Jsonl("logs.jsonl")],
)
lines = [json.loads(line) for line in Path("logs.jsonl").read_text().splitlines()]
print(len(lines), "lines; the last one has", sorted(lines[-1]))

# %% [markdown]
# ## Which one is best?
#
# The Fréchet distance of the samples to the digits, on the features of a small classifier that is trained once and kept.

# %%
settings = osj.analysis.ClassifierSettings(presentations=IMAGES_SEEN)
reference = osj.analysis.quality_reference(data, settings=settings)


@jax.jit
def draw(players, state):
    return game.generate(players, state, jax.random.key(0), 2_000)


def of_run(run, tree):
    return jax.tree.map(lambda leaf: leaf[run], tree)


distances = []
for run in range(len(runs)):
    players, state = of_run(run, (result.players, result.state))
    distances.append(reference.measure(np.asarray(draw(players, state)))["frechet"])
    rates = ", ".join(f"{values[run]:.0e}" for values in runs.hyperparameters.values())
    print(f"seed {runs.seeds[run]}, rates {rates}: Fréchet distance {distances[-1]:.2f}")

# %%
best = int(np.argmin(distances))
players, state, average = of_run(best, (result.players, result.state, result.ema))
images = game.generate(players._replace(primal=average), state, jax.random.key(1), 32)
figure, axes = plt.subplots(4, 8, figsize=(6, 3.2))
for axis, image in zip(axes.flat, images):
    axis.imshow(image[..., 0], cmap="gray")
    axis.set_axis_off()
figure.suptitle("Samples of the best of eight GANs")

# %% [markdown]
# ## What the min-max structure changed
#
# There is no loss to minimise, so the losses in the log do not say which run is best. Each player has a rate of its own, and only a
# measure from outside the game, here the distance to real digits, compares runs.
