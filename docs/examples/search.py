# %% [markdown]
# # Search hyperparameters with Optuna
#
# Optuna proposes settings one at a time, and a GAN that trains alone leaves most of a machine idle. Ask for a batch of trials
# instead, train all of them in one sweep, and tell Optuna the scores. Small GANs side by side keep every core busy, and compile once.

# %%
import warnings

import jax
import matplotlib.pyplot as plt
import numpy as np
import optuna
import onesided_jax as osj

BATCHES = 4  # small: 2
TRIALS = 16  # small: 4
STEPS = 1_500  # small: 10
SAMPLES = 2_000  # small: 50

# %% [markdown]
# ## The game and its score
#
# The data are 8 Gaussians on a ring. A good generator covers all of them and puts few samples between them. The score is the
# product of both shares, 1 at best.

# %%
generator, discriminator = osj.networks.mlp((2,), latent_dim=16, width=64)
game = osj.games.gan(
    generator=generator,
    discriminator=discriminator,
    loss="non_saturating",
    data=osj.datasets.ring(),
    batch_size=128,
    latent_dim=16,
)
mixture = osj.analysis.Mixture(osj.datasets.ring_means(), std=0.02)
reference = osj.analysis.quality_reference(mixture)


@jax.jit
@jax.vmap
def draw(players, state):
    return game.generate(players, state, jax.random.key(7), SAMPLES)


def scores(result):
    for run, samples in enumerate(np.asarray(draw(result.players, result.state))):
        if result.diverged_at[run] >= 0:
            yield 0.0
        else:
            found = reference.measure(samples)
            yield found["modes"] * found["high_quality"]


# %% [markdown]
# ## The study
#
# `constant_liar` keeps the sampler from proposing one point sixteen times. Every batch has the same shape, so the sweep is
# compiled once. The seed differs from trial to trial: a setting must not win by one lucky start.

# %%
optuna.logging.set_verbosity(optuna.logging.WARNING)
with warnings.catch_warnings():
    warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
    sampler = optuna.samplers.TPESampler(seed=0, constant_liar=True, n_startup_trials=TRIALS)
study = optuna.create_study(direction="maximize", sampler=sampler)
space = {
    "primal_learning_rate": optuna.distributions.FloatDistribution(1e-4, 1e-2, log=True),
    "dual_learning_rate": optuna.distributions.FloatDistribution(1e-4, 1e-2, log=True),
    "b1": optuna.distributions.FloatDistribution(0.0, 0.9),
    "b2": optuna.distributions.FloatDistribution(0.9, 0.999),
}
for batch in range(BATCHES):
    trials = [study.ask(space) for _ in range(TRIALS)]
    runs = osj.Runs(
        seeds=[trial.number for trial in trials],
        hyperparameters={name: [trial.params[name] for trial in trials] for name in space},
    )
    result = osj.sweep(game, osj.extra_adam, runs, steps=STEPS, record_every=STEPS)
    for trial, score in zip(trials, scores(result)):
        study.tell(trial, score)
    values = [trial.value for trial in study.trials[-TRIALS:]]
    print(f"batch {batch}: best {max(values):.2f}, median {np.median(values):.2f}")

print({name: float(f"{value:.2g}") for name, value in study.best_params.items()})

# %%
figure, axis = plt.subplots(figsize=(5, 3.4))
columns = ([trial.params[name] for trial in study.trials] for name in list(space)[:2])
points = axis.scatter(*columns, c=[trial.value for trial in study.trials], vmin=0, vmax=1)
axis.set(xscale="log", yscale="log", xlabel="generator's rate", ylabel="discriminator's rate")
figure.colorbar(points, label="score")
figure.suptitle("Where extragradient Adam learns the ring")

# %% [markdown]
# ## What the min-max structure changed
#
# Each player has a rate of its own. Every setting that learns has a fast discriminator, and among those the generator's rate
# decides. A search over one shared rate sees only the diagonal of this plane.
