"""Everything that is measured of one run for claim 3: matrices, controls, layers, conditions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from _jobs import Row
from _measure import Opened
from jax.flatten_util import ravel_pytree

import onesided_jax as osj
from onesided_jax import PrimalDual
from onesided_jax.analysis._cell import minty_tests
from onesided_jax.analysis.estimators import below_noise_floor, squared_norm
from onesided_jax.analysis.inference import (
    cross_regions,
    mean_t,
    significant_signs,
    two_way_bootstrap,
)
from onesided_jax.analysis.minty import MintyTest, test_steps
from onesided_jax.analysis.mvi_verdict import SignFractions, sign_fractions
from onesided_jax.analysis.source import Source, pick_run
from onesided_jax.games.losses import find_loss

ROWS = 10  # checkpoints of the matrices at other x*, of the dual side and of the layers
BATCHES = 8  # minibatch gradients per entry of the dual side and of the layers
PERTURBATION = 0.1  # of x*, in distances from the first iterate
SEED = 2109_14216


def measure_run(
    what: Opened, recipe: osj.Recipe, source: Source, run: int, shuffled: tuple[int, int]
) -> Row:
    """Everything, of one run of a cell.

    Args:
      what: the run directory.
      recipe: of the cell.
      source: the cell.
      run: which of its runs.
      shuffled: discriminators trained on shuffled labels, and steps of each.
    """
    only = source._replace(
        seeds=source.seeds[run : run + 1],
        diverged_at=source.diverged_at[run : run + 1],
        snapshot=lambda step: jax.tree.map(lambda leaf: leaf[run : run + 1], source.snapshot(step)),
    )
    tests, steps = minty_tests(only, what.game, what.probe, what.criteria, lambda *_: None)
    if not tests:
        return {"seed": int(source.seeds[run]), "diverged": True}
    (found,) = tests.values()
    some = _some_of(what, source, run)
    ends = source.snapshot(source.steps[-1]).players
    end = pick_run(ends, run)
    first = pick_run(source.snapshot(0).players, run)
    several = {
        "tail mean": _stack([_tail_mean(source, run)]),
        "other seeds": _without(ends.primal, run),
        "perturbed": _perturbed(end.primal, first.primal),
    }
    mislabelled = shuffled_duals(recipe, some.players.primal, some.state, *shuffled)
    return {
        "seed": int(source.seeds[run]),
        "diverged": False,
        "steps": steps,
        **_of_matrix(found, steps, what.criteria.level),
        "targets": {name: _judge_at(what, some, x)._asdict() for name, x in several.items()},
        "label_shuffle": _judge_at(what, some, _stack([end.primal]), mislabelled)._asdict(),
        **by_layer(what.game, some, end, what.criteria.alpha),
    }


def measure_far_targets(what: Opened, source: Source, run: int) -> Row:
    """Shares at points that nobody would take for an x*: where training began, and the origin."""
    some = _some_of(what, source, run)
    starts = source.snapshot(0).players.primal
    start = pick_run(starts, run)
    several = {
        "the run's own start": _stack([start]),
        "other runs' starts": _without(starts, run),
        "the origin": _stack([jax.tree.map(np.zeros_like, start)]),
    }
    return {name: _judge_at(what, some, x)._asdict() for name, x in several.items()}


class Some(NamedTuple):
    """Some of the checkpoints that are tested: players ``[n, ...]``, and the pairs that count."""

    players: PrimalDual
    state: Any
    off: np.ndarray


def _some_of(what: Opened, source: Source, run: int) -> Some:
    steps = test_steps(source.steps, source.total_steps, what.criteria)
    steps = [steps[i] for i in np.unique(np.linspace(0, len(steps) - 1, ROWS).round().astype(int))]
    players = _stack([pick_run(source.snapshot(step).players, run) for step in steps])
    state = pick_run(source.snapshot(source.steps[-1]).state, run)
    return Some(players, state, cross_regions(steps, steps)["off_diagonal"])


def _judge_at(what: Opened, some: Some, targets: Any, duals: Any = None) -> SignFractions:
    """Shares of significant signs at each x*, ``[n]``; off the diagonal of the run's own duals."""
    counted = some.off if duals is None else True
    duals = some.players.dual if duals is None else duals
    slope = what.probe.cross(some.players.primal, duals, some.state, targets).slope
    mean, t, _ = mean_t(slope)
    signs = significant_signs(mean, t, slope.shape[-1], alpha=what.criteria.alpha)
    return sign_fractions(signs, counted)


def _of_matrix(found: MintyTest, steps: Sequence[int], level: float) -> Row:
    regions = cross_regions(steps, steps)
    counted = np.where(found.valid & regions["off_diagonal"], found.sign, np.nan)
    shares = {}
    for name, region in regions.items():
        shares[name] = sign_fractions(found.sign, found.valid & region)._asdict()
    intervals = {
        name: two_way_bootstrap(counted, lambda m, s=s: _share(m, s), level=level)
        for name, s in (("negative", -1), ("positive", 1))
    }
    return {
        "cosine": np.round(found.cosine, 4),
        "t": np.round(found.t, 2),
        "sign": found.sign,
        "valid": found.valid,
        "shares": shares,
        "two_way_bootstrap": intervals,
        "necessary": np.round(found.necessary, 4),
        "dominance": found.dominance,
        "null": found.null._asdict(),
        "fresh_dual": found.fresh_dual and found.fresh_dual._asdict(),
        "flipped_dual": found.flipped_dual and found.flipped_dual._asdict(),
        "flip_exact": found.flip_exact,
    }


def _share(matrix: np.ndarray, sign: int) -> float:
    there = np.isfinite(matrix)
    return float((matrix[there] == sign).mean()) if there.any() else np.nan


def _stack(trees: Sequence[Any]) -> Any:
    return jax.tree.map(lambda *leaves: np.stack(leaves), *trees)


def _without(tree: Any, run: int) -> Any:
    return jax.tree.map(lambda leaf: np.delete(np.asarray(leaf), run, axis=0), tree)


def _tail_mean(source: Source, run: int) -> Any:
    steps = [s for s in source.steps if s >= 0.9 * source.total_steps]
    tail = [pick_run(source.snapshot(step).players.primal, run) for step in steps]
    return jax.tree.map(lambda *leaves: np.mean(leaves, axis=0), *tail)


def _perturbed(end: Any, first: Any, count: int = 4) -> Any:
    """Points at random around x*."""
    rng = np.random.default_rng(SEED)
    flat, unravel = ravel_pytree(end)
    radius = PERTURBATION * np.linalg.norm(flat - ravel_pytree(first)[0])
    noise = rng.normal(size=(count, flat.size))
    noise *= radius / np.linalg.norm(noise, axis=1, keepdims=True)
    return _stack([jax.device_get(unravel(jnp.asarray(flat + n, flat.dtype))) for n in noise])


def shuffled_duals(recipe: osj.Recipe, primals: Any, state: Any, count: int, steps: int) -> Any:
    """Discriminators that were trained to tell apart real and generated images, mislabelled.

    Half of what they were told is real was generated by a checkpoint of the run, and the other way
    round; they learn nothing, but their weights are as large as training makes them.
    """
    options = recipe.game.options
    data = osj.datasets.load(str(options["dataset"]))
    sizes = (data.shape, options["latent_dim"], options["width"])
    generator, discriminator = getattr(osj.networks, str(options["network"]))(*sizes)
    loss, batch = find_loss(str(options["loss"])), int(options["batch_size"])
    tx = optax.adam(2e-4, b1=0.5)

    def objective(dual, primal, key):
        keys = jax.random.split(key, 3)
        real = data.sample(keys[0], batch)
        latent = jax.random.normal(keys[1], (batch, sizes[1]))
        fake = generator.apply(primal, state.primal, latent, train=True)[0]
        images = jax.random.permutation(keys[2], jnp.concatenate([real, fake]))
        logits = discriminator.apply(dual, state.dual, images, train=True)[0]
        return jnp.mean(loss.real(logits[:batch])) + jnp.mean(loss.fake(logits[batch:]))

    @jax.jit
    def train(key, primal):
        dual, _ = discriminator.init(key)

        def step(carry, key):
            dual, opt_state = carry
            gradient = jax.grad(objective)(dual, primal, key)
            updates, opt_state = tx.update(gradient, opt_state, dual)
            return (optax.apply_updates(dual, updates), opt_state), None

        keys = jax.random.split(jax.random.fold_in(key, 1), steps)
        return jax.lax.scan(step, (dual, tx.init(dual)), keys)[0][0]

    which = np.linspace(0, len(jax.tree.leaves(primals)[0]) - 1, count).round().astype(int)
    keys = jax.random.split(jax.random.key(SEED), count)
    trained = [
        train(key, jax.tree.map(lambda leaf: leaf[i], primals))  # noqa: B023
        for key, i in zip(keys, which, strict=True)
    ]
    return _stack(jax.device_get(trained))


def by_layer(game: osj.Game, some: Some, end: PrimalDual, alpha: float) -> Row:
    """Signs of the inner products layer by layer and of the dual side, and scale-free norms.

    One minibatch gradient of both players gives all of them; they add up to the entries of the
    primal's and of the dual's matrix.
    """
    players, state, off = some
    names = PrimalDual(*(list(_layers(player)) for player in end))
    keys = jax.random.split(jax.random.key(SEED + 1), BATCHES)

    @jax.jit
    def entry(primal, dual):
        def products(key):
            F, _ = game.field(PrimalDual(primal, dual), state, game.sample(key))
            away = jax.tree.map(jnp.subtract, PrimalDual(primal, dual), end)
            dots = jax.tree.map(lambda d, g: jnp.sum(d * g), away, F)
            return [jnp.stack([sum(v) for v in _layers(player).values()]) for player in dots]

        return jax.lax.map(products, keys)

    @jax.jit
    def lengths(primal, dual):
        def gradients(key):
            return game.field(PrimalDual(primal, dual), state, game.sample(key))[0].primal

        rows = jax.lax.map(gradients, keys)
        flat = jax.tree.map(lambda g: g.reshape(BATCHES, -1), rows)
        return [sum(g @ g.T for g in leaves) for leaves in _layers(flat).values()]

    count = len(off)

    def at(tree, i):
        return jax.tree.map(lambda leaf: leaf[i], tree)

    matrices = [
        [jax.device_get(entry(at(players.primal, s), at(players.dual, t))) for t in range(count)]
        for s in range(count)
    ]
    found: Row = {}
    for index, player in enumerate(("primal", "dual")):
        samples = np.array([[e[index] for e in row] for row in matrices], np.float64)
        samples = np.moveaxis(samples, 2, -1)  # [S, T, layer, batches]
        whole = samples.sum(2)
        shares = {"whole": _signs(whole, alpha, off)}
        for i, name in enumerate(names[index]):
            shares[name] = _signs(samples[:, :, i], alpha, off)
        found[f"{player}_layers"] = shares
    scaled: dict[str, list[float]] = {name: [] for name in names.primal}
    for s in range(count):
        weights = _layers(at(players.primal, s))
        grams = lengths(at(players.primal, s), at(players.dual, s))
        for (name, leaves), gram in zip(weights.items(), grams, strict=True):
            norm = squared_norm(np.asarray(gram, np.float64))
            size = np.sqrt(sum(float(np.vdot(w, w)) for w in leaves))
            low = bool(below_noise_floor(norm))
            scaled[name].append(np.nan if low else size * float(np.sqrt(norm.value)))
    found["weight_times_gradient"] = scaled
    return found


def _signs(samples: np.ndarray, alpha: float, off: np.ndarray) -> dict[str, float]:
    mean, t, _ = mean_t(samples)
    signs = significant_signs(mean, t, samples.shape[-1], alpha=alpha)
    return {k: float(v) for k, v in sign_fractions(signs, off)._asdict().items()}


def _layers(params: Any) -> dict[str, list[Any]]:
    """Leaves of a player by the layer they belong to."""
    found: dict[str, list[Any]] = {}
    for path, leaf in jax.tree_util.tree_flatten_with_path(params)[0]:
        names = [jax.tree_util.keystr((entry,), simple=True) for entry in path]
        found.setdefault("/".join(names[:-1]) or names[-1], []).append(leaf)
    return found
