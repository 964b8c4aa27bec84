"""Claim 3 on standard data: the one-sided MVI on trained GANs, tested so that it can fail.

On the core's runs (trained here if `gradient_norms.py` has not): the cross matrix of every seed
with x* from a held-out continuation, other choices of x*, the necessary conditions, the layers, the
dual side, and every control. Beside it the obvious test, passing on pure noise.

    python experiments/one_sided_mvi.py                     # scale "paper", jobs of an hour
    python experiments/one_sided_mvi.py --scale small       # a minute; numbers mean nothing
    python experiments/one_sided_mvi.py --draw              # only verdicts and figure
"""

from __future__ import annotations

import itertools
import json
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from _design import core, varied
from _jobs import Job, Row
from _measure import Opened, trained
from _show import span, word
from jax.flatten_util import ravel_pytree
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Patch

import onesided_jax as osj
from onesided_jax import PrimalDual
from onesided_jax.analysis._cell import minty_tests
from onesided_jax.analysis.estimators import below_noise_floor, squared_norm
from onesided_jax.analysis.inference import (
    cross_regions,
    mean_t,
    significant_signs,
    t_interval,
    two_way_bootstrap,
)
from onesided_jax.analysis.minty import MintyTest, test_steps
from onesided_jax.analysis.mvi_verdict import SignFractions, one_sided_mvi, sign_fractions
from onesided_jax.analysis.source import Source, pick_run
from onesided_jax.analysis.verdict import Verdict
from onesided_jax.games.losses import find_loss
from onesided_jax.report._style import PRIMAL, svg_bytes
from onesided_jax.runs import Criteria
from onesided_jax.runs._words import write_bytes_atomically

ROWS = 10  # checkpoints of the matrices at other x*, of the dual side and of the layers
BATCHES = 8  # minibatch gradients per entry of the dual side and of the layers
SHUFFLED = {"small": (2, 5), "paper": (4, 300), "large": (8, 1000)}  # discriminators, steps each
PERTURBATION = 0.1  # of x*, in distances from the first iterate
SEED = 2109_14216


def work(job: Job) -> None:
    job.table("naive", naive())
    for data in job.scale.data:
        recipe = core(data, job.scale)
        for what, source in trained(job, recipe, job.scale.mvi_arms):
            for run, seed in enumerate(recipe.seeds):
                path = job.out / data / f"{source.label}-seed{seed}.json"
                if path.exists():
                    continue
                job.check()
                found = test(job, what, recipe, source, run)
                path.parent.mkdir(parents=True, exist_ok=True)
                write_bytes_atomically(path, (json.dumps(_plain(found)) + "\n").encode())
                job.say(f"{data}/{path.stem}")


# --- the obvious test


def naive() -> list[Row]:
    """The obvious test, with a run's own gradients and x* its own final iterate, where it is wrong.

    Plain descent with step 0.01 for 400 steps of n = 200 numbers.
    """
    steps, size, rate = 400, 200, 0.01
    rng = np.random.default_rng(0)
    fields = {
        "pure noise": lambda x: rng.normal(size=size),
        "f = -|x|^2 / 2, false for every x*": lambda x: -x,
        "rotation, false for every x*": lambda x: np.concatenate([x[size // 2 :], -x[: size // 2]]),
    }
    rows = []
    for name, field in fields.items():
        x, iterates, gradients = rng.normal(size=size), [], []
        for _ in range(steps):
            gradient = field(x)
            iterates.append(x)
            gradients.append(gradient)
            x = x - rate * gradient
        share, total = osj.analysis.naive_mvi_test(iterates, gradients)
        fresh = [field(x) for x in iterates]
        offsets = np.array(iterates[:-1]) - iterates[-1]
        held_out = (offsets * np.array(fresh[:-1])).sum(1)
        other = rng.normal(size=size)
        elsewhere = ((np.array(iterates) - other) * np.array(fresh)).sum(1)
        rows.append(
            {
                "gradients": name,
                "naive_positive": share,
                "naive_sum": total,
                "fresh_positive": float((held_out > 0).mean()),
                "other_x_positive": float((elsewhere > 0).mean()),
            }
        )
    return rows


# --- one seed


def test(job: Job, what: Opened, recipe: osj.Recipe, source: Source, run: int) -> Row:
    """Everything that is measured of one run."""
    only = source._replace(
        seeds=source.seeds[run : run + 1],
        diverged_at=source.diverged_at[run : run + 1],
        snapshot=lambda step: jax.tree.map(lambda leaf: leaf[run : run + 1], source.snapshot(step)),
    )
    tests, steps = minty_tests(only, what.game, what.probe, what.criteria, lambda *_: None)
    if not tests:
        return {"seed": int(source.seeds[run]), "diverged": True}
    (found,) = tests.values()
    some = test_steps(source.steps, source.total_steps, what.criteria)
    some = [some[i] for i in np.unique(np.linspace(0, len(some) - 1, ROWS).round().astype(int))]
    players = jax.tree.map(
        lambda *leaves: np.stack(leaves),
        *(pick_run(source.snapshot(step).players, run) for step in some),
    )
    last = source.snapshot(source.steps[-1])
    end, state = pick_run(last.players, run), pick_run(last.state, run)
    first = pick_run(source.snapshot(0).players, run)
    off = cross_regions(some, some)["off_diagonal"]

    def judge_at(targets: Any, duals: Any = None) -> SignFractions:
        """Shares of significant signs at each x*, ``[n]``."""
        duals = players.dual if duals is None else duals
        slope = what.probe.cross(players.primal, duals, state, targets).slope
        mean, t, _ = mean_t(slope)
        signs = significant_signs(mean, t, slope.shape[-1], alpha=what.criteria.alpha)
        return sign_fractions(signs, off if duals is players.dual else True)

    several = {
        "tail mean": _stack([_tail_mean(source, run)]),
        "other seeds": _without(last.players.primal, run),
        "perturbed": _perturbed(end.primal, first.primal),
    }
    shuffled = shuffled_duals(recipe, players.primal, state, *SHUFFLED[job.scale_name])
    return {
        "seed": int(source.seeds[run]),
        "diverged": False,
        "steps": steps,
        **_of_matrix(found, steps, what.criteria.level),
        "targets": {name: judge_at(targets)._asdict() for name, targets in several.items()},
        "label_shuffle": judge_at(_stack([end.primal]), shuffled)._asdict(),
        **by_layer(what.game, players, state, end, what.criteria.alpha, off),
    }


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


def by_layer(
    game: osj.Game, players: PrimalDual, state: Any, end: PrimalDual, alpha: float, off: np.ndarray
) -> Row:
    """Signs of the inner products layer by layer and of the dual side, and scale-free norms.

    One minibatch gradient of both players gives all of them; they add up to the entries of the
    primal's and of the dual's matrix.
    """
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


# --- all seeds


def conclude(job: Job) -> None:
    """Verdicts, every number behind them as mean and interval over seeds, and the figures."""
    verdicts, details, sensitivity = [], [], []
    for data in job.scale.data:
        criteria, tests = core(data, job.scale).criteria, load(job, data)
        if tests:
            (job.out / f"matrix-{data}.svg").write_bytes(svg_bytes(draw_matrices(tests)))
        for cell, found in tests.items():
            there = [f for f in found if not f["diverged"]]
            if not there:
                continue
            verdict = _verdict(cell, there, criteria)
            part = verdict.details["P5"]
            for threshold, value, changed in varied(criteria, _THRESHOLDS):
                row: Row = {"data": data, "arm": cell, "threshold": threshold, "value": value}
                row["verdict"] = word(_verdict(cell, there, changed).holds)
                sensitivity.append(row)
            verdicts.append(
                {
                    "data": data, "arm": cell, "seeds": verdict.runs,
                    "negative": span(part["negative"]), "positive": span(part["positive"]),
                    "verdict": word(verdict.holds), "reason": verdict.reason,
                }
            )  # fmt: skip
            for name, (negative, positive) in _numbers(there).items():
                details.append(
                    {
                        "data": data, "arm": cell, "what": name,
                        "negative": span(t_interval(negative, level=criteria.level)),
                        "positive": span(t_interval(positive, level=criteria.level)),
                    }
                )  # fmt: skip
            details += [{"data": data, "arm": cell, **row} for row in _conditions(there, criteria)]
    if verdicts:
        job.table("verdicts", verdicts)
        job.table("details", details)
        job.table("sensitivity", sensitivity)


_THRESHOLDS = ("mvi_negative_supported", "mvi_positive_supported", "mvi_negative_refuted")


def _verdict(cell: str, found: Sequence[Row], criteria: Criteria) -> Verdict:
    exact = all(f["flip_exact"] for f in found)
    return one_sided_mvi(
        optimizer=cell,
        hyperparameters={},
        signs=[f["sign"] for f in found],
        valid=[f["valid"] for f in found],
        target="held-out continuation",
        criteria=criteria,
        null=_fractions(found, "null"),
        fresh_dual=_fractions(found, "fresh_dual"),
        flipped_dual=_fractions(found, "flipped_dual") if exact else None,
    )


def load(job: Job, data: str) -> dict[str, list[Row]]:
    return {
        cell: [json.loads(path.read_text()) for path in sorted(paths)]
        for cell in job.scale.mvi_arms
        if (paths := list((job.out / data).glob(f"{cell}-seed*.json")))
    }


def _fractions(found: Sequence[Row], name: str) -> SignFractions | None:
    values = [f[name] for f in found]
    if any(v is None for v in values):
        return None
    return SignFractions(
        *(np.array([v[sign] for v in values]) for sign in ("negative", "positive"))
    )


_REGIONS = {
    "diagonal": "diagonal", "near": "next to the diagonal", "newer_dual": "newer discriminator",
    "older_dual": "older discriminator", "off_diagonal": "off the diagonal",
}  # fmt: skip
_CONTROLS = {
    "null": "control: x* at random", "fresh_dual": "control: untrained discriminators",
    "flipped_dual": "control: flipped discriminator",
    "label_shuffle": "control: discriminators trained on shuffled labels",
}  # fmt: skip


def _numbers(found: Sequence[Row]) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Shares of negative and positive entries per seed, for everything that was tried."""

    def both(values: Sequence[Mapping[str, Any]]) -> tuple[np.ndarray, np.ndarray]:
        negative, positive = (
            np.array([np.mean(v[sign]) for v in values]) for sign in ("negative", "positive")
        )
        return negative, positive

    numbers = {
        f"held-out x*, {_REGIONS[k]}": both([f["shares"][k] for f in found])
        for k in found[0]["shares"]
    }
    numbers["held-out x*, off the diagonal, later generators (not planned)"] = both(
        [_later(f) for f in found]
    )
    for name in found[0]["targets"]:
        numbers[f"x* = {name}"] = both([f["targets"][name] for f in found])
    for name, words in _CONTROLS.items():
        if all(f[name] is not None for f in found):
            numbers[words] = both([f[name] for f in found])
    for player, words in (("primal", "generator"), ("dual", "dual side, discriminator")):
        for layer in found[0][f"{player}_layers"]:
            values = [f[f"{player}_layers"][layer] for f in found]
            numbers[f"{words}, {layer}"] = both(values)
    return numbers


def _later(found: Row, quarter: float = 0.25) -> Mapping[str, Any]:
    """Off the diagonal without the first quarter of the generators."""
    steps = np.array(found["steps"])
    counted = np.array(found["valid"]) & cross_regions(steps, steps)["off_diagonal"]
    counted &= (np.arange(len(steps)) >= quarter * len(steps))[:, None]
    return sign_fractions(found["sign"], counted)._asdict()


def _conditions(found: Sequence[Row], criteria: Any) -> list[Row]:
    """The necessary conditions of the strong form, and intervals within seeds."""
    necessary = np.array([np.nanmedian(f["necessary"]) for f in found])
    rows = [
        ("|grad f(x*, y_t)| / |grad f(x_t, y_t)|, median over t", necessary),
        ("share of entries with f(x*, y_t) <= f(x_s, y_t)", [f["dominance"] for f in found]),
    ]
    table: list[Row] = [
        {"what": name, "negative": "", "positive": span(t_interval(v, level=criteria.level))}
        for name, v in rows
    ]
    for f in found:
        low, high = (f["two_way_bootstrap"][sign] for sign in ("negative", "positive"))
        table.append(
            {
                "what": f"two-way bootstrap within seed {f['seed']}",
                "negative": f"[{low[0]:.3g}, {low[1]:.3g}]",
                "positive": f"[{high[0]:.3g}, {high[1]:.3g}]",
            }
        )
    return table


def _plain(value: Any) -> Any:
    """JSON types; what is not finite becomes None."""
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, np.ndarray | np.generic):
        value = value.tolist()
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    return None if isinstance(value, float) and not np.isfinite(value) else value


# --- figures


_SIGNS = ((1, PRIMAL, "positive"), (0, "white", "not significant"), (-1, "#d1242f", "negative"))
_LEFT_OUT = "#d0d7de"


def draw_matrices(found: Mapping[str, Sequence[Row]]) -> Figure:
    """Significant signs of every cross matrix: a row per arm, a column per seed."""
    columns = max(map(len, found.values()))
    figure = Figure(figsize=(1.55 * columns + 0.6, 1.6 * len(found) + 0.7), layout="constrained")
    grid = figure.subplots(len(found), columns, sharex=True, sharey=True, squeeze=False)
    colours = ListedColormap([colour for _, colour, _ in reversed(_SIGNS)])
    for panels, (cell, runs) in zip(grid, found.items(), strict=True):
        panels[0].set_ylabel(cell.replace("_", " "), fontsize=8)
        for axes, run in itertools.zip_longest(panels, runs):
            axes.tick_params(labelsize=7)
            axes.set_facecolor(_LEFT_OUT)
            if run is None or run["diverged"]:
                axes.set_axis_off()
                continue
            axes.set_title(f"seed {run['seed']}", fontsize=8)
            shown = np.where(run["valid"], np.array(run["sign"], float), np.nan)
            axes.imshow(shown, cmap=colours, vmin=-1, vmax=1, origin="lower")
            steps = run["steps"]
            ticks = [0, len(steps) - 1]
            axes.set_xticks(ticks, [f"{steps[i]:,}" for i in ticks])
            axes.set_yticks(ticks, [f"{steps[i]:,}" for i in ticks])
    figure.supxlabel("discriminator of step t", fontsize=8)
    figure.supylabel("generator of step s", fontsize=8)
    names = [(colour, name) for _, colour, name in _SIGNS] + [(_LEFT_OUT, "too near x*")]
    handles = [Patch(facecolor=c, edgecolor="#57606a", linewidth=0.5, label=n) for c, n in names]
    figure.legend(handles=handles, loc="outside upper center", ncols=4, frameon=False, fontsize=8)
    return figure


if __name__ == "__main__":
    sys.exit(Job("one_sided_mvi", (__doc__ or "").splitlines()[0]).go(work, conclude))
