# %% [markdown]
# # Adversarial training of a classifier
#
# A classifier minimises its loss, while an adversary moves every image by at most `RADIUS` per pixel to maximise it.
# That is a min-max game: the weights are the primal player, the perturbations of all training images the dual player.

# %%
import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import optax
import onesided_jax as osj

STEPS = 800  # small: 20
TRAIN = 1_000  # small: 200
TEST = 500  # small: 40
SEEDS = 2  # small: 1
BATCH = 128
RADIUS = 0.3  # pixels lie in [-1, 1]

digits = osj.datasets.load("mnist5k")
order = np.random.default_rng(0).permutation(len(digits.data))
images = osj.datasets.scale_pixels(digits.data[order])
labels = jnp.asarray(digits.labels[order])
train = (images[:TRAIN], labels[:TRAIN])
test = (images[TRAIN : TRAIN + TEST], labels[TRAIN : TRAIN + TEST])


# %% [markdown]
# ## The game
#
# `Game.data` holds the training images once, however many runs share them. A minibatch is a list of rows.


# %%
def init(key):
    first, second = jax.random.split(key)
    weights = {
        "hidden": jax.random.normal(first, (784, 128)) / 28,
        "bias": jnp.zeros(128),
        "out": jax.random.normal(second, (128, 10)) / 11,
    }
    return osj.PrimalDual(weights, jnp.zeros((TRAIN, 28, 28, 1))), ()


def losses(weights, images, labels):
    hidden = jax.nn.relu(images.reshape(-1, 784) @ weights["hidden"] + weights["bias"])
    return optax.softmax_cross_entropy_with_integer_labels(hidden @ weights["out"], labels)


def sample(key, data):
    rows = jax.random.randint(key, (BATCH,), 0, TRAIN)
    return data[0][rows], data[1][rows], rows


def objective(weights, perturbations, batch):
    images, labels, rows = batch
    return losses(weights, images + perturbations[rows], labels).mean()


game = osj.Game(
    init=init,
    sample=sample,
    field=osj.games.zero_sum_field(objective, takes_batch=True),
    data=train,
)


# %% [markdown]
# ## Two optimizers
#
# The adversary steps by the sign of its gradient and stays inside the box. Rows outside the minibatch have gradient 0, so
# they do not move. A method that looks ahead must see the same rows again: `independent_samples=False`.


# %%
def stay_inside():
    def update(updates, state, params):
        inside = jax.tree.map(lambda p, u: jnp.clip(p + u, -RADIUS, RADIUS) - p, params, updates)
        return inside, state

    return optax.GradientTransformation(lambda params: optax.EmptyState(), update)


def simultaneous(attack):
    adversary = optax.chain(optax.sign_sgd(attack), stay_inside())
    return osj.descent_ascent(optax.adam(1e-3), adversary)


def looking_ahead(attack):
    return osj.extragradient(simultaneous(attack), extrapolation_state="discarded")


# %% [markdown]
# ## The sweep
#
# An attack of 0 is ordinary training.

# %%
runs = osj.grid(seeds=SEEDS, attack=(0.0, 0.1, 0.3))
results = {
    optimizer.__name__: osj.sweep(game, optimizer, runs, steps=STEPS, independent_samples=False)
    for optimizer in (simultaneous, looking_ahead)
}


# %% [markdown]
# ## Robust accuracy
#
# The test attack is stronger than the one in training: 20 steps of projected gradient ascent on images never seen.


# %%
@jax.jit
@jax.vmap
def accuracies(weights):
    images, labels = test

    def attack(_, moved):
        gradient = jax.grad(lambda moved: losses(weights, images + moved, labels).sum())(moved)
        return jnp.clip(moved + RADIUS / 10 * jnp.sign(gradient), -RADIUS, RADIUS)

    def correct(images):
        hidden = jax.nn.relu(images.reshape(-1, 784) @ weights["hidden"] + weights["bias"])
        return ((hidden @ weights["out"]).argmax(-1) == labels).mean()

    moved = jax.lax.fori_loop(0, 20, attack, jnp.zeros_like(images))
    return correct(images), correct(images + moved)


print(f"{'optimizer':14} {'attack':>6} {'clean':>6} {'robust':>6}")
table = {}
for name, result in results.items():
    clean, robust = accuracies(result.players.primal)
    for attack in np.unique(result.hyperparameters["attack"]):
        chosen = result.hyperparameters["attack"] == attack
        table[name, attack] = robust[chosen]
        print(f"{name:14} {attack:6.1f} {clean[chosen].mean():6.2f} {robust[chosen].mean():6.2f}")

# %%
figure, axis = plt.subplots(figsize=(5, 3))
for name in results:
    attacks = [attack for other, attack in table if other == name]
    axis.plot(attacks, [float(table[name, attack].mean()) for attack in attacks], "o-", label=name)
axis.set(xlabel="attack step in training", ylabel="robust accuracy", ylim=(0, 1))
axis.legend()
figure.suptitle("Training against an adversary makes the classifier robust")

# %% [markdown]
# ## What the min-max structure changed
#
# The classifier is the same, and so are its steps. Only the second player makes the difference: without it (attack 0) no
# attacked image is classified correctly. Looking ahead made the most robust classifier at the smaller attack step, and failed to
# learn at the larger one. Two seeds and 1,000 images: an illustration, not a benchmark.
