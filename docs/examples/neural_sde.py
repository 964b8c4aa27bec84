# %% [markdown]
# # A neural SDE as a GAN, with diffrax and Equinox
#
# A stochastic differential equation draws random paths. Its drift and diffusion can be networks, and a critic that reads whole
# paths can train them ([Kidger et al. 2021](https://arxiv.org/abs/2102.03657)). The paths to learn come from an Ornstein-Uhlenbeck process
# with a growing drift and a growing noise, as in [diffrax's example](https://docs.kidger.site/diffrax/examples/neural_sde/). Here the paths
# have 16 points instead of 64, and all are observed.

# %%
import functools

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import onesided_jax as osj

STEPS = 800  # small: 2
PATHS = 4_096  # small: 32
BATCH = 128  # small: 4
SEEDS = 1
HIDDEN = 8
TIMES = jnp.arange(16.0)


@jax.jit
@jax.vmap
def ornstein_uhlenbeck(key):
    start, noise = jax.random.split(key)
    fine = jnp.linspace(0, TIMES[-1], 151)

    def euler(y, now):
        t, step = now
        return y + 0.1 * (0.08 * t - 0.1 * y) + 0.8 * t / TIMES[-1] * step, y

    steps = jnp.sqrt(0.1) * jax.random.normal(noise, fine.shape)
    first = jax.random.uniform(start, minval=-1, maxval=1)
    return jax.lax.scan(euler, first, (fine, steps))[1][::10, None]


paths = ornstein_uhlenbeck(jax.random.split(jax.random.key(0), PATHS))
print(paths.shape)  # paths, times, values

# %% [markdown]
# ## Two players
#
# Both solve a differential equation whose fields are networks. A control drives it: Brownian motion for the generator, the path
# itself for the critic. With steps of 1, only the motion at whole times matters.


# %%
def lipswish(x):
    return 0.909 * jax.nn.silu(x)


class VectorField(eqx.Module):
    mlp: eqx.nn.MLP
    shape: tuple = eqx.field(static=True)

    def __init__(self, shape, key):
        self.shape = shape
        size = int(np.prod(shape))
        self.mlp = eqx.nn.MLP(HIDDEN + 1, size, 16, 1, lipswish, jnp.tanh, key=key)

    def __call__(self, t, y, args):
        return self.mlp(jnp.append(y, t / TIMES[-1])).reshape(self.shape)


class Equation(eqx.Module):
    start: eqx.nn.MLP
    drift: VectorField
    response: VectorField  # to the control
    readout: eqx.nn.Linear

    def __init__(self, inputs, controls, key):
        keys = jax.random.split(key, 4)
        self.start = eqx.nn.MLP(inputs, HIDDEN, 16, 1, lipswish, key=keys[0])
        self.drift = VectorField((HIDDEN,), keys[1])
        self.response = VectorField((HIDDEN, controls), keys[2])
        self.readout = eqx.nn.Linear(HIDDEN, 1, key=keys[3])

    def solve(self, start, control, **when):
        path = diffrax.LinearInterpolation(TIMES, control)
        solution = diffrax.diffeqsolve(
            diffrax.MultiTerm(
                diffrax.ODETerm(self.drift), diffrax.ControlTerm(self.response, path)
            ),
            diffrax.ReversibleHeun(),
            t0=TIMES[0],
            t1=TIMES[-1],
            dt0=1.0,
            y0=self.start(start),
            saveat=diffrax.SaveAt(**when),
            adjoint=diffrax.DirectAdjoint(),
            max_steps=15,
        )
        return jax.vmap(self.readout)(solution.ys)


class Generator(Equation):
    def __init__(self, key):
        super().__init__(4, 3, key)

    def __call__(self, start, motion):
        return self.solve(start, motion, ts=TIMES)


class Critic(Equation):
    def __init__(self, key):
        super().__init__(1, 1, key)

    def __call__(self, path):  # sees the first point, and then the whole path
        return self.solve(path[0], path, t0=True, t1=True).sum()


# %% [markdown]
# ## The game
#
# `eqx.partition` splits a model into arrays, which are trained, and the rest. The Wasserstein loss needs a critic with bounded slope:
# `project` clips its weights after every step, and at the point where a method looks ahead.


# %%
arrays_of = functools.partial(eqx.partition, filter_spec=eqx.is_inexact_array)
STATIC = [arrays_of(model(jax.random.key(0)))[1] for model in (Generator, Critic)]


def init(key):
    keys = jax.random.split(key)
    models = (model(key) for model, key in zip((Generator, Critic), keys))
    return osj.PrimalDual(*(arrays_of(model)[0] for model in models)), ()


def noise(key, count):
    start, motion = jax.random.split(key)
    increments = jax.random.normal(motion, (count, 16, 3)).at[:, 0].set(0)
    return jax.random.normal(start, (count, 4)), increments.cumsum(1)


def sample(key, data):
    rows, latents = jax.random.split(key)
    return data[jax.random.randint(rows, (BATCH,), 0, PATHS)], noise(latents, BATCH)


def objective(primal, dual, batch):
    real, latents = batch
    generator, critic = (eqx.combine(*parts) for parts in zip((primal, dual), STATIC))
    generated = jax.vmap(generator)(*latents)
    scores = jax.vmap(critic)(jnp.concatenate([real, generated]))
    return jnp.mean(scores[:BATCH]) - jnp.mean(scores[BATCH:])


def is_linear(node):
    return isinstance(node, eqx.nn.Linear)


def project(players):
    def clip(layer):
        if not is_linear(layer):
            return layer
        bound = 1 / layer.out_features
        return eqx.tree_at(lambda layer: layer.weight, layer, jnp.clip(layer.weight, -bound, bound))

    return players._replace(dual=jax.tree.map(clip, players.dual, is_leaf=is_linear))


game = osj.Game(
    init=init,
    sample=sample,
    field=osj.games.zero_sum_field(objective, takes_batch=True),
    data=paths,
    project=project,
)

# %% [markdown]
# ## Three optimizers, three rates of the critic
#
# The field holds the critic's sign, so its rate is positive like the generator's.

# %%
optimizers = {
    "alternating Adam": functools.partial(osj.alternating_adam, b1=0.0),
    "extragradient Adam": functools.partial(osj.extra_adam, b1=0.0),  # not small
    "amsgrad_xeg": functools.partial(osj.amsgrad_xeg, b2=0.99),  # not small
}
runs = osj.grid(seeds=SEEDS, primal_learning_rate=1e-3, dual_learning_rate=(1e-3, 3e-3, 1e-2))
results = {
    name: osj.sweep(game, optimizer, runs, steps=STEPS, record_every=STEPS)
    for name, optimizer in optimizers.items()
}

# %% [markdown]
# ## How far are the paths?
#
# At each of the 16 times, generated and real paths have a mean and a standard deviation. The error is the root mean square of
# the differences.


# %%
@jax.jit
@jax.vmap
def generate(primal):
    generator = eqx.combine(primal, STATIC[0])
    return jax.vmap(generator)(*noise(jax.random.key(1), PATHS // 4))


def moments(paths):
    return np.stack([np.mean(paths, axis=-3), np.std(paths, axis=-3)])


print(f"{'optimizer':18} {'critic rate':>11} {'error':>6}")
best = {}
for name, result in results.items():
    drawn = np.asarray(generate(result.players.primal))
    errors = np.sqrt(np.mean((moments(drawn) - moments(paths)[:, None]) ** 2, axis=(0, 2, 3)))
    rates = runs.hyperparameters["dual_learning_rate"]
    for rate in np.unique(rates):
        print(f"{name:18} {rate:11.0e}", *(f"{error:6.2f}" for error in errors[rates == rate]))
    best[name] = drawn[np.nanargmin(errors)]

# %%
figure, axes = plt.subplots(1, 1 + len(best), figsize=(9, 2.6), sharey=True)
for axis, (name, drawn) in zip(axes, {"data": paths, **best}.items()):
    axis.plot(TIMES, np.asarray(drawn[:30, :, 0]).T, color="C0", alpha=0.4, linewidth=0.8)
    axis.set(title=name, xlabel="time")
figure.suptitle("Paths of the data, and of each optimizer's best run", y=1.05)

# %% [markdown]
# ## What the min-max structure changed
#
# The critic's rate matters more than the optimizer: at 0.01 no method did worse than at lower ones. There extragradient Adam came closest. Its steps cost
# two gradients, as those of alternating Adam do here. None of them learned the spread of the first point in so few steps; the example of
# the authors trains that part ten times faster. One seed each: an illustration, not a comparison.
