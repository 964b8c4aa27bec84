"""The GAN game against gradients written from the losses' definitions, one player at a time."""

import functools
import itertools
import re
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from compiling import quick
from flax import linen, nnx
from jax import lax
from jax.nn import log_sigmoid, relu
from scipy import stats

from onesided_jax import GameSpec, PrimalDual
from onesided_jax.datasets import from_array, ring
from onesided_jax.games import AUGMENTATIONS, LOSSES, GanBatch, Loss, diff_augment, gan
from onesided_jax.games._coupling import couples_samples
from onesided_jax.games.losses import smoothed
from onesided_jax.networks import Network, dcgan, from_linen, from_nnx, mlp, sn_resnet
from onesided_jax.runs import build_game

B, LATENT = 6, 4
PENALTY = 2.5  # not the default
EXACT, SINGLE = 1e-12, 1e-5  # float64, float32; relative to the norm of the player's gradient
EXTREME = 2e-6  # float32, at any logits: performance.md measured 4.4e-7 on another network

# Not ours: Mao et al. 2017 with a = -1, b = 1, c = 0, the Pearson chi-squared divergence.
THEIRS = {
    "pearson": Loss(
        primal=lambda logits: logits**2,
        real=lambda logits: (logits - 1) ** 2,
        fake=lambda logits: (logits + 1) ** 2,
    ),
}


def images(key, n):
    return jax.random.uniform(key, (n, 8, 8, 1), jnp.float32, minval=-1.0)


NETWORKS = {  # (generator, discriminator), data
    "mlp": (mlp((2,), latent_dim=LATENT, width=8), ring()),
    "dcgan": (dcgan((8, 8, 1), latent_dim=LATENT, width=2), images),
}
NAMES = pytest.mark.parametrize("network", sorted(NETWORKS))


@pytest.fixture
def x64():
    with jax.enable_x64(True):
        yield


# ---- the losses, from their definitions; D maps samples to logits ----


def minimax(D, batch, fake):
    of_fake = jnp.mean(log_sigmoid(-D(fake)))  # all of f that depends on the generator
    return of_fake, -jnp.mean(log_sigmoid(D(batch.real))) - of_fake


def non_saturating(D, batch, fake):
    return -jnp.mean(log_sigmoid(D(fake))), minimax(D, batch, fake)[1]


def wasserstein_gp(D, batch, fake):
    def slope(real, fake, mix):  # one sample; theirs is the gradient of a sum over the batch
        grad = jax.grad(lambda x: D(x[None])[0])(mix * real + (1 - mix) * fake)
        return jnp.sqrt(jnp.sum(grad**2))

    penalty = jnp.mean((jax.vmap(slope)(batch.real, fake, batch.mix) - 1) ** 2)
    return -jnp.mean(D(fake)), jnp.mean(D(fake)) - jnp.mean(D(batch.real)) + PENALTY * penalty


def hinge(D, batch, fake):
    return -jnp.mean(D(fake)), jnp.mean(relu(1 - D(batch.real))) + jnp.mean(relu(1 + D(fake)))


def least_squares(D, batch, fake):
    dual = 0.5 * jnp.mean((D(batch.real) - 1) ** 2) + 0.5 * jnp.mean(D(fake) ** 2)
    return 0.5 * jnp.mean((D(fake) - 1) ** 2), dual


def pearson(D, batch, fake):
    return jnp.mean(D(fake) ** 2), jnp.mean((D(batch.real) - 1) ** 2 + (D(fake) + 1) ** 2)


DEFINITIONS = {
    "minimax": minimax,
    "non_saturating": non_saturating,
    "wasserstein_gp": wasserstein_gp,
    "hinge": hinge,
    "least_squares": least_squares,
    "pearson": pearson,
}
CASES = [("mlp", "pearson"), *itertools.product(sorted(NETWORKS), LOSSES)]
SHARED = [name for name in DEFINITIONS if name != "wasserstein_gp"]


def test_every_loss_has_a_definition():
    assert set(DEFINITIONS) == {*LOSSES, *THEIRS}


def build(network, loss, /, **options):
    (generator, discriminator), data = NETWORKS[network]
    defaults = {
        "generator": generator,
        "discriminator": discriminator,
        "loss": THEIRS.get(loss, loss),
        "data": data,
        "batch_size": B,
        "latent_dim": LATENT,
        "gradient_penalty": PENALTY if loss == "wasserstein_gp" else None,
    }
    return gan(**{**defaults, **options})


def separate(network, loss, players, batch):
    """``(F, losses)`` by one ``jax.grad`` for each player, through both networks whole."""
    (generator, discriminator), _ = NETWORKS[network]

    def losses(x, y):
        fake, _ = generator.apply(x, (), batch.latent)
        return DEFINITIONS[loss](lambda inputs: discriminator.apply(y, (), inputs)[0], batch, fake)

    primal, grad_x = jax.value_and_grad(lambda x: losses(x, players.dual)[0])(players.primal)
    dual, grad_y = jax.value_and_grad(lambda y: losses(players.primal, y)[1])(players.dual)
    return PrimalDual(grad_x, grad_y), PrimalDual(primal, dual)


def numbers(seed, shapes):
    """Weights as an initialiser would draw them, biases that are not zero; nothing to compile."""
    rng = np.random.default_rng(seed)

    def leaf(shape):
        scale = np.prod(shape.shape[:-1]) ** -0.5 if len(shape.shape) > 1 else 0.2
        return scale * rng.normal(size=shape.shape)

    return jax.tree.map(leaf, shapes)


@functools.cache
def drawn(network):
    """Players, a minibatch and a direction for the primal player, as float64 NumPy arrays."""
    game, rng = build(network, "wasserstein_gp"), np.random.default_rng(2)
    players, _ = jax.eval_shape(game.init, jax.random.key(0))
    shapes = jax.eval_shape(game.sample, jax.random.key(0))
    batch = GanBatch(
        real=rng.uniform(-1, 1, size=shapes.real.shape),
        latent=rng.normal(size=shapes.latent.shape),
        mix=rng.uniform(size=shapes.mix.shape),
    )
    return numbers(0, players), batch, numbers(1, players.primal)


STATELESS = PrimalDual((), ())


def minibatch(loss, batch):
    return batch if loss == "wasserstein_gp" else batch._replace(mix=())


def singles(tree):
    return jax.tree.map(lambda a: np.asarray(a, np.float32), tree)


def norm(tree):
    return np.sqrt(sum(np.sum(np.square(leaf, dtype=np.float64)) for leaf in jax.tree.leaves(tree)))


def inner_product(a, b):
    return sum(np.vdot(*leaves) for leaves in zip(*map(jax.tree.leaves, (a, b)), strict=True))


def assert_close(actual, expected, rtol, atol=0.0):
    """Each player's whole gradient, in norm; and nothing that is not finite."""
    for a, b in zip(actual, expected, strict=True):
        assert jax.tree.structure(a) == jax.tree.structure(b)
        assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves((a, b)))
        gap = norm(jax.tree.map(lambda a, b: np.float64(a) - np.float64(b), a, b))
        assert gap <= rtol * norm(b) + atol


# ---- 1. the field, in float64 ----


@functools.cache
def evaluated(network, loss):
    """What a game says of one minibatch, in float64, and what it should say: two dicts."""
    game = build(network, loss)
    players, batch, direction = drawn(network)

    @quick
    def ours(players, batch):
        F, info = game.field(players, STATELESS, batch)
        slopes = game.primal_slope(players, STATELESS, direction, batch)
        return {"F": F, "losses": info.losses, "samples": slopes}

    @quick
    def expected(players, batch):
        F, losses = separate(network, loss, players, batch)
        of_samples = {**LOSSES, **THEIRS}[loss].primal
        samples = jax.jvp(
            lambda x: of_samples(_logits(network, PrimalDual(x, players.dual), batch.latent)),
            (players.primal,),
            (direction,),
        )
        return {"F": F, "losses": losses, "samples": samples}

    with jax.enable_x64(True):
        batch = minibatch(loss, batch)
        outcomes = ours(players, batch), expected(players, batch)
    return jax.tree.map(np.asarray, outcomes)


def _logits(network, players, latent):
    (generator, discriminator), _ = NETWORKS[network]
    fake, _ = generator.apply(players.primal, (), latent)
    return discriminator.apply(players.dual, (), fake)[0]


@pytest.mark.parametrize(("network", "loss"), CASES)
def test_field_is_two_separate_gradients(network, loss):
    ours, expected = evaluated(network, loss)
    assert {leaf.dtype for leaf in jax.tree.leaves(ours)} == {np.dtype("float64")}
    assert min(map(norm, ours["F"])) > 1e-3
    assert_close(ours["F"], expected["F"], EXACT)
    np.testing.assert_allclose(ours["losses"], expected["losses"], rtol=EXACT)


@NAMES
def test_minimax_is_zero_sum(network, x64):
    """One ``f``, spelled as Goodfellow et al. did, differentiated once for both players."""
    players, batch, _ = drawn(network)
    (generator, discriminator), _ = NETWORKS[network]

    def f(x, y):
        def probability(samples):
            return jax.nn.sigmoid(discriminator.apply(y, (), samples)[0])

        fake, _ = generator.apply(x, (), batch.latent)
        return jnp.mean(jnp.log(probability(batch.real))) + jnp.mean(jnp.log(1 - probability(fake)))

    grad_x, grad_y = quick(jax.grad(f, argnums=(0, 1)))(*players)
    F = evaluated(network, "minimax")[0]["F"]
    assert_close(F, (grad_x, jax.tree.map(np.negative, grad_y)), EXACT)


@pytest.mark.parametrize(("network", "loss"), CASES)
def test_primal_slope_is_the_derivative_of_every_sample(network, loss):
    ours, expected = evaluated(network, loss)
    values, slopes = ours["samples"]
    assert values.shape == slopes.shape == (B,)
    np.testing.assert_allclose(values, expected["samples"][0], rtol=EXACT)
    np.testing.assert_allclose(slopes, expected["samples"][1], rtol=EXACT)
    assert np.std(slopes) > 1e-6  # one for each sample, not their mean B times
    np.testing.assert_allclose(values.mean(), ours["losses"].primal, rtol=EXACT)
    inner = inner_product(drawn(network)[2], ours["F"].primal)
    np.testing.assert_allclose(slopes.mean(), inner, rtol=1e-10)


# ---- 2. wasserstein_gp by hand: D(x) = q |x|^2 / 2 + w x + b, G(z) = z A + c ----


def quadratic_networks(head="head"):
    def generator_init(key):
        A, c = jax.random.split(key)
        return {"A": jax.random.normal(A, (LATENT, 3)), "c": jax.random.normal(c, (3,))}, ()

    def discriminator_init(key):
        params = {"w": jax.random.normal(key, (3,)), "b": jnp.float32(0.3)}
        return {"quadratic": jnp.float32(0.7), head: params}, ()

    def generator(params, state, latent, *, train=True):
        return latent.astype(params["A"].dtype) @ params["A"] + params["c"][None], state

    def discriminator(params, state, x, *, train=True):
        x = x.astype(params[head]["w"].dtype)
        quadratic = params["quadratic"] * jnp.sum(x**2, axis=1) / 2
        return quadratic + x @ params[head]["w"] + params[head]["b"], state

    return {
        "generator": Network(generator_init, generator),
        "discriminator": Network(discriminator_init, discriminator),
        "data": lambda key, n: jax.random.normal(key, (n, 3)),
    }


@pytest.mark.parametrize("weight", [0, 0.5, 10.0])
def test_gradient_penalty_by_hand(weight, x64):
    game = build("mlp", "wasserstein_gp", **quadratic_networks(), gradient_penalty=weight)
    players, _ = jax.eval_shape(game.init, jax.random.key(0))
    shapes = jax.eval_shape(game.sample, jax.random.key(0))
    players, batch = numbers(0, (players, GanBatch(*shapes)))
    F, info = quick(game.field)(players, STATELESS, batch)

    (x, y), (real, latent, mix, *_) = players, batch
    q, w, b = y["quadratic"], y["head"]["w"], y["head"]["b"]
    D = lambda x: q * (x**2).sum(1) / 2 + x @ w + b  # noqa: E731
    fake = latent @ x["A"] + x["c"]
    mixed = mix[:, None] * real + (1 - mix[:, None]) * fake
    slope = q * mixed + w
    length = np.linalg.norm(slope, axis=1)
    pull = weight * 2 * ((length - 1) / length)[:, None] * slope / B
    to_fake = -(q * fake + w) / B
    expected = PrimalDual(
        {"A": latent.T @ to_fake, "c": to_fake.sum(0)},
        {
            "quadratic": ((fake**2).sum(1) - (real**2).sum(1)).mean() / 2 + (pull * mixed).sum(),
            "head": {"b": 0.0, "w": (fake - real).mean(0) + pull.sum(0)},
        },
    )
    assert_close(F, expected, EXACT)
    np.testing.assert_allclose(info.losses.primal, -D(fake).mean(), rtol=EXACT)
    dual = (D(fake) - D(real)).mean() + weight * ((length - 1) ** 2).mean()
    np.testing.assert_allclose(info.losses.dual, dual, rtol=EXACT)


def test_gradient_penalty_of_a_dead_critic_is_finite():
    """Where D is constant the norm of its gradient has no derivative."""
    (x, y), batch, _ = singles(drawn("mlp"))
    players = PrimalDual(x, jax.tree.map(np.zeros_like, y))
    field = quick(build("mlp", "wasserstein_gp").field)
    F, info = field(players, STATELESS, batch)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(F))
    assert info.losses == (0.0, PENALTY)


@pytest.mark.parametrize(
    ("loss", "options"),
    [
        ("non_saturating", {"label_smoothing": 0.1}),
        ("least_squares", {"label_smoothing": 0.25}),
        ("hinge", {"r1": 3.0, "label_smoothing": 0.1}),
        ("minimax", {"gradient_penalty": 0.5}),
        *((loss, {"r1": 2.0, "gradient_penalty": 0.7}) for loss in ("pearson", "non_saturating")),
        ("hinge", {"gradient_penalty": 0}),
    ],
)
def test_penalties_and_smoothed_labels_by_hand(loss, options, x64):
    game = build("mlp", loss, **quadratic_networks(), **options)
    players, _ = jax.eval_shape(game.init, jax.random.key(0))
    shapes = jax.eval_shape(game.sample, jax.random.key(0))
    assert (shapes.mix != ()) == bool(options.get("gradient_penalty"))
    players, batch = numbers(0, (players, GanBatch(*shapes)))
    F, info = quick(game.field)(players, STATELESS, batch)

    (x, y), (real, latent, *_) = players, batch
    q, w, b = y["quadratic"], y["head"]["w"], y["head"]["b"]
    D = lambda x: q * (x**2).sum(1) / 2 + x @ w + b  # noqa: E731
    fake = latent @ x["A"] + x["c"]
    share = options.get("label_smoothing", 0)
    of_primal, of_real, of_fake = SLOPES[loss]
    to_real = ((1 - share) * of_real(D(real)) + share * of_fake(D(real))) / B
    to_logits = np.concatenate([to_real, of_fake(D(fake)) / B])
    both = np.concatenate([real, fake])
    to_q, to_w = to_logits @ (both**2).sum(1) / 2, to_logits @ both
    penalties = 0.0
    if options.get("gradient_penalty"):
        mixed = batch.mix[:, None] * real + (1 - batch.mix[:, None]) * fake
        length = np.linalg.norm(q * mixed + w, axis=1)
        penalties += options["gradient_penalty"] * ((length - 1) ** 2).mean()
        pull = options["gradient_penalty"] * 2 * ((length - 1) / length)[:, None] / B
        pull = pull * (q * mixed + w)
        to_q, to_w = to_q + (pull * mixed).sum(), to_w + pull.sum(0)
    if options.get("r1"):
        slope = q * real + w
        penalties += options["r1"] / 2 * (slope**2).sum(1).mean()
        to_q += options["r1"] * (slope * real).sum(1).mean()
        to_w = to_w + options["r1"] * slope.mean(0)
    to_fake = (of_primal(D(fake)) / B)[:, None] * (q * fake + w)
    expected = PrimalDual(
        {"A": latent.T @ to_fake, "c": to_fake.sum(0)},
        {"quadratic": to_q, "head": {"b": to_logits.sum(), "w": to_w}},
    )
    assert_close(F, expected, EXACT)
    of_loss = {**LOSSES, **THEIRS}[loss]
    of_logits = (1 - share) * of_loss.real(D(real)) + share * of_loss.fake(D(real))
    dual = (of_logits + of_loss.fake(D(fake))).mean() + penalties
    np.testing.assert_allclose(info.losses.dual, dual, rtol=EXACT)


def test_smoothed_labels_are_the_cross_entropy_with_them():
    logits = np.linspace(-4, 4, 9)
    loss = smoothed(LOSSES["non_saturating"], 0.1)
    probability = sigmoid(logits)
    expected = -0.9 * np.log(probability) - 0.1 * np.log(1 - probability)
    np.testing.assert_allclose(loss.real(logits), expected, rtol=1e-5)
    assert (loss.fake, loss.primal) == (LOSSES["minimax"].fake, LOSSES["non_saturating"].primal)


# ---- 3. augmentation ----

CARD = np.arange(1.0, 1 + 16 * 24 * 2, dtype=np.float32).reshape(16, 24, 2)  # no two pixels alike
KEYS = jax.random.split(jax.random.key(0), 400)


def moved(image, down, right):
    """A shift that leaves zeros behind."""
    padded = np.pad(image, ((2, 2), (3, 3), (0, 0)))
    return padded[2 - down : 18 - down, 3 - right : 27 - right]


def holed(image, row, column):
    """A box of 8 x 12 pixels around one, cut by the border."""
    image = image.copy()
    image[max(row - 4, 0) : row + 4, max(column - 6, 0) : column + 6] = 0
    return image


OUTCOMES = {  # everything that may come of the card; all equally likely
    "flip": [CARD, CARD[:, ::-1]],
    "shift": [moved(CARD, y, x) for y in range(-2, 3) for x in range(-3, 4)],
    "cutout": [holed(CARD, y, x) for y in range(16) for x in range(24)],
}


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_augmentations_by_hand(name):
    found = np.asarray(quick(jax.vmap(diff_augment(name), (0, None)))(KEYS, CARD))
    texts = [image.tobytes() for image in OUTCOMES[name]]
    counts = np.bincount([texts.index(image.tobytes()) for image in found], minlength=len(texts))
    if len(texts) < 100:  # each is there, about as often
        assert stats.chisquare(counts).pvalue > 1e-3
    assert (counts > 0).sum() > 0.5 * min(len(texts), len(KEYS))


def test_a_policy_acts_in_its_order_with_draws_of_its_own():
    key, (flip, shift) = KEYS[0], (AUGMENTATIONS[name] for name in ("flip", "shift"))
    first, second = (jax.random.fold_in(key, i) for i in (0, 1))
    found = diff_augment("shift, flip")(key, CARD)
    np.testing.assert_array_equal(found, flip(second, shift(first, CARD)))


def test_real_and_generated_samples_are_augmented_alike_and_gradients_pass_through(x64):
    policy = "flip,shift,cutout"
    game = build("dcgan", "non_saturating", augment=policy)
    plain = build("dcgan", "non_saturating")
    key = jax.random.key(3)
    batch, before = quick(lambda key: (game.sample(key), plain.sample(key)))(key)
    np.testing.assert_array_equal(batch.latent, before.latent)
    assert (np.asarray(batch.real) != before.real).mean() > 0.2
    assert len({str(data) for data in jax.random.key_data(batch.keys)}) == B
    players, direction = drawn("dcgan")[0], drawn("dcgan")[2]
    augment = jax.vmap(diff_augment(policy))

    @quick
    def both(players):
        (generator, discriminator), _ = NETWORKS["dcgan"]

        def losses(x, y):
            fake = augment(batch.keys, generator.apply(x, (), batch.latent)[0])
            D = lambda inputs: discriminator.apply(y, (), inputs)[0]  # noqa: E731
            return non_saturating(D, batch, fake)

        x, y = players
        expected = jax.grad(lambda x: losses(x, y)[0])(x), jax.grad(lambda y: losses(x, y)[1])(y)
        slopes = game.primal_slope(players, STATELESS, direction, batch)[1]
        return game.field(players, STATELESS, batch)[0], expected, slopes

    F, expected, slopes = both(players)
    assert_close(F, expected, EXACT)
    np.testing.assert_allclose(slopes.mean(), inner_product(direction, F.primal), rtol=1e-10)
    samples = [quick(partial(g.generate, n=3))(players, STATELESS, key=key) for g in (game, plain)]
    np.testing.assert_array_equal(*samples)


def test_an_augmentation_may_be_a_function_of_one_sample():
    game = build("mlp", "hinge", augment=lambda key, point: point + jax.random.normal(key, (2,)))
    batch = game.sample(jax.random.key(0))
    assert len(np.unique(np.round(batch.real - build("mlp", "hinge").sample(jax.random.key(0)).real,
                                  4))) == 2 * B  # fmt: skip


# ---- conditional GANs ----

CLASSES = 3


def labelled(n=40, shape=(8, 8, 1)):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (n, *shape), np.uint8)
    return from_array(images, name="noise", labels=images[:, 0, 0, 0] % CLASSES)


def own_generator():
    """A pair of functions, as a user writes it: G(z, c) = z A + E[c]."""

    def init(key):
        A, E = jax.random.split(key)
        return {"A": jax.random.normal(A, (LATENT, 64)), "E": jax.random.normal(E, (3, 64))}, ()

    def apply(params, state, z, labels, *, train=True):
        flat = z.astype(params["A"].dtype) @ params["A"] + params["E"][labels]
        return flat.reshape(-1, 8, 8, 1), state

    return Network(init, apply)


class OwnLinen(linen.Module):
    @linen.compact
    def __call__(self, x, labels):
        x = jnp.tanh(linen.Dense(5)(x.reshape(x.shape[0], -1)))
        x = jnp.concatenate([x, jax.nn.one_hot(labels, CLASSES)], axis=1)
        return linen.Dense(1, name="head")(x)[:, 0]


class OwnNnx(nnx.Module):
    def __init__(self, rngs):
        self.head = nnx.Linear(64, 1, rngs=rngs)
        self.table = nnx.Embed(CLASSES, 64, rngs=rngs)

    def __call__(self, x, labels):
        x = x.reshape(x.shape[0], -1)
        return self.head(x)[:, 0] + jnp.sum(x * self.table(labels), axis=1)


FLAT = jax.ShapeDtypeStruct((1, 8, 8, 1), jnp.float32), jax.ShapeDtypeStruct((1,), jnp.int32)
CONDITIONAL = {
    "mlp": (mlp((8, 8, 1), LATENT, 5, classes=CLASSES), [2 * B]),
    "dcgan": (dcgan((8, 8, 1), LATENT, 2, classes=CLASSES), [2 * B]),
    "sn_resnet": (sn_resnet((8, 8, 1), LATENT, 2, classes=CLASSES), [2 * B]),
    "linen": ((own_generator(), from_linen(OwnLinen(), *FLAT)), [2 * B]),
    "nnx": ((own_generator(), from_nnx(lambda rngs: OwnNnx(rngs))), [B] * 3),  # looked up by index
}


@pytest.mark.parametrize("name", CONDITIONAL)
def test_a_conditional_field_is_two_separate_gradients(name, x64):
    (generator, discriminator), passes = CONDITIONAL[name]
    calls = []
    game = build("mlp", "hinge", generator=generator, discriminator=counted(discriminator, calls),
                 data=labelled(), classes=CLASSES)  # fmt: skip
    shapes, state = jax.eval_shape(game.init, jax.random.key(0))
    state = jax.tree.map(lambda a: np.ones(a.shape), state)
    players = numbers(3, shapes)
    batch = quick(game.batch)(jax.random.key(1))
    (labels,) = batch.labels
    assert len(np.unique(labels)) > 1
    calls.clear()
    jax.eval_shape(game.field, players, state, batch)
    assert calls == passes

    def losses(x, y):
        fake, _ = generator.apply(x, state.primal, batch.latent, labels)
        D = lambda inputs: discriminator.apply(y, state.dual, inputs, labels)[0]  # noqa: E731
        return hinge(D, batch, fake)

    direction = numbers(4, shapes.primal)

    @quick
    def both(players):
        x, y = players
        expected = jax.grad(lambda x: losses(x, y)[0])(x), jax.grad(lambda y: losses(x, y)[1])(y)
        slopes = game.primal_slope(players, state, direction, batch)[1]
        return game.field(players, state, batch)[0], expected, slopes

    F, expected, slopes = both(players)
    assert min(map(norm, F)) > 1e-3
    assert_close(F, expected, 1e-7 if name == "sn_resnet" else 1e-10)
    np.testing.assert_allclose(slopes.mean(), inner_product(direction, F.primal), rtol=1e-7)
    if name in ("mlp", "dcgan", "sn_resnet"):  # theirs keep the classes in the head
        # Operation by operation: in one program the two may be fused, and rounded, differently.
        flipped = [discriminator.apply(z, state.dual, batch.real, labels)[0]
                   for z in (players.dual, game.flip_dual(players.dual))]  # fmt: skip
        np.testing.assert_array_equal(flipped[0], -flipped[1])
        tables = [F.primal["classes"], F.dual["head"]["classes"]]
        for z in tables[: 1 if name == "sn_resnet" else 2]:  # its spectral norm is of all classes
            assert (np.abs(z).sum(1) > 0).tolist() == np.isin(range(CLASSES), labels).tolist()


def test_real_samples_keep_their_labels_and_the_draws_of_the_unconditional_game():
    data = labelled()
    both = {"generator": CONDITIONAL["mlp"][0][0], "discriminator": CONDITIONAL["mlp"][0][1]}
    game = build("mlp", "hinge", **both, data=data, classes=CLASSES)
    plain = dict(zip(both, mlp((8, 8, 1), LATENT, 5)))
    before = build("mlp", "hinge", **plain, data=data).batch(jax.random.key(7))
    batch = game.batch(jax.random.key(7))
    np.testing.assert_array_equal(batch.real, before.real)
    np.testing.assert_array_equal(batch.latent, before.latent)
    assert before.labels == ()
    pixels = np.round(np.asarray(batch.real[:, 0, 0, 0], np.float64) * 127.5 + 127.5)
    np.testing.assert_array_equal(batch.labels[0], pixels % CLASSES)
    assert [leaf.shape for leaf in jax.tree.leaves(game.data)] == [(40, 8, 8, 1), (40,)]
    jaxpr = jax.make_jaxpr(game.sample)(jax.random.key(7), game.data)
    assert not [const for const in jaxpr.consts if np.size(const) > 10]  # nothing is baked in


def test_a_conditional_generator_draws_the_classes_that_it_is_asked_for():
    generator = own_generator()
    game = build("mlp", "hinge", generator=generator, discriminator=CONDITIONAL["linen"][0][1],
                 data=labelled(), classes=CLASSES)  # fmt: skip
    players, state = game.init(jax.random.key(0))
    key, table = jax.random.key(2), players.primal["E"]
    latent = jax.random.normal(key, (5, LATENT)) @ players.primal["A"]
    for labels, asked in ((None, [0, 1, 2, 0, 1]), (2, [2] * 5), ([2, 0, 0, 1, 1],) * 2):
        samples = game.generate(players, state, key, 5, labels)
        expected = (latent + table[np.array(asked)]).reshape(5, 8, 8, 1)
        np.testing.assert_allclose(samples, expected, rtol=1e-5, atol=1e-5)
    assert (game.classes, build("mlp", "hinge").classes) == (CLASSES, None)
    for labels in (3, -1, 0.5, [0, 1]):
        with pytest.raises(ValueError, match=re.escape(f"labels={labels!r}: expected integers")):
            game.generate(players, state, key, 5, labels)
    with pytest.raises(ValueError, match="labels=1: this GAN has no classes"):
        build("mlp", "hinge").generate(players, state, key, 5, 1)


UNLABELLED = labelled()._replace(labels=None)
BAD_CLASSES = [
    ({"data": UNLABELLED}, "classes=3: 'noise' has no labels; expected data with labels, such as"),
    ({"data": images}, "classes=3: expected data to be a Dataset or a function (key, n) -> "
     "(samples, labels), got one that returns "),
    ({"data": lambda key, n: (images(key, n), jnp.zeros((n, 1), jnp.int32))}, "data: expected "
     "labels of shape (6,), one per sample, got (6, 1)"),
    ({"data": lambda key, n: (images(key, n), jnp.zeros(n))}, "data: expected labels of an integer "
     "dtype, got float32"),
    ({"classes": 2}, "classes=2: the labels of 'noise' go from 0 to 2; expected 0 to 1"),
    ({"classes": 1}, "classes=1: expected an integer >= 2, or None for no labels"),
    ({"classes": "3"}, "classes='3': expected an integer >= 2"),
    ({"generator": mlp((8, 8, 1), LATENT, 5)[0]}, "latent_dim=4: the generator rejects float32 "
     "latents of shape [6, 4] and labels int32[6]; expected the latent_dim that it was made with. "
     "It raised TypeError: a network made without classes=... got labels; give games.gan and"),
    ({"discriminator": mlp((8, 8, 1), LATENT, 5)[1]}, "discriminator: it rejects samples of shape "
     "[6, 8, 8, 1] and labels int32[6]; expected one made for the data's shape. It raised "
     "TypeError: a "),
    ({"classes": None}, "latent_dim=4: the generator rejects float32 latents of shape [6, 4]; "
     "expected the latent_dim that it was made with. It raised TypeError: a network made with "
     "classes=... got no labels"),
]  # fmt: skip


@pytest.mark.parametrize(("options", "message"), BAD_CLASSES)
def test_classes_that_do_not_fit_are_one_error(options, message):
    generator, discriminator = CONDITIONAL["mlp"][0]
    defaults = {"generator": generator, "discriminator": discriminator, "data": labelled()}
    with pytest.raises(ValueError, match="^" + re.escape(message)):
        build("mlp", "hinge", **{**defaults, "classes": CLASSES, **options})


# ---- 4. float32 at every size of logit ----

# The logits' spread (the largest of |D - shift| over the minibatch) and their shift.
LOGITS = [
    (1.0, 0.0),
    (1e-20, 0.0),
    (1e-4, 0.0),
    (30.0, 0.0),
    (300.0, 0.0),
    (1e10, 0.0),
    *((1.0, sign * shift) for shift in (17, 46, 60, 88, 95, 104, 300) for sign in (-1.0, 1.0)),
]


def with_logits(network, players, batch, spread, shift):
    """The players with a head that makes the minibatch's logits ``shift`` +- at most ``spread``."""
    (generator, discriminator), _ = NETWORKS[network]
    fake, _ = generator.apply(players.primal, (), batch.latent)
    logits, _ = discriminator.apply(players.dual, (), jnp.concatenate([batch.real, fake]))
    kernel, bias = players.dual["head"]["kernel"], players.dual["head"]["bias"]
    head = {"kernel": kernel * (spread / jnp.abs(logits - bias).max()), "bias": shift[None]}
    return players._replace(dual={**players.dual, "head": head})


@pytest.mark.parametrize("loss", ["minimax", "non_saturating", "hinge", "least_squares"])
def test_derivatives_of_the_field_are_those_of_separate_passes(loss):
    """Saturated logits and a head of zeros too: there one pass for both has none of its own."""
    players, batch, _ = singles(drawn("mlp"))
    game = build("mlp", loss)

    @quick
    def both(spread, shift):
        at = with_logits("mlp", players, batch, spread, shift)
        along = jax.tree.map(jnp.ones_like, at)
        ours = jax.jvp(lambda at: game.field(at, STATELESS, batch)[0], (at,), (along,))
        theirs = jax.jvp(lambda at: separate("mlp", loss, at, batch)[0], (at,), (along,))
        return ours[1], theirs[1]

    for spread, shift in ((1.0, -39.0), (0.0, 0.0)):
        for a, b in zip(*map(jax.tree.leaves, both(*np.float32([spread, shift]))), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5 * float(np.abs(b).max()) + 1e-30)


@pytest.mark.as_shipped
@pytest.mark.parametrize(("network", "loss"), CASES)
def test_single_precision_at_any_logits(network, loss):
    """Confident, wrong, saturated, flat: finite, and the separate gradients to rounding."""
    game = build(network, loss)
    players, batch, _ = singles(drawn(network))
    batch = minibatch(loss, batch)
    # A flat critic's squared gradient norm underflows (see the dead critic above), and so does
    # its slope times a cotangent that vanishes where the logits do: 1e-20 squared.
    flat = loss not in ("wasserstein_gp", "least_squares")
    table = [row for row in LOGITS if flat or row[0] >= 1e-4]

    @(jax.jit if network == "mlp" and loss in LOSSES else quick)
    @jax.vmap
    def compare(spread, shift):
        moved = with_logits(network, players, batch, spread, shift)
        ours, info = game.field(moved, STATELESS, batch)
        return ours, info.losses, *separate(network, loss, moved, batch)

    columns = (jnp.array(column, jnp.float32) for column in zip(*table))
    outcome = jax.tree.map(np.asarray, compare(*columns))
    assert {leaf.dtype for leaf in jax.tree.leaves(outcome)} == {np.dtype("float32")}
    for i, row in enumerate(table):
        F, losses, expected_F, expected_losses = jax.tree.map(lambda a, i=i: a[i], outcome)
        # Where the reference underflows to zero, so may we.
        assert_close(F, expected_F, SINGLE if row == LOGITS[0] else EXTREME, atol=1e-30)
        np.testing.assert_allclose(losses, expected_losses, rtol=SINGLE, atol=1e-30)
        # D is never right on all samples here, so its gradient is there.
        assert norm(F.dual) > 1e-3 * row[0]


ROWS = np.array([-300, -104, -88, -46, -17, -2, -1, -0.5, 0, 0.5, 1, 2, 17, 46, 88, 104, 300])


def sigmoid(logits):
    return 1 / (1 + np.exp(-logits))


SLOPES = {  # of primal, real and fake, in float64
    "minimax": (lambda d: -sigmoid(d), lambda d: -sigmoid(-d), sigmoid),
    "non_saturating": (lambda d: -sigmoid(-d), lambda d: -sigmoid(-d), sigmoid),
    "hinge": (lambda d: -np.ones_like(d), lambda d: -1.0 * (d < 1), lambda d: 1.0 * (d > -1)),
    "least_squares": (lambda d: d - 1, lambda d: d - 1, lambda d: d),
    "pearson": (lambda d: 2 * d, lambda d: 2 * (d - 1), lambda d: 2 * (d + 1)),
}


@pytest.mark.parametrize("loss", SHARED)
def test_every_row_of_the_shared_pass_by_hand(loss):
    """Sample by sample, where D's slope on a fake one underflows, vanishes (hinge) or is large.

    The generator's params are its samples, so each row of its gradient is one sample's.
    """
    n, w = len(ROWS), np.array([1.0, -0.5, 2.0], np.float32)
    networks = quadratic_networks() | {
        "generator": Network(
            lambda key: (jnp.zeros((n, 3)), ()), lambda x, state, latent, *, train=True: (x, state)
        )
    }
    game = build("mlp", loss, **networks, batch_size=n)
    fake, real = (np.outer(logits, [1, 0, 0]).astype(np.float32) for logits in (ROWS, ROWS[::-1]))
    y = {"quadratic": np.float32(0), "head": {"w": w, "b": np.float32(0)}}
    batch = GanBatch(real=real, latent=np.zeros((n, LATENT), np.float32), mix=())
    F, _ = quick(game.field)(PrimalDual(fake, y), STATELESS, batch)

    of_primal, of_real, of_fake = (slope(ROWS) / n for slope in SLOPES[loss])
    np.testing.assert_allclose(F.primal, np.outer(of_primal, w), rtol=2e-6, atol=1e-30)
    grad_w = of_real[::-1] @ real + of_fake @ fake
    np.testing.assert_allclose(F.dual["head"]["w"], grad_w, rtol=2e-6, atol=1e-5)
    np.testing.assert_allclose(F.dual["head"]["b"], of_real.sum() + of_fake.sum(), atol=1e-5)


def test_satisfied_hinge_leaves_nothing_visible_in_the_discriminator():
    """Every row of D's loss is flat: the floor under the cotangents must not become a gradient."""
    game = build("mlp", "hinge", **quadratic_networks())
    zero, one = np.float32(0), np.ones(3, np.float32)
    x = {"A": np.ones((LATENT, 3), np.float32), "c": -10 * one}
    y = {"quadratic": zero, "head": {"w": one, "b": zero}}
    batch = minibatch("hinge", singles(drawn("mlp")[1]))._replace(real=np.full((B, 3), 10 * one))
    F, info = quick(game.field)(PrimalDual(x, y), STATELESS, batch)
    assert info.losses.dual == 0
    assert norm(F.dual) < 1e-17
    np.testing.assert_allclose(F.primal["c"], -np.ones(3), rtol=1e-6)  # -E grad D, undisturbed


@pytest.mark.parametrize(
    ("generator_dtype", "discriminator_dtype"),
    [("bfloat16", "float32"), ("float32", "bfloat16"), ("float32", "float16")],
)
@pytest.mark.parametrize("loss", ["minimax", "non_saturating", "hinge"])
def test_half_precision_networks_get_their_gradient(generator_dtype, discriminator_dtype, loss):
    """Players may differ in dtype, and the floor under the cotangents must survive float16."""
    networks = quadratic_networks()
    game = build("mlp", loss, **networks)
    shapes, _ = jax.eval_shape(game.init, jax.random.key(0))
    players = numbers(0, shapes)
    players.dual["head"]["b"] = np.asarray(-30.0)  # fakes are recognised: their cotangent vanishes
    low = PrimalDual(
        *(
            jax.tree.map(lambda a, dtype=dtype: jnp.asarray(a, dtype), part)
            for part, dtype in zip(players, (generator_dtype, discriminator_dtype))
        )
    )
    real = np.random.default_rng(0).normal(size=(B, 3)).astype(np.float32)
    batch = minibatch(loss, singles(drawn("mlp")[1]))._replace(real=real)

    F, _ = quick(game.field)(low, STATELESS, batch)
    for a, b in zip(F, low):
        assert jax.tree.map(lambda x: x.dtype, a) == jax.tree.map(lambda x: x.dtype, b)
    exact, _ = quick(game.field)(singles(players), STATELESS, batch)
    assert_close(F, exact, 0.05, atol=1e-7)


class HalfInside(nnx.Module):
    """The usual mixed precision: float32 params, float16 arithmetic and logits."""

    def __init__(self, rngs):
        self.head = nnx.Linear(3, 1, dtype=jnp.float16, rngs=rngs)

    def __call__(self, x):
        return self.head(x)[:, 0]


def test_float16_logits_of_float32_params_get_their_gradient():
    networks = {**quadratic_networks(), "discriminator": from_nnx(lambda rngs: HalfInside(rngs))}
    game = build("mlp", "non_saturating", **networks)
    shapes, _ = jax.eval_shape(game.init, jax.random.key(0))
    players = singles(numbers(0, shapes))
    players.dual["head"]["bias"] = np.full(1, -30.0, np.float32)
    real = np.ones((B, 3), np.float32)
    batch = minibatch("non_saturating", singles(drawn("mlp")[1]))._replace(real=real)
    F, _ = quick(game.field)(players, STATELESS, batch)
    slope = players.dual["head"]["kernel"][:, 0]  # of the loss in c: every sample is recognised
    assert_close(PrimalDual(F.primal["c"], ()), PrimalDual(-slope, ()), 0.05)


# ---- 5. which road, and state ----


def counted(network, calls):
    """The same network, writing down the batch size of every traced application."""

    def apply(params, state, inputs, *labels, train=True):
        calls.append(inputs.shape[0])
        return network.apply(params, state, inputs, *labels, train=train)

    return Network(network.init, apply)


class Normalised(linen.Module):
    """A discriminator that couples its samples."""

    @linen.compact
    def __call__(self, x, train):
        x = linen.Dense(5, name="hidden")(x)
        x = linen.BatchNorm(use_running_average=not train, momentum=0.9, name="norm")(x)
        return linen.Dense(1, name="head")(jnp.tanh(x))[:, 0]


class NormalisedGenerator(nnx.Module):
    def __init__(self, rngs):
        self.hidden = nnx.Linear(LATENT, 5, rngs=rngs)
        self.norm = nnx.BatchNorm(5, momentum=0.9, rngs=rngs)
        self.out = nnx.Linear(5, 2, rngs=rngs)

    def __call__(self, x):
        return self.out(jnp.tanh(self.norm(self.hidden(x))))


@pytest.mark.parametrize(
    ("loss", "coupled", "passes"),
    [
        *((loss, False, [2 * B]) for loss in SHARED),
        # Real, fake and the generator's own; the penalty needs one more.
        ("wasserstein_gp", False, [B] * 4),
        ("non_saturating", True, [B] * 3),
        ("minimax", True, [B] * 3),
    ],
)
def test_samples_share_a_pass_only_where_that_is_exact(loss, coupled, passes):
    generator, discriminator = NETWORKS["mlp"][0]
    if coupled:
        discriminator = from_linen(Normalised(), jax.ShapeDtypeStruct((B, 2), jnp.float32))
    of_generator, of_discriminator = [], []
    game = build(
        "mlp",
        loss,
        generator=counted(generator, of_generator),
        discriminator=counted(discriminator, of_discriminator),
    )
    players, state = jax.eval_shape(game.init, jax.random.key(0))
    of_generator.clear(), of_discriminator.clear()
    jax.eval_shape(game.field, players, state, jax.eval_shape(game.sample, jax.random.key(1)))
    assert of_generator == [B]
    assert of_discriminator == passes


@pytest.mark.parametrize(
    ("pair", "passes", "stateful"),
    [
        (dcgan((16, 16, 1), LATENT, 2), [2 * B], (False, False)),
        (dcgan((16, 16, 1), LATENT, 2, normalization="batch"), [B] * 3, (True, True)),
        # Spectral normalisation without state: samples stay independent.
        (sn_resnet((8, 8, 1), LATENT, 2), [2 * B], (True, False)),
    ],
    ids=["dcgan", "dcgan with BatchNorm", "sn_resnet"],
)
def test_which_of_our_networks_share_a_pass(pair, passes, stateful):
    calls = []
    shape = jax.eval_shape(pair[0].apply, *jax.eval_shape(pair[0].init, jax.random.key(0)),
                           jnp.ones((B, LATENT)))[0].shape  # fmt: skip
    game = build(
        "mlp",
        "hinge",
        generator=pair[0],
        discriminator=counted(pair[1], calls),
        data=lambda key, n: jax.random.normal(key, (n, *shape[1:])),
    )
    players, state = jax.eval_shape(game.init, jax.random.key(0))
    calls.clear()
    batch = jax.eval_shape(game.sample, jax.random.key(1))
    F, info = jax.eval_shape(game.field, players, state, batch)
    assert calls == passes
    assert tuple(bool(jax.tree.leaves(part)) for part in state) == stateful
    assert jax.tree.map(jnp.shape, (F, info.state)) == jax.tree.map(jnp.shape, (players, state))
    assert game.flip_dual is not None


def test_the_shared_pass_of_the_residual_network_is_two_separate_gradients(x64):
    _, discriminator = sn_resnet((8, 8, 1), LATENT, 2)
    generator, _ = mlp((8, 8, 1), LATENT, width=4, depth=1)
    game = build("mlp", "hinge", generator=generator, discriminator=discriminator, data=images)
    shapes, state = jax.eval_shape(game.init, jax.random.key(0))
    assert state == STATELESS
    players = numbers(3, shapes)
    batch = jax.eval_shape(game.sample, jax.random.key(0))
    batch = GanBatch(real=numbers(5, batch.real), latent=numbers(6, batch.latent), mix=())

    def losses(x, y):
        fake, _ = generator.apply(x, (), batch.latent)
        return hinge(lambda inputs: discriminator.apply(y, (), inputs)[0], batch, fake)

    @quick
    def both(players):
        x, y = players
        expected = (
            jax.grad(lambda x: losses(x, y)[0])(x), jax.grad(lambda y: losses(x, y)[1])(y)
        )  # fmt: skip
        logits = [discriminator.apply(z, (), batch.real)[0] for z in (y, game.flip_dual(y))]
        return game.field(players, STATELESS, batch)[0], expected, logits

    F, expected, logits = both(players)
    assert min(map(norm, F)) > 1e-3
    assert_close(F, expected, 1e-10)
    np.testing.assert_array_equal(logits[0], -logits[1])  # its normalised head, too, is odd


def affine(params, x):
    return x @ params["kernel"] + params["bias"][None]


def normalise(params, h, over):
    shift = (h - over.mean(0, keepdims=True)) / jnp.sqrt(over.var(0, keepdims=True) + 1e-5)
    return shift * params["scale"][None] + params["bias"][None]


def test_batch_norm_takes_real_and_fake_apart_and_returns_its_state(x64):
    discriminator = from_linen(Normalised(), jax.ShapeDtypeStruct((B, 2), jnp.float32))
    game = build("mlp", "non_saturating", discriminator=discriminator)
    shapes, state = jax.eval_shape(game.init, jax.random.key(0))
    players, state = numbers(3, shapes), jax.tree.map(np.exp, numbers(4, state))
    batch = minibatch("non_saturating", drawn("mlp")[1])
    F, info = quick(game.field)(players, state, batch)
    generate = NETWORKS["mlp"][0][0].apply

    def logits(y, x, over):
        hidden = normalise(y["norm"], affine(y["hidden"], x), affine(y["hidden"], over))
        return affine(y["head"], jnp.tanh(hidden))[:, 0]

    def losses(x, y, together):
        fake, _ = generate(x, (), batch.latent)
        both = jnp.concatenate([batch.real, fake])
        real_logits = logits(y, batch.real, both if together else batch.real)
        fake_logits = logits(y, fake, both if together else fake)
        dual = -jnp.mean(log_sigmoid(real_logits)) - jnp.mean(log_sigmoid(-fake_logits))
        return -jnp.mean(log_sigmoid(fake_logits)), dual

    @partial(quick, static_argnums=0)
    def expected(together):
        x, y = players
        return PrimalDual(
            jax.grad(lambda x: losses(x, y, together)[0])(x),
            jax.grad(lambda y: losses(x, y, together)[1])(y),
        )

    assert_close(F, expected(False), 1e-9)  # flax takes the variance as E x^2 - (E x)^2
    for a, b in zip(F, expected(True)):  # normalising together would be another field
        assert norm(jax.tree.map(np.subtract, a, b)) > 0.05 * norm(b)

    mean, var = (state.dual["batch_stats"]["norm"][name] for name in ("mean", "var"))
    fake, _ = generate(players.primal, (), batch.latent)
    for x in (batch.real, np.asarray(fake)):  # real samples first, then fake
        h = affine(players.dual["hidden"], x)
        mean, var = 0.9 * mean + 0.1 * h.mean(0), 0.9 * var + 0.1 * h.var(0)
    statistics = info.state.dual["batch_stats"]["norm"]
    np.testing.assert_allclose(statistics["mean"], mean, rtol=1e-6)
    np.testing.assert_allclose(statistics["var"], var, rtol=1e-6)
    assert info.state.primal == ()

    direction = drawn("mlp")[2]
    values, slopes = quick(game.primal_slope)(players, state, direction, batch)
    np.testing.assert_allclose(slopes.mean(), inner_product(direction, F.primal), rtol=1e-9)
    np.testing.assert_allclose(values.mean(), info.losses.primal, rtol=1e-9)


@pytest.mark.parametrize("loss", ["minimax", "wasserstein_gp"])
def test_generator_state_is_trained_returned_and_used_to_generate(loss):
    generator = from_nnx(lambda rngs: NormalisedGenerator(rngs))
    game = build("mlp", loss, generator=generator)
    shapes, state = jax.eval_shape(game.init, jax.random.key(0))
    players, state = numbers(3, shapes), jax.tree.map(np.exp, numbers(4, state))
    players, state, batch = singles((players, state, minibatch(loss, drawn("mlp")[1])))
    _, info = quick(game.field)(players, state, batch)
    info = jax.tree.map(np.asarray, info)
    hidden = affine(players.primal["hidden"], batch.latent)
    before, after = state.primal["norm"], info.state.primal["norm"]
    expected = 0.9 * before["mean"] + 0.1 * hidden.mean(0)
    np.testing.assert_allclose(after["mean"], expected, rtol=1e-5, atol=1e-6)
    assert info.state.dual == ()

    key = jax.random.key(2)
    latent = np.asarray(jax.random.normal(key, (5, LATENT)))
    generate = quick(game.generate, static_argnums=3)
    x = players.primal
    for norm_state in (before, after):  # evaluation mode: running statistics, not the batch's
        shift = (affine(x["hidden"], latent) - norm_state["mean"][None]) / np.sqrt(
            norm_state["var"][None] + 1e-5
        )
        by_hand = affine(
            x["out"], np.tanh(shift * x["norm"]["scale"][None] + x["norm"]["bias"][None])
        )
        samples = generate(players, PrimalDual({"norm": norm_state}, ()), key, 5)
        np.testing.assert_allclose(samples, by_hand, rtol=1e-4, atol=1e-5)


# ---- 6. the flipped critic ----


@NAMES
def test_flip_dual_negates_the_logits_exactly(network):
    (_, discriminator), _ = NETWORKS[network]
    game = build(network, "minimax")
    y = singles(drawn(network)[0].dual)
    flipped = game.flip_dual(y)
    D = quick(lambda y, x: discriminator.apply(y, (), x)[0])
    samples = singles(drawn(network)[1].real)
    logits = np.asarray(D(y, samples))
    assert np.ptp(logits) > 1e-3
    np.testing.assert_array_equal(D(flipped, samples), -logits)
    assert jax.tree.structure(flipped) == jax.tree.structure(y)
    jax.tree.map(np.testing.assert_array_equal, game.flip_dual(flipped), y)
    kept = [jax.tree.map(np.array_equal, flipped[name], y[name]) for name in y if name != "head"]
    assert kept
    assert all(jax.tree.leaves(kept))


@NAMES
def test_flip_dual_negates_the_slopes_of_wasserstein(network):
    game = build(network, "wasserstein_gp")
    players, batch, direction = singles(drawn(network))
    slope = quick(partial(game.primal_slope, state=STATELESS, batch=batch))
    flipped = players._replace(dual=game.flip_dual(players.dual))
    before, after = (slope(players=z, direction=direction) for z in (players, flipped))
    for a, b in zip(before, after):  # losses and slopes
        assert np.abs(a).min() > 0
        np.testing.assert_array_equal(b, -np.asarray(a))


def test_flip_dual_is_there_where_the_head_is():
    assert build("mlp", "minimax", **quadratic_networks("last")).flip_dual is None
    game = build("mlp", "minimax", **quadratic_networks("last"), head="last")
    y = {"quadratic": 1.0, "last": {"w": 2.0, "b": -3.0}}
    assert game.flip_dual(y) == {"quadratic": 1.0, "last": {"w": -2.0, "b": 3.0}}
    assert build("mlp", "minimax", head="tail").flip_dual is None


# ---- 7. starts, batches, samples ----


@pytest.mark.parametrize(("network", "loss"), CASES)
def test_shapes_and_dtypes(network, loss):
    game = build(network, loss)
    shape = {"mlp": (2,), "dcgan": (8, 8, 1)}[network]
    players, state = jax.eval_shape(game.init, jax.random.key(0))
    batch = jax.eval_shape(game.sample, jax.random.key(0))
    assert isinstance(batch, GanBatch)
    assert (batch.real.shape, batch.latent.shape) == ((B, *shape), (B, LATENT))
    assert (batch.mix.shape if loss == "wasserstein_gp" else batch.mix) == (
        (B,) if loss == "wasserstein_gp" else ()
    )
    F, info = jax.eval_shape(game.field, players, state, batch)
    assert jax.tree.map(jnp.shape, F) == jax.tree.map(jnp.shape, players)
    assert jax.tree.map(jnp.shape, info.losses) == PrimalDual((), ())
    assert info.state == state == PrimalDual((), ())
    samples = jax.eval_shape(partial(game.generate, n=3), players, state, jax.random.key(0))
    assert samples.shape == (3, *shape)
    for leaf in jax.tree.leaves((players, batch, F, info, samples)):
        assert leaf.dtype == jnp.float32


@NAMES
def test_float32_networks_stay_float32_in_x64_mode(network, x64):
    """Switching x64 on, for a certificate say, must not change what is trained."""
    game = build(network, "wasserstein_gp")
    key = jax.eval_shape(jax.random.key, 0)
    players, state = jax.eval_shape(game.init, key)
    batch = jax.eval_shape(game.sample, key)
    samples = jax.eval_shape(partial(game.generate, n=3), players, state, key)
    for leaf in jax.tree.leaves(
        (batch, jax.eval_shape(game.field, players, state, batch), samples)
    ):
        assert leaf.dtype == jnp.float32


def test_init_draws_the_two_players_apart():
    networks = quadratic_networks()
    init = networks["generator"].init
    draw = lambda key: init(key)[0]  # noqa: E731
    alike = Network(init, lambda params, state, x, *, train=True: (x @ params["c"], state))
    game = build("mlp", "minimax", **networks | {"discriminator": alike})
    (x, y), _ = game.init(jax.random.key(0))
    assert not np.allclose(x["A"], y["A"])
    other, _ = game.init(jax.random.key(1))
    assert not np.allclose(x["A"], other.primal["A"])
    again, _ = game.init(jax.random.key(0))
    jax.tree.map(np.testing.assert_array_equal, PrimalDual(x, y), again)
    assert jax.tree.structure(x) == jax.tree.structure(draw(jax.random.key(0)))


def test_sample_depends_on_its_key_only():
    game = build("mlp", "wasserstein_gp")
    keys = jax.random.split(jax.random.key(0), 3)
    first = game.sample(keys[0])
    game.sample(keys[1])
    rows = quick(jax.vmap(game.sample))(keys)
    jax.tree.map(np.testing.assert_array_equal, first, game.sample(keys[0]))
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b[0], rtol=1e-6, atol=1e-6), first, rows
    )
    for part in jax.tree.leaves(rows):
        assert len(np.unique(part.reshape(3, -1), axis=0)) == 3


def test_the_parts_of_a_batch_have_their_laws_and_share_no_key():
    n = 4000
    normal = lambda key, n: jax.random.normal(key, (n, LATENT))  # noqa: E731
    networks = dict(zip(("generator", "discriminator"), mlp((LATENT,), LATENT, width=2)))
    game = build("mlp", "wasserstein_gp", **networks, data=normal, batch_size=n)
    batch = quick(game.sample)(jax.random.key(5))
    for law, columns in (("norm", batch.real), ("norm", batch.latent), ("uniform", batch.mix)):
        for column in np.asarray(columns, np.float64).reshape(n, -1).T:
            assert stats.kstest(column, law).statistic < 1.95 / np.sqrt(n)
    columns = np.concatenate([batch.real, batch.latent, batch.mix[:, None]], axis=1)
    correlations = np.corrcoef(columns.T) - np.eye(columns.shape[1])
    assert np.abs(correlations).max() < 4.5 / np.sqrt(n)


def test_data_may_be_a_dataset_or_a_function():
    of_dataset = build("mlp", "minimax", data=ring())
    of_function = build("mlp", "minimax", data=ring().sample)
    batches = [game.sample(jax.random.key(0)) for game in (of_dataset, of_function)]
    np.testing.assert_array_equal(batches[0].real, batches[1].real)
    radii = np.linalg.norm(batches[0].real, axis=1)
    np.testing.assert_allclose(radii, 2.0, atol=0.2)


@NAMES
def test_generate(network):
    game = build(network, "minimax")
    players = singles(drawn(network)[0])
    generate = quick(partial(game.generate, n=3))
    samples, again, others = (
        generate(players, STATELESS, key=jax.random.key(seed)) for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(samples, again)
    assert not np.allclose(samples, others)
    assert len(np.unique(samples.reshape(3, -1), axis=0)) == 3
    if network == "dcgan":
        assert np.abs(samples).max() < 1


# ---- 8. clean under JAX ----


@pytest.mark.parametrize("loss", ["non_saturating", "wasserstein_gp"])
def test_jit_vmap_and_scan_agree_with_plain_steps_and_compile_once(loss):
    data = partial(jax.random.uniform, minval=-1.0)
    game, traces = build("mlp", loss, data=lambda key, n: data(key, (n, 2))), []

    def step(carry, key):
        traces.append(loss)
        players, state = carry
        F, info = game.field(players, state, game.sample(key))
        players = jax.tree.map(lambda z, f: z - 0.05 * f, players, F)
        return (players, info.state), info.losses

    @quick
    @jax.vmap
    def run(start, keys):
        return lax.scan(step, start, keys)

    players = singles(drawn("mlp")[0])
    starts = jax.tree.map(lambda a: np.stack([a, 1.1 * a]), players), STATELESS
    keys = jax.random.split(jax.random.key(1), (2, 3))
    (players, _), losses = run(starts, keys)
    assert len(traces) == 1
    run(jax.tree.map(lambda a: a + 1, starts), keys[::-1])
    assert len(traces) == 1
    once = quick(step)
    for i in range(2):
        carry = jax.tree.map(lambda a, i=i: a[i], starts)
        for t in range(3):
            carry, expected = once(carry, keys[i, t])
            np.testing.assert_allclose(
                [losses.primal[i, t], losses.dual[i, t]], expected, rtol=1e-4, atol=1e-5
            )
        assert_close(jax.tree.map(lambda a, i=i: a[i], players), carry[0], 1e-4)
    assert len(traces) == 2  # one more for the plain step, whatever the number of calls


PAIRS = {
    "mlp": mlp((8, 8, 1), LATENT, width=2),
    "dcgan with BatchNorm": dcgan((8, 8, 1), LATENT, 2, normalization="batch"),
    "sn_resnet": sn_resnet((8, 8, 1), LATENT, 2),
}


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("network", PAIRS)
def test_no_dtype_is_promoted_in_silence(network, loss):
    """optax's Adam needs promotion (its bias correction), so a whole step cannot be held to it."""
    generator, discriminator = PAIRS[network]
    game = build("dcgan", loss, generator=generator, discriminator=discriminator)
    with jax.numpy_dtype_promotion("strict"):
        players, state = jax.eval_shape(game.init, jax.random.key(0))
        batch = jax.eval_shape(game.sample, jax.random.key(1))
        F, info = jax.eval_shape(game.field, players, state, batch)
    assert {a.dtype for a in jax.tree.leaves((F, info))} == {np.dtype("float32")}


# ---- 9. errors ----


BAD = [
    ({"loss": "minmax"}, ValueError, "loss='minmax': expected a Loss or one of ['hinge', "
     "'least_squares', 'minimax', 'non_saturating', 'wasserstein_gp'] (did you mean 'minimax'?)"),
    ({"loss": "lsgan"}, ValueError, "loss='lsgan': expected a Loss or one of ["),
    ({"loss": "zzz"}, ValueError, "loss='zzz': expected a Loss or one of ["),
    ({"loss": None}, ValueError, "loss=None: expected a Loss or one of ["),
    ({"loss": ["minimax"]}, ValueError, "loss=['minimax']: expected a Loss or one of ["),
    *(
        ({"loss": THEIRS["pearson"]._replace(**{name: jnp.mean})}, ValueError, f"loss.{name}: "
         "expected losses of shape (6,), one per sample (the game takes the mean), got ()")
        for name in ("primal", "real", "fake")
    ),
    ({"batch_size": 0}, ValueError, "batch_size=0: expected an integer >= 1"),
    ({"batch_size": 2.5}, ValueError, "batch_size=2.5: expected an integer >= 1"),
    ({"batch_size": "8"}, ValueError, "batch_size='8': expected an integer >= 1"),
    ({"latent_dim": -1}, ValueError, "latent_dim=-1: expected an integer >= 1"),
    ({"latent_dim": 7}, ValueError, "latent_dim=7: the generator rejects float32 latents of "
     "shape [6, 7]; expected the latent_dim that it was made with. "
     "It raised TypeError: "),
    ({"data": lambda key, n: jnp.zeros((1, 2))}, ValueError, "data: expected samples of shape "
     "(6, 2), batch_size first, got (1, 2)"),
    ({"data": lambda key, n: jnp.zeros(())}, ValueError, "data: expected samples of shape (6,), "),
    ({"data": lambda key, n: (jnp.zeros((n, 2)),)}, ValueError, "data: expected samples of shape "
     "(6,), batch_size first, got tuple"),
    ({"data": lambda key, n: jnp.zeros((n, 2), jnp.uint8)}, ValueError, "data: expected samples of "
     "a floating dtype, got uint8; onesided_jax.datasets.scale_pixels converts bytes"),
    ({"data": lambda key, n: jnp.zeros((n, 3))}, ValueError, "generator: expected samples of shape "
     "(6, 3), like the data's, got (6, 2)"),
    ({"discriminator": mlp((3,), latent_dim=LATENT, width=8)[1]}, ValueError, "discriminator: it "
     "rejects samples of shape [6, 2]; expected one made for the data's"),
    # A critic of patches, or one that forgot to drop its last axis.
    ({"discriminator": from_nnx(lambda rngs: nnx.Linear(2, 1, rngs=rngs))}, ValueError,
     "discriminator: expected logits of shape (6,), one per sample, got (6, 1)"),
    ({"gradient_penalty": -1.0}, ValueError, "gradient_penalty=-1.0: expected a finite "
     "number >= 0"),
    ({"gradient_penalty": float("nan")}, ValueError, "gradient_penalty=nan: expected a finite "),
    ({"gradient_penalty": float("inf")}, ValueError, "gradient_penalty=inf: expected a finite "),
    *(
        ({"gradient_penalty": weight}, ValueError,
         f"gradient_penalty={weight!r}: expected a finite number >= 0")
        for weight in ("10", (10,), True)
    ),
    ({"r1": "1"}, ValueError, "r1='1': expected a finite number >= 0"),
    ({"label_smoothing": -0.1}, ValueError, "label_smoothing=-0.1: expected a finite number in "),
    ({"loss": "wasserstein_gp", "label_smoothing": 0.1}, ValueError, "label_smoothing=0.1: a "
     "Wasserstein critic has no labels; expected 0, or another loss, such as 'non_saturating'"),
    ({"augment": "flip"}, ValueError, "augment='flip': expected images (H, W, C), got samples "
     "(2,)"),
    ({"augment": ["flip"]}, ValueError, "augment=['flip']: expected a function (key, sample) -> "),
    ({"augment": lambda key, sample: sample[:1]}, ValueError, "augment: expected a function (key, "
     "sample) -> sample that keeps shape (2,) and dtype float32, got (1,) and float32"),
    ({"data": np.zeros((5, 2))}, TypeError, "data: expected a Dataset or a function (key, n) -> "
     "samples, got ndarray; wrap an array in onesided_jax.datasets.from_array"),
    ({"data": "ring"}, TypeError, "data: expected a Dataset or a function"),
    ({"generator": object()}, TypeError, "generator: expected a Network(init, apply), got object"),
    ({"discriminator": None}, TypeError, "discriminator: expected a Network(init, apply), got "
     "NoneType"),
    ({"generator": linen.Dense(2)}, TypeError, "generator: expected a Network(init, "
     "apply), got Dense"),
    ({"discriminator": linen.Dense(1)}, TypeError, "discriminator: expected a Network(init, "
     "apply), got Dense"),
]  # fmt: skip


@pytest.mark.parametrize(("options", "error", "message"), BAD)
def test_a_bad_argument_is_one_error_that_names_it(options, error, message):
    with pytest.raises(error, match="^" + re.escape(message)):
        build("mlp", "minimax", **options)


def test_sizes_and_weights_may_be_numpys():
    sizes = {"batch_size": np.int64(B), "latent_dim": np.uint8(LATENT)}
    game = build("mlp", "wasserstein_gp", **sizes, gradient_penalty=np.float32(1))
    batch = jax.eval_shape(game.sample, jax.random.key(0))
    assert (batch.real.shape, batch.latent.shape, batch.mix.shape) == ((B, 2), (B, LATENT), (B,))
    players, state = jax.eval_shape(game.init, jax.random.key(0))
    samples = jax.eval_shape(partial(game.generate, n=100), players, state, jax.random.key(0))
    assert samples.shape == (100, 2)  # 100 x 4 latents are more than a uint8 counts


@pytest.mark.parametrize(
    ("generator", "cause"),
    [
        (from_linen(linen.Dense(2), jnp.ones((1, 3))), "ScopeParamShapeError: .*kernel"),
        (Network(lambda key: ({}, ()), lambda *_, train: {}["absent"]), "KeyError: 'absent'"),
    ],
    ids=["linen", "another cause"],
)
def test_what_a_generator_says_of_its_latents_is_passed_on(generator, cause):
    with pytest.raises(ValueError, match=f"^latent_dim={LATENT}: .*{cause}"):
        build("mlp", "minimax", generator=generator)


# ---- 10. by name, from a recipe ----


@pytest.fixture
def tiny(tmp_path):
    np.savez(tmp_path / "tiny.npz", np.zeros((4, 16, 16, 1), np.uint8))
    return f"npz:{tmp_path / 'tiny.npz'}"


@pytest.mark.parametrize(
    ("network", "normalization", "stateful", "loss"),
    [
        *(("mlp", None, (False, False), loss) for loss in LOSSES),
        ("mlp", "none", (False, False), "hinge"),
        ("dcgan", None, (False, False), "hinge"),
        ("dcgan", "none", (False, False), "least_squares"),
        ("dcgan", "batch", (True, True), "minimax"),
        ("sn_resnet", None, (True, False), "hinge"),
        ("sn_resnet", "spectral", (True, False), "non_saturating"),
    ],
)
def test_a_recipe_names_network_loss_and_normalization(
    tiny, network, normalization, stateful, loss
):
    options = {"network": network, "loss": loss, "width": 2, "latent_dim": 3, "batch_size": 4}
    if normalization is not None:
        options["normalization"] = normalization
    game = build_game(GameSpec("gan", {"dataset": tiny, **options}))
    players, state = jax.eval_shape(game.init, jax.random.key(0))
    assert tuple(bool(jax.tree.leaves(part)) for part in state) == stateful
    if normalization is None:
        batch = jax.eval_shape(game.sample, jax.random.key(0))
        F, _ = jax.eval_shape(game.field, players, state, batch)
        assert jax.tree.map(jnp.shape, F) == jax.tree.map(jnp.shape, players)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"network": "mlp", "normalization": "batch"}, "normalization='batch': network='mlp' takes "
         "one of ['none']"),
        ({"network": "sn_resnet", "normalization": "batch"}, "normalization='batch': "
         "network='sn_resnet' takes one of ['spectral']"),
        ({"normalization": "spectral"}, "normalization='spectral': network='dcgan' takes one of "
         "['none', 'batch']"),
        ({"normalization": "btach"}, "normalization='btach': network='dcgan' takes one of ['none', "
         "'batch'] (did you mean 'batch'?)"),
        ({"gradient_penalty": -10.0}, "gradient_penalty=-10.0: expected a finite number >= 0"),
        ({"r1": -1.0}, "r1=-1.0: expected a finite number >= 0"),
        ({"label_smoothing": 1}, "label_smoothing=1: expected a finite number in [0, 1)"),
        ({"augment": "shfit"}, "augment='shfit': expected a function (key, sample) -> sample, or "
         "names of ['flip', 'shift', 'cutout'] separated by commas (did you mean 'shift'?)"),
        ({"network": "sn-resnet"}, "network='sn-resnet': expected one of ['dcgan', 'mlp', "
         "'sn_resnet'] (did you mean 'sn_resnet'?)"),
    ],
)  # fmt: skip
def test_a_recipe_that_does_not_fit_its_network_is_refused(options, message):
    """Before the data set is looked for."""
    with pytest.raises(ValueError, match="^" + re.escape(message)):
        build_game(GameSpec("gan", {"dataset": "npz:absent.npz", **options}))


def test_a_recipe_may_weigh_the_penalty_of_a_loss_that_has_one(tiny):
    options = {"dataset": tiny, "network": "mlp", "loss": "wasserstein_gp", "latent_dim": 3}
    build_game(GameSpec("gan", {**options, "gradient_penalty": 1.0}))
    build_game(GameSpec("gan", {**options, "gradient_penalty": None}))


def coupled(scale):
    """A critic with minibatch standard deviation, a layer without state, as an extra feature."""

    def init(key):
        first, second = jax.random.split(key)
        return {
            "hidden": jax.random.normal(first, (2, 8)),
            "out": jax.random.normal(second, (8,)),
            "spread": jnp.asarray(scale),
        }, ()

    def apply(params, state, inputs, *, train=True):
        hidden = jnp.tanh(inputs @ params["hidden"])
        spread = jnp.sqrt(jnp.var(hidden, axis=0) + 1e-8).mean()
        return hidden @ params["out"] + params["spread"] * spread, state

    return Network(init, apply)


@pytest.mark.parametrize("scale", [1.0, 0.0])  # 0: as initialised, the layer does nothing yet
def test_a_critic_that_couples_its_samples_without_state_gets_passes_of_its_own(scale):
    generator, critic = mlp((2,), latent_dim=LATENT, width=8)[0], coupled(scale)
    game = gan(
        generator=generator,
        discriminator=critic,
        loss="non_saturating",
        data=ring(),
        batch_size=B,
        latent_dim=LATENT,
    )
    players, state = game.init(jax.random.key(0))
    trained = players.dual | {"spread": jnp.asarray(0.7)}
    players = PrimalDual(players.primal, trained)
    batch = game.sample(jax.random.key(1))
    F, _ = game.field(players, state, batch)

    def losses(primal, dual, which):
        fake, _ = generator.apply(primal, state.primal, batch.latent)
        return non_saturating(lambda x: critic.apply(dual, (), x)[0], batch, fake)[which]

    expected = PrimalDual(
        jax.grad(losses, 0)(players.primal, players.dual, 0),
        jax.grad(losses, 1)(players.primal, players.dual, 1),
    )
    for found, right in zip(F, expected, strict=True):
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), found, right
        )


@pytest.mark.parametrize(
    "critic",
    [
        mlp((8, 8, 1), latent_dim=LATENT, width=8)[1],
        dcgan((8, 8, 1), latent_dim=LATENT, width=2)[1],
        sn_resnet((8, 8, 1), LATENT, 2)[1],
    ],
    ids=["mlp", "dcgan", "sn_resnet"],
)
def test_critics_that_treat_samples_one_by_one_keep_the_shared_pass(critic):
    params, state = jax.eval_shape(critic.init, jax.random.key(0))
    batch = jax.ShapeDtypeStruct((B, 8, 8, 1), jnp.float32)
    assert not couples_samples(critic, params, state, batch)
